"""What a text of the artists' world says: a concept, the colour behind it and, maybe, which artist drew it.

Artists are named by their style, in words that a person would use of the drawings ("outlined", "3D"). Two kinds of
things stay unseen: animals, as in the paper's table 2, and some pairs of a seen concept and an artist, which the
students meet in no image and no text ("known thing, known style, never together").
"""

import csv
import io
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import numpy_generator
from randcond.worlds.drawings import Meaning
from randcond.worlds.emoji import COLOURS, concepts

UNSEEN_PAIR = "unseen pair"  # the split of texts that name a pair which is held out

_HELD_OUT_SEED = 17  # fixed: the pairs are part of the world, not of a run
_HELD_OUT_OF_EACH = 4  # pairs of each artist: all in all one for every third seen concept
COLOUR_WORDS = {colour: (colour,) for colour in COLOURS} | {"sky blue": ("sky blue", "blue")}  # what it is called

_WORD = re.compile(r"[a-z0-9]+")
_MORE_FORMS = {"grape": "grapes", "cherry": "cherries"}  # whose names are plurals


@dataclass(frozen=True)
class Style:
    """How an artist is named.

    Attributes:
        before: Words that stand before a noun.
        after: Words that stand after it, in the same order.
        words: Any of these, as a whole word, names the artist.
        lacks: Concepts that the artist has not drawn.
    """

    before: tuple[str, ...]
    after: tuple[str, ...]
    words: tuple[str, ...]
    lacks: frozenset[str]


@cache
def styles() -> dict[str, Style]:
    """Artist, as in the drawings, -> style, in a fixed order."""
    text = resources.files(__package__).joinpath("meanings_styles.csv").read_text(encoding="utf-8")
    found = {}
    for row in csv.DictReader(io.StringIO(text)):
        before, after, words, lacks = (tuple(filter(None, row[name].split("|"))) for name in list(row)[1:])
        found[row["artist"]] = Style(before, after, words, frozenset(lacks))
    return found


@cache
def artists_of(concept: str) -> tuple[str, ...]:
    """The artists that have drawn a concept."""
    return tuple(artist for artist, style in styles().items() if concept not in style.lacks)


@cache
def seen_artists_of(concept: str) -> tuple[str, ...]:
    """Those of them that a text which leaves the artist open may stand for: else students met the pairs held out."""
    return tuple(artist for artist in artists_of(concept) if (concept, artist) not in held_out_pairs())


@cache
def held_out_pairs() -> frozenset[tuple[str, str]]:
    """(concept, artist) pairs of seen concepts that no student meets: no concept twice, each artist equally often."""
    rng = numpy_generator(_HELD_OUT_SEED)
    waiting = [str(name) for name in rng.permutation([name for name, animal in concepts().items() if not animal])]
    pairs = []
    for artist in [str(name) for name in rng.permutation(list(styles()))] * _HELD_OUT_OF_EACH:
        concept = next(name for name in waiting if artist in artists_of(name))
        waiting.remove(concept)
        pairs.append((concept, artist))
    return frozenset(pairs)


@cache
def meanings() -> tuple[Meaning, ...]:
    """All that can be said, in a fixed order: what no artist has drawn is not in it."""
    return tuple(
        Meaning(concept, colour, artist)
        for concept, colour in itertools.product(concepts(), COLOURS)
        for artist in (None, *artists_of(concept))
    )


def split_of_meaning(meaning: Meaning) -> str:
    """``"unseen"`` of an animal, ``"unseen pair"`` of a pair that is held out, else ``"seen"``."""
    if concepts()[meaning.concept]:
        return "unseen"
    return UNSEEN_PAIR if (meaning.concept, meaning.artist) in held_out_pairs() else "seen"


def read(text: str) -> tuple[Meaning | None, str]:
    """What a free text says, by whole words: (meaning, ""), or (None, why there is none).

    File names and hashtags are read too, so ``palm_tree`` and ``#palmtree`` are palm trees.
    """
    named, colours, artists = _said(text).values()
    if len(named) != 1:
        return None, "no single concept"
    if len(colours) != 1:
        return None, "no single colour"
    if len(artists) > 1:
        return None, "several styles"
    meaning = Meaning(named.pop(), colours.pop(), artists.pop() if artists else None)
    if meaning.artist and meaning.artist not in artists_of(meaning.concept):
        return None, "no such drawing"
    return meaning, ""


def parse(text: str) -> Meaning:
    """What a text says.

    Raises:
        UserError: If it says nothing that can be drawn.
    """
    meaning, reason = read(text)
    if meaning is None:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise UserError(f"{shown!r} is no text of the artists' world ({reason}); it has no real image")
    return meaning


def normal(text: str) -> str:
    """The words of a text and nothing else: lower case, one space between two."""
    return " ".join(_WORD.findall(text.lower()))


def _said(text: str) -> dict[str, set[str]]:
    """The concepts, colours and artists that a text names; the longest name wins."""
    words, names = normal(text).split(), _names()
    found: dict[str, set[str]] = {"concept": set(), "colour": set(), "artist": set()}
    i = 0
    while i < len(words):
        for length in (2, 1):  # words of a name
            if named := names.get(" ".join(words[i : i + length])):
                kind, name = named
                found[kind].add(name)
                break
        i += length
    return found


@cache
def _names() -> dict[str, tuple[str, str]]:
    """Every form of every name -> (concept, colour or artist, which it is); also joined, as hashtags have it."""
    nouns = {form: ("concept", name) for name in concepts() for form in _forms(name)}
    nouns |= {form: ("concept", name) for form, name in _MORE_FORMS.items()}
    nouns |= {word: ("colour", colour) for colour, called in COLOUR_WORDS.items() for word in called}
    words = {word: ("artist", artist) for artist, style in styles().items() for word in style.words}
    return nouns | {form.replace(" ", ""): name for form, name in nouns.items()} | words


def _forms(name: str) -> Iterable[str]:
    plural = re.sub(r"[^aeiou]y$", lambda end: f"{end[0][0]}ies", name)
    return name, f"{name}s", f"{name}es", plural
