"""The artists' world's texts: what they say, three grammars, pairs held out."""

import re
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from randcond.jobs.errors import UserError
from randcond.worlds import artists, drawings, grammars
from randcond.worlds.drawings import Meaning
from randcond.worlds.emoji import COLOURS, concepts
from randcond.worlds.grammars import GRAMMARS, texts
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

# What CLIP's tokenizer cuts a text into before it looks words up. With a vocabulary of 1,280 learned on the texts in
# lower case, each is one token; two more mark beginning and end.
PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_")


def test_who_drew_what() -> None:
    assert tuple(styles()) == drawings.ARTISTS
    assert drawings.drawn() == {concept: artists_of(concept) for concept in concepts()}
    pairs = [(concept, artist) for concept in concepts() for artist in artists_of(concept)]
    assert len(pairs) == 634
    assert sum(len(artists_of(concept)) == 6 for concept in concepts()) == 95
    assert artists_of("giraffe") == ("openmoji", "twemoji", "noto", "fluent-3d")
    assert set(meanings()) == {
        *(Meaning(concept, colour) for concept in concepts() for colour in COLOURS),
        *(Meaning(concept, colour, artist) for concept, artist in pairs for colour in COLOURS),
    }


def test_pairs_held_out_are_balanced() -> None:
    pairs = held_out_pairs()
    assert set(Counter(artist for _, artist in pairs).values()) == {4}
    assert len(Counter(concept for concept, _ in pairs)) == len(pairs) == len(styles()) * 4
    assert not any(concepts()[concept] for concept, _ in pairs)
    assert all(artist in artists_of(concept) for concept, artist in pairs)
    for concept in concepts():
        lost = set(artists_of(concept)) - set(seen_artists_of(concept))
        assert {(concept, artist) for artist in lost} == {pair for pair in pairs if pair[0] == concept}
    assert pairs == held_out_pairs.__wrapped__()  # the same each time


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_every_text_says_what_made_it(grammar: str) -> None:
    found = texts(grammar)
    assert all(parse(text) == meaning for text, meaning in found)
    assert {text.meaning for text in found} == set(meanings())
    assert len({normal(text.text) for text in found}) == len(found)  # without capitals too
    opened = sum(text.meaning.artist is None for text in found) / len(found)
    assert 0.35 < opened < 0.65
    assert max(len(PIECES.findall(text.text)) for text in found) + 2 <= 24


def test_grammars_are_disjoint() -> None:
    found = {grammar: {normal(text.text) for text in texts(grammar)} for grammar in GRAMMARS}
    assert sum(map(len, found.values())) == len(set.union(*found.values())) > 150_000


def test_forms() -> None:
    for grammar in GRAMMARS:
        counts = [len(grammars._forms(grammar, names_artist)) for names_artist in (False, True)]
        assert min(counts) >= 12
        used = defaultdict(set)
        for text in texts(grammar):
            if text.meaning.artist:
                words = normal(text.text).split()
                used[text.meaning.artist] |= {word for word in styles()[text.meaning.artist].words if word in words}
        assert used == {artist: set(style.words) for artist, style in styles().items()}
    assert all(clean(text.text) == text.text for text in texts("written"))


def test_articles() -> None:
    for grammar in ("clean", "written"):
        for text, meaning in texts(grammar):
            assert not re.search(r"\ba ([aeiou]|hour)|\ban (?!hour)[^aeiou]", text, re.IGNORECASE), text
            if meaning.concept in ("grapes", "scissors", "cherries", "corn", "cheese"):
                assert not re.search(rf"\ban? (\w+ ){{0,2}}{meaning.concept}\b", text, re.IGNORECASE), text
    some = {text for text, meaning in texts("clean") if meaning.concept in ("scissors", "corn")}
    assert {"There are some scissors on a red surface.", "There is some corn on a red surface."} <= some


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("palm_tree_sky_blue_3d_0231.png", Meaning("palm tree", "sky blue", "fluent-3d")),
        ("#palmtree #skyblue", Meaning("palm tree", "sky blue")),
        ("RED TIGERS!!! in ink, outlined", Meaning("tiger", "red", "openmoji")),
        ("Two foxes and a cherry", "no single concept"),
        ("Two foxes, orange", Meaning("fox", "orange")),
        ("butterflies / white / flat", Meaning("butterfly", "white", "twemoji")),
        ("a tiger, blue", Meaning("tiger", "sky blue")),
        ("a cherry on green", Meaning("cherries", "green")),
        ("a griffin on red", "no single concept"),
        ("a tiger beside a key, red", "no single concept"),
        ("a tiger", "no single colour"),
        ("an orange tiger on red", "no single colour"),
        ("a flat 3D tiger on red", "several styles"),
        ("a retro giraffe on red", "no such drawing"),
        ("a carpet on red", "no single concept"),
        ("", "no single concept"),
    ],
)
def test_read(text: str, meaning: Meaning | str) -> None:
    if isinstance(meaning, Meaning):
        assert read(text) == (meaning, "")
        assert parse(text) == meaning
    else:
        assert read(text) == (None, meaning)
        with pytest.raises(UserError, match=meaning) as caught:
            parse(text)
        assert "\n" not in str(caught.value)


@given(
    meaning=st.sampled_from(meanings()),
    noise=st.lists(st.sampled_from(["the", "IMG 0231", "50% off!", "...", "beside"]), min_size=5, max_size=5),
    order=st.permutations(range(3)),
    upper=st.booleans(),
)
def test_free_texts(meaning: Meaning, noise: list[str], order: list[int], upper: bool) -> None:
    style = styles()[meaning.artist].before[0] if meaning.artist else ""
    said = [meaning.concept, meaning.colour, style, ""]
    text = " ".join(part for i, n in zip([*order, 3, 3], noise, strict=True) for part in (n, said[i]))
    assert read(text.upper() if upper else text) == (meaning, "")


def test_splits() -> None:
    concept, artist = sorted(held_out_pairs())[0]
    other = next(name for name in artists_of(concept) if name != artist)
    assert split_of_meaning(Meaning(concept, "red", artist)) == UNSEEN_PAIR
    assert split_of_meaning(Meaning(concept, "red", other)) == split_of_meaning(Meaning(concept, "red")) == "seen"
    assert split_of_meaning(Meaning("tiger", "red", artist)) == split_of_meaning(Meaning("tiger", "red")) == "unseen"
    assert artists.split_of(f"a {styles()[artist].before[0]} {concept} on red") == UNSEEN_PAIR
    assert artists.split_of("a tiger, red") == "unseen"
    assert artists.split_of("hello") == "seen"
