"""Minutes and memory of a README command in a fresh clone, setting up included.

    python benchmarks/reproduce.py                 # make reproduce, then once more: nothing to do
    python benchmarks/reproduce.py --target smoke
    python benchmarks/reproduce.py --keep results/fresh   # and what it made, to look at

Then where the time went, from the jobs' own benchmark files: time of all jobs of a rule, as many at once as cores.

Memory is the most that all its processes held at once, shared pages counted once (PSS), looked at every two seconds.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

from randcond.report.machine import costs

ROOT = Path(__file__).parents[1]


def held(process: psutil.Process) -> int:
    """Bytes that a process and all it started hold."""
    total = 0
    try:
        for one in [process, *process.children(recursive=True)]:
            total += one.memory_full_info().pss
    except psutil.Error:
        pass  # one of them has just ended
    return total


def timed(folder: Path, target: str) -> tuple[int, float, float]:
    """Exit code, minutes and gigabytes of ``make target``."""
    start, most = time.monotonic(), 0
    with open(folder.parent / "output.log", "ab") as output:
        make = psutil.Popen(["make", target], cwd=folder, stdout=output, stderr=output)
        while make.poll() is None:
            most = max(most, held(make))
            time.sleep(2)
    return make.returncode, (time.monotonic() - start) / 60, most / 1e9


def shown(benchmarks: Path) -> str:
    """Jobs, time and memory by rule, the dearest first."""
    lines = [f"{'rule':20} {'jobs':>5} {'time':>9} {'MiB':>6}"]
    for one in costs(sorted(benchmarks.rglob("*.tsv"))):
        memory = "" if one.memory is None else f"{one.memory:.0f}"
        lines.append(f"{one.rule:20} {one.jobs:5} {one.time:>9} {memory:>6}")
    return "\n".join(lines)


def main() -> None:
    """Clone, make, make again, tell where the time went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="reproduce", help="of make")
    parser.add_argument("--keep", type=Path, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.keep and arguments.keep.exists():
        parser.error(f"--keep: {arguments.keep} is there already")
    with tempfile.TemporaryDirectory(prefix="fresh-") as name:
        folder = Path(name, "clone")
        subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
        for which in ("from nothing", "once more"):
            code, minutes, gigabytes = timed(folder, arguments.target)
            print(
                f"make {arguments.target}, {which}: exit {code}, {minutes:.1f} minutes, {gigabytes:.1f} GB", flush=True
            )
            if code:
                raise SystemExit(Path(name, "output.log").read_text()[-3000:])
        for world in (path.parent for path in folder.glob("results/*/benchmarks")):
            print(f"\n{world.name}\n{shown(world)}")
        if arguments.keep:
            shutil.copytree(folder / "results", arguments.keep)


if __name__ == "__main__":
    main()
