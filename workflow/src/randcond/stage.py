"""What every stage's command shares: a log file, lines on the terminal, and one line for each error."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from randcond.errors import UserError

log = logging.getLogger("randcond")


def run_stage(
    main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: list[str] | None = None
) -> None:
    """Parse the arguments, run ``main`` with them, and exit with 1 and one line if it fails.

    ``--log FILE`` receives everything, tracebacks too; the terminal gets progress and the one line.
    """
    for command in _commands(parser):
        command.add_argument("--log", type=Path, required=True, help="log file of this job")
    arguments = parser.parse_args(argv)
    _set_up_logging(arguments.log)
    try:
        main(arguments)
    except UserError as error:
        log.error("error: %s", error)
        sys.exit(1)
    except MemoryError:
        log.error("error: out of memory; lower the stage's batch setting or give the job more memory")
        sys.exit(1)
    except OSError as error:
        log.error("error: %s", error)
        log.debug("traceback", exc_info=True)
        sys.exit(1)
    except Exception as error:
        log.debug("traceback", exc_info=True)
        log.error("error: %s: %s (full traceback in %s)", type(error).__name__, _first_line(error), arguments.log)
        sys.exit(1)


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parser's subcommands, or itself."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices.values())
    return [parser]


def set_threads(threads: int) -> None:
    """Let torch use this many threads; results are bit-identical only for one number of threads."""
    import torch

    torch.set_num_threads(threads)


def _set_up_logging(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, mode="a", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO)
    terminal.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.handlers = [file, terminal]
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").handlers = [file]
    logging.getLogger("py.warnings").propagate = False
    warnings.simplefilter("default")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
