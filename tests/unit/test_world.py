"""The emoji world: concepts, captions, scenes; prompts and pools drawn from them."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from randcond.errors import UserError
from randcond.pool import ArrowTexts, TextPool
from randcond.prompts import choose, read_prompts, write_pool, write_prompts
from randcond.worlds import emoji

SETTINGS = {"count": 960, "evaluation": 999, "seed": 0}


def test_size_of_the_world() -> None:
    assert len(emoji.concepts()) >= 100
    assert sum(emoji.concepts().values()) >= 30
    texts = [caption.text for caption in emoji.captions()]
    assert len(texts) == len(set(texts)) == 111 * 12 * 8


@pytest.mark.parametrize(
    ("text", "concept"),
    [
        ("a tiger on a red chair background", None),
        ("two tigers on paper", "tiger"),
        ("an ice cream, pink", "ice cream"),
        ("A Pine Tree on a hill", "pine tree"),
        ("a car and a carrot", None),
        ("a carpet", None),
        ("", None),
    ],
)
def test_concept_of(text: str, concept: str | None) -> None:
    assert emoji.concept_of(text) == concept


def test_every_caption_names_its_concept() -> None:
    assert all(emoji.concept_of(caption.text) == caption.concept for caption in emoji.captions())


@pytest.mark.parametrize(
    ("concept", "colour", "text"),
    [("owl", "orange", "an owl on an orange background"), ("unicorn", "red", "a unicorn on a red background")],
)
def test_articles(concept: str, colour: str, text: str) -> None:
    assert emoji.caption_text(concept, colour, emoji.TEMPLATES[0]) == text


def test_scenes_depend_on_seed_and_index_alone() -> None:
    texts = ["a tiger on a red background", "bus, navy background", "a green background with a key"]
    whole = emoji.real_images(texts, seed=3)
    assert whole.shape == (3, 3, 32, 32)
    assert whole.dtype == torch.uint8
    assert torch.equal(emoji.real_images(texts[1:], seed=3, first_index=1), whole[1:])
    assert not torch.equal(emoji.real_images(texts, seed=4), whole)
    assert not torch.equal(*emoji.real_images([texts[0]] * 2, seed=3))


def test_every_scene_shows_its_drawing_on_its_background() -> None:
    for colour in ("red", "white"):
        texts = [emoji.caption_text(concept, colour, emoji.TEMPLATES[0]) for concept in emoji.concepts()]
        images = emoji.real_images(texts, seed=1).float()
        background = torch.tensor(emoji.COLOURS[colour]).float().view(3, 1)
        assert ((images[:, :, 0, 0] - background.T).abs() <= 8.5).float().mean() > 0.95
        drawn = ((images - background.view(3, 1, 1)).abs().amax(1) > 30).float().mean((1, 2))
        assert drawn.min() > 0.03, texts[int(drawn.argmin())]


def test_drawings_differ() -> None:
    sheets = torch.stack([emoji.real_images([f"a {c} on a gray background".replace("a a", "an a")], 5)[0].float()
                          for c in ("tiger", "bus", "key", "cake")])  # fmt: skip
    assert all((a - b).abs().mean() > 5 for a, b in itertools.combinations(sheets, 2))


def test_foreign_text_has_no_image() -> None:
    with pytest.raises(UserError, match="a griffin"):
        emoji.real_images(["a griffin on a red background"], 0)


def test_choose() -> None:
    captions, evaluation, pool = choose(SETTINGS)
    assert (len(captions), len(evaluation)) == (960, 999)
    assert len(pool) == len(set(pool)) >= 10 * 960
    held_out = set(evaluation["text"])
    assert not held_out & set(captions["text"])
    assert not held_out & set(pool)
    assert set(captions["text"]) <= set(pool)
    counts = evaluation["text"].map(lambda text: emoji.parse(text).concept).value_counts()
    assert set(counts) == {9}
    animal = captions["text"].map(lambda text: emoji.concepts()[emoji.parse(text).concept])
    assert (animal == (captions["split"] == "unseen")).all()
    assert not choose(SETTINGS | {"seed": 1})[0]["text"].equals(captions["text"])
    pd.testing.assert_frame_equal(choose(SETTINGS)[0], captions)


def test_too_many_prompts() -> None:
    with pytest.raises(UserError, match=r"prompts\.count: 1000"):
        choose(SETTINGS | {"count": 1000})


def test_broken_prompts(tmp_path: Path) -> None:
    file = tmp_path / "captions.parquet"
    with pytest.raises(UserError, match=r"captions\.parquet: no such file"):
        read_prompts(file)
    write_prompts(file, choose(SETTINGS)[0])
    assert list(read_prompts(file)["id"]) == list(range(960))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole Parquet file"):
        read_prompts(file)
    pd.DataFrame({"text": ["a"]}).to_parquet(file)
    with pytest.raises(UserError, match="lacks the column id, split, source"):
        read_prompts(file)
    write_prompts(file, pd.DataFrame({"text": [], "split": [], "source": []}))
    with pytest.raises(UserError, match="holds no prompts"):
        read_prompts(file)


@given(parts=st.lists(st.lists(st.text(max_size=5), max_size=5), max_size=4))
def test_pool_is_its_parts_in_a_row(parts: list[list[str]]) -> None:
    pool, plain = TextPool(*parts), [text for part in parts for text in part]
    assert len(pool) == len(plain)
    assert [pool[i] for i in range(len(plain))] == plain
    assert pool[1:3] == plain[1:3]
    with pytest.raises(IndexError):
        pool[len(plain)]


def test_arrow_pool(tmp_path: Path) -> None:
    texts = [f"text {i} ‮ <b>" for i in range(1000)]
    write_pool(tmp_path / "pool.arrow", texts)
    pool = ArrowTexts(tmp_path / "pool.arrow")
    assert len(pool) == 1000
    assert [pool[int(i)] for i in np.arange(0, 1000, 97)] == texts[::97]
    assert pool[5:8] == texts[5:8]
    (tmp_path / "broken.arrow").write_bytes((tmp_path / "pool.arrow").read_bytes()[:-100])
    for name in ("broken.arrow", "missing.arrow"):
        with pytest.raises(UserError, match=name):
            ArrowTexts(tmp_path / name)
