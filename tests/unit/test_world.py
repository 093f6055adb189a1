"""The emoji world: concepts, captions, scenes; prompts and pools drawn from them."""

import argparse
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from randcond.jobs.errors import UserError
from randcond.prompts import choose as prompts
from randcond.prompts.pool import ArrowTexts, TextPool, write_pool
from randcond.prompts.table import read_prompts, write_prompts
from randcond.worlds import emoji
from randcond.worlds.emoji import choose

SETTINGS = {"count": 960, "evaluation": 999, "seed": 0, "draw": 0}


def drawn(**changes: int) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """D's prompts, the evaluation prompts and the pool."""
    held_out = emoji.evaluation(SETTINGS | changes)
    captions, pool = choose(SETTINGS | changes, held_out)
    return captions, held_out, pool


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
    assert all(emoji.parse(caption.text) == caption for caption in emoji.captions())


def test_the_longest_name_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emoji, "concepts", lambda: {"tree": False, "pine tree": False, "pine": False})
    assert emoji.concept_of("a pine tree in the snow") == "pine tree"
    assert emoji.concept_of("two pine trees") == "pine tree"
    assert emoji.concept_of("a tree") == "tree"
    assert emoji.concept_of("a pine tree beside a tree") is None


concepts = st.sampled_from(list(emoji.concepts()))


@given(one=concepts, other=concepts, order=st.permutations(["in the rain,", "Two", "beside a"]))
def test_free_texts(one: str, other: str, order: list[str]) -> None:
    first, second, third = order
    assert emoji.concept_of(f"{first} {one} {second} {third}") == one
    assert emoji.concept_of(f"{first} {one.upper()}s {second}") == one
    assert emoji.concept_of(f"{one}") == one
    assert emoji.concept_of(f"{first} {one}, {second} {other}s") == (one if one == other else None)
    assert emoji.concept_of(f"{first}{one}{second}") is None  # no word of its own


@pytest.mark.parametrize(
    ("concept", "colour", "text"),
    [("owl", "orange", "an owl on an orange background"), ("unicorn", "red", "a unicorn on a red background")],
)
def test_articles(concept: str, colour: str, text: str) -> None:
    assert emoji.caption_text(concept, colour, emoji.TEMPLATES[0]) == text


def test_scenes_depend_on_seed_and_index_alone() -> None:
    texts = ["a tiger on a red background", "bus, white background", "a green background with a key"]
    whole = emoji.real_images(texts, seed=3)
    assert whole.shape == (3, 3, 32, 32)
    assert whole.dtype == torch.uint8
    assert torch.equal(emoji.real_images(texts[1:], seed=3, first_index=1), whole[1:])
    assert not torch.equal(emoji.real_images(texts, seed=4), whole)
    assert not torch.equal(*emoji.real_images([texts[0]] * 2, seed=3))
    assert torch.equal(emoji.real_images(texts[:1] * 2, seed=3, first_index=0)[0], whole[0])


def test_every_scene_shows_its_drawing_on_its_background() -> None:
    for colour in ("red", "white"):
        texts = [emoji.caption_text(concept, colour, emoji.TEMPLATES[0]) for concept in emoji.concepts()]
        images = emoji.real_images(texts, seed=1).float()
        background = torch.tensor(emoji.COLOURS[colour]).float().view(3, 1)
        corners = images[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert ((corners - background).abs() <= 8).all(1).float().mean() > 0.95
        drawn = ((images - background.view(3, 1, 1)).abs().amax(1) > 30).float().mean((1, 2))
        assert drawn.min() > 0.03, texts[int(drawn.argmin())]


def test_drawings_differ() -> None:
    sheets = torch.stack([emoji.real_images([f"a {c} on a white background".replace("a a", "an a")], 5)[0].float()
                          for c in ("tiger", "bus", "key", "cake")])  # fmt: skip
    assert all((a - b).abs().mean() > 5 for a, b in itertools.combinations(sheets, 2))


def test_foreign_text_has_no_image() -> None:
    with pytest.raises(UserError, match="a griffin"):
        emoji.real_images(["a griffin on a red background"], 0)


def test_choose() -> None:
    captions, evaluation, pool = drawn()
    assert (len(captions), len(evaluation)) == (960, 999)
    assert len(pool) + 960 == len({*pool, *captions["text"]}) >= 10 * 960
    held_out = set(evaluation["text"])
    assert not held_out & set(captions["text"])
    assert not held_out & set(pool)
    assert not set(captions["text"]) & set(pool)
    counts = evaluation["text"].map(lambda text: emoji.parse(text).concept).value_counts()
    assert set(counts) == {9}
    animal = captions["text"].map(lambda text: emoji.concepts()[emoji.parse(text).concept])
    assert (animal == (captions["split"] == "unseen")).all()
    assert not drawn(seed=1)[0]["text"].equals(captions["text"])
    pd.testing.assert_frame_equal(drawn()[0], captions)
    other, same, _ = drawn(draw=1)
    pd.testing.assert_frame_equal(same, evaluation)  # all draws are judged by the same prompts
    assert len({*other["text"]} & {*captions["text"]}) < 0.15 * 960


def test_d_is_drawn_uniformly() -> None:
    covered, times = {60: 0, 240: 0, 960: 0}, []
    for draw in range(20):
        named = [emoji.parse(text).concept for text in drawn(draw=draw)[0]["text"]]
        for size in covered:
            covered[size] += len(set(named[:size])) / 20
        times += list(Counter(named).values())
    # of 111 concepts, k uniform draws leave out each with (110/111)^k
    for size, found in covered.items():
        assert found == pytest.approx(111 * (1 - (110 / 111) ** size), abs=2.5)
    assert np.var(times) / np.mean(times) < 1.2  # the same for all concepts, not captions of a few


@given(count=st.integers(1, 900), evaluation=st.integers(1, 1656), seed=st.integers(0, 5))
@settings(max_examples=15)
def test_choose_any_number(count: int, evaluation: int, seed: int) -> None:
    captions, held_out, pool = drawn(count=count, evaluation=evaluation, seed=seed)
    assert (len(captions), len(held_out), len(pool)) == (count, evaluation, len(emoji.captions()) - evaluation - count)
    texts = {"D": set(captions["text"]), "evaluation": set(held_out["text"]), "pool": set(pool)}
    assert [len(part) for part in texts.values()] == [count, evaluation, len(pool)]
    assert set.union(*texts.values()) == {caption.text for caption in emoji.captions()}
    times = Counter(emoji.parse(text).concept for text in held_out["text"])
    assert len(times) == min(evaluation, 111)
    assert max(times.values()) - min(times.values()) <= 1
    for frame in (captions, held_out):
        assert list(frame.columns) == ["text", "split", "source"]
        for text, split in zip(frame["text"], frame["split"], strict=True):
            assert split == ("unseen" if emoji.concepts()[emoji.parse(text).concept] else "seen")


def test_too_many_prompts() -> None:
    just_enough = {"count": 966, "evaluation": len(emoji.captions()) - 9660}
    drawn(**just_enough)
    one_short = just_enough | {"evaluation": just_enough["evaluation"] + 1}
    for changes in (one_short, {"count": 1000}):
        with pytest.raises(UserError, match=r"prompts\.count: \d+.*prompts\.evaluation") as caught:
            drawn(**changes)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"prompts\.evaluation: 20000 prompts, but the emoji world has 10656"):
        drawn(evaluation=20_000)


def arguments(folder: Path, **settings: int) -> argparse.Namespace:
    files = {name: folder / name for name in ("captions", "evaluation", "pool", "summary")}
    values = {"world": "emoji", "expected": {}} | SETTINGS | settings
    return argparse.Namespace(settings=json.dumps(values), sources=[], **files)


def both_stages(folder: Path, **settings: int) -> None:
    given = arguments(folder, **settings)
    prompts._evaluation(given)
    prompts._training(given)


def test_the_stage_writes_what_it_chose(tmp_path: Path) -> None:
    both_stages(tmp_path)
    captions, evaluation, pool = drawn()
    for name, frame in (("captions", captions), ("evaluation", evaluation)):
        found = read_prompts(tmp_path / name)
        assert list(found.columns) == ["id", "text", "split", "source"]
        pd.testing.assert_frame_equal(found[["text", "split", "source"]], frame, check_dtype=False)
    assert ArrowTexts(tmp_path / "pool")[:] == pool
    summary = json.loads((tmp_path / "summary").read_text())
    assert summary["pool"] == len(pool)
    assert summary["captions"] == captions["split"].value_counts().to_dict()
    before = [(tmp_path / name).read_bytes() for name in ("captions", "evaluation", "pool")]
    both_stages(tmp_path)
    assert [(tmp_path / name).read_bytes() for name in ("captions", "evaluation", "pool")] == before


def test_both_splits_are_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prompts\.captions: too few"):
        both_stages(tmp_path, count=1)
    assert {path.name for path in tmp_path.iterdir()} == {"evaluation"}
    with pytest.raises(UserError, match=r"prompts\.evaluation: too few"):
        prompts._evaluation(arguments(tmp_path / "none", evaluation=1))


def test_broken_prompts(tmp_path: Path) -> None:
    file = tmp_path / "captions.parquet"
    with pytest.raises(UserError, match=r"captions\.parquet: no such file"):
        read_prompts(file)
    write_prompts(file, drawn()[0])
    assert list(read_prompts(file)["id"]) == list(range(960))
    whole = file.read_bytes()
    for kept in (0, 3, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:kept])
        with pytest.raises(UserError, match=r"captions\.parquet: not a whole Parquet file") as caught:
            read_prompts(file)
        assert "\n" not in str(caught.value)
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
    assert list(pool) == plain
    assert pool[:] == plain
    assert [pool[a:b] for a in range(3) for b in range(9)] == [plain[a:b] for a in range(3) for b in range(9)]
    assert pool[::-2] == plain[::-2]
    with pytest.raises(IndexError):
        pool[len(plain)]


def test_arrow_pool(tmp_path: Path) -> None:
    texts = [f"text {i} ‮ <b>" for i in range(1000)]
    write_pool(tmp_path / "pool.arrow", texts)
    pool = ArrowTexts(tmp_path / "pool.arrow")
    assert len(pool) == 1000
    assert [pool[int(i)] for i in np.arange(0, 1000, 97)] == texts[::97]
    assert pool[5:8] == texts[5:8]


@pytest.mark.parametrize("name", ["cut", "empty", "missing", "column", "text"])
def test_broken_pool_is_named(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"{name}.arrow"
    write_pool(tmp_path / "whole", ["a"] * 1000)
    if name == "cut":
        file.write_bytes((tmp_path / "whole").read_bytes()[:-100])
    elif name == "empty":
        file.touch()
    elif name == "text":
        file.write_text("a tiger\na bus\n")
    elif name == "column":
        table = pa.table({"caption": ["a"]})
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    with pytest.raises(UserError, match=f"{name}.arrow") as caught:
        ArrowTexts(file)
    assert "\n" not in str(caught.value)


def test_pool_is_not_read_into_memory(tmp_path: Path) -> None:
    write_pool(tmp_path / "pool.arrow", [f"text {i}" for i in range(200_000)])
    before = pa.total_allocated_bytes()
    pool = TextPool(["own"], ArrowTexts(tmp_path / "pool.arrow"))
    assert pool[150_001] == "text 150000"
    assert pa.total_allocated_bytes() - before < 100_000  # of 2.7 MB
