"""Seconds that recording and ``dvc status`` take for results of the paper's size: python benchmarks/versions.py

212K latents in shards of 1,024 and 30 runs of 30K samples in shards of 1,000, as sparse files, in a temporary folder.
"""

import logging
import os
import subprocess
import tempfile
import time
from pathlib import Path

from randcond.versions.pipeline import Source, write_pipelines
from randcond.versions.plan import Job, stages
from randcond.versions.record import record

OUT = "results/paper"
LATENTS, LATENT_SHARD, RUNS, SAMPLES, SAMPLE_SHARD = 212_000, 1024, 30, 30_000, 1000
BYTES = 64 * 1024  # of a shard: hashing the true 30 GB costs a minute for each disk read of 500 MB/s, and once


def job(rule: str, name: str, inputs: list[str], outputs: list[str], **wildcards: str) -> Job:
    """A job of the paper world."""
    left = f"{OUT}/logs/{rule}/{name}.log", f"{OUT}/benchmarks/{rule}/{name}.tsv"
    return Job(rule, wildcards, inputs, outputs, *left, {"steps": 25}, "command", True)


def layout() -> list[Job]:
    """All jobs, each after those it depends on."""
    names = [f"{i:05d}" for i in range(-(-LATENTS // LATENT_SHARD))]
    latents = [f"{OUT}/renders/0/captions-rendered/{name}.safetensors" for name in names]
    jobs = [
        job("render", f"captions-rendered/{name}", ["code.py"], [path], kind="captions-rendered", shard=name)
        for name, path in zip(names, latents, strict=True)
    ]
    scores = []
    for run in (f"run{i}" for i in range(RUNS)):
        where = {"run": run, "seed": "0"}
        weights = f"{OUT}/students/{run}/0/history.json"
        jobs.append(job("student", f"{run}-0", latents, [weights], **where))
        shards = [f"{OUT}/samples/{run}/0/{i:05d}.zip" for i in range(SAMPLES // SAMPLE_SHARD)]
        jobs += [job("sample", f"{run}-0/{Path(s).stem}", [weights], [s], **where, shard=Path(s).stem) for s in shards]
        scores.append(f"{OUT}/scores/{run}/0.json")
        jobs.append(job("score", f"{run}-0", shards, scores[-1:], **where))
    return [*jobs, job("report", "report", scores, [f"{OUT}/report/index.html"])]


def main() -> None:
    """Make the files and print how long each step takes."""
    logging.getLogger("dvc").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["dvc", "config", "cache.type", "reflink,copy"]):
            subprocess.run(command, check=True)
        Path("config").mkdir()
        Path("config/config.yaml").write_text("name: paper\n")
        Path("config/experiments.yaml").write_text("runs: {" + ", ".join(f"run{i}: {{}}" for i in range(RUNS)) + "}\n")
        Path(".gitignore").write_text("results/\n")
        Path("code.py").write_text("code")
        jobs = layout()
        for number, path in enumerate(path for one in jobs for path in one.left):
            file = Path(path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("{}" if file.suffix == ".json" else str(number))
            if file.suffix in (".zip", ".safetensors"):
                os.truncate(file, BYTES)
        planned = stages(jobs)
        print(f"{len(planned)} stages, {sum(len(one.left) for one in jobs)} files")
        write_pipelines(planned, Source())
        for step, action in (
            ("record all", lambda: record(planned)),
            ("record again", lambda: record(planned)),
            ("dvc status", lambda: subprocess.run(["dvc", "status"], check=True, stdout=subprocess.DEVNULL)),
        ):
            start, cpu = time.perf_counter(), sum(os.times()[:4])
            action()
            print(f"{step:14}{time.perf_counter() - start:8.1f} s, of a processor {sum(os.times()[:4]) - cpu:8.1f} s")


if __name__ == "__main__":
    main()
