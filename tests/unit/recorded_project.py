"""A git and DVC repository of a few tiny files, to record and to restore."""

import json
import subprocess
from pathlib import Path

from dvc.repo import Repo

from randcond.versions.pipeline import Source, write_pipelines
from randcond.versions.plan import Job, stages
from randcond.versions.record import Recorded, record

OUT = "results/smoke"
SOURCE = Source(["config/smoke.yaml"])
PIPELINE, LOCK = Path("versions/smoke/dvc.yaml"), Path("versions/smoke/dvc.lock")


def job(rule: str, inputs: list[str], outputs: list[str], out: str = OUT, **wildcards: str) -> Job:
    name = "-".join(value for key, value in wildcards.items() if key != "shard") or "job"
    name = f"{rule}/{name}" + (f"/{wildcards['shard']}" if "shard" in wildcards else "")
    log, benchmark = f"{out}/logs/{name}.log", f"{out}/benchmarks/{name}.tsv"
    return Job(rule, wildcards, inputs, outputs, log, benchmark, {"steps": 3}, "make {output}", True)


JOBS = [
    job(
        "student", ["code.py"], [f"{OUT}/students/a/0/pipeline", f"{OUT}/students/a/0/history.json"], run="a", seed="0"
    ),
    *(
        job("sample", [f"{OUT}/students/a/0/pipeline"], [f"{OUT}/samples/a/0/{i}.zip"], run="a", seed="0", shard=str(i))
        for i in range(2)
    ),
    job("score", [f"{OUT}/samples/a/0/{i}.zip" for i in range(2)], [f"{OUT}/scores/a/0.json"], run="a", seed="0"),
]
NAMES = ["student-a-0", "sample-a-0", "score-a-0"]


def begin() -> None:
    """In the current folder a project in which every job has run."""
    subprocess.run(["git", "init", "-q"], check=True)
    Repo.init().close()
    Path("config").mkdir()
    Path("config/config.yaml").write_text("sampling: {steps: 3}\n")
    Path("config/smoke.yaml").write_text("name: smoke\ndistillation: {batch: 4}\n")
    Path("config/experiments.yaml").write_text("runs: {a: {rows: seen}, b: {}}\n")
    Path(".gitignore").write_text("results/\n")
    Path("code.py").write_text("code")
    for one in JOBS:
        make(one, "first")


def make(one: Job, content: str) -> None:
    for name in one.left:
        path = Path(name, "weights.bin") if name.endswith("pipeline") else Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"file": name, "value": content}))


def recorded(jobs: list[Job]) -> Recorded:
    planned = stages(jobs)
    write_pipelines(planned, SOURCE)
    return record(planned)


def status() -> set[str]:
    """Stages that DVC does not call up to date."""
    with Repo(".") as repo:
        return {name.partition(":")[2] for name in repo.status()}
