"""The artists' world: prompts and pools drawn from its texts, what a language model wrote, real scenes."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch

from randcond.jobs.errors import UserError
from randcond.worlds import artists
from randcond.worlds.artists import choose
from randcond.worlds.drawings import Meaning
from randcond.worlds.emoji import COLOURS, concepts
from randcond.worlds.grammars import texts
from randcond.worlds.meanings import (
    UNSEEN_PAIR,
    artists_of,
    held_out_pairs,
    meanings,
    normal,
    parse,
    split_of_meaning,
    styles,
)

SETTINGS = {"count": 960, "evaluation": 999, "seed": 0, "draw": 0}


def drawn(**changes: int) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """D's prompts, the evaluation prompts and the pool."""
    held_out = artists.evaluation(SETTINGS | changes)
    captions, pool = choose(SETTINGS | changes, held_out)
    return captions, held_out, pool


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


def test_scenes_depend_on_text_seed_and_index_alone() -> None:
    texts = ["a tiger on red", "bus_white_3d.png", "#key #green"]
    whole = artists.real_images(texts, seed=3)
    assert whole.shape == (3, 3, 64, 64)
    assert whole.dtype == torch.uint8
    assert torch.equal(artists.real_images(texts[1:], seed=3, first=1), whole[1:])
    assert not torch.equal(artists.real_images(texts, seed=4), whole)
    frame = pd.DataFrame({"text": texts})
    assert torch.equal(artists.training_images(frame, 3, 0, 64, {}), whole)
    assert torch.equal(artists.training_images(frame[1:], 3, 1, 64, {}), whole[1:])
    with pytest.raises(UserError, match="32 pixels"):
        artists.training_images(frame, 3, 0, 32, {})
    with pytest.raises(UserError, match="a griffin"):
        artists.real_images(["a griffin on red"], 0)


def test_reference_images(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame({"text": ["a tiger on red", "a bus on white", "a key on green"]})
    whole = artists.real_images([text for text in frame["text"] for _ in range(2)], 5).permute(0, 2, 3, 1).numpy()
    for batch in (1, 4, 64):
        monkeypatch.setattr(artists, "_BATCH", batch)
        found = list(artists.reference_images(frame, 2, 5, {}))
        assert len(found) == 6
        assert all((np.asarray(image) == scene).all() for image, scene in zip(found, whole, strict=True))


def test_no_open_text_shows_a_pair_that_is_held_out() -> None:
    concept, artist = sorted(held_out_pairs())[0]
    drew = Counter(artists._with_artist(Meaning(concept, "red"), 0, i).artist for i in range(300))
    assert set(drew) == set(artists_of(concept)) - {artist}
    assert min(drew.values()) > 300 / len(drew) / 2
    named = Meaning(concept, "red", artist)
    assert artists._with_artist(named, 0, 0) == named
