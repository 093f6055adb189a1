"""Which captions name an animal: the split of the paper's table 2, whose own list is not published.

By words alone: ``worlds/paper_animals.csv`` lists animals, their plurals, and the phrases in which the word means
something else ("hot dog", "computer mouse", "baked chicken"). Words that mostly mean something else ("bat", "crane",
"salmon") are not in it.
"""

import csv
import io
import re
from functools import cache
from importlib import resources


def names_animal(text: str) -> bool:
    """True if a word of the list stands in the text outside of the phrases listed with it."""
    words, phrases = _patterns()
    text = text.lower()
    # the words first: most texts name no animal
    return words.search(text) is not None and words.search(phrases.sub(" ", text)) is not None


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    content = resources.files("randcond.worlds").joinpath("paper_animals.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(content)))
    words = [word for row in rows for word in (row["word"], *row["plural"].split("|"))]
    return _any_of(words), _any_of([phrase for row in rows for phrase in row["unless"].split(";") if phrase])


def _any_of(terms: list[str]) -> re.Pattern[str]:
    # the longest first, and no word character on either side
    ordered = sorted(set(terms), key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, ordered))})(?!\w)")
