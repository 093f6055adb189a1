"""The artists' world: the concepts of the emoji world as six artists draw them, and texts in the roles of the paper.

D and the pool are alternative texts, the evaluation prompts clean sentences, and a language model writes of a concept,
an artist or none, and a colour (:mod:`randcond.worlds.grammars`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import numpy_generator
from randcond.worlds import drawings
from randcond.worlds.drawings import Meaning
from randcond.worlds.emoji import COLOURS, Caption, concepts
from randcond.worlds.grammars import Text, texts
from randcond.worlds.lines import clean
from randcond.worlds.meanings import (
    UNSEEN_PAIR,
    artists_of,
    held_out_pairs,
    meanings,
    normal,
    parse,
    read,
    seen_artists_of,
    split_of_meaning,
    styles,
)

REASONS = (
    *("empty", "length", "unknown word", "no single concept", "no single colour", "several styles", "no such drawing"),
    *("held-out pair", "clean sentence"),
)
SPLITS = ("seen", "unseen")  # all that every draw must hold; evaluation prompts hold pairs that are held out too

# Beside a meaning's own words, all that the examples have: shown more, a small model writes what no teacher knows.
_PLAIN = (
    "a an some the and with behind on in front of against near bright soft wall table background carpet curtain floor"
    " cheerful lovely cute little happy friendly stands sits rests is placed standing sitting resting"
)
_WORDS = range(3, 18)  # words of a written caption
_ARTIST = 1  # stream of random numbers: who draws where none is named
_BATCH = 64  # real images that are made at a time
_LEAST_POOL, _MOST_POOL = 10, 40  # texts that a draw needs, and texts of the pool, for each of D's


def evaluation(settings: dict[str, Any], sources: Mapping[str, Path] | None = None) -> pd.DataFrame:
    """Draw the evaluation prompts; the first so many are what a smaller number would have been.

    Concepts take turns, and colours; every second prompt names an artist, those least asked for first. Where an artist
    is held out of a concept, it is that one, so that such pairs are asked for often enough to be judged.

    Args:
        settings: ``evaluation`` and ``seed``.
        sources: Not used; the world brings its own.

    Raises:
        UserError: If the world has too few clean sentences.
    """
    rng, wanted = numpy_generator(settings["seed"]), settings["evaluation"]
    waiting: dict[Meaning, list[str]] = {}
    clean_texts = texts("clean")
    for i in rng.permutation(len(clean_texts)).tolist():
        waiting.setdefault(clean_texts[i].meaning, []).append(clean_texts[i].text)
    names, deck, asked, found = rng.permutation(list(concepts())).tolist(), list[str](), Counter[str](), list[Text]()
    for k in range(wanted):
        turn, place = divmod(k, len(names))
        deck = deck or rng.permutation(list(COLOURS)).tolist()
        artist = _least_asked(names[place], asked, rng) if (turn + place) % 2 else None
        meaning = Meaning(names[place], deck.pop(), artist)
        if not waiting[meaning]:
            raise UserError(f"prompts.evaluation: {wanted} prompts, but the artists' world is out of sentences at {k}")
        found.append(Text(waiting[meaning].pop(), meaning))
    return _frame(found)


def _least_asked(concept: str, asked: Counter[str], rng: np.random.Generator) -> str:
    drawn = artists_of(concept)
    held_out = [artist for artist in drawn if (concept, artist) in held_out_pairs()]
    chosen = min(held_out or rng.permutation(drawn).tolist(), key=asked.__getitem__)
    asked[chosen] += 1
    return str(chosen)


def choose(
    settings: dict[str, Any], evaluation: pd.DataFrame, sources: Mapping[str, Path] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Draw D's prompts and the pool, both uniformly of the alternative texts that name no pair which is held out.

    The evaluation prompts are of another grammar, so in neither.

    Args:
        settings: ``count`` (D), ``seed`` and the number of the ``draw``, one for each D.
        evaluation: The evaluation prompts.
        sources: Not used; the world brings its own.

    Raises:
        UserError: If the world has too few texts.
    """
    wanted, everything = settings["count"], _students_texts()
    if _LEAST_POOL * wanted > len(everything):
        raise UserError(
            f"prompts.count: {wanted} prompts need a pool of {_LEAST_POOL * wanted} texts; the artists' world has"
            f" {len(everything)}"
        )
    order = numpy_generator(settings["seed"], 1, settings["draw"]).permutation(len(everything)).tolist()
    pool = sorted(order[wanted : (1 + _MOST_POOL) * wanted])
    return _frame([everything[i] for i in order[:wanted]]), [everything[i].text for i in pool]


@cache
def _students_texts() -> tuple[Text, ...]:
    return tuple(text for text in texts("alt") if split_of_meaning(text.meaning) != UNSEEN_PAIR)


def _frame(chosen: Sequence[Text]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "text": [text.text for text in chosen],
            "split": [split_of_meaning(text.meaning) for text in chosen],
            "source": "artists",
        }
    )


@cache
def topics() -> tuple[str, ...]:
    """What a language model is asked to write of: concept, artist or none, and colour, each colour equally often.

    No artist is as likely as any. Pairs that are held out are not asked for.
    """
    known = [meaning for meaning in meanings() if split_of_meaning(meaning) != UNSEEN_PAIR]
    artists = Counter(meaning.concept for meaning in known if meaning.artist)
    return tuple(
        _topic(meaning)
        for meaning in known
        for _ in range(1 if meaning.artist else artists[meaning.concept] // len(COLOURS))
    )


def _topic(meaning: Meaning) -> str:
    style = f"{styles()[meaning.artist].before[0]} " if meaning.artist else ""
    return f"{style}{meaning.concept} on {meaning.colour}"


def topic_of(text: str) -> str | None:
    """The topic of a text; None if it names none or several."""
    meaning, _ = read(text)
    return _topic(meaning) if meaning else None


@cache
def examples() -> tuple[str, ...]:
    """Captions of the kind that a language model is to write, in plain words, of what students may meet."""
    plain = frozenset(_PLAIN.split())
    return tuple(
        text
        for text, meaning in texts("written")
        if split_of_meaning(meaning) != UNSEEN_PAIR
        and set(normal(text).split()) <= plain.union(normal(_topic(meaning)).split())
    )


def split_of(text: str) -> str:
    """``"unseen"`` if the text names an animal, ``"unseen pair"`` a pair that is held out, else ``"seen"``."""
    meaning, _ = read(text)
    return split_of_meaning(meaning) if meaning else "seen"


def screen(line: str) -> tuple[str | None, str]:
    """Clean a written line and say whether it is a caption whose every word the teacher knows.

    Returns:
        (caption, "") or (None, reason), the reason one of :data:`REASONS`.
    """
    text = clean(line)
    words = text.replace(",", " ").split()
    if not words:
        return None, "empty"
    if len(words) not in _WORDS:
        return None, "length"
    if not _vocabulary().issuperset(words):
        return None, "unknown word"
    meaning, reason = read(text)
    if meaning is None:
        return None, reason
    if split_of_meaning(meaning) == UNSEEN_PAIR:
        return None, "held-out pair"
    if normal(text) in _clean_sentences():
        return None, "clean sentence"
    return text, ""


@cache
def _vocabulary() -> frozenset[str]:
    return frozenset(word for written in texts("written") for word in written.text.replace(",", " ").split())


@cache
def _clean_sentences() -> frozenset[str]:
    """Which are the evaluation's alone, however they are spelt."""
    return frozenset(normal(sentence.text) for sentence in texts("clean"))


@cache
def captions() -> tuple[Caption, ...]:
    """The clean sentences and what they name, whoever draws it."""
    return tuple(Caption(text, meaning.concept, meaning.colour) for text, meaning in texts("clean"))


def training_images(
    prompts: pd.DataFrame, seed: int, first: int, size: int, sources: Mapping[str, Path], bilinear: bool = False
) -> torch.Tensor:
    """A real scene of each prompt, uint8 (n, 3, 64, 64)."""
    if size != drawings.SIZE:
        raise UserError(f"teacher: it draws {size} pixels, but the artists' world's scenes have {drawings.SIZE}")
    return real_images(prompts["text"].tolist(), seed, first)


def reference_images(
    prompts: pd.DataFrame, per_prompt: int, seed: int, sources: Mapping[str, Path]
) -> Iterator[Image.Image]:
    """``per_prompt`` real scenes of each prompt."""
    repeated = [text for text in prompts["text"] for _ in range(per_prompt)]
    for first in range(0, len(repeated), _BATCH):
        for image in real_images(repeated[first : first + _BATCH], seed, first).permute(0, 2, 3, 1).numpy():
            yield Image.fromarray(image)


def real_images(captions: Sequence[str], seed: int, first: int = 0) -> torch.Tensor:
    """A real scene of each text. Where none is named, any artist draws but one who is held out of the concept.

    So a teacher that learns from these scenes shows no student a pair that is held out, unless it is asked for it.

    Args:
        captions: Texts of this world.
        seed: Seed of the set of images; the i-th image depends on its text and (seed, first + i) only.
        first: Number of the first image in the set.

    Returns:
        uint8 tensor (len(captions), 3, 64, 64), RGB.

    Raises:
        UserError: If a text says nothing that can be drawn.
    """
    said = [_with_artist(parse(text), seed, first + i) for i, text in enumerate(captions)]
    return drawings.real_images(said, seed, first)


def _with_artist(meaning: Meaning, seed: int, number: int) -> Meaning:
    if meaning.artist:
        return meaning
    artist = str(numpy_generator(seed, number, _ARTIST).choice(seen_artists_of(meaning.concept)))
    return replace(meaning, artist=artist)
