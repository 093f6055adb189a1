"""Stages of DVC out of Snakemake's jobs, and what may be recorded: in a project of a few tiny files."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from randcond.jobs.errors import UserError
from randcond.versions.pipeline import Source, write_pipelines
from randcond.versions.plan import Job, Stage, stages
from randcond.versions.record import Recorded, record

OUT = "results/smoke"
SOURCE = Source(["config/smoke.yaml"])


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


def make(one: Job, content: str) -> None:
    for name in one.left:
        path = Path(name, "weights.bin") if name.endswith("pipeline") else Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"value": content}))


def recorded(jobs: list[Job]) -> Recorded:
    planned = stages(jobs)
    write_pipelines(planned, SOURCE)
    return record(planned)


def status() -> set[str]:
    done = subprocess.run(["dvc", "status", "--json"], capture_output=True, text=True, check=True)
    return {name.partition(":")[2] for name in json.loads(done.stdout)}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git and DVC repository in which every job has run."""
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["dvc", "init", "-q"], check=True)
    Path("config").mkdir()
    Path("config/config.yaml").write_text("sampling: {steps: 3}\n")
    Path("config/smoke.yaml").write_text("name: smoke\ndistillation: {batch: 4}\n")
    Path("config/experiments.yaml").write_text("runs: {a: {rows: seen}, b: {}}\n")
    Path(".gitignore").write_text("results/\n")
    Path("code.py").write_text("code")
    for one in JOBS:
        make(one, "first")
    return tmp_path


def test_jobs_become_stages() -> None:
    student, sample, score = stages(JOBS)
    assert [stage.name for stage in (student, sample, score)] == NAMES
    assert {f"{OUT}/samples/a/0", f"{OUT}/logs/sample/a-0", f"{OUT}/benchmarks/sample/a-0"} == set(sample.outs)
    assert sample.deps == [f"{OUT}/students/a/0/pipeline"]
    assert score.deps == [f"{OUT}/samples/a/0"]
    assert len(sample.targets) == 2
    assert student.world == "smoke"


def test_params_name_only_what_the_files_have(project: Path) -> None:
    write_pipelines(stages(JOBS), SOURCE)
    entries = yaml.safe_load(Path("versions/smoke/dvc.yaml").read_text())["stages"]
    assert entries["student-a-0"]["params"] == [
        {"config/experiments.yaml": ["runs.a"]},
        {"config/smoke.yaml": ["distillation"]},
        {"versions/smoke/settings.json": ["student-a-0"]},
    ]
    assert {"config/config.yaml": ["sampling"]} in entries["sample-a-0"]["params"]


def test_what_worlds_share_keeps_its_other_stages(project: Path) -> None:
    for name, world in (("first", "smoke"), ("second", "paper")):
        fetched = job(f"fetch_{name}", [], [f"results/assets/{name}.bin"], out="results/assets")
        write_pipelines(stages([fetched, replace(JOBS[0], outputs=[f"results/{world}/students/a"])]), SOURCE)
    shared = yaml.safe_load(Path("versions/assets/dvc.yaml").read_text())["stages"]
    assert list(shared) == ["fetch-first", "fetch-second"]
    assert set(json.loads(Path("versions/assets/settings.json").read_text())) == {"fetch-first", "fetch-second"}


def test_recording_twice_writes_once(project: Path) -> None:
    assert recorded(JOBS).new == NAMES
    assert status() == set()
    lock = Path("versions/smoke/dvc.lock").read_bytes()
    assert recorded(JOBS).kept == NAMES
    assert Path("versions/smoke/dvc.lock").read_bytes() == lock


def test_outputs_stay_writable_and_keep_their_times(project: Path) -> None:
    file = Path(f"{OUT}/samples/a/0/0.zip")
    before = file.stat()
    recorded(JOBS)
    after = file.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert after.st_mode & 0o200
    file.write_text("again")


def test_what_snakemake_would_run_is_not_recorded(project: Path) -> None:
    recorded(JOBS)
    make(JOBS[1], "half")  # one shard of two
    half = [JOBS[0], JOBS[1], replace(JOBS[2], done=False), replace(JOBS[3], done=False)]
    found = recorded(half)
    assert (found.new, found.kept, found.unfinished) == ([], NAMES[:1], NAMES[1:])
    assert status() == {"sample-a-0", "score-a-0"}


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_damage_is_named_and_never_recorded(project: Path, damage: str) -> None:
    recorded(JOBS)
    file = Path(f"{OUT}/samples/a/0/1.zip")
    good = file.read_bytes()
    if damage == "delete":
        file.unlink()
    else:
        file.write_bytes(good[:-3] if damage == "truncate" else bytes([good[0] ^ 1]) + good[1:])
    assert status() == {"sample-a-0", "score-a-0"}
    lock = Path("versions/smoke/dvc.lock").read_bytes()
    refused = recorded(JOBS).refused
    assert str(file) in refused["sample-a-0"]
    assert list(refused) == ["sample-a-0", "score-a-0"]
    assert Path("versions/smoke/dvc.lock").read_bytes() == lock
    subprocess.run(["dvc", "checkout", "--force", file.parent], check=True, capture_output=True)
    assert file.read_bytes() == good
    assert status() == set()


def test_a_job_that_ran_again_is_recorded(project: Path) -> None:
    recorded(JOBS)
    for one in JOBS[1:]:
        make(one, "second")
    assert recorded(JOBS).new == NAMES[1:]
    assert status() == set()


def test_shards_of_other_settings_are_named(project: Path) -> None:
    surplus = Path(f"{OUT}/samples/a/0/7.zip")
    surplus.write_text("left over")
    found = recorded(JOBS)
    assert str(surplus) in found.refused["sample-a-0"]
    assert found.new == NAMES[:1]


def test_changed_settings_are_noticed_in_either_place(project: Path) -> None:
    recorded(JOBS)
    Path("config/experiments.yaml").write_text("runs: {a: {rows: all}, b: {rows: seen}}\n")
    assert status() == set(NAMES)
    Path("config/experiments.yaml").write_text("runs: {a: {rows: seen}, b: {}}\n")
    changed = [replace(JOBS[0], settings={"steps": 4}, done=False), *JOBS[1:]]  # a default in the code
    write_pipelines(stages(changed), SOURCE)
    assert status() == {"student-a-0"}


def test_no_repository_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned: list[Stage] = []
    with pytest.raises(UserError, match="dvc: ") as error:
        record(planned)
    assert "\n" not in str(error.value)
