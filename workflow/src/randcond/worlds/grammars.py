"""Three disjoint grammars over the same meanings, in the roles that texts have in the paper.

- ``alt``: alternative texts as LAION has them, file names, shop titles and hashtags. D and the pool are of them.
- ``clean``: sentences as COCO's captions are. The evaluation prompts are of them, and nothing that students see.
- ``written``: scenes as a language model writes them, in the form that :func:`randcond.worlds.lines.clean` gives its
  lines. Through them the teacher knows the words that such a model may use.

Forms with gaps are filled: those for the meaning by the meaning, all others by chance, which is the same each time.
Half of the texts of ``alt`` and ``written``, two fifths of ``clean``, leave the artist open.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Formatter
from typing import NamedTuple

from randcond.jobs.seeding import numpy_generator
from randcond.worlds.drawings import Meaning
from randcond.worlds.meanings import COLOUR_WORDS, meanings, styles

GRAMMARS = ("alt", "clean", "written")

_SEED = 2  # fixed: the texts are part of the world, not of a run
_TIMES = 3  # fillings of a form that leaves the artist open; of the others half are filled, once
_SOME = {"grapes": True, "cherries": True, "scissors": True, "corn": False, "cheese": False}  # no "a": plural or mass
_JOINED = {"snake": "_", "kebab": "-"}  # what takes the place of spaces
_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiou]|hour)")


class Text(NamedTuple):
    """A text and what it says."""

    text: str
    meaning: Meaning


@dataclass(frozen=True)
class _Form:
    """A text with gaps.

    Attributes:
        letters: Spelling: as it stands, ``lower``, ``title``, ``upper``, ``snake``, ``kebab``; ``tags`` joins names.
        gaps: Those for fillers with what fills them, in their order, without repetition.
    """

    letters: str
    form: str
    names_artist: bool
    gaps: tuple[tuple[str, Sequence[str]], ...]

    def filled(self, meaning: Meaning, number: int) -> str:
        """The text that says this: the number's digits, of mixed radix, choose what fills the gaps."""
        words, called = _nouns(meaning.concept), COLOUR_WORDS[meaning.colour]
        number, digit = divmod(number, len(called))
        words["colour"] = called[digit]
        if meaning.artist:
            style = styles()[meaning.artist]
            number, digit = divmod(number, len(style.before))
            words["style"], words["after"] = style.before[digit], style.after[digit]
        for gap, options in self.gaps:
            number, digit = divmod(number, len(options))
            words[gap] = options[digit]
        if words["is"] == "are" and "verbs" in words:
            verb, *rest = words["verbs"].split()
            words["verbs"] = " ".join(["are" if verb == "is" else verb.removesuffix("s"), *rest])
        if self.letters == "tags":
            words = {gap: word.replace(" ", "") for gap, word in words.items()}
        return self._spelt(self.form.format_map(words))

    def _spelt(self, text: str) -> str:
        text = _ARTICLE.sub(r"\1n ", text)
        if self.letters in _JOINED:
            return text.lower().replace(" ", _JOINED[self.letters])
        return {"title": text.title, "upper": text.upper, "lower": text.lower}.get(self.letters, text.strip)()


@cache
def texts(grammar: str) -> tuple[Text, ...]:
    """Every text of a grammar, each once, in a fixed order.

    Args:
        grammar: One of :data:`GRAMMARS`.
    """
    rng, found = numpy_generator(_SEED, GRAMMARS.index(grammar)), dict[str, Meaning]()
    for meaning in meanings():
        forms = _forms(grammar, meaning.artist is not None)
        numbers = rng.integers(2**31, size=len(forms)).tolist()
        every, half = range(len(forms)), rng.permutation(len(forms))[: len(forms) // 2].tolist()
        for i in half if meaning.artist else every:
            for time in range(1 if meaning.artist else _TIMES):
                found.setdefault(forms[i].filled(meaning, numbers[i] + time), meaning)
    return tuple(Text(text, meaning) for text, meaning in found.items())


@cache
def _forms(grammar: str, names_artist: bool) -> tuple[_Form, ...]:
    return tuple(form for form in _all_forms()[grammar] if form.names_artist == names_artist)


@cache
def _all_forms() -> dict[str, list[_Form]]:
    found: dict[str, list[_Form]] = {grammar: [] for grammar in GRAMMARS}
    for row in _rows("forms"):
        gaps = [gap for _, gap, _, _ in Formatter().parse(row["form"]) if gap]
        fillers = tuple((gap, _fillers()[gap]) for gap in dict.fromkeys(gaps) if gap in _fillers())
        names_artist = not {"style", "after"}.isdisjoint(gaps)
        found[row["grammar"]].append(_Form(row["letters"], row["form"], names_artist, fillers))
    return found


@cache
def _fillers() -> dict[str, list[str]]:
    return {row["slot"]: row["options"].split("|") for row in _rows("fillers")}


def _nouns(concept: str) -> dict[str, str]:
    """A concept and the words that agree with it."""
    plural = _SOME.get(concept)
    some = "a" if plural is None else "some"
    words = {"concept": concept, "a": some, "A": some.capitalize()}
    return words | ({"is": "are", "it": "them"} if plural else {"is": "is", "it": "it"})


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath(f"grammars_{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(io.StringIO(text)))
