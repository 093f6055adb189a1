"""A stage that fails says so in one line; its log has the rest."""

import argparse
import logging
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from randcond.jobs import stage
from randcond.jobs.errors import UserError
from randcond.jobs.stage import run_stage


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("randcond", "py.warnings")]
    kept = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    for logger, handlers, level, propagate in kept:
        for handler in set(logger.handlers) - set(handlers):
            with suppress(OSError):  # a log that could not be written
                handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def run(error: BaseException | None, log: Path) -> None:
    def main(_arguments: argparse.Namespace) -> None:
        logging.getLogger("randcond").info("working")
        if error:
            raise error

    run_stage(main, argparse.ArgumentParser(), ["--log", str(log)])


@pytest.mark.parametrize(
    ("error", "line", "traced"),
    [
        (UserError("config: seeds: a seed is listed twice"), "error: config: seeds: a seed is listed twice", False),
        (MemoryError(), "error: out of memory; lower the stage's batch", True),
        (OSError(28, "No space left on device"), "error: the disk is full ([Errno 28] No space left on device)", True),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "error: the disk is full (I/O", True),
        (PermissionError(13, "Permission denied", "a.zip"), "error: [Errno 13] Permission denied: 'a.zip'", True),
        (ValueError("first\nsecond"), "error: ValueError: first (full traceback in ", True),
        (RuntimeError(), "error: RuntimeError: no message (full traceback in ", True),
    ],
)
def test_failure_is_one_line(
    error: Exception, line: str, traced: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "logs" / "stage.log"
    with pytest.raises(SystemExit) as caught:
        run(error, log)
    assert caught.value.code == 1
    working, shown = capsys.readouterr().err.splitlines()
    assert working.endswith("working")
    assert line in shown
    assert ("Traceback" in log.read_text()) == traced
    assert line in log.read_text()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried 4 TB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    ],
)
def test_torchs_ways_to_be_out_of_memory(error: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(error, tmp_path / "stage.log")
    assert "error: out of memory; lower the stage's batch" in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "stage.log").read_text()


def test_memory_really_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_stage(lambda _: torch.empty(2**60), argparse.ArgumentParser(), ["--log", str(tmp_path / "stage.log")])
    (line,) = capsys.readouterr().err.splitlines()
    assert "error: out of memory" in line


def test_a_full_disk_under_the_log_hides_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(UserError("config: no good"), Path("/dev/full"))
    assert "error: config: no good" in capsys.readouterr().err.splitlines()[1]


def test_a_message_of_several_lines_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(UserError("a.json: broken (line 1\n  line 2)"), tmp_path / "stage.log")
    assert capsys.readouterr().err.splitlines()[1].endswith("error: a.json: broken (line 1 line 2)")


def test_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(None, tmp_path / "stage.log")
    run(None, tmp_path / "stage.log")
    assert (tmp_path / "stage.log").read_text().count("INFO working") == 2  # a repeated job's log goes on
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_subcommands_have_a_log_too(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    commands.add_parser("one").set_defaults(which=1)
    commands.add_parser("two").set_defaults(which=2)
    asked: list[int] = []
    run_stage(lambda arguments: asked.append(arguments.which), parser, ["two", "--log", str(tmp_path / "a.log")])
    assert asked == [2]
    assert (tmp_path / "a.log").exists()


def test_an_interrupt_is_no_failure_of_the_stage(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(KeyboardInterrupt(), tmp_path / "stage.log")


def test_code_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = tmp_path / "losses.py"
    module.write_text("old")
    monkeypatch.setattr(stage, "_code", lambda: {module: stage.sha256(module)})
    run(None, tmp_path / "a.log")

    def main(_arguments: argparse.Namespace) -> None:
        module.write_text("new")

    with pytest.raises(SystemExit):
        run_stage(main, argparse.ArgumentParser(), ["--log", str(tmp_path / "b.log")])
    assert "losses.py: was changed while the job ran" in capsys.readouterr().err
