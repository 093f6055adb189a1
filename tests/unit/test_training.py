"""The training loop: resuming, micro-batches, averages, and its one error."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from randcond.checkpoint import Checkpoint
from randcond.errors import UserError
from randcond.seeding import generator
from randcond.training import _rows, fit


def recipe(**changes: object) -> SimpleNamespace:
    values = dict(steps=30, batch=8, micro_batch=8, learning_rate=1e-2, schedule="cosine", weight_decay=1e-2)
    return SimpleNamespace(**values | dict(gradient_clip=1.0, ema=0.9) | changes)


class Problem(nn.Module):
    """Linear regression on data of (seed, step); may stop, or turn to NaN, at a step."""

    def __init__(self, stop_at: int | None = None, nan_at: int | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self._stop_at, self._nan_at = stop_at, nan_at

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        if step == self._stop_at:
            raise KeyboardInterrupt
        x = torch.randn(8, 3, generator=generator(1, step))[rows]
        error = (self.layer(x) - x.sum(1, keepdim=True)).square().mean()
        return {"loss": error * (float("nan") if step == self._nan_at else 1.0), "error": error}


def weights(problem: Problem) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in problem.parameters()])


@pytest.mark.parametrize("stop_at", [11, 12, 25])
def test_resumed_equals_uninterrupted(tmp_path: Path, stop_at: int) -> None:
    straight = Problem()
    expected = fit(straight, recipe(), "straight", straight.layer, log_every=4)
    checkpoint = Checkpoint(tmp_path, {"settings": "1"}, minutes=0)
    with pytest.raises(KeyboardInterrupt):
        stopped = Problem(stop_at)
        fit(stopped, recipe(), "stopped", stopped.layer, checkpoint, log_every=4)
    saved = checkpoint.load()
    assert saved is not None
    assert saved["step"] == stop_at // 4 * 4
    resumed = Problem()
    found = fit(resumed, recipe(), "resumed", resumed.layer, checkpoint, log_every=4)
    assert torch.equal(weights(resumed), weights(straight))
    assert found.history == expected.history
    assert found.ema is not None
    assert expected.ema is not None
    for mine, theirs in zip(found.ema.shadow_params, expected.ema.shadow_params, strict=True):
        assert torch.equal(mine, theirs)


def test_micro_batches_equal_the_whole_batch() -> None:
    whole, parts = Problem(), Problem()
    one = fit(whole, recipe(), "whole")
    other = fit(parts, recipe(micro_batch=3), "parts")
    torch.testing.assert_close(weights(whole), weights(parts))
    assert one.history[-1]["loss"] == pytest.approx(other.history[-1]["loss"], rel=1e-4)


def test_learns_and_averages() -> None:
    problem = Problem()
    fitted = fit(problem, recipe(steps=400, learning_rate=5e-2), "learn", problem.layer)
    assert fitted.history[-1]["loss"] < fitted.history[0]["loss"] / 10
    assert fitted.history[-1]["step"] == 400
    assert fitted.ema is not None
    assert not torch.equal(fitted.ema.shadow_params[0], problem.layer.weight)
    assert fit(Problem(), recipe(steps=2, ema=0.0), "none", nn.Linear(1, 1)).ema is None


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("cosine", 0.5 * (1 + 0.9510565))])
def test_schedule(schedule: str, last: float, tmp_path: Path) -> None:
    # 20 steps planned; the learning rate after the first tenth of them is the schedule's
    checkpoint = Checkpoint(tmp_path, {}, minutes=0)
    with pytest.raises(KeyboardInterrupt):
        fit(Problem(stop_at=2), recipe(steps=20, schedule=schedule, ema=0), "s", None, checkpoint, log_every=2)
    state = checkpoint.load()
    assert state is not None
    assert state["schedule"]["_last_lr"][0] == pytest.approx(1e-2 * (last if schedule == "constant" else 0.9755283))


def test_clipping_holds_every_trained_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem()
    problem.extra = nn.Linear(1, 1)
    clipped: list[int] = []
    original = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda p, *a, **k: clipped.append(len(list(p))) or original(p, *a, **k)
    )
    fit(problem, recipe(steps=1), "clip")
    assert clipped == [4]


def test_nan_is_one_line() -> None:
    with pytest.raises(UserError, match=r"bad.*step 8.*learning rate") as caught:
        fit(Problem(nan_at=6), recipe(), "bad", log_every=4)
    assert "\n" not in str(caught.value)


@given(batch=st.integers(1, 100), micro=st.integers(1, 40), processes=st.integers(1, 8))
def test_processes_share_the_batch(batch: int, micro: int, processes: int) -> None:
    rows = [r for process in range(processes) for r in _rows(batch, micro, process, processes)]
    assert [i for r in rows for i in range(r.start, r.stop)] == list(range(batch))
    assert all(0 < r.stop - r.start <= micro for r in rows)
