"""The smoke world through ``--profile profiles/slurm`` on a real SLURM of one node, with three of its jobs disturbed.

    python tests/slurm/smoke.py                    # needs root and Debian's packages slurm-wlm and munge
    python tests/slurm/smoke.py --reference DIR    # DIR: the local run to compare with; made there unless it is there

One student's job is cancelled, one is requeued, one is stopped until it is over its walltime. The report is there all
the same in the end, and every artifact equals the local run's.
"""

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from cluster import Cluster

from checkout import ARTIFACTS, SMOKE, Checkout, compare

DISTURBANCES = ("cancelled", "requeued", "over its walltime")


def processes(job: str) -> list[psutil.Process]:
    """The stage's processes of a SLURM job."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("SLURM_JOB_ID") == job and "randcond.students.distil" in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


class Disturber(threading.Thread):
    """Disturbs the first jobs of the rule ``student`` that run, each in another way, until it is told to end."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(daemon=True)
        self.done: dict[str, str] = {}  # job -> what was done to it
        self.end = threading.Event()
        self._cluster = cluster

    def run(self) -> None:
        """Look at the queue twice a second."""
        while not self.end.wait(0.5) and len(self.done) < len(DISTURBANCES):
            for line in self._cluster.run("squeue", "--noheader", "--format=%i %T %k", check=False).splitlines():
                job, state, comment = line.split(maxsplit=2)
                if state == "RUNNING" and "student" in comment and job not in self.done and processes(job):
                    self._disturb(job, DISTURBANCES[len(self.done)])
                    break

    def _disturb(self, job: str, how: str) -> None:
        self.done[job] = how
        if how == "cancelled":
            self._cluster.run("scancel", job)
        elif how == "requeued":
            self._cluster.run("scontrol", "requeue", job)
        else:
            for process in processes(job):
                process.send_signal(signal.SIGSTOP)
            self._cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")
        print(f"job {job} was {how}", flush=True)


def through_slurm(checkout: Checkout, targets: list[str]) -> tuple[int, str]:
    """Run the smoke world on the cluster: exit code and output."""
    options = ["--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5"]
    process = checkout.start(*options, "--configfile", "config/smoke.yaml", "--", *targets)
    output, _ = process.communicate()
    return process.returncode, output


def main() -> int:
    """Run it; 0 if the report is there, and all equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, help="folder of the local run")
    parser.add_argument("--nice", type=int, default=0, help="niceness of the node's jobs")
    parser.add_argument("--cores", default=SMOKE[1], help="of the local run")
    parser.add_argument("targets", nargs="*", help="less than everything, after --; then nothing needs to be disturbed")
    arguments = parser.parse_args()
    if find_spec("snakemake_executor_plugin_slurm") is None:
        sys.exit('error: the executor\'s plugin is missing: pip install -e ".[slurm]"')
    with tempfile.TemporaryDirectory(prefix="slurm-smoke-") as folder:
        local = Checkout(arguments.reference or Path(folder, "local"))
        local.snakemake(*SMOKE, "--cores", arguments.cores, "--", *arguments.targets)
        expected = local.hashes(*ARTIFACTS)
        checkout, place = Checkout(Path(folder, "cluster")), Path(folder, "slurm")
        if (local.folder / "results/assets").exists():
            shutil.copytree(local.folder / "results/assets", checkout.folder / "results/assets")
        place.mkdir()
        start = time.monotonic()
        with Cluster(place, arguments.nice) as cluster:
            disturber = Disturber(cluster)
            disturber.start()
            code, output = through_slurm(checkout, arguments.targets)
            disturber.end.set()
            disturber.join()
            states = Counter(cluster.run("squeue", "--states=all", "--noheader", "--format=%T").split())
            requeued = cluster.run("scontrol", "show", "job").count("Restarts=1")
        problems = [f"exit {code}"] * bool(code)
        problems += filter(None, [compare(checkout.hashes(*ARTIFACTS), expected)])
        if not arguments.targets:
            problems += [f"no job was {how}" for how in DISTURBANCES if how not in disturber.done.values()]
            problems += ["no report"] * (not (checkout.folder / "results/smoke/report/index.html").exists())
    if problems:
        print(output[-6000:])
    print(f"{time.monotonic() - start:.0f} s on the cluster; disturbed: {disturber.done}")
    print("jobs:", ", ".join(f"{n} {state}" for state, n in sorted(states.items())), f"({requeued} requeued)")
    print(f"{len(expected)} artifacts: {'; '.join(problems) or 'all equal to the local run'}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
