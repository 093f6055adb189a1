"""The training loop: resuming, micro-batches, averages, and its one error."""

import math
import os
import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import generator
from randcond.make_teacher import __main__ as make_teacher
from randcond.make_teacher.__main__ import _fit
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import MovingAverage, _rows, fit


def recipe(**changes: object) -> SimpleNamespace:
    values = dict(steps=30, batch=8, micro_batch=8, learning_rate=1e-2, schedule="cosine", weight_decay=1e-2)
    return SimpleNamespace(**values | dict(gradient_clip=1.0, ema=0.9, cycles=1, optimizer="adamw") | changes)


class Problem(nn.Module):
    """Linear regression on data of (seed, step); may stop, be sent a signal, or turn to NaN, at a step."""

    def __init__(
        self,
        stop_at: int | None = None,
        nan_at: int | None = None,
        scale: float = 1.0,
        signals: dict[int, signal.Signals] | None = None,
    ) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self._stop_at, self._nan_at, self._scale, self._signals = stop_at, nan_at, scale, signals or {}

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        if step == self._stop_at:
            raise KeyboardInterrupt
        if step in self._signals:
            os.kill(os.getpid(), self._signals[step])
        x = torch.randn(8, 3, generator=generator(1, step))[rows]
        error = (self.layer(x) - x.sum(1, keepdim=True)).square().mean() * self._scale
        return {"loss": error * (float("nan") if step == self._nan_at else 1.0), "error": error}


class Counting(nn.Module):
    """Its loss is the number of the step, its second loss the first row that it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        return {"loss": self.weight * 0 + step, "row": torch.tensor(float(rows.start))}


def weights(problem: Problem) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in problem.parameters()])


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


@pytest.mark.parametrize("stop_at", [11, 12, 25])
@pytest.mark.parametrize(
    ("changes", "more"),
    [({}, {}), ({"schedule": "constant"}, {}), ({"optimizer": "muon"}, {"decay": 10, "warmup": 3})],
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, stop_at: int, changes: dict[str, Any], more: dict[str, Any]
) -> None:
    straight = Problem()
    expected = fit(straight, recipe(**changes), "straight", straight.layer, log_every=4, **more)
    checkpoint = Checkpoint(tmp_path, {"settings": "1"}, minutes=0)
    stopped = Problem(stop_at)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, recipe(**changes), "stopped", stopped.layer, checkpoint, log_every=4, **more)
    saved = checkpoint.load()
    assert saved is not None
    assert saved["step"] == stop_at // 4 * 4
    resumed = Problem()
    with torch.no_grad():
        resumed.layer.weight.fill_(100.0)  # whatever it starts from is replaced
    found = fit(resumed, recipe(**changes), "resumed", resumed.layer, checkpoint, log_every=4, **more)
    assert torch.equal(weights(resumed), weights(straight))
    assert found.history == expected.history
    assert [entry["step"] for entry in found.history] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert found.ema is not None
    assert expected.ema is not None
    for mine, theirs in zip(found.ema.shadow_params, expected.ema.shadow_params, strict=True):
        assert torch.equal(mine, theirs)


def test_the_learning_rate_rises_during_the_warm_up(updates: list[SimpleNamespace]) -> None:
    fit(Problem(), recipe(schedule="constant_with_warmup", steps=6), "warm", warmup=4)
    assert [update.rate for update in updates] == pytest.approx([0, 2.5e-3, 5e-3, 7.5e-3, 1e-2, 1e-2])
    updates.clear()
    fit(Problem(), recipe(schedule="cosine", steps=6), "cold")
    assert updates[0].rate == 1e-2


def test_stopped_before_the_first_checkpoint_starts_anew(tmp_path: Path) -> None:
    straight, again = Problem(), Problem()
    fit(straight, recipe(), "straight", straight.layer, log_every=4)
    checkpoint = Checkpoint(tmp_path, {}, minutes=0)
    with pytest.raises(KeyboardInterrupt):
        fit(Problem(stop_at=3), recipe(), "stopped", None, checkpoint, log_every=4)
    assert checkpoint.load() is None
    fit(again, recipe(), "again", again.layer, checkpoint, log_every=4)
    assert torch.equal(weights(again), weights(straight))


def test_a_teacher_of_other_parts_does_not_go_on_from_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"steps": 4, "batch": 8, "learning_rate": 1e-2}
    weights = tmp_path / "autoencoder/model.safetensors"
    weights.parent.mkdir()
    weights.write_text("one")
    made_of = {"autoencoder": weights.parent, "text_encoder": None, "checkpoint": tmp_path / "state"}
    unet, transformer = (
        Namespace(world="emoji", family=family, part="denoiser", **made_of) for family in ("stable_diffusion", "sd3")
    )
    with pytest.raises(UserError, match="SIGTERM"):
        _fit(unet, settings, Problem(signals={2: signal.SIGTERM}))
    with pytest.raises(UserError, match="other family"):
        _fit(transformer, settings, Problem())
    weights.write_text("other")
    with pytest.raises(UserError, match="other autoencoder;"):
        _fit(unet, settings, Problem())
    weights.write_text("one")
    with monkeypatch.context() as changed, pytest.raises(UserError, match="other code;"):
        changed.setattr(make_teacher, "code_of", lambda *_: [str(weights)])
        _fit(unet, settings, Problem())
    assert _fit(unet, settings, Problem()).history[-1]["step"] == 4


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


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    "signals",
    [{10: signal.SIGTERM}, {11: signal.SIGUSR1}, {0: signal.SIGTERM, 20: signal.SIGUSR1}, {7: signal.SIGINT}],
)
def test_stopped_by_a_signal_loses_nothing(tmp_path: Path, signals: dict[int, signal.Signals]) -> None:
    straight = Problem()
    expected = fit(straight, recipe(), "straight", straight.layer, log_every=4)
    checkpoint = Checkpoint(tmp_path, {})  # no minutes have passed: it is saved because of the signal
    for step, number in signals.items():
        stopped = Problem(signals={step: number})
        with pytest.raises(UserError, match=f"cut: stopped by {number.name} at step {step + 1};"):
            fit(stopped, recipe(), "cut", stopped.layer, checkpoint, log_every=4)
        saved = checkpoint.load()
        assert saved is not None
        assert saved["step"] == step + 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    resumed = Problem()
    found = fit(resumed, recipe(), "resumed", resumed.layer, checkpoint, log_every=4)
    assert torch.equal(weights(resumed), weights(straight))
    assert found.history == expected.history
    assert found.ema is not None
    assert expected.ema is not None
    for mine, theirs in zip(found.ema.shadow_params, expected.ema.shadow_params, strict=True):
        assert torch.equal(mine, theirs)


def test_a_signal_in_the_last_step_stops_nothing(tmp_path: Path) -> None:
    fitted = fit(Problem(signals={29: signal.SIGTERM}), recipe(), "last", None, Checkpoint(tmp_path, {}), log_every=4)
    assert fitted.history[-1]["step"] == 30


def failed(folder: Path, problem: nn.Module, match: str, **changes: object) -> dict:
    """Train until it fails; the state that is kept as evidence."""
    checkpoint = Checkpoint(folder, {}, minutes=0)
    evidence = Checkpoint(folder, {})
    evidence.file = folder / "failed.safetensors"
    with pytest.raises(UserError, match=match) as caught:
        fit(problem, recipe(**changes), "bad", getattr(problem, "layer", None), checkpoint, log_every=4)
    assert "\n" not in str(caught.value)
    assert str(evidence.file) in str(caught.value)
    kept, saved = evidence.load(), checkpoint.load()
    assert kept is not None
    # the same command would go on from before it went wrong
    assert saved is None or all(torch.isfinite(tensor).all() for tensor in saved["problem"].values())
    assert saved is None or saved["step"] < kept["step"]
    return kept


def test_nan_is_one_line_and_leaves_evidence(tmp_path: Path) -> None:
    kept = failed(tmp_path, Problem(nan_at=6), r"bad: the loss .* at step 7; lower the learning rate")
    assert kept["step"] == 8
    assert torch.isfinite(torch.stack(kept["recent"])[:, 0]).tolist() == [True, True, False, False]


def test_nan_from_the_start_is_not_the_learning_rates_fault(tmp_path: Path) -> None:
    failed(tmp_path, Problem(nan_at=0), r"bad: the loss of the first step .* look at the teacher and the data")


@pytest.mark.parametrize("rate", [3e2, 1e3])
def test_explosion_is_one_line_and_leaves_evidence(tmp_path: Path, rate: float) -> None:
    changes = {"learning_rate": rate, "schedule": "constant", "gradient_clip": 0.0}
    kept = failed(tmp_path, Problem(), r"bad: the loss grew from \S+ to \S+ by step \d+; lower", **changes)
    assert kept["step"] == 4


def test_a_hundredfold_loss_is_no_explosion_of_a_falling_one(tmp_path: Path) -> None:
    class Falling(Counting):
        def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
            return {"loss": self.weight * 0 + (1.0, 1e-4, 0.9)[min(step // 4, 2)]}

    fitted = fit(Falling(), recipe(steps=12), "falling", None, Checkpoint(tmp_path, {}), log_every=4)
    assert [entry["loss"] for entry in fitted.history] == pytest.approx([1.0, 1e-4, 0.9])


def test_what_was_learned_and_lost_ends_the_training(tmp_path: Path) -> None:
    class Forgetting(Counting):
        losses = (1.0, 0.45, 1.1, 0.6, 1.1, 1.0, 0.1)

        def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
            return {"loss": self.weight * 0 + self.losses[step // 4]}

    # once is no trouble, twice in a row is; so is none where it had hardly fallen
    kept = failed(
        tmp_path, Forgetting(), r"bad: the loss had fallen from 1 to 0.45 and is back at 1 by step 24: .*; lower",
        steps=28,
    )  # fmt: skip
    assert kept["step"] == 24
    Forgetting.losses = (1.0, 0.55, 1.1, 1.1, 1.0, 1.0, 1.0)
    assert len(fit(Forgetting(), recipe(steps=28), "fine", None, log_every=4).history) == 7


def test_weights_that_are_no_numbers_go_nowhere(tmp_path: Path) -> None:
    class Poisoned(Problem):
        def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
            losses = super().forward(step, rows)
            if step == 29:  # the loss is a number, its gradient is none
                losses["loss"] = losses["loss"].detach() + (self.layer.weight.sum() * 0).sqrt()
            return losses

    failed(tmp_path, Poisoned(), "bad: the weights are no longer finite numbers")


def test_a_full_disk_does_not_hide_what_went_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    checkpoint = Checkpoint(tmp_path, {})
    monkeypatch.setattr(checkpoint, "keep", full)
    with pytest.raises(UserError, match=r"step 7; lower the learning rate$"):
        fit(Problem(nan_at=6), recipe(), "bad", None, checkpoint, log_every=4)


@given(batch=st.integers(1, 100), micro=st.integers(1, 40), processes=st.integers(1, 8))
def test_processes_share_the_batch(batch: int, micro: int, processes: int) -> None:
    shares = [list(_rows(batch, micro, process, processes)) for process in range(processes)]
    rows = [r for share in shares for r in share]
    assert [i for r in rows for i in range(r.start, r.stop)] == list(range(batch))
    assert all(0 < r.stop - r.start <= micro for r in rows)
    sizes = [sum(r.stop - r.start for r in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


def scaled() -> Accelerator:
    """A plain accelerator with fp16's loss scaling, which it would only set up on a GPU."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=7)
    return accelerator


def test_loss_scale_survives_a_restart(tmp_path: Path) -> None:
    expected = scaled()
    straight = Problem()
    fit(straight, recipe(), "straight", accelerator=expected, log_every=4)
    checkpoint = Checkpoint(tmp_path, {}, minutes=0)
    with pytest.raises(KeyboardInterrupt):
        fit(Problem(stop_at=18), recipe(), "stopped", None, checkpoint, scaled(), log_every=4)
    found = scaled()
    resumed = Problem()
    fit(resumed, recipe(), "resumed", None, checkpoint, found, log_every=4)
    assert found.scaler.state_dict() == expected.scaler.state_dict()
    assert found.scaler.get_scale() == 2.0 ** (10 + 30 // 7)  # it did grow, so there was something to lose
    torch.testing.assert_close(weights(resumed), weights(straight))


def test_a_loaded_average_is_moved_to_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for name in ("load_state_dict", "to", "step"):
        original = getattr(MovingAverage, name)

        def noted(self: MovingAverage, *arguments: object, name: str = name, original: Callable = original) -> object:
            done.append(name)
            return original(self, *arguments)

        monkeypatch.setattr(MovingAverage, name, noted)
    problem = Problem(stop_at=5)
    with pytest.raises(KeyboardInterrupt):
        fit(problem, recipe(), "stopped", problem.layer, Checkpoint(tmp_path, {}, minutes=0), log_every=2)
    done.clear()
    again = Problem()
    fit(again, recipe(), "resumed", again.layer, Checkpoint(tmp_path, {}, minutes=0), log_every=2)
    assert done[:3] == ["load_state_dict", "to", "step"]
