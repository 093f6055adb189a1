"""Faults around Snakemake itself: a second one in the same checkout, a lock that stayed, unreadable configuration."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from checkout import Checkout

PROMPTS = "results/smoke/prompts/0/captions.parquet"
COMMAND = ("--cores", "1", "--configfile", "config/smoke.yaml")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


class Waiting:
    """A Snakemake whose job prompts waits, before it does anything, until :meth:`end`."""

    def __init__(self, checkout: Checkout) -> None:
        folder = checkout.folder.parent
        began, self._go_on = folder / "began", folder / "go-on"
        os.mkfifo(began)
        os.mkfifo(self._go_on)
        # every shell reads this file first
        wait = f"echo > {began}; read < {self._go_on}"
        condition = '"$BASH_EXECUTION_STRING" == *"randcond.prompts.choose training"*'
        (folder / "wait.sh").write_text(f"if [[ {condition} ]]; then {wait}; fi\n")
        self.process = checkout.start(*COMMAND, "--", PROMPTS, BASH_ENV=str(folder / "wait.sh"))
        began.read_text()  # until the job is there

    def kill(self) -> None:
        """SIGKILL for Snakemake and its job."""
        for one in [*psutil.Process(self.process.pid).children(recursive=True), self.process]:
            one.send_signal(signal.SIGKILL)
        self.process.communicate()

    def end(self) -> int:
        """Let the job go on; Snakemake's exit code."""
        self._go_on.write_text("\n")
        self.process.communicate()
        return self.process.returncode


@pytest.fixture
def waiting(checkout: Checkout) -> Iterator[Waiting]:
    started = Waiting(checkout)
    yield started
    if started.process.poll() is None:
        started.kill()


def refused(checkout: Checkout) -> None:
    done = checkout.snakemake(*COMMAND, "--", PROMPTS, check=False)
    assert done.returncode != 0
    assert "cannot be locked" in done.stdout + done.stderr
    assert "--unlock" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (checkout.folder / PROMPTS).exists()


def test_a_second_snakemake_says_so_and_stops(checkout: Checkout, waiting: Waiting) -> None:
    refused(checkout)
    assert waiting.end() == 0
    assert (checkout.folder / PROMPTS).exists()


def test_after_sigkill_the_lock_goes_when_it_is_told_to(checkout: Checkout, waiting: Waiting) -> None:
    waiting.kill()
    refused(checkout)
    checkout.snakemake("--unlock", *COMMAND)
    checkout.snakemake(*COMMAND, "--", PROMPTS)
    assert (checkout.folder / PROMPTS).exists()


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("config/config.yaml", "name: [artists\n", "Config file is not valid JSON or YAML"),
        ("config/config.yaml", "- name\n", "Config file must be given as JSON or YAML with keys at top level"),
        ("config/config.yaml", "teacher: no/such/folder\n", "no/such/folder"),
        ("config/experiments.yaml", "", "config/experiments.yaml"),
        ("config/config.yaml", "name: artists\nname: mine\n", "config/config.yaml: not valid YAML (line 2: 'name'"),
        ("config/smoke.yaml", "seeds: [0]\nseeds: [1]\n", "config/smoke.yaml: not valid YAML (line 2: 'seeds'"),
    ],
    ids=["no YAML", "a list", "no teacher", "no experiments", "a setting twice", "twice in the --configfile"],
)
def test_bad_files_are_named_before_any_job(checkout: Checkout, file: str, text: str, named: str) -> None:
    (checkout.folder / file).write_text(text)
    done = checkout.snakemake(*COMMAND, check=False)
    assert done.returncode != 0
    assert named in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert {path.name for path in (checkout.folder / "results").iterdir()} <= {"README.md"}
