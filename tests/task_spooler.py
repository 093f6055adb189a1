"""A student through ``--profile profiles/generic`` and a real queue, disturbed in five ways while it is trained.

    python tests/task_spooler.py    # needs Debian's package task-spooler and the extra `generic`

Its job is killed, told to end, and over its walltime; then Snakemake is interrupted, and at last killed, its job ended
as docs/cluster.md says, and each time the same command is given again. In the end all artifacts equal those of a run
without the queue.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psutil

from checkout import ARTIFACTS, Checkout, compare

STUDENT = "results/smoke/students/seen-rc-animals/0"
STATE = "results/smoke/checkpoints/seen-rc-animals-0/state.safetensors"
# saved at every entry of the history, of which there are seven
CONFIG = "distillation: {checkpoint_minutes: 1.0e-9, batch: 1, micro_batch: 1, steps: {copied: 140}}\n"
WORLD = ("--configfile", "config/smoke.yaml", "config/longer.yaml", "--", f"{STUDENT}/history.json")
PROFILE = ("--profile", "profiles/generic", "--latency-wait", "5")
PATIENCE = 900.0  # seconds until a training has saved its state


class Queue:
    """A task-spooler of its own, its files in ``folder``, and the Snakemake that submits to it."""

    def __init__(self, checkout: Checkout, folder: Path) -> None:
        folder.mkdir()
        self._state = checkout.folder / STATE
        self._checkout = checkout
        self._environment = {"TS_SOCKET": str(folder / "socket"), "TMPDIR": str(folder)}
        self._found: dict[int, int] = {}  # by process that trains: when the state was saved that it found

    def run(self, *command: str) -> str:
        """Output of a command that speaks to this queue."""
        environment = os.environ | self._environment
        done = subprocess.run(command, cwd=self._checkout.folder, env=environment, capture_output=True, text=True)
        return done.stdout.strip()

    def tsp(self, *options: str) -> str:
        """Output of ``tsp``."""
        return self.run("tsp", *options)

    def jobs(self, state: str = r"\w+") -> list[str]:
        """The IDs of all jobs in ``state``."""
        return re.findall(rf"^(\d+) +{state}", self.tsp(), re.MULTILINE)

    def start(self) -> None:
        """Give the command."""
        self._snakemake = self._checkout.start(*PROFILE, *WORLD, **self._environment)

    def end(self, how: signal.Signals | None = None) -> tuple[int, str]:
        """Send Snakemake a signal, if any, and wait for its end: exit code and output."""
        if how is not None:
            self._snakemake.send_signal(how)
        output, _ = self._snakemake.communicate()
        return self._snakemake.returncode, output

    def training(self) -> str:
        """The ID of the job that trains, once it has saved a state of its own.

        Raises:
            RuntimeError: If Snakemake ended before, or nothing was saved for :data:`PATIENCE`.
        """
        deadline = time.monotonic() + PATIENCE
        while self._snakemake.poll() is None and time.monotonic() < deadline:
            saved = self._state.stat().st_mtime_ns if self._state.exists() else 0
            for job in self.jobs("running"):
                for process in self._processes(job):
                    trains = "randcond.students.distil" in _words(process)
                    if trains and self._found.setdefault(process.pid, saved) != saved:
                        return job
            time.sleep(0.1)
        self._snakemake.kill()
        raise RuntimeError(f"no training saved its state:\n{self.end()[1][-3000:]}")

    def kill(self, job: str) -> None:
        """SIGKILL for all processes of a job."""
        for process in self._processes(job):
            process.kill()

    def _processes(self, job: str) -> list[psutil.Process]:
        try:
            first = psutil.Process(int(self.tsp("-p", job)))
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def said(self, job: str) -> str:
        """How a job ended, and the last that the training said of itself."""
        exit_code = re.search(rf"^{job} +\w+ +\S+ +(-?\d+)", self.tsp(), re.MULTILINE)
        lines = re.findall(r"stopped .*at step \d+|\d+/\d+ steps|error: .*", self.tsp("-c", job))
        return f"job {job}: exit {exit_code[1] if exit_code else '?'}, {lines[-1] if lines else 'no training'}"

    def close(self) -> None:
        """Nothing of it is left."""
        for job in self.jobs("running"):
            self.kill(job)
        self.tsp("-K")


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def disturb(queue: Queue, checkout: Checkout) -> tuple[int, str]:
    """Start, disturb what is trained, and give the command again: Snakemake's last exit code and output."""
    queue.start()
    for how, end in {
        "was killed": queue.kill,
        "was told to end (tsp -k)": lambda job: queue.tsp("-k", job),
        "was over its walltime": lambda job: os.kill(int(queue.tsp("-p", job)), signal.SIGALRM),  # as timeout's clock
    }.items():
        job = queue.training()
        end(job)
        print(f"job {job} {how}", flush=True)
    job = queue.training()
    code, _ = queue.end(signal.SIGINT)
    print(f"snakemake was interrupted: exit {code}, job {job} is {queue.tsp('-s', job)}", flush=True)
    queue.start()
    job = queue.training()
    queue.end(signal.SIGKILL)
    print(f"snakemake was killed: job {job} is {queue.tsp('-s', job)}", end=", ", flush=True)
    queue.run("profiles/generic/cancel.sh", job)
    print(f"is {queue.tsp('-s', job)} after cancel.sh")
    checkout.snakemake("--unlock", *WORLD)
    queue.start()
    return queue.end()


def main() -> int:
    """Run it; 0 if all is equal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for what it runs in the background
    if find_spec("snakemake_executor_plugin_cluster_generic") is None:
        sys.exit('error: the executor\'s plugin is missing: pip install -e ".[generic]"')
    if shutil.which("tsp") is None:
        sys.exit("error: there is no tsp: apt-get install task-spooler")
    with tempfile.TemporaryDirectory(prefix="task-spooler-") as folder:
        local, checkout = Checkout(Path(folder, "local")), Checkout(Path(folder, "cluster"))
        for one in (local, checkout):
            (one.folder / "config/longer.yaml").write_text(CONFIG)
        local.snakemake("--cores", "1", *WORLD)
        expected = local.hashes(*ARTIFACTS)
        queue, start = Queue(checkout, Path(folder, "queue")), time.monotonic()
        try:
            code, output = disturb(queue, checkout)
            print(*(queue.said(job) for job in queue.jobs()), sep="\n")
        finally:
            queue.close()
        problems = [f"exit {code}\n{output[-3000:]}"] * bool(code)
        problems += filter(None, [compare(checkout.hashes(*ARTIFACTS), expected)])
    print(f"{time.monotonic() - start:.0f} s through the queue")
    print(f"{len(expected)} artifacts: {'; '.join(problems) or 'all equal to the local run'}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
