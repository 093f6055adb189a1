"""Captions written by a language model: the data-free source of texts, the part that GPT plays in the paper.

SmolLM2-135M-Instruct is shown a list of topics with captions drawn at random, and writes the captions of further
topics. Left to choose its topics it writes of unicorns and balls, nine lines in ten of what the teacher never saw.
Lines that the teacher could not understand are sieved out by the world's ``screen``.
"""

import argparse
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from randcond.jobs.files import files_below, sha256, write_json
from randcond.jobs.stage import run_stage, set_threads
from randcond.prompts import local_model, smollm2, writing
from randcond.prompts.endpoint import endpoint_writer
from randcond.prompts.rounds import Rounds
from randcond.prompts.table import read_prompts, write_prompts
from randcond.prompts.writing import Settings, prompts_table, write_captions
from randcond.settings.large import Endpoint
from randcond.worlds import World, load_world

_NOT_OF_LINES = ("count", "max_rounds")  # settings that no round's lines depend on
_PRICES = ("dollars_per_million_input", "dollars_per_million_output", "most_dollars")
_NOT_OF_ANSWERS = ("requests_per_minute", "key_variable", *_PRICES)

log = logging.getLogger("randcond")


def main(arguments: argparse.Namespace) -> None:
    """Run the command ``fetch`` or ``write``."""
    if arguments.command == "fetch":
        return smollm2.fetch(arguments.output)
    values = json.loads(arguments.settings)
    world, endpoint = load_world(values.pop("world")), (values.pop("writer") or {}).get("endpoint")
    texts = values.pop("given", None) or _examples(world, arguments.captions)
    held_out = set(read_prompts(arguments.evaluation)["text"]) if arguments.evaluation else set()
    settings = Settings(**values)
    set_threads(settings.threads)
    kept = _rounds(arguments, paid=endpoint is not None)
    with kept.lock():
        rounds = kept.load()
        log.info("llm prompts: %d rounds were done before", len(rounds))
        if endpoint is None:
            name, writer = arguments.model.stem, local_model.load_writer(arguments.model, settings)
        else:
            name = endpoint["model"]
            writer = endpoint_writer(Endpoint(**endpoint), settings, done=len(rounds), examples=texts)
        accepted, summary = write_captions(
            settings, world, texts, held_out, writer, rounds, lambda done: kept.append(done[-1])
        )
        write_prompts(arguments.prompts, prompts_table(world, accepted))
        write_json(arguments.summary, {"model": name, **summary})
        if endpoint is None:
            kept.remove()
    log.info("llm prompts: %s", {key: summary[key] for key in ("asked", "accepted", "concepts")})
    return None


def _examples(world: World, captions: Path) -> Sequence[str]:
    """What examples are drawn from: D's captions, or what the world has of the kind that is to be written."""
    own = getattr(world, "examples", None)
    return own() if own else read_prompts(captions)["text"].tolist()


def _rounds(arguments: argparse.Namespace, paid: bool) -> Rounds:
    """Where the lines are kept: paid ones for good, in a folder for each of the settings that they depend on."""
    fingerprint = _fingerprint(arguments, paid)
    asked = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()[:16]
    return Rounds(arguments.work / asked if paid else arguments.work, fingerprint)


def _fingerprint(arguments: argparse.Namespace, paid: bool = False) -> dict[str, str]:
    """What lines written earlier must agree with: settings, captions, model and, unless they are paid for, the code."""
    files = [] if paid else [("code", Path(str(module.__file__))) for module in (local_model, writing)]
    files += [("captions", arguments.captions)] if arguments.captions else []
    if arguments.model:
        files += [("model", file) for file in files_below(arguments.model)]
    settings = json.loads(arguments.settings)
    writer = settings.get("writer") or {}
    for part, names in ((settings, _NOT_OF_LINES), (writer.get("endpoint") or {}, _NOT_OF_ANSWERS)):
        for name in names:
            part.pop(name, None)
    fingerprint = {"settings": json.dumps(settings, sort_keys=True)}
    for name, path in files:
        fingerprint[name] = fingerprint.get(name, "") + sha256(path)
    return fingerprint


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="download it").add_argument("--output", type=Path, required=True)
    write = commands.add_parser("write", help="let it write captions")
    write.add_argument("--settings", required=True, help="JSON object with the fields of Settings")
    write.add_argument("--model", type=Path, help="GGUF file or transformers folder; left out: a service writes")
    for option in ("--captions", "--evaluation"):
        write.add_argument(option, type=Path, help="left out: the settings' own examples, and nothing held out")
    for option in ("--prompts", "--summary", "--work"):
        write.add_argument(option, type=Path, required=True)
    run_stage(main, parser)
