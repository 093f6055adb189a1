"""Stop ``record`` at random moments of its writing; dvc.lock and the cache are whole, and it can be given again.

    python tests/chaos_record.py --number 20 --seed 0                      # makes the smoke world first
    python tests/chaos_record.py --number 20 --results OTHER/results       # of another checkout of this commit

The world is recorded, and all its logs are changed, as if every job had run again. Each trial then starts from the
first dvc.lock and an empty cache, and is stopped by SIGKILL or SIGINT so many seconds after the first object is in the
cache. It counts as survived if dvc.lock is, to the bit, the first or the second, no object is other than its name says,
and a record that nothing stops then ends with the second dvc.lock and every object it names. A moment after the end
stops nothing, and another is drawn for it. Snakemake is asked once what there is to record, as that only reads; the
command itself has the last word.
"""

import argparse
import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import yaml

from checkout import SMOKE, Checkout
from randcond.versions.pipeline import Source, write_pipelines
from randcond.versions.plan import Stage, plan
from randcond.versions.record import record

SIGNALS = (signal.SIGKILL, signal.SIGINT)
OBJECTS, LOCKS = ".dvc/cache/files/md5", ("versions/smoke/dvc.lock", "versions/assets/dvc.lock")
CONFIG = ["config/smoke.yaml"]
COMMAND = ("-m", "randcond.versions", "record", "--configfile", *CONFIG)


class Recorder(Checkout):
    """A finished smoke world under git, to record."""

    def __init__(self, folder: Path, results: Path | None) -> None:
        super().__init__(folder)
        # what DVC remembers of files would else be shared with all other checkouts, and stay
        os.environ["DVC_SITE_CACHE_DIR"] = str(folder / ".site")
        if results:
            for name in ("smoke", "assets"):
                shutil.copytree(results / name, folder / "results" / name, dirs_exist_ok=True)
        else:
            self.snakemake(*SMOKE)
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        self.touch()

    def touch(self) -> None:
        """Make Snakemake call everything up to date."""
        self.snakemake(*SMOKE, "--touch", "--forceall", "--no-hooks", "--quiet", "all")

    def plan(self) -> list[Stage]:
        """What there is to record; Snakemake leaves threads behind, with which no process may fork."""
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(_planned, self.folder).result()

    def record(self, stages: list[Stage]) -> ForkProcess:
        """Start to record, in a process that has all it needs loaded."""
        process = get_context("fork").Process(target=_record, args=(self.folder, stages))
        process.start()
        return process

    def command(self) -> str:
        """What the command itself says."""
        environment = os.environ | {"PYTHONPATH": str(self.folder / "workflow/src")}
        done = subprocess.run(
            [sys.executable, *COMMAND], cwd=self.folder, env=environment, capture_output=True, text=True
        )
        return (done.stdout + done.stderr).strip()

    def until_writing(self, process: ForkProcess) -> None:
        """Wait for the first object in the cache, or for the end."""
        while process.is_alive() and not any((self.folder / OBJECTS).glob("*/*")):
            time.sleep(0.01)

    def locks(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in LOCKS if (self.folder / name).exists()}

    def reset(self, locks: dict[str, bytes]) -> None:
        """An empty cache, and these dvc.lock files."""
        shutil.rmtree(self.folder / ".dvc/cache", ignore_errors=True)
        for name in LOCKS:
            (self.folder / name).unlink(missing_ok=True)
        for name, content in locks.items():
            (self.folder / name).write_bytes(content)

    def objects(self) -> dict[str, Path]:
        """What is in the cache under a name that is a hash; DVC's temporary files are not."""
        found = {path.parent.name + path.name: path for path in (self.folder / OBJECTS).glob("??/*")}
        return {name: path for name, path in found.items() if len(name.removesuffix(".dir")) == 32}

    def broken(self) -> list[str]:
        """Objects that are not what their names say."""
        return [
            name
            for name, path in self.objects().items()
            if hashlib.md5(path.read_bytes()).hexdigest() != name.removesuffix(".dir")
        ]

    def absent(self) -> set[str]:
        """Objects that dvc.lock files, or the listings that they name, speak of and the cache lacks."""
        stages = [stage for content in self.locks().values() for stage in yaml.safe_load(content)["stages"].values()]
        named, have = {out["md5"] for stage in stages for out in stage["outs"]}, self.objects()
        for listing in [name for name in named if name.endswith(".dir") and name in have]:
            named |= {entry["md5"] for entry in json.loads(have[listing].read_text())}
        return named - have.keys()


def _planned(folder: Path) -> list[Stage]:
    os.chdir(folder)
    return plan(CONFIG, {}, ["all"])


def _record(folder: Path, stages: list[Stage]) -> None:
    os.chdir(folder)
    sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    write_pipelines(stages, Source(CONFIG))
    if found := record(stages).refused:
        raise RuntimeError(f"refused: {found}")


@dataclass(frozen=True)
class Whole:
    """What recording starts from and ends with when nothing stops it; seconds from its first object to its end."""

    stages: list[Stage]
    first: dict[str, bytes]
    second: dict[str, bytes]
    objects: int
    seconds: float


def reference(recorder: Recorder) -> Whole:
    """Record, change every log, and record again."""
    stages = recorder.plan()
    recorder.record(stages).join()
    first = recorder.locks()
    for world in ("smoke/logs", "assets"):
        for log in (recorder.folder / "results" / world).rglob("*.log"):
            log.write_text(log.read_text() + "as if it had run again\n")
    recorder.touch()
    recorder.reset(first)
    process = recorder.record(stages)
    recorder.until_writing(process)
    start = time.monotonic()
    process.join()
    seconds, second = time.monotonic() - start, recorder.locks()
    if not (second and second.keys() == first.keys() and all(second[name] != first[name] for name in first)):
        raise RuntimeError("nothing to stop: the world was not recorded, or not anew")
    return Whole(stages, first, second, len(recorder.objects()), seconds)


def trial(recorder: Recorder, whole: Whole, seconds: float, how: signal.Signals) -> tuple[bool, str] | None:
    """Record, stop it, look, and record again: is all as it should be, and what happened; None if it ended before."""
    recorder.reset(whole.first)
    process = recorder.record(whole.stages)
    recorder.until_writing(process)
    process.join(seconds)
    if process.is_alive():
        os.kill(process.pid, how)
        process.join()
    if process.exitcode == 0:
        return None
    count, locks, problems = len(recorder.objects()), recorder.locks(), []
    state = "partly as after" if locks != whole.first else "as before"
    state = "as after" if locks == whole.second else state
    for name in LOCKS:
        if locks.get(name) not in (whole.first.get(name), whole.second.get(name)):
            problems.append(f"{name} is broken")
    problems += [f"object {name} is broken" for name in recorder.broken()]
    again = recorder.record(whole.stages)
    again.join()
    if again.exitcode or recorder.locks() != whole.second:
        problems.append("another dvc.lock in the end")
    problems += [f"object {name} is broken in the end" for name in recorder.broken()]
    problems += [f"object {name} is absent in the end" for name in recorder.absent()]
    problems += [f"left {path}" for path in (recorder.folder / "versions").rglob("*.partial")]
    said = (
        f"{how.name} {seconds:.1f} s after the first of {whole.objects} objects, {count} in the cache, dvc.lock {state}"
    )
    return not problems, f"{said}; again: {', '.join(problems) or 'equal'}"


def main() -> int:
    """Run the trials; 0 if all are survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=20, help="stops")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the signals")
    parser.add_argument("--results", type=Path, help="folder of the finished smoke world and its assets")
    arguments = parser.parse_args()
    logging.getLogger("dvc").setLevel(logging.ERROR)  # as the command does
    chance, good, done = random.Random(arguments.seed), 0, 0
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it
    with tempfile.TemporaryDirectory(prefix="chaos-record-") as folder:
        recorder = Recorder(Path(folder), arguments.results)
        whole = reference(recorder)
        print(f"uninterrupted: {whole.objects} objects and dvc.lock in {whole.seconds:.1f} s of writing", flush=True)
        while done < arguments.number:
            found = trial(recorder, whole, chance.uniform(0, whole.seconds), chance.choice(SIGNALS))
            if found is None:
                continue
            done, good = done + 1, good + found[0]
            print(f"stop {done}, {'ok' if found[0] else 'FAILED'}: {found[1]}", flush=True)
        print(f"the command then: {recorder.command()}")
    print(f"{good} of {arguments.number} stops left dvc.lock and cache whole, and the same record in the end")
    return int(good < arguments.number)


if __name__ == "__main__":
    sys.exit(main())
