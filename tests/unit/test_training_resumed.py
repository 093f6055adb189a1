"""A training that was stopped goes on as if it had not been."""

import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from small_training import Problem, recipe, weights

from randcond.jobs.errors import UserError
from randcond.make_teacher import __main__ as make_teacher
from randcond.make_teacher.__main__ import _fit
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import MovingAverage, fit


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
