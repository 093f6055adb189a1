"""Fill the disk while the smoke run renders, trains, samples and reports; after room is made the same command finishes.

    python tests/full_disk.py                       # needs root: results/ lies on a small tmpfs
    python tests/full_disk.py render student        # some of the stages

The disk is full from the moment a stage's job has begun to the moment that Snakemake gives up. Then nothing of that
job may be left, and in the end every artifact's hash must equal that of a run with room enough.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from checkout import ARTIFACTS, Checkout, compare

MEGABYTES = 600
# a checkpoint at every entry of the history, and a training that is long enough to have one before its end
CONFIG = (
    "only: [seen-plain]\ndistillation: {checkpoint_minutes: 1.0e-9, batch: 1, micro_batch: 1, steps: {copied: 21}}\n"
)
STAGES = {  # what is made, and the log that tells that its job has begun
    "render": ("renders/0/captions-rendered/00000.safetensors", "logs/render/0/captions-rendered/00000.log"),
    "student": ("students/seen-plain/0/history.json", "logs/student/seen-plain-0.log"),
    "sample": ("samples/seen-plain/0/00000.zip", "logs/sample/seen-plain-0/00000.log"),
    "report": ("report", "logs/report.log"),
}


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A tmpfs at ``folder`` while the context lasts."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "randcond-test", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Write zeros until nothing more fits; the file that holds them."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 2**20
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    return ballast


def one_stage(checkout: Checkout, options: list[str], stage: str) -> str:
    """Make one stage's output on a disk that fills up, then again with room; what went wrong, or ``""``."""
    out = checkout.folder / "results/smoke"
    target, log = STAGES[stage]
    command = [*options, "--", f"results/smoke/{target}"]
    process = checkout.start(*command)
    while not (out / log).exists():
        if process.poll() is not None:
            return f"ended before its job began: {process.stdout.read()[-2000:]}"
        time.sleep(0.05)
    ballast = fill(checkout.folder / "results")
    output, _ = process.communicate()
    said = [line for line in output.splitlines() if " error: " in line]
    print(f"  {stage}: exit {process.returncode}, said: {said}", flush=True)
    problems = []
    if process.returncode == 0 or len(said) != 1 or "the disk is full" not in said[0] or "Traceback" in output:
        problems.append(f"no clear line: {output[-2000:]}")
    if (out / target).exists() or any(out.rglob("*.partial")):
        problems.append("something half-written is left")
    ballast.unlink()
    done = checkout.snakemake(*command, check=False)
    if done.returncode:
        problems.append(f"with room again: {(done.stdout + done.stderr)[-2000:]}")
    return "; ".join(problems)


def main() -> int:
    """Run the stages; 0 if all went as it should."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"some of {', '.join(STAGES)}; all by default")
    parser.add_argument("--cores", default="2", help="of Snakemake")
    arguments = parser.parse_args()
    stages = arguments.stages or list(STAGES)
    if os.getuid():
        parser.error("only root can mount a small disk")
    with tempfile.TemporaryDirectory(prefix="full-disk-") as folder:
        full, roomy = Checkout(Path(folder, "full")), Checkout(Path(folder, "roomy"))
        for checkout in (full, roomy):
            (checkout.folder / "small.yaml").write_text(CONFIG)
        options = ["--cores", arguments.cores, "--configfile", "config/smoke.yaml", "small.yaml"]
        with small_disk(full.folder / "results"):
            problems = {stage: one_stage(full, options, stage) for stage in stages}
            roomy.snakemake(*options, "--", *(f"results/smoke/{STAGES[stage][0]}" for stage in stages))
            problems["end"] = compare(full.hashes(*ARTIFACTS), roomy.hashes(*ARTIFACTS))
    for stage, problem in problems.items():
        print(f"{stage}: {problem or 'ok'}")
    return int(any(problems.values()))


if __name__ == "__main__":
    sys.exit(main())
