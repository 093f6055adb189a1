"""Which texts stand together in a batch of a contrastive training: no two of them may mean the same picture."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from randcond.jobs.errors import UserError
from randcond.worlds.drawings import Meaning

Key = TypeVar("Key", bound=Hashable)
# a step's random numbers -> indices of the batch's texts, and maybe of others that say the same
Batches = Callable[[np.random.Generator], list[list[int]]]

_ARTISTS = 4  # that draw the same concept in a batch which is to tell artists apart


def of_concepts(meanings: Sequence[Meaning], batch: int, colours: int) -> Batches:
    """Different (concept, colour) pairs; the artist, where there is one, does not count.

    The fewer colours a batch has, the more the concepts must tell its pictures apart; with few of them an image
    tower's batch statistics vary from step to step, and it is of no use afterwards.

    Args:
        meanings: What each text says.
        batch: Texts a step.
        colours: Background colours in a batch, drawn anew at every step.

    Raises:
        UserError: If there are not so many texts that differ, or colours.
    """
    rows = _by((meaning.concept, meaning.colour) for meaning in meanings)
    keys, all_colours = list(rows), sorted({meaning.colour for meaning in meanings})
    _check(batch, len(keys) * colours // max(len(all_colours), 1), colours, len(all_colours))

    def draw(rng: np.random.Generator) -> list[list[int]]:
        chosen_colours = rng.choice(all_colours, colours, replace=False)
        usable = [key for key in keys if key[1] in chosen_colours]
        chosen = rng.choice(len(usable), batch, replace=False)
        return [[int(rng.choice(rows[usable[k]])) for k in chosen]]

    return draw


def of_concepts_or_artists(meanings: Sequence[Meaning], batch: int, colours: int) -> Batches:
    """By chance either different concepts, half of them by an artist who is named, or few by four artists each.

    Each meaning is said twice, in words drawn by chance. A text that leaves the artist open fits every artist's
    picture, so it never stands beside another of its concept.

    Args:
        meanings: What each text says; every concept is drawn by four artists or more.
        batch: Texts a step.
        colours: Background colours in a batch, drawn anew at every step.

    Raises:
        UserError: If there are not so many texts that differ, or colours.
    """
    rows = _by(meanings)
    concepts, all_colours = (sorted({getattr(m, name) for m in meanings}) for name in ("concept", "colour"))
    _check(batch, len(concepts), colours, len(all_colours), _ARTISTS)
    drawn_by = {concept: sorted({m.artist for m in rows if m.concept == concept and m.artist}) for concept in concepts}

    def draw(rng: np.random.Generator) -> list[list[int]]:
        chosen_colours = rng.choice(all_colours, colours, replace=False)
        by_artists = rng.random() < 0.5
        picked = rng.choice(concepts, batch // _ARTISTS if by_artists else batch, replace=False)
        said: list[Meaning] = []
        for concept in map(str, picked):
            colour = str(rng.choice(chosen_colours))
            if by_artists:
                names = rng.choice(drawn_by[concept], _ARTISTS, replace=False)
                said += [Meaning(concept, colour, str(artist)) for artist in names]
            else:
                artist = str(rng.choice(drawn_by[concept])) if rng.random() < 0.5 else None
                said.append(Meaning(concept, colour, artist))
        return [[int(rng.choice(rows[meaning])) for meaning in said] for _ in range(2)]

    return draw


def _check(batch: int, most: int, colours: int, all_colours: int, parts: int = 1) -> None:
    if batch > most or batch % parts or colours > all_colours:
        raise UserError(
            f"make_teacher: batch: {batch} and colours: {colours} do not go together with this world: at most {most}"
            f" texts that differ, in multiples of {parts}, and {all_colours} colours"
        )


def _by(keys: Iterable[Key]) -> dict[Key, list[int]]:
    rows: dict[Key, list[int]] = {}
    for i, key in enumerate(keys):
        rows.setdefault(key, []).append(i)
    return rows
