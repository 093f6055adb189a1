"""Asked to stop: by signals (tested with the training loop) and by the end of SLURM's walltime."""

import os
import signal
import subprocess
from datetime import datetime
from types import SimpleNamespace

import pytest

from randcond.jobs import stopping
from randcond.jobs.stopping import asked_to_stop

NOW = datetime(2030, 1, 1, 12).timestamp()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, what squeue answers, and what it was asked."""
    state = SimpleNamespace(now=NOW, answer="", asked=[])

    def run(command: list[str], **_: object) -> SimpleNamespace:
        state.asked.append(command)
        if isinstance(state.answer, Exception):
            raise state.answer
        return SimpleNamespace(stdout=state.answer)

    monkeypatch.setattr(stopping.time, "time", lambda: state.now)
    monkeypatch.setattr(stopping.subprocess, "run", run)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    return state


@pytest.mark.parametrize(("end", "stops_at"), [("2030-01-01T16:00:00", 4 * 3600 - 300), ("2030-01-01T12:01:00", 54)])
def test_the_end_of_the_walltime(end: str, stops_at: float, clock: SimpleNamespace) -> None:
    clock.answer = f"{end}\n"
    with asked_to_stop() as asked:
        clock.now = NOW + stops_at - 1
        assert asked() == ""
        clock.now = NOW + stops_at + 1
        assert asked() == "the end of the walltime"
        clock.now = NOW
        assert asked() == "the end of the walltime"  # once asked, always asked
    assert "--jobs=17" in clock.asked[0]


@pytest.mark.parametrize("answer", ["", "N/A\n", "NONE", FileNotFoundError(), subprocess.TimeoutExpired("squeue", 60)])
def test_no_walltime_is_no_reason(answer: object, clock: SimpleNamespace) -> None:
    clock.answer = answer
    with asked_to_stop() as asked:
        clock.now = NOW + 1e9
        assert asked() == ""


def test_outside_slurm_nobody_is_asked(clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID")
    with asked_to_stop() as asked:
        assert asked() == ""
    assert clock.asked == []


@pytest.mark.parametrize("by_a_rule", [True, False])
def test_stops_when_nobody_waits_for_the_job(by_a_rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("RANDCOND_JOB", raising=False)
    if by_a_rule:
        monkeypatch.setenv("RANDCOND_JOB", "1")
    with asked_to_stop() as asked:
        assert asked() == ""
        monkeypatch.setattr(stopping.os, "getppid", lambda: -1)
        assert asked() == ("the end of Snakemake" if by_a_rule else "")


def test_one_of_several_processes_stops_when_nobody_waits_for_their_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("RANDCOND_JOB", "1")
    monkeypatch.setenv("LOCAL_RANK", "0")
    waits, launcher = os.getppid(), os.getpid()  # this process as a worker's launcher
    monkeypatch.setattr(stopping.os, "getppid", lambda: launcher)
    assert stopping._waiting() == waits
    with asked_to_stop() as asked:
        assert asked() == ""
        monkeypatch.setattr(stopping, "_waiting", lambda: -2)
        assert asked() == "the end of Snakemake"
    monkeypatch.undo()
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setattr(stopping.os, "getppid", lambda: -1)  # no such process: the launcher is gone
    assert stopping._waiting() == -1


@pytest.mark.usefixtures("interruptible")
def test_a_second_interrupt_does_not_wait() -> None:
    with asked_to_stop() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked() == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of a job that was started in the background
    try:
        with asked_to_stop() as asked:
            signal.raise_signal(signal.SIGINT)
            assert asked() == ""
    finally:
        signal.signal(signal.SIGINT, before)
