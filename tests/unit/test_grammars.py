"""The artists' world's texts: what they say, three grammars, pairs held out, prompts and pools drawn from them."""

import re
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from randcond.jobs.errors import UserError
from randcond.worlds import artists, grammars
from randcond.worlds.artists import choose
from randcond.worlds.emoji import COLOURS, concepts
from randcond.worlds.grammars import GRAMMARS, texts
from randcond.worlds.lines import clean
from randcond.worlds.meanings import (
    UNSEEN_PAIR,
    Meaning,
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

SETTINGS = {"count": 960, "evaluation": 999, "seed": 0, "draw": 0}
# What CLIP's tokenizer cuts a text into before it looks words up. With a vocabulary of 1,280 learned on the texts in
# lower case, each is one token; two more mark beginning and end.
PIECES = re.compile(r"[^\W\d_]+|\d|[^\w\s]+|_")


def drawn(**changes: int) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """D's prompts, the evaluation prompts and the pool."""
    held_out = artists.evaluation(SETTINGS | changes)
    captions, pool = choose(SETTINGS | changes, held_out)
    return captions, held_out, pool


def test_who_drew_what() -> None:
    assert list(styles()) == ["openmoji", "twemoji", "noto", "noto-v1", "emojione", "fluent-3d"]
    drawings = [(concept, artist) for concept in concepts() for artist in artists_of(concept)]
    assert len(drawings) == 634
    assert sum(len(artists_of(concept)) == 6 for concept in concepts()) == 95
    assert artists_of("giraffe") == ("openmoji", "twemoji", "noto", "fluent-3d")
    assert set(meanings()) == {
        *(Meaning(concept, colour) for concept in concepts() for colour in COLOURS),
        *(Meaning(concept, colour, artist) for concept, artist in drawings for colour in COLOURS),
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


def test_evaluation() -> None:
    found = artists.evaluation(SETTINGS)
    assert set(found["text"]) <= {text.text for text in texts("clean")}
    assert found["text"].is_unique
    said = [parse(text) for text in found["text"]]
    assert [split_of_meaning(meaning) for meaning in said] == found["split"].tolist()
    assert set(Counter(meaning.concept for meaning in said).values()) == {9}
    colours = Counter(meaning.colour for meaning in said).values()
    assert max(colours) - min(colours) <= 1
    named = [meaning for meaning in said if meaning.artist]
    assert abs(2 * len(named) - 999) == 1
    assert set(Counter(meaning.concept for meaning in named).values()) == {4, 5}
    by_artist = Counter(meaning.artist for meaning in named).values()
    assert max(by_artist) - min(by_artist) <= 2
    assert len(Counter((meaning.artist, meaning.colour) for meaning in said)) == 7 * len(COLOURS)
    pairs = Counter((m.concept, m.artist) for m in named if (m.concept, m.artist) in held_out_pairs())
    assert set(pairs) == held_out_pairs()
    assert set(pairs.values()) <= {4, 5}
    assert found["split"].value_counts()[UNSEEN_PAIR] == pairs.total()
    pd.testing.assert_frame_equal(artists.evaluation(SETTINGS | {"evaluation": 300}), found[:300])
    pd.testing.assert_frame_equal(artists.evaluation(SETTINGS | {"draw": 1}), found)
    assert not artists.evaluation(SETTINGS | {"seed": 1})["text"].equals(found["text"])
    with pytest.raises(UserError, match=r"prompts\.evaluation: 50000 prompts, but the artists' world") as caught:
        artists.evaluation(SETTINGS | {"evaluation": 50_000})
    assert "\n" not in str(caught.value)


def test_choose() -> None:
    captions, evaluation, pool = drawn()
    everything = [*captions["text"], *pool]
    assert (len(captions), len(pool)) == (960, 40 * 960)
    assert len(set(everything)) == len(everything)
    alt = {text.text for text in texts("alt")}
    assert set(everything) <= alt
    assert not {normal(text) for text in everything} & {normal(text) for text in evaluation["text"]}
    assert all(split_of_meaning(parse(text)) != UNSEEN_PAIR for text in everything)
    assert captions["split"].tolist() == [split_of_meaning(parse(text)) for text in captions["text"]]
    assert set(captions["split"]) == set(artists.SPLITS)
    assert list(captions.columns) == list(evaluation.columns) == ["text", "split", "source"]
    pd.testing.assert_frame_equal(drawn()[0], captions)
    assert drawn()[2] == pool
    assert not drawn(seed=1)[0]["text"].equals(captions["text"])
    assert len({*drawn(draw=1)[0]["text"]} & {*captions["text"]}) < 0.1 * 960


@pytest.mark.parametrize("count", [1, 48, 3000])
def test_the_pool_is_large(count: int) -> None:
    captions, _, pool = drawn(count=count)
    assert len(captions) == count
    left = sum(split_of_meaning(text.meaning) != UNSEEN_PAIR for text in texts("alt")) - count
    assert len(pool) == min(40 * count, left) >= 10 * count


def test_too_many_prompts() -> None:
    with pytest.raises(UserError, match=r"prompts\.count: 9000 prompts need a pool of 90000") as caught:
        drawn(count=9000)
    assert "\n" not in str(caught.value)


def test_d_is_drawn_uniformly() -> None:
    """Of 111 concepts, k uniform draws leave out each with (110/111)^k: they cover 46, 74, 98, 110 and 111."""
    evaluation = artists.evaluation(SETTINGS)
    covered, times, opened = dict.fromkeys((60, 120, 240, 480, 960), 0.0), list[int](), list[float]()
    for draw in range(20):
        said = [parse(text) for text in choose(SETTINGS | {"draw": draw}, evaluation)[0]["text"]]
        named = [meaning.concept for meaning in said]
        for size in covered:
            covered[size] += len(set(named[:size])) / 20
        times += [Counter(named)[concept] for concept in concepts()]
        opened += [meaning.artist is None for meaning in said]
    for size, found in covered.items():
        assert found == pytest.approx(111 * (1 - (110 / 111) ** size), abs=2)
    assert np.var(times) / np.mean(times) < 1.25  # the same for all concepts, not captions of a few
    assert np.mean(opened) == pytest.approx(0.5, abs=0.05)


def test_topics() -> None:
    asked = Counter(artists.topics())
    said = {topic: parse(topic) for topic in asked}
    assert all(artists.topic_of(topic) == topic for topic in asked)
    assert set(said.values()) == {meaning for meaning in meanings() if split_of_meaning(meaning) != UNSEEN_PAIR}
    colours, opened = Counter[str](), 0
    for topic, count in asked.items():
        colours[said[topic].colour] += count
        opened += count * (said[topic].artist is None)
    assert len(set(colours.values())) == 1
    assert 2 * opened == asked.total()
    assert artists.topic_of("Three inked tigers, red") == "outlined tiger on red"
    assert artists.topic_of("a griffin") is None


@pytest.mark.parametrize(
    ("line", "text", "reason"),
    [
        (
            "1. A cheerful tiger stands before a bright red wall.",
            "a cheerful tiger stands before a bright red wall",
            "",
        ),
        ("an outlined key , resting on a green table", "an outlined key, resting on a green table", ""),
        (" - ", None, "empty"),
        ("red tiger", None, "length"),
        ("a tiger on red" + " and red" * 10, None, "length"),
        ("a tiger devours a red wall", None, "unknown word"),
        ("a cheerful bed near a red wall", None, "no single concept"),
        ("a tiger near a wall", None, "no single colour"),
        ("a flat 3D tiger near a red wall", None, "several styles"),
        ("a retro giraffe near a red wall", None, "no such drawing"),
        ("A tiger on a red background.", None, "clean sentence"),
    ],
)
def test_screen(line: str, text: str | None, reason: str) -> None:
    assert artists.screen(line) == (text, reason)


def test_screen_leaves_out_what_no_student_may_see() -> None:
    for concept, artist in held_out_pairs():
        line = f"a {styles()[artist].before[0]} {concept} stands near a red wall"
        assert artists.screen(line) == (None, "held-out pair")
    shown = artists.examples()
    assert {split_of_meaning(parse(text)) for text in shown} == {"seen", "unseen"}
    assert len(shown) > 500
    assert {parse(text).artist for text in shown} == {None, *styles()}
    assert all(artists.screen(text) == (text, "") for text in shown)
    refused = {artists.screen(text.text)[1] for text in texts("clean")[::7]}
    assert "" not in refused
    assert refused <= set(artists.REASONS)
