"""Random numbers belong to (seed, index), whatever was drawn before."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from randcond.jobs.seeding import generator, normal, numpy_generator

seeds = st.integers(0, 2**32 - 1)
# trailing zeros do not tell items of different depth apart, so an item's index has a fixed length
indices = st.lists(st.integers(0, 2**20), min_size=2, max_size=2)


@given(seed=seeds, index=indices)
def test_equal_items_draw_equal_numbers(seed: int, index: list[int]) -> None:
    first = torch.rand(4, generator=generator(seed, *index))
    torch.rand(3)
    np.random.random(3)
    assert torch.equal(torch.rand(4, generator=generator(seed, *index)), first)
    assert (numpy_generator(seed, *index).random(4) == numpy_generator(seed, *index).random(4)).all()


@given(one=st.tuples(seeds, indices), other=st.tuples(seeds, indices))
def test_other_items_draw_other_numbers(one: tuple, other: tuple) -> None:
    if one != other:
        assert not torch.equal(normal((4,), one[0], *one[1]), normal((4,), other[0], *other[1]))
        assert (numpy_generator(one[0], *one[1]).random(4) != numpy_generator(other[0], *other[1]).random(4)).any()


def test_no_two_of_many_items_are_alike() -> None:
    draws = [tuple(torch.rand(3, generator=generator(5, 2, step)).tolist()) for step in range(5000)]
    assert len(set(draws)) == 5000


def test_neighbouring_items_are_independent() -> None:
    draws = torch.stack([normal((200,), 5, i) for i in range(50)])
    correlations = torch.corrcoef(draws)[~torch.eye(50, dtype=torch.bool)]
    assert correlations.abs().max() < 5 / 200**0.5
    assert draws.mean().abs() < 5 / 10_000**0.5
    assert abs(draws.std() - 1) < 5 / 20_000**0.5


@pytest.mark.parametrize("numbers", [(-1,), (0, -1)])
def test_negative_numbers_are_refused(numbers: tuple[int, ...]) -> None:
    for make in (generator, numpy_generator):
        with pytest.raises(ValueError, match="non-negative"):
            make(*numbers)
