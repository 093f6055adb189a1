"""The training loop: its updates, micro-batches and averages."""

import math
from types import SimpleNamespace

import pytest
import torch
from diffusers.training_utils import EMAModel
from hypothesis import given
from hypothesis import strategies as st
from small_training import Counting, Problem, recipe, weights
from torch import nn

from randcond.jobs.seeding import generator
from randcond.training.loop import MovingAverage, _rows, fit


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """For every update: its learning rate, the norm of all gradients, and the settings of AdamW."""
    seen: list[SimpleNamespace] = []
    original = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *args: object, **kwargs: object) -> object:
        (group,) = self.param_groups
        norm = torch.cat([p.grad.flatten() for p in group["params"]]).norm()
        seen.append(
            SimpleNamespace(rate=group["lr"], norm=float(norm), group={k: group[k] for k in ("betas", "weight_decay")})
        )
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    return seen


def test_the_learning_rate_rises_during_the_warm_up(updates: list[SimpleNamespace]) -> None:
    fit(Problem(), recipe(schedule="constant_with_warmup", steps=6), "warm", warmup=4)
    assert [update.rate for update in updates] == pytest.approx([0, 2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2])
    updates.clear()
    fit(Problem(), recipe(schedule="cosine", steps=6), "cold")
    assert updates[0].rate == 1e-2


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
def test_micro_batches_equal_the_whole_batch(micro_batch: int) -> None:
    whole, parts = Problem(), Problem()
    one = fit(whole, recipe(), "whole", log_every=10)
    other = fit(parts, recipe(micro_batch=micro_batch), "parts", log_every=10)
    torch.testing.assert_close(weights(whole), weights(parts))
    for mine, theirs in zip(one.history, other.history, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_history_holds_means_over_steps_and_rows() -> None:
    fitted = fit(Counting(), recipe(steps=7, micro_batch=3), "count", log_every=3)
    rows = (3 * 0 + 3 * 3 + 2 * 6) / 8  # pieces of 3, 3 and 2 rows
    assert [entry.pop("row") for entry in fitted.history] == pytest.approx([rows] * 3)
    assert fitted.history == [{"step": 3, "loss": 1.0}, {"step": 6, "loss": 4.0}, {"step": 7, "loss": 6.0}]


def test_first_step_is_adamw() -> None:
    problem = Problem()
    before = problem.layer.weight.detach().clone()
    loss = problem(0, slice(0, 8))["loss"]
    (gradient,) = torch.autograd.grad(loss, [problem.layer.weight])
    fit(problem, recipe(steps=1, gradient_clip=0.0, weight_decay=0.1), "one")
    # both moments are corrected to the gradient itself; the weight decay is decoupled
    expected = before * (1 - 1e-2 * 0.1) - 1e-2 * gradient / (gradient.abs() + 1e-8)
    torch.testing.assert_close(problem.layer.weight.detach(), expected)


def test_learns_and_averages() -> None:
    problem = Problem()
    frozen = problem.frozen.weight.clone()
    fitted = fit(problem, recipe(steps=400, learning_rate=5e-2), "learn", problem.layer)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"] / 10
    assert fitted.history[-1]["step"] == 400
    assert fitted.ema is not None
    assert not torch.equal(fitted.ema.shadow_params[0], problem.layer.weight)
    torch.testing.assert_close(fitted.ema.shadow_params[0], problem.layer.weight.detach(), atol=0.02, rtol=0)
    assert torch.equal(problem.frozen.weight, frozen)


def test_average_lags_behind() -> None:
    # once warmed up, every step moves the average half of the way
    problem = Problem()
    fitted = fit(problem, recipe(steps=100, ema=0.5, gradient_clip=0.0, schedule="constant"), "lag", problem.layer)
    path = []
    for steps in range(91, 101):
        replay = Problem()
        fit(replay, recipe(steps=steps, gradient_clip=0.0, schedule="constant"), "replay")
        path.append(replay.layer.weight.detach().clone())
    average = sum(weight * 0.5 ** (10 - i) for i, weight in enumerate(path))
    assert fitted.ema is not None
    torch.testing.assert_close(fitted.ema.shadow_params[0], average, atol=0.003, rtol=0)
    assert not torch.allclose(fitted.ema.shadow_params[0], path[-1], atol=1e-4)


def test_average_is_the_one_of_diffusers() -> None:
    parameter = nn.Parameter(torch.zeros(7))
    mine, theirs = MovingAverage([parameter], decay=0.9), EMAModel([parameter], decay=0.9)
    for step in range(100):  # its decay rises to 0.9 by step 82
        with torch.no_grad():
            parameter.copy_(torch.randn(7, generator=generator(0, step)))
        mine.step([parameter])
        theirs.step([parameter])
        torch.testing.assert_close(mine.shadow_params, theirs.shadow_params)
    assert mine.state_dict().keys() == theirs.state_dict().keys()
    assert mine.optimization_step == 100
    with pytest.raises(ValueError, match="shorter"):
        mine.step([])


def test_no_average_unless_asked_for() -> None:
    problem = Problem()
    assert fit(problem, recipe(steps=1, ema=0.0), "none", problem.layer).ema is None
    assert fit(Problem(), recipe(steps=1), "none").ema is None


@pytest.mark.parametrize(
    ("schedule", "form"),
    [("constant", lambda k: 1e-2), ("cosine", lambda k: 1e-2 * 0.5 * (1 + math.cos(math.pi * k / 20)))],
)
def test_schedule(schedule: str, form: object, updates: list[SimpleNamespace]) -> None:
    fit(Problem(), recipe(steps=20, schedule=schedule, weight_decay=0.03), "rates")
    assert [update.rate for update in updates] == pytest.approx([form(k) for k in range(20)])
    assert updates[0].group == {"betas": (0.9, 0.999), "weight_decay": 0.03}


@pytest.mark.parametrize("micro_batch", [8, 3])
def test_clipping_holds_all_gradients_together(micro_batch: int, updates: list[SimpleNamespace]) -> None:
    fit(Problem(scale=100.0), recipe(steps=5, gradient_clip=0.5, micro_batch=micro_batch), "clip")
    assert [update.norm for update in updates] == pytest.approx([0.5] * 5, rel=1e-4)


def test_no_clipping_at_zero(updates: list[SimpleNamespace]) -> None:
    fit(Problem(scale=100.0), recipe(steps=5, gradient_clip=0.0), "free")
    assert min(update.norm for update in updates) > 1


@given(batch=st.integers(1, 100), micro=st.integers(1, 40), processes=st.integers(1, 8))
def test_processes_share_the_batch(batch: int, micro: int, processes: int) -> None:
    shares = [list(_rows(batch, micro, process, processes)) for process in range(processes)]
    rows = [r for share in shares for r in share]
    assert [i for r in rows for i in range(r.start, r.stop)] == list(range(batch))
    assert all(0 < r.stop - r.start <= micro for r in rows)
    sizes = [sum(r.stop - r.start for r in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
