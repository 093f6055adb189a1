"""A real SLURM of one node with two fake GPUs, from Debian's slurm-wlm, without systemd. Needs root.

``python tests/slurm/cluster.py COMMAND ...`` starts it, runs the command, and stops it. While it runs,
/etc/slurm/slurm.conf is a link to its settings: the executor's plugin takes SLURM_CONF away from its jobs.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort=26817
SlurmdPort=26818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
TaskPlugin=task/none
SlurmdParameters=config_overrides
ProctrackType=proctrack/cgroup
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=300
KillWait=30
SlurmctldTimeout=60
SchedulerParameters=batch_sched_delay=0,sched_interval=2
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=64000 Gres=gpu:fake:2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
CGROUP = "CgroupPlugin=cgroup/v1\nCgroupAutomount=yes\n"
SECONDS = 60  # that a daemon may take to come up
LINK = Path("/etc/slurm/slurm.conf")


class Cluster:
    """The daemons, with all their files in ``folder``.

    Args:
        folder: An empty folder.
        nice: Niceness of the node's daemon, and so of every job.
    """

    def __init__(self, folder: Path, nice: int = 0) -> None:
        self.folder, self._nice = folder, nice
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def __enter__(self) -> "Cluster":
        if LINK.exists():
            raise RuntimeError(f"{LINK}: there is a SLURM on this machine; run this where there is none")
        try:
            self._configure()
            LINK.unlink(missing_ok=True)  # of one that was killed
            LINK.symlink_to(self.folder / "slurm.conf")
            socket_file = self.folder / "munge.socket"
            files = {"key-file": "munge.key", "pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "seed"}
            options = [f"--{option}={self.folder / name}" for option, name in files.items()]
            self._start("munged", "--foreground", "--force", f"--socket={socket_file}", *options)
            self._wait_until(socket_file.exists, "munged")
            self._start("slurmctld", "-D")
            self._start("nice", "-n", str(self._nice), "slurmd", "-D", "-N", socket.gethostname())
            self._wait_until(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T", check=False), "slurmd")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for force in ([], ["--full", "--signal=KILL"]):
            self.run("scancel", *force, "--user=root", check=False)
        deadline = time.monotonic() + SECONDS
        while self.run("squeue", "--noheader", check=False) and time.monotonic() < deadline:
            time.sleep(0.5)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
        LINK.unlink(missing_ok=True)

    def run(self, *command: str, check: bool = True) -> str:
        """Output of one of SLURM's commands."""
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _configure(self) -> None:
        names = {"folder": self.folder, "host": socket.gethostname(), "cpus": os.cpu_count()}
        for name in ("state", "spool", "dev"):
            (self.folder / name).mkdir()
        for number in range(2):
            os.mknod(self.folder / f"dev/gpu{number}", 0o020666, os.makedev(1, 3))
        (self.folder / "slurm.conf").write_text(CONFIG.format(**names))
        (self.folder / "cgroup.conf").write_text(CGROUP)
        (self.folder / "gres.conf").write_text(f"Name=gpu Type=fake File={self.folder}/dev/gpu[0-1]\n")
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))

    def _start(self, *command: str) -> None:
        with open(self.folder / f"{Path(command[0]).name}-{len(self._daemons)}.out", "wb") as output:
            self._daemons.append(subprocess.Popen(command, env=self._environment, stdout=output, stderr=output))

    def _wait_until(self, ready: object, name: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not ready():  # type: ignore[operator]
            if self._daemons[-1].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not come up; see its files in {self.folder}")
            time.sleep(0.2)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, Cluster(Path(folder)):
        sys.exit(subprocess.run(sys.argv[1:]).returncode)
