"""Minutes and memory of a README command in a fresh clone, setting up included.

    python benchmarks/reproduce.py                 # make reproduce, then once more: nothing to do
    python benchmarks/reproduce.py --target smoke

Memory is the most that all its processes held at once, shared pages counted once (PSS), looked at every two seconds.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

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


def main() -> None:
    """Clone, make, make again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="reproduce", help="of make")
    arguments = parser.parse_args()
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


if __name__ == "__main__":
    main()
