"""D's prompts, the text pool and the evaluation prompts of a world."""

import argparse
import json
from pathlib import Path

from randcond.jobs.errors import UserError
from randcond.jobs.files import write_json
from randcond.jobs.progress import log
from randcond.jobs.stage import named_paths, run_stage
from randcond.prompts.pool import write_pool
from randcond.prompts.table import write_prompts
from randcond.worlds import load_world


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    captions, evaluation, pool = load_world(settings["world"]).choose(settings, named_paths(arguments.sources))
    summary = {"expected": settings["expected"]}
    for name, frame in (("captions", captions), ("evaluation", evaluation)):
        counts = summary[name] = frame["split"].value_counts().to_dict()
        if len(counts) < 2:
            raise UserError(f"prompts.{name}: too few prompts; they hold {counts}, but both splits are needed")
        log.info("%s: %s", name, counts)
    for split, expected in settings["expected"].items():
        found = summary["captions"][split]
        log.info("%s captions: %d, the paper has %d (%+.1f%%)", split, found, expected, 100 * (found / expected - 1))
    summary["pool"] = write_pool(arguments.pool, pool)
    log.info("pool: %d texts, %.1f times D", summary["pool"], summary["pool"] / len(captions))
    write_prompts(arguments.captions, captions)
    write_prompts(arguments.evaluation, evaluation)
    write_json(arguments.summary, summary)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--sources", nargs="*", default=[], metavar="NAME=PATH", help="the world's files")
    for option in ("--captions", "--evaluation", "--pool", "--summary"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
