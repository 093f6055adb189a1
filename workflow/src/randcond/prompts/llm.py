"""Captions written by a language model: the data-free source of texts, the part that GPT plays in the paper.

SmolLM2-135M-Instruct is shown a list of topics with captions drawn at random, and writes the captions of further
topics. Left to choose its topics it writes of unicorns and balls, nine lines in ten of what the teacher never saw.
Lines that the teacher could not understand are sieved out by the world's ``screen``.
"""

import argparse
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.cache_utils import Cache, DynamicLayer

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import files_below, sha256, write_json
from randcond.jobs.progress import Progress
from randcond.jobs.seeding import generator, numpy_generator
from randcond.jobs.stage import run_stage, set_threads
from randcond.prompts import smollm2
from randcond.prompts.endpoint import endpoint_writer
from randcond.prompts.rounds import Rounds
from randcond.prompts.table import read_prompts, write_prompts
from randcond.settings.large import Endpoint
from randcond.worlds import World, load_world

_LIKELIEST = 256  # tokens that are sampled from; sorting all 49,152 would cost a tenth of the time
_TOKENS, _EXAMPLES = 0, 1  # streams of random numbers
_NOT_OF_LINES = ("count", "max_rounds")  # settings that no round's lines depend on
_NOT_OF_ANSWERS = ("requests_per_minute", "most_dollars", "dollars_per_million_input", "dollars_per_million_output")
_LINES = 8  # topics drawn for each row of a round; a row that needs more begins again

log = logging.getLogger("randcond")

ContinueList = Callable[[str, Sequence[str], int], list[str]]  # (prompt, topics, round) -> captions


@dataclass(frozen=True)
class Settings:
    """How captions are written."""

    count: int  # accepted captions wanted
    batch: int  # continuations of one prompt, generated at once
    examples: int  # topics with captions of the world in a prompt
    new_tokens: int  # length of a continuation
    temperature: float
    top_p: float
    max_rounds: int  # prompts tried before giving up
    seed: int
    threads: int  # another number can change the rounding, and with it a token now and then
    heading: str = ""  # what the list of a prompt is of, in words


def write_captions(
    settings: Settings,
    world: World,
    texts: Sequence[str],
    held_out: Collection[str],
    continue_list: ContinueList,
    rounds: list[list[str]],
    save: Callable[[list[list[str]]], None],
) -> tuple[list[str], dict[str, Any]]:
    """Let the model write until enough captions are accepted.

    Args:
        settings: How many, from how many examples, and the most rounds.
        world: Names topics and screens lines.
        texts: The world's captions, from which each round's examples are drawn.
        held_out: The evaluation prompts; a line that is one of them is left out, so that no student is trained on it.
        continue_list: (prompt, topics, round) -> captions that the model wrote, one a topic as far as it came.
        rounds: Lines of the rounds that an interrupted job has done; they are not asked for again.
        save: Called with the lines of all rounds after each new one.

    Returns:
        The distinct captions in the order they were written, and the summary.

    Raises:
        UserError: If ``max_rounds`` is used up, or there are fewer texts than examples.
    """
    if len(texts) < settings.examples:
        raise UserError(f"examples: {settings.examples} wanted, but there are only {len(texts)} captions to draw from")
    rounds, accepted, rejected = list(rounds), dict[str, None](), Counter[str]()
    progress = Progress("llm prompts", settings.count, "captions")
    for round_ in range(settings.max_rounds):
        rng = numpy_generator(settings.seed, _EXAMPLES, round_)
        examples = [texts[i] for i in rng.choice(len(texts), settings.examples, replace=False)]
        if round_ == len(rounds):
            topics = rng.choice(list(world.topics()) or [""], settings.batch * _LINES)
            rounds.append(
                continue_list(settings.heading + _prompt(world, examples), [str(topic) for topic in topics], round_)
            )
            save(rounds)
        for line in rounds[round_]:
            text, reason = world.screen(line)
            if text in held_out:
                reason = "held out"
            elif text in examples:
                reason = "copied"
            elif text in accepted:
                reason = "duplicate"
            if text is None or reason:
                rejected[reason] += 1
                continue
            accepted[text] = None
            if len(accepted) == settings.count:
                progress.at(len(accepted))
                return list(accepted), _summary(world, list(accepted), rejected)
        progress.at(len(accepted), f"{rejected.total()} lines rejected")
    raise UserError(
        f"max_rounds: {settings.max_rounds} rounds gave {len(accepted)} captions of the {settings.count} wanted;"
        " raise max_rounds or lower count"
    )


def _prompt(world: World, examples: Sequence[str]) -> str:
    topics = [world.topic_of(text) for text in examples]
    return "".join(
        f"- {topic}: {text}\n" if topic else f"- {text}\n" for topic, text in zip(topics, examples, strict=True)
    )


def _summary(world: World, accepted: list[str], rejected: Counter[str]) -> dict[str, Any]:
    asked = len(accepted) + rejected.total()
    return {
        "asked": asked,
        "accepted": len(accepted),
        "duplicates": rejected["duplicate"],
        "filtered": rejected.total() - rejected["duplicate"],
        "rejected": {reason: rejected[reason] for reason in (*world.REASONS, "held out", "duplicate", "copied")},
        "acceptance_rate": len(accepted) / asked,
        "concepts": len({world.topic_of(text) for text in accepted}),
        "examples": accepted[:12],
        "pool": len(accepted),
    }


def prompts_table(world: World, texts: Sequence[str]) -> pd.DataFrame:
    """Captions that passed the world's ``screen`` as text, split ("seen" or "unseen") and source ("llm")."""
    return pd.DataFrame({"text": texts, "split": [world.split_of(text) for text in texts], "source": "llm"})


def load_writer(model_file: Path, settings: Settings) -> ContinueList:
    """Load a GGUF file (float32) or a transformers folder and return the function that continues a list with it.

    On a GPU a folder's model runs in bfloat16. Code that lies in the folder is not run.

    Raises:
        UserError: If there is no such model.
    """
    gpu = torch.cuda.is_available()
    # False, not None: transformers would ask at the terminal whether it may
    chosen: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if not model_file.is_dir():
        chosen |= {"gguf_file": model_file.name}
    folder = str(model_file if model_file.is_dir() else model_file.parent)
    dtype = torch.bfloat16 if gpu and model_file.is_dir() else torch.float32
    with reading(
        model_file, "a language model", missing="run snakemake fetch", broken="fetch it again or name another"
    ):
        # of a GGUF file the same without AutoTokenizer's reading of its model: 9 s of a core
        kind = AutoTokenizer if model_file.is_dir() else PreTrainedTokenizerFast
        tokenizer = kind.from_pretrained(folder, **chosen)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **chosen).eval()

    model.to("cuda" if gpu else "cpu")
    newlines = torch.tensor(["\n" in tokenizer.decode([i]) for i in range(len(tokenizer))])

    def continue_list(prompt: str, topics: Sequence[str], round_: int) -> list[str]:
        ids = tokenizer(prompt, return_tensors="pt").input_ids.to(model.device)
        starts = [tokenizer(f"- {topic}:" if topic else "-").input_ids for topic in topics]
        written = tokenizer.batch_decode(_sample(model, ids, starts, newlines, settings, round_))
        # the last line of each row is cut off somewhere
        lines = [line for text in written for line in text.split("\n")[:-1] if line]
        return [line.split(":", 1)[-1] for line in lines] if any(topics) else lines

    return continue_list


@torch.inference_mode()
def _sample(
    model: Any,
    ids: torch.Tensor,
    starts: Sequence[list[int]],
    newlines: torch.Tensor,
    settings: Settings,
    round_: int,
) -> torch.Tensor:
    """Continue one prompt (1, length) in ``batch`` rows; token ids (batch, new_tokens).

    Every line of a row begins with the next of ``starts``, which is put in its mouth; the rest is sampled.
    """
    rng = generator(settings.seed, _TOKENS, round_)
    first = model(ids, use_cache=True, logits_to_keep=1)
    layers = first.past_key_values.layers
    cache = Cache([_RoomyLayer(layer, settings.batch, settings.new_tokens) for layer in layers])
    logits, tokens = first.logits[:, -1].expand(settings.batch, -1), []
    upcoming = iter(starts)
    forced = [list(next(upcoming)) for _ in range(settings.batch)]
    for _ in range(settings.new_tokens):
        best, candidates = (part.cpu() for part in logits.float().topk(_LIKELIEST))
        likely = (best / settings.temperature).softmax(-1)
        likely[likely.cumsum(-1) - likely >= settings.top_p] = 0
        token = candidates.gather(1, torch.multinomial(likely, 1, generator=rng))
        for row, waiting in enumerate(forced):
            if waiting:
                token[row] = waiting.pop(0)
            elif newlines[token[row]]:
                waiting.extend(next(upcoming, starts[row]))
        tokens.append(token)
        logits = model(token.to(ids.device), past_key_values=cache, use_cache=True).logits[:, -1]
    return torch.cat(tokens, 1)


class _RoomyLayer(DynamicLayer):
    """A prompt's keys and values for each of a batch, with room for the tokens to come.

    The library's own layer copies everything anew for each token: 40% of the time.
    """

    def __init__(self, prompt: Any, batch: int, room: int) -> None:
        super().__init__()
        self.dtype, self.device, self.is_initialized = prompt.dtype, prompt.device, True
        both = (prompt.keys, prompt.values)
        self._whole = [F.pad(part.expand(batch, -1, -1, -1), (0, 0, 0, room)) for part in both]
        self._fit(prompt.keys.shape[-2])

    def _fit(self, length: int) -> None:
        self.keys, self.values = (part[..., :length, :] for part in self._whole)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        start = self.keys.shape[-2]
        self._fit(start + key_states.shape[-2])
        self.keys[..., start:, :], self.values[..., start:, :] = key_states, value_states
        return self.keys, self.values


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
    kept = Rounds(arguments.work, _fingerprint(arguments))
    with kept.lock():
        rounds = kept.load()
        log.info("llm prompts: %d rounds were done before", len(rounds))
        if endpoint is None:
            name, writer = arguments.model.stem, load_writer(arguments.model, settings)
        else:
            name = endpoint["model"]
            writer = endpoint_writer(Endpoint(**endpoint), settings, done=len(rounds), examples=texts)
        accepted, summary = write_captions(
            settings, world, texts, held_out, writer, rounds, lambda done: kept.append(done[-1])
        )
        write_prompts(arguments.prompts, prompts_table(world, accepted))
        write_json(arguments.summary, {"model": name, **summary})
        kept.remove()
    log.info("llm prompts: %s", {key: summary[key] for key in ("asked", "accepted", "concepts")})
    return None


def _examples(world: World, captions: Path) -> Sequence[str]:
    """What examples are drawn from: D's captions, or what the world has of the kind that is to be written."""
    own = getattr(world, "examples", None)
    return own() if own else read_prompts(captions)["text"].tolist()


def _fingerprint(arguments: argparse.Namespace) -> dict[str, str]:
    """What lines written earlier must agree with: settings, captions, code and model."""
    files = [("code", Path(__file__)), *([("captions", arguments.captions)] if arguments.captions else [])]
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
