"""Being asked to stop: by SIGTERM, SIGUSR1 or Ctrl-C, or because SLURM's time is nearly over, or Snakemake is gone."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
# seconds before the end of the walltime; a tenth of a short walltime. A state of the paper's size takes a minute
MARGIN = 300.0


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], str]]:
    """While the context lasts, the signals do not end the process, but for a second Ctrl-C; who ignores one goes on to.

    Yields:
        A function that returns what asks the job to stop, e.g. ``"SIGTERM"``, or ``""``.
    """
    came: list[str] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and came:
            raise KeyboardInterrupt
        came.append(signal.Signals(number).name)

    def asked() -> str:
        if not came and time.time() > deadline:
            came.append("the end of the walltime")
        if not came and ends_with_parent and _waiting() != waiting:  # nobody waits for this job any more
            came.append("the end of Snakemake")
        return came[0] if came else ""

    waiting, deadline = _waiting(), _deadline()
    ends_with_parent = "RANDCOND_JOB" in os.environ  # set by the rules; started by hand, it outlives its shell
    heard = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _waiting() -> int:
    """The process that waits for this job: its parent, or that of the launcher which started it as one of several."""
    parent = os.getppid()
    if "LOCAL_RANK" not in os.environ:
        return parent
    try:
        return int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:  # the launcher is gone, or the system has no /proc
        return parent


def _deadline() -> float:
    """When this job should stop (seconds since the epoch), or infinity.

    SLURM's own warnings reach a step's first process only, which is Snakemake's, not this one: so ask for the time.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        return float("inf")
    command = ["squeue", "--noheader", "--format=%e", f"--jobs={job}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
        end = datetime.fromisoformat(answer.strip()).timestamp()
    except (OSError, ValueError, subprocess.TimeoutExpired):  # no squeue here, or no limit
        return float("inf")
    return end - min(MARGIN, (end - time.time()) / 10)
