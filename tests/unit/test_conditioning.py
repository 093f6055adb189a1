"""p(t) against closed forms; the swap against its probabilities."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from randcond.conditioning import Constant, probability, recondition
from randcond.errors import UserError

CLOSED_FORMS = {
    "constant": (dict(p=0.25), lambda t: 0.25),
    "exponential": (dict(rate=5.0), lambda t: math.exp(-5 * (1 - t / 1000))),
    "two-sided-exponential": (
        dict(rate=5.0),
        lambda t: math.exp(-5 * (1 - t / 1000)) if t > 500 else math.exp(-5 * t / 1000),
    ),
    "sigmoid": (dict(rate=20.0, centre=0.7), lambda t: 1 / (1 + math.exp(-20 * (t / 1000 - 0.7)))),
    "linear": ({}, lambda t: t / 1000),
    "parabola": ({}, lambda t: (2 * (t - 500) / 1000) ** 2),
}


@pytest.mark.parametrize("kind", CLOSED_FORMS)
def test_closed_form(kind: str) -> None:
    parameters, form = CLOSED_FORMS[kind]
    found = probability({"kind": kind, **parameters})(torch.arange(1000))
    torch.testing.assert_close(found, torch.tensor([form(t) for t in range(1000)]), atol=1e-6, rtol=1e-5)
    assert probability({"kind": kind})(torch.arange(1000)).shape == (1000,)


@given(
    kind=st.sampled_from(["exponential", "two-sided-exponential", "sigmoid"]),
    rate=st.floats(1e-3, 1e3),
)
def test_is_a_probability(kind: str, rate: float) -> None:
    p = probability({"kind": kind, "rate": rate})(torch.arange(1000))
    assert ((p >= 0) & (p <= 1)).all()


@pytest.mark.parametrize("t", [0, 300, 700, 999])
def test_swap_frequency(t: int) -> None:
    n, p = 20_000, probability({"kind": "exponential", "rate": 5.0})
    timesteps = torch.full((n,), t)
    texts, swapped = recondition(["own"] * n, timesteps, ["other"], p, torch.Generator().manual_seed(1))
    expected = float(p(timesteps[:1]))
    assert abs(int(swapped.sum()) - n * expected) <= 5 * math.sqrt(n * expected * (1 - expected)) + 1
    # a tenth is emptied, swapped or not
    for chosen in (swapped, ~swapped):
        count = int(chosen.sum())
        empty = sum(text == "" for text, c in zip(texts, chosen, strict=True) if c)
        assert abs(empty - 0.1 * count) <= 5 * math.sqrt(count * 0.09) + 1
    assert {text for text, swap in zip(texts, swapped, strict=True) if swap} <= {"other", ""}
    assert {text for text, swap in zip(texts, swapped, strict=True) if not swap} <= {"own", ""}


def test_draws_from_the_pool_are_uniform() -> None:
    pool, n = [str(i) for i in range(10)], 20_000
    texts, _ = recondition(["own"] * n, torch.zeros(n), pool, Constant(1.0), torch.Generator().manual_seed(2), null=0.0)
    counts = torch.tensor([texts.count(text) for text in pool]).double()
    chi_square = float(((counts - n / 10) ** 2 / (n / 10)).sum())
    assert chi_square < 33  # 9 degrees of freedom, p = 0.0001


def test_no_random_conditioning_never_swaps_and_draws_as_much() -> None:
    states = []
    for p in (None, Constant(1.0)):
        chance = torch.Generator().manual_seed(3)
        texts, swapped = recondition(["own"] * 50, torch.zeros(50), ["other"], p, chance)
        assert bool(swapped.any()) == (p is not None)
        assert ("own" in texts) == (p is None)
        states.append(chance.get_state())
    assert torch.equal(*states)


def test_impossible_input() -> None:
    chance = torch.Generator()
    with pytest.raises(ValueError, match="pool is empty"):
        recondition(["a"], torch.zeros(1), [], None, chance)
    with pytest.raises(ValueError, match="1 texts but 2 timesteps"):
        recondition(["a"], torch.zeros(2), ["b"], None, chance)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "cosine"}, "kind"),
        ({}, "kind"),
        ({"kind": "constant", "p": 1.5}, r"\[0, 1\]"),
        ({"kind": "constant", "p": float("nan")}, r"\[0, 1\]"),
        ({"kind": "exponential", "rate": -1.0}, "rate"),
        ({"kind": "exponential", "speed": 1.0}, "speed"),
        ({"kind": "exponential", "rate": "5"}, "rate"),
        ({"kind": "constant", "p": True}, "p"),
        ({"kind": "linear", "rate": 1.0}, "rate"),
    ],
)
def test_bad_settings(settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        probability(settings)
    assert "\n" not in str(caught.value)
