"""p(t) against closed forms; the swap against its probabilities."""

import hashlib
import math
import re
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from randcond.jobs.errors import UserError
from randcond.method.conditioning import Constant, probability, recondition
from randcond.method.noise_level import equivalent_timesteps, stable_diffusion_log_snr

CLOSED_FORMS = {
    "constant": ({"p": 0.25}, lambda t: 0.25),
    "constant by default": ({}, lambda t: 1.0),
    "constant as an integer": ({"p": 1}, lambda t: 1.0),
    "exponential": ({"rate": 2.5}, lambda t: math.exp(-2.5 * (1 - t / 1000))),
    "exponential by default": ({}, lambda t: math.exp(-5 * (1 - t / 1000))),
    "two-sided-exponential": (
        {"rate": 3},
        lambda t: math.exp(-3 * (1 - t / 1000)) if t > 500 else math.exp(-3 * t / 1000),
    ),
    "two-sided-exponential by default": (
        {},
        lambda t: math.exp(-5 * (1 - t / 1000)) if t > 500 else math.exp(-5 * t / 1000),
    ),
    "sigmoid": ({"rate": 10.0, "centre": 0.4}, lambda t: 1 / (1 + math.exp(-10 * (t / 1000 - 0.4)))),
    "sigmoid by default": ({}, lambda t: 1 / (1 + math.exp(-20 * (t / 1000 - 0.7)))),
    "linear": ({}, lambda t: t / 1000),
    "linear, steeper": ({"slope": 1.6}, lambda t: min(1, 1.6 * t / 1000)),
    "parabola": ({}, lambda t: (2 * (t - 500) / 1000) ** 2),
    "parabola, higher": ({"scale": 3}, lambda t: min(1, 3 * (2 * (t - 500) / 1000) ** 2)),
}


@pytest.mark.parametrize("case", CLOSED_FORMS)
def test_closed_form(case: str) -> None:
    parameters, form = CLOSED_FORMS[case]
    p = probability({"kind": re.split("[ ,]", case)[0], **parameters})
    expected = torch.tensor([form(t) for t in range(1000)])
    torch.testing.assert_close(p(torch.arange(1000)), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(p(torch.arange(1000).view(10, 100)), expected.view(10, 100), atol=1e-6, rtol=1e-5)
    assert p.share == pytest.approx(float(expected.double().mean()), abs=1e-7)
    assert [p.at(t) for t in (0, 400, 500, 501, 999)] == pytest.approx([form(t) for t in (0, 400, 500, 501, 999)])


# what p(t) was before it had shares and noise levels; its own operations in that order, which decide the last bit
T = torch.arange(1000)
PART = T / 1000
AS_BEFORE = {
    "constant": 0 * T.float() + 1.0,
    "exponential": (-5.0 * (1 - PART)).exp(),
    "two-sided-exponential": (-5.0 * (1 - PART).where(T > 500, PART)).exp(),
    "sigmoid": (20.0 * (PART - 0.7)).sigmoid(),
    "linear": PART,
    "parabola": (2 * (T - 500.0) / 1000) ** 2,
}


@pytest.mark.parametrize("kind", AS_BEFORE)
def test_the_papers_kinds_are_the_same_to_the_bit(kind: str) -> None:
    p = probability({"kind": kind})
    assert torch.equal(p(T), AS_BEFORE[kind])
    # as training asks for it: at the timesteps that have the noise levels of Stable Diffusion's schedule
    assert torch.equal(p(equivalent_timesteps(stable_diffusion_log_snr())), AS_BEFORE[kind])


def test_swaps_are_those_of_finished_runs() -> None:
    timesteps = torch.randint(1000, (500,), generator=torch.Generator().manual_seed(5))
    texts = [f"own {i}" for i in range(500)]
    p = probability({"kind": "exponential", "rate": 5.0})
    found = recondition(texts, timesteps, [str(i) for i in range(99)], p, torch.Generator().manual_seed(6))[0]
    assert hashlib.sha256("\n".join(found).encode()).hexdigest()[:16] == "ad88c71c20c24ba0"


KINDS = ["constant", "exponential", "two-sided-exponential", "sigmoid", "linear", "parabola"]


@given(kind=st.sampled_from(KINDS), share=st.floats(0.002, 0.998))
def test_a_share_decides_the_dial(kind: str, share: float) -> None:
    p = probability({"kind": kind, "share": share})
    assert p.share == pytest.approx(share, abs=1e-9)
    assert float(p(T).double().mean()) == pytest.approx(share, abs=1e-6)


def test_dials_of_known_shares() -> None:
    # the geometric sum of exp(-r (1 - t/1000)), and the linear one that nothing clips
    rate = probability({"kind": "exponential", "share": 0.35}).rate
    assert -math.expm1(-rate) / math.expm1(rate / 1000) / 1000 == pytest.approx(0.35, abs=1e-12)
    assert probability({"kind": "linear", "share": 0.3}).slope == pytest.approx(0.3 * 1000 / 499.5)
    assert probability({"kind": "constant", "share": 0.35}) == Constant(0.35)
    gentle = probability({"kind": "sigmoid", "rate": 3, "share": 0.6})
    assert (gentle.rate, gentle.share) == (3, pytest.approx(0.6))
    assert probability({"kind": "exponential", "rate": 5.0}).share == pytest.approx(0.1982, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"kind": "linear", "share": 0.9995}, "linear has shares from 0 to 0.999, not 0.9995"),
        ({"kind": "parabola", "share": 1}, "parabola has shares from 0 to 0.999, not 1"),
        ({"kind": "exponential", "share": 1.0}, "exponential has shares"),
        ({"kind": "two-sided-exponential", "share": 0.0005}, "from 0.001 to"),
        ({"kind": "sigmoid", "share": -0.1}, "not -0.1"),
        ({"kind": "exponential", "share": 0.3, "rate": 5.0}, "the share decides exponential's rate"),
        ({"kind": "sigmoid", "share": 0.3, "centre": 0.5}, "the share decides sigmoid's centre"),
        ({"kind": "constant", "share": 0.3, "p": 0.3}, "the share decides constant's p"),
        ({"kind": "measured"}, "needs a share"),
        ({"kind": "measured", "share": 1.0}, "below 1, not 1.0"),
        ({"kind": "measured", "share": 0.3, "curve": 1.0}, "curve"),
        ({"kind": "linear", "slope": -1.0}, "slope"),
        ({"kind": "parabola", "scale": -1.0}, "scale"),
    ],
)
def test_bad_shares(settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=f"^random_conditioning.*{named}") as caught:
        probability(settings)
    assert "\n" not in str(caught.value)


@given(
    settings=st.one_of(
        st.fixed_dictionaries({"kind": st.just("constant"), "p": st.floats(0, 1) | st.integers(0, 1)}),
        st.fixed_dictionaries(
            {
                "kind": st.sampled_from(["exponential", "two-sided-exponential"]),
                "rate": st.floats(1e-3, 1e3) | st.integers(1, 1000),
            }
        ),
        st.fixed_dictionaries({"kind": st.just("sigmoid"), "rate": st.floats(1e-3, 1e3), "centre": st.floats(-10, 10)}),
        st.fixed_dictionaries({"kind": st.just("linear"), "slope": st.floats(0, 1e6)}),
        st.fixed_dictionaries({"kind": st.just("parabola"), "scale": st.floats(0, 1e6)}),
    )
)
def test_is_a_probability(settings: dict) -> None:
    p = probability(settings)(torch.arange(1000))
    assert p.dtype == torch.float32
    assert p.shape == (1000,)
    assert ((p >= 0) & (p <= 1)).all()


@pytest.mark.parametrize("t", [0, 300, 700, 999])
def test_swap_frequency(t: int) -> None:
    n, p = 20_000, probability({"kind": "exponential", "rate": 5.0})
    timesteps = torch.full((n,), t)
    texts, swapped = recondition(["own"] * n, timesteps, ["other"], p, torch.Generator().manual_seed(1))
    expected = math.exp(-5 * (1 - t / 1000))
    assert abs(int(swapped.sum()) - n * expected) <= 5 * math.sqrt(n * expected * (1 - expected)) + 1
    # a tenth is emptied, swapped or not
    for chosen in (swapped, ~swapped):
        count = int(chosen.sum())
        empty = sum(text == "" for text, c in zip(texts, chosen, strict=True) if c)
        assert abs(empty - 0.1 * count) <= 5 * math.sqrt(count * 0.09) + 1
    assert {text for text, swap in zip(texts, swapped, strict=True) if swap} <= {"other", ""}
    assert {text for text, swap in zip(texts, swapped, strict=True) if not swap} <= {"own", ""}


def test_each_pair_is_judged_by_its_own_timestep() -> None:
    timesteps = torch.randint(1000, (500,), generator=torch.Generator().manual_seed(0))
    own = [f"own {i}" for i in range(500)]
    texts, swapped = recondition(own, timesteps, ["other"], lambda t: (t >= 400).float(), torch.Generator(), null=0.0)
    assert swapped.tolist() == (timesteps >= 400).tolist()
    assert texts == ["other" if t >= 400 else text for t, text in zip(timesteps.tolist(), own, strict=True)]


@pytest.mark.parametrize("null", [0.0, 0.3, 1.0])
def test_frequency_of_the_empty_text(null: float) -> None:
    n = 10_000
    texts, _ = recondition(["own"] * n, torch.zeros(n), ["other"], None, torch.Generator().manual_seed(4), null=null)
    assert abs(texts.count("") - null * n) <= 5 * math.sqrt(n * null * (1 - null))


class Unread(Sequence[str]):
    """A pool that may be asked for single texts, and counts them, but never read through."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 20_000_000

    def __getitem__(self, index: int) -> str:
        assert isinstance(index, int)
        self.asked.append(index)
        return f"text {index}"

    def __iter__(self) -> None:
        raise AssertionError("the whole pool was read")


def test_a_large_pool_is_asked_for_the_swapped_texts_only() -> None:
    pool = Unread()
    _, swapped = recondition(["own"] * 100, torch.zeros(100), pool, Constant(0.5), torch.Generator().manual_seed(0))
    assert len(pool.asked) == int(swapped.sum()) > 0
    assert max(pool.asked) > 10_000_000


def test_draws_from_the_pool_are_uniform() -> None:
    pool, n = [str(i) for i in range(10)], 20_000
    texts, _ = recondition(["own"] * n, torch.zeros(n), pool, Constant(1.0), torch.Generator().manual_seed(2), null=0.0)
    counts = torch.tensor([texts.count(text) for text in pool]).double()
    chi_square = float(((counts - n / 10) ** 2 / (n / 10)).sum())
    assert chi_square < 33  # 9 degrees of freedom, p = 0.0001


def test_no_random_conditioning_never_swaps_and_draws_as_much() -> None:
    states, empty = [], []
    for p in (None, Constant(0.0), Constant(1.0)):
        chance = torch.Generator().manual_seed(3)
        texts, swapped = recondition(["own"] * 50, torch.zeros(50), ["other"], p, chance)
        assert swapped.dtype == torch.bool
        assert swapped.tolist() == [p == Constant(1.0)] * 50
        assert set(texts) == {"", "other" if p == Constant(1.0) else "own"}
        states.append(chance.get_state())
        empty.append([text == "" for text in texts])
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])
    assert empty[0] == empty[1] == empty[2]


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
        ({"kind": ["linear"]}, "kind"),
        ({"kind": None}, "kind"),
        ({}, "kind"),
        ({"kind": "constant", "p": 1.5}, r"\[0, 1\]"),
        ({"kind": "constant", "p": -0.1}, r"\[0, 1\]"),
        ({"kind": "constant", "p": math.nan}, "p"),
        ({"kind": "exponential", "rate": -1.0}, "rate"),
        ({"kind": "two-sided-exponential", "rate": 0.0}, "rate"),
        ({"kind": "two-sided-exponential", "rate": math.inf}, "rate"),
        ({"kind": "sigmoid", "rate": math.nan}, "rate"),
        ({"kind": "sigmoid", "centre": math.nan}, "centre"),
        ({"kind": "exponential", "speed": 1.0}, "speed"),
        ({"kind": "exponential", "rate": "5"}, "rate"),
        ({"kind": "exponential", "rate": None}, "rate"),
        ({"kind": "constant", "p": True}, "p"),
        ({"kind": "linear", "rate": 1.0}, "rate"),
    ],
)
def test_bad_settings(settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=f"^random_conditioning.*{named}") as caught:
        probability(settings)
    assert "\n" not in str(caught.value)
