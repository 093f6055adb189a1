"""What every stage's command shares: a log file, lines on the terminal, and one line for each error."""

import argparse
import gc
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

from randcond.jobs.errors import UserError, of_the_machine
from randcond.jobs.files import sha256
from randcond.jobs.provenance import MADE_WITH, made_with

log = logging.getLogger("randcond")


def run_stage(
    main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser, argv: list[str] | None = None
) -> None:
    """Parse the arguments, run ``main`` with them, and exit with 1 and one line if it fails.

    ``--log FILE`` receives everything, also tracebacks and what the job was made with; the terminal gets progress and
    the one line.
    """
    gc.freeze()  # what the libraries left there stays
    gc.enable()
    for command in _commands(parser):
        command.add_argument("--log", type=Path, required=True, help="log file of this job")
    arguments = parser.parse_args(argv)
    _set_up_logging(arguments.log)
    log.debug("%s%s", MADE_WITH, json.dumps(made_with()))
    code = _code()
    try:
        main(arguments)
        if changed := [path for path, digest in code.items() if not path.exists() or sha256(path) != digest]:
            # Snakemake looks at inputs when a job ends, and would take what the old code made for the new one's
            raise UserError(f"{changed[0]}: was changed while the job ran; give the same command again")
    except UserError as error:
        log.error("error: %s", error)
        sys.exit(1)
    except Exception as error:
        log.debug("traceback", exc_info=True)
        log.error("error: %s", _explained(error, arguments.log))
        sys.exit(1)


def _code() -> dict[Path, str]:
    """SHA-256 of the package's files that are loaded."""
    files = {
        Path(file)
        for name, module in sys.modules.items()
        if name.split(".")[0] in ("randcond", "__main__") and (file := getattr(module, "__file__", None))
    }
    return {file: sha256(file) for file in files if file.is_file()}


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parser's subcommands, or itself."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return list(action.choices.values())
    return [parser]


def named_paths(options: list[str]) -> dict[str, Path]:
    """``NAME=PATH`` options as a dict."""
    return {name: Path(path) for name, path in (option.split("=", 1) for option in options)}


def device() -> str:
    """``cuda`` on a job's GPU, else ``cpu``; :mod:`randcond.jobs.launch` hides GPUs from jobs that were given none."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def multiplies_bfloat16(device: str) -> bool:
    """Whether a device multiplies in bfloat16 itself, as GPUs and CPUs with AMX or AVX-512's do.

    Others, as most laptops', emulate it: 14 to 20 times as slow as float32 (benchmarks/muon.py).
    """
    import torch

    can = torch.cpu.get_capabilities() if device == "cpu" else {}
    return device != "cpu" or bool(can.get("amx_bf16") or can.get("avx512_bf16"))


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
    logging.raiseExceptions = False  # a log on a full disk must not hide the one line behind tracebacks
    logging.getLogger("py.warnings").handlers = [file]
    logging.getLogger("py.warnings").propagate = False
    warnings.simplefilter("default")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")


def _explained(error: Exception, log_file: Path) -> str:
    """What a failure that nobody foresaw means, in one line."""
    return of_the_machine(error) or f"{type(error).__name__}: {_first_line(error)} (full traceback in {log_file})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no message"
