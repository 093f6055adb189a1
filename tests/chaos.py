"""Kill a run with SIGKILL at random moments; the same command again has to end with the same bytes.

    python tests/chaos.py --number 20 --seed 0                                          # the smoke world
    python tests/chaos.py --number 20 --runs 5                                          # the same kills, 4 in each run
    python tests/chaos.py --number 1 -- results/smoke/students/seen-plain/0/history.json  # less of it

Each run starts from nothing, is killed (Snakemake, its children, or both), and is given the same command again, until
it has been killed its share of times and then ends; where Snakemake finds its old lock, ``snakemake --unlock`` comes
first, as its message says. A kill counts as survived if all artifacts of its run are equal in the end; a moment after
the run's end is no kill, and another is drawn for it.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from checkout import ARTIFACTS, SMOKE, Checkout, compare

VICTIMS = ("snakemake", "children", "both")
LOCKED = "cannot be locked"
ATTEMPTS = 3  # of the same command; one is enough unless a process that outlived Snakemake is in its way


def reference(folder: Path, command: list[str]) -> tuple[Checkout, float]:
    """The uninterrupted run, and the seconds it took; made anew unless it is there."""
    checkout, start = Checkout(folder), time.monotonic()
    checkout.snakemake(*command)
    seconds = folder / "seconds"
    if not seconds.exists():
        seconds.write_text(str(time.monotonic() - start))
    return checkout, float(seconds.read_text())


def killed(checkout: Checkout, command: list[str], seconds: float, victim: str) -> str | None:
    """Start the command and kill it after ``seconds``; what happened, in words, or None if it ended before."""
    if any((checkout.folder / ".snakemake/locks").glob("*")):
        checkout.snakemake("--unlock", *command)
    process = checkout.start(*command)
    try:
        process.communicate(timeout=seconds)
        return None
    except subprocess.TimeoutExpired:
        pass
    snakemake = psutil.Process(process.pid)
    children = snakemake.children(recursive=True)
    stages = sorted({part for child in children for part in _cmdline(child) if part.startswith("randcond.")})
    for one in ([] if victim == "children" else [snakemake]) + ([] if victim == "snakemake" else children):
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    if victim == "snakemake":
        process.wait()
        process.stdout.close()  # its children hold the other end
    else:
        process.communicate()  # without its children it ends by itself
    return f"{victim} killed after {seconds:.1f} s, at {', '.join(stages) or 'no job'}"


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def again(checkout: Checkout, command: list[str]) -> str:
    """Give the same command until it succeeds; what was needed, in words.

    Raises:
        RuntimeError: If it does not, after :data:`ATTEMPTS`.
    """
    needed = []
    for _ in range(ATTEMPTS):
        done = checkout.snakemake(*command, check=False)
        if LOCKED in done.stdout + done.stderr:
            checkout.snakemake("--unlock", *command)
            needed.append("--unlock")
            done = checkout.snakemake(*command, check=False)
        needed.append(f"exit {done.returncode}")
        if done.returncode == 0:
            return ", ".join(needed)
    raise RuntimeError(f"{', '.join(needed)}:\n{(done.stdout + done.stderr)[-3000:]}")


def trial(folder: Path, whole: Checkout, command: list[str], kills: list[tuple[float, str]]) -> tuple[bool, int, str]:
    """One run that is killed, so many seconds after each start, and given again: is it equal, kills, what happened."""
    checkout = Checkout(folder)
    if (whole.folder / "results/assets").exists():
        shutil.copytree(whole.folder / "results/assets", folder / "results/assets")  # no second download
    done = [what for seconds, victim in kills if (what := killed(checkout, command, seconds, victim))]
    what = "; ".join(done)
    try:
        needed = again(checkout, command)
    except RuntimeError as error:
        return False, len(done), f"{what}; {error}"
    difference = compare(checkout.hashes(*ARTIFACTS), whole.hashes(*ARTIFACTS))
    left = [f"left {path.name}" for path in (folder / "results").rglob("*.partial")]
    problems = [*filter(None, [difference]), *left]
    return not problems, len(done), f"{what}; again: {needed}; {', '.join(problems) or 'equal'}"


def main() -> int:
    """Run the trials; 0 if all are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=20, help="kills")
    parser.add_argument("--runs", type=int, help="runs that share them; one for each by default")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--reference", type=Path, help="folder of the uninterrupted run, used again if it is there")
    parser.add_argument("--cores", default="2", help="of Snakemake")
    parser.add_argument("targets", nargs="*", help="further arguments for Snakemake, after --")
    arguments = parser.parse_args()
    chance, good = random.Random(arguments.seed), 0
    command = [*SMOKE, "--cores", arguments.cores, "--", *arguments.targets]
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        whole, length = reference(arguments.reference or Path(folder, "whole"), command)
        print(f"uninterrupted: {len(whole.hashes(*ARTIFACTS))} artifacts in {length:.0f} s", flush=True)
        share, run, total = -(-arguments.number // (arguments.runs or arguments.number)), 0, 0
        while total < arguments.number:
            some = min(share, arguments.number - total)
            kills = [(chance.uniform(0, length / some), chance.choice(VICTIMS)) for _ in range(some)]
            place, run = Path(folder, str(run)), run + 1
            equal, count, what = trial(place, whole, command, kills)
            total, good = total + count, good + equal * count
            print(f"run {run}, {total} kills, {'ok' if equal else 'FAILED'}: {what}", flush=True)
            shutil.rmtree(place, ignore_errors=True)
    print(f"{good} of {arguments.number} kills left a run that ended equal to the uninterrupted one")
    return int(good < arguments.number)


if __name__ == "__main__":
    sys.exit(main())
