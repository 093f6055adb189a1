"""A world of one's own: a teacher and texts, no real image. What students are held against is the teacher itself."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import torch
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import numpy_generator
from randcond.worlds.lines import clean

REASONS = ("empty", "length")  # why a written line is left out
SPLITS = ("seen",)  # all that every draw must hold

_KINDS = (".txt", ".csv", ".parquet")
_LEAST = 4  # texts: two to be judged by, two to learn from
_LEAST_OF_A_SPLIT = 2  # evaluation prompts that scores can be computed of
_WORDS = range(2, 61)  # of a written line


def evaluation(settings: dict[str, Any], sources: Mapping[str, Path]) -> pd.DataFrame:
    """The evaluation prompts: drawn uniformly of one's own texts.

    Args:
        settings: ``evaluation``, ``held_out`` and ``seed``.
        sources: ``own``, the file of texts.

    Raises:
        UserError: If the file cannot be used or holds too few texts, or if words are held out and fewer than two of the
            prompts, or all but one, have them: the two kinds could not be scored apart.
    """
    texts, path, wanted = _texts(sources), sources["own"], settings["evaluation"]
    if wanted > len(texts) - 2:
        raise UserError(
            f"prompts.evaluation: {wanted} of the {len(texts)} different texts in {path} leave fewer than 2 to learn"
            " from"
        )
    order = numpy_generator(settings["seed"]).permutation(len(texts))
    drawn = _frame([texts[i] for i in order[:wanted]], settings["held_out"])
    unseen = int((drawn["split"] == "unseen").sum())
    if settings["held_out"] and min(unseen, wanted - unseen) < _LEAST_OF_A_SPLIT:
        kind, words = ("with", "more") if unseen < _LEAST_OF_A_SPLIT else ("without", "fewer")
        raise UserError(
            f"prompts.held_out: {unseen} of the {wanted} evaluation prompts hold its words, but to be scored apart it"
            f" takes at least {_LEAST_OF_A_SPLIT} with and {_LEAST_OF_A_SPLIT} without; raise prompts.evaluation, add"
            f" texts {kind} them to {path}, or hold out words that {words} texts have"
        )
    return drawn


def choose(
    settings: dict[str, Any], evaluation: pd.DataFrame, sources: Mapping[str, Path]
) -> tuple[pd.DataFrame, list[str]]:
    """D's prompts, drawn uniformly of what the evaluation prompts leave, and the pool, which is the rest.

    Texts with held-out words are in the pool alone, so that they are not even rendered.

    Args:
        settings: ``count``, ``held_out``, ``seed``, the ``draw``'s number, and whether runs want a pool, ``pooled``.
        evaluation: The evaluation prompts.
        sources: ``own``, the file of texts.

    Raises:
        UserError: If the file cannot be used or holds too few texts, be it for the pool.
    """
    held = set(evaluation["text"])
    rest = [text for text in _texts(sources) if text not in held]
    drawable = [text for text in rest if not names(text, settings["held_out"])]
    if settings["count"] > len(drawable):
        raise UserError(
            f"prompts.count: {settings['count']} pairs to render, but {sources['own']} has only {len(drawable)}"
            f" different texts beside the {len(held)} of prompts.evaluation and those of prompts.held_out"
        )
    order = numpy_generator(settings["seed"], 1, settings["draw"]).permutation(len(drawable))
    drawn = [drawable[i] for i in order[: settings["count"]]]
    pool = sorted(set(rest) - set(drawn))
    if settings["pooled"] and not pool:
        raise UserError(
            f"prompts.count: {sources['own']} has no text left for the pool; lower it, or leave pool out of"
            " the runs' texts"
        )
    return _frame(drawn, settings["held_out"]), pool


def _frame(texts: list[str], held_out: Sequence[str]) -> pd.DataFrame:
    splits = ["unseen" if names(text, held_out) else "seen" for text in texts]
    return pd.DataFrame({"text": texts, "split": splits, "source": "own"})


def names(text: str, words: Sequence[str]) -> bool:
    """Whether a text holds one of the words, or words in a row, whole and in any case."""
    return any(f" {_plain(word)} " in f" {_plain(text)} " for word in words)


def _plain(text: str) -> str:
    """Its words in small letters, without marks: "T-shirt" is two of them."""
    return " ".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def _texts(sources: Mapping[str, Path]) -> list[str]:
    """The file's different texts, in their order, without what surrounds them."""
    if "own" not in sources:
        raise UserError(f"sources.own: the own world needs it: a file of texts, {', '.join(_KINDS)}")
    path = sources["own"]
    found = list(dict.fromkeys(text for line in _lines(path) if (text := " ".join(line.split()))))
    if len(found) < _LEAST:
        raise UserError(f"{path}: holds {len(found)} different texts; at least {_LEAST} are needed")
    return found


def _lines(path: Path) -> list[str]:
    if path.suffix not in _KINDS:
        raise UserError(f"{path}: texts are read from {', '.join(_KINDS)}")
    try:
        if path.suffix == ".txt":
            return path.read_text(encoding="utf-8-sig").splitlines()
        table = pd.read_csv(path, dtype=str, keep_default_na=False) if path.suffix == ".csv" else pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; sources.own names it") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it so") from None
    except (OSError, ValueError, pa.ArrowException) as error:  # pandas' own errors are ValueErrors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: cannot be read as {path.suffix} ({reason})") from None
    if not isinstance(table.index, pd.RangeIndex) and path.suffix == ".csv":  # pandas took the first parts as names
        raise UserError(f"{path}: its lines have more parts than its header; quote texts with commas, or give a .txt")
    if "text" not in table:
        raise UserError(f"{path}: lacks the column text; it has {', '.join(map(str, table)) or 'none'}")
    return [value if isinstance(value, str) else "" for value in table["text"]]


def training_images(
    prompts: pd.DataFrame, seed: int, first: int, size: int, sources: Mapping[str, Path], bilinear: bool = False
) -> torch.Tensor:
    """None.

    Raises:
        UserError: Always.
    """
    raise UserError("images: the own world has no real images; use rendered")


def reference_images(
    prompts: pd.DataFrame, per_prompt: int, seed: int, sources: Mapping[str, Path]
) -> Iterator[Image.Image]:
    """None.

    Raises:
        UserError: Always; the teacher's own samples are what students are held against.
    """
    raise UserError("the own world has no real images")


def topics() -> list[str]:
    """None: what is written of follows the examples."""
    return []


def topic_of(text: str) -> str | None:
    """None."""
    return None


def screen(line: str) -> tuple[str | None, str]:
    """Clean a written line and say whether it is a prompt.

    Returns:
        (prompt, "") or (None, reason), the reason one of :data:`REASONS`.
    """
    text = clean(line)
    if not text:
        return None, "empty"
    return (text, "") if len(text.split()) in _WORDS else (None, "length")


def split_of(text: str) -> str:
    """``"seen"``: a language model's prompts are told nothing of words that are held out."""
    return "seen"
