"""What D and C hold, and the order in which D is dealt."""

import argparse
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_distillation import N, data_of, run_of, small_distillation

from randcond.jobs.errors import UserError
from randcond.prompts.pool import ArrowTexts, write_pool
from randcond.prompts.table import read_prompts, write_prompts
from randcond.students.data import LatentShards, Pairs


@pytest.fixture
def arguments(tmp_path: Path, pipeline_folder: Path) -> argparse.Namespace:
    return small_distillation(tmp_path, pipeline_folder)


@given(count=st.integers(1, 12), size=st.integers(1, 30), seed=st.integers(0, 3))
def test_an_epoch_deals_every_row_once(count: int, size: int, seed: int) -> None:
    rows = [3 * i + 1 for i in range(count)]
    pairs = Pairs(None, [], rows, seed)
    epochs = 4
    batches = [pairs.batch(step, size) for step in range(-(-epochs * count // size))]
    assert {len(batch) for batch in batches} == {size}
    dealt = [row for batch in batches for row in batch]
    for epoch in range(epochs):
        assert Counter(dealt[epoch * count : (epoch + 1) * count]) == Counter(rows)
    # the step alone decides
    assert Pairs(None, [], rows, seed).batch(len(batches) - 1, size) == batches[-1]


def test_order_changes_with_epoch_and_seed() -> None:
    orders = [tuple(Pairs(None, [], list(range(30)), seed).batch(epoch, 30)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert tuple(range(30)) not in orders


def test_what_d_and_c_hold(arguments: argparse.Namespace) -> None:
    frame = read_prompts(arguments.prompts)
    rendered = frame.head(N)
    seen = rendered[rendered["split"] == "seen"]["text"].tolist()
    unseen = rendered[rendered["split"] == "unseen"]["text"].tolist()
    assert seen
    assert unseen

    def load(**changes: object) -> tuple[list[str], list[str]]:
        pairs, pool = data_of(arguments, run_of(arguments, **changes), N, 0)
        return pairs.texts(sorted(pairs.batch(0, len(pairs)))), pool[:]

    assert load(texts=[]) == (rendered["text"].tolist(), rendered["text"].tolist())
    assert load(rows="seen", texts=[]) == (seen, seen)
    assert load(rows="seen", texts=["unseen"]) == (seen, seen + unseen)
    assert load(texts=["llm"])[1] == frame["text"].tolist()  # D's own and those that were not rendered
    own, pool = load(rows="seen", texts=["unseen", "pool"])
    assert own == seen
    assert pool[: N + 1] == [*seen, *unseen, ArrowTexts(arguments.pool)[0]]
    assert len(pool) == N + len(ArrowTexts(arguments.pool))


def test_data_that_do_not_belong_together(arguments: argparse.Namespace) -> None:
    with pytest.raises(UserError, match="11 prompts but 12 latents"):
        data_of(arguments, run_of(arguments), 11, 0)
    frame = read_prompts(arguments.prompts)
    write_prompts(arguments.prompts, frame[frame["split"] == "unseen"].sample(N, replace=True, random_state=0))
    with pytest.raises(UserError, match="D is empty"):
        data_of(arguments, run_of(arguments, rows="seen"), N, 0)
    write_prompts(arguments.prompts, frame[frame["split"] == "seen"].sample(N, replace=True, random_state=0))
    with pytest.raises(UserError, match="unseen is empty"):
        data_of(arguments, run_of(arguments, texts=["unseen"]), N, 0)
    with pytest.raises(UserError, match="llm is empty"):
        data_of(arguments, run_of(arguments, texts=["llm"]), N, 0)
    write_pool(arguments.pool, [])
    with pytest.raises(UserError, match="pool is empty"):
        data_of(arguments, run_of(arguments, texts=["pool"]), N, 0)


def test_latents_stay_with_their_texts(arguments: argparse.Namespace) -> None:
    pairs, _ = data_of(arguments, run_of(arguments, rows="seen", texts=[]), N, 0)
    frame, shards = read_prompts(arguments.prompts), LatentShards(arguments.latents)
    rows = pairs.batch(3, 5)
    assert pairs.texts(rows) == frame["text"].iloc[rows].tolist()
    assert torch.equal(pairs.latents(rows), shards.get(rows))
