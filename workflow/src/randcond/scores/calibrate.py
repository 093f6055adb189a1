"""The calibration gate: before any student is scored, the teacher must score as the paper's teacher does."""

import argparse
import json
from pathlib import Path
from typing import Any

from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json, write_json
from randcond.jobs.progress import log
from randcond.jobs.stage import run_stage


def verdict(settings: dict[str, Any], scores: dict[str, Any], where: Path) -> dict[str, Any]:
    """What the teacher scored beside what it should.

    Args:
        settings: ``split``, ``scores`` (metric -> ``value`` and ``tolerance``) and ``overridden_by``.
        scores: The teacher's score file.
        where: Its path, for messages.

    Returns:
        ``passed``, ``overridden_by`` (None if it passed) and ``scores``: metric -> expected, tolerance, found.

    Raises:
        UserError: If a score is missing, or off without anybody answering for it.
    """
    split, by = settings["split"], settings["overridden_by"]
    try:
        metrics = scores["splits"][split]["metrics"]
        found = {name: float(metrics[name]["value"]) for name in settings["scores"]}
    except (KeyError, TypeError):
        raise UserError(f"{where}: lacks a score of the split {split} that calibration.scores names") from None
    lines = {
        name: {"expected": bounds["value"], "tolerance": bounds["tolerance"], "found": found[name]}
        for name, bounds in settings["scores"].items()
    }
    # written so that NaN is off too
    off = [name for name, one in lines.items() if not abs(one["found"] - one["expected"]) <= one["tolerance"]]
    if off and not by:
        text = ", ".join(
            f"{name} {lines[name]['found']:.4g} instead of {lines[name]['expected']:g} ± {lines[name]['tolerance']:g}"
            for name in off
        )
        raise UserError(
            f"{where}: the teacher is off ({text}), so no student is scored; check the protocol, or set"
            " calibration.overridden_by to the name of who answers for it"
        )
    return {"passed": not off, "overridden_by": by if off else None, "split": split, "scores": lines}


def _main(arguments: argparse.Namespace) -> None:
    result = verdict(json.loads(arguments.settings), read_json(arguments.scores), arguments.scores)
    log.info("calibration: %s", result)
    write_json(arguments.output, result)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    for option in ("--scores", "--output"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
