"""A world's evaluation prompts; D's prompts and the text pool of a draw."""

import argparse
import json
from pathlib import Path

import pandas as pd

from randcond.jobs.errors import UserError
from randcond.jobs.files import write_json
from randcond.jobs.progress import log
from randcond.jobs.stage import named_paths, run_stage
from randcond.prompts.pool import write_pool
from randcond.prompts.table import read_prompts, write_prompts
from randcond.worlds import load_world


def _evaluation(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    world = load_world(settings["world"])
    found = world.evaluation(settings, named_paths(arguments.sources))
    _counted("evaluation", found, world.SPLITS)
    write_prompts(arguments.evaluation, found)


def _training(arguments: argparse.Namespace) -> None:
    settings, evaluation = json.loads(arguments.settings), read_prompts(arguments.evaluation)
    world, sources = load_world(settings["world"]), named_paths(arguments.sources)
    captions, pool = world.choose(settings, evaluation, sources)
    summary = {
        "expected": settings["expected"],
        "captions": _counted("captions", captions, world.SPLITS),
        "evaluation": evaluation["split"].value_counts().to_dict(),
    }
    for split, expected in settings["expected"].items():
        found = summary["captions"][split]
        log.info("%s captions: %d, the paper has %d (%+.1f%%)", split, found, expected, 100 * (found / expected - 1))
    summary["pool"] = write_pool(arguments.pool, pool)
    log.info("pool: %d texts, %.1f times D", summary["pool"], summary["pool"] / len(captions))
    write_prompts(arguments.captions, captions)
    write_json(arguments.summary, summary)


def _counted(name: str, prompts: pd.DataFrame, needed: tuple[str, ...]) -> dict[str, int]:
    counts: dict[str, int] = prompts["split"].value_counts().to_dict()
    if not counts.keys() >= set(needed):
        raise UserError(f"prompts.{name}: too few prompts; they hold {counts}, but {' and '.join(needed)} are needed")
    log.info("%s: %s", name, counts)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, run, files in (
        ("evaluation", _evaluation, ["evaluation"]),
        ("training", _training, ["evaluation", "captions", "pool", "summary"]),
    ):
        command = commands.add_parser(name)
        command.add_argument("--settings", required=True)
        command.add_argument("--sources", nargs="*", default=[], metavar="NAME=PATH", help="the world's files")
        for file in files:
            command.add_argument(f"--{file}", type=Path, required=True)
        command.set_defaults(run=run)
    run_stage(lambda arguments: arguments.run(arguments), parser)
