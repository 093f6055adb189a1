"""A training that goes wrong ends in one line and leaves evidence."""

from pathlib import Path

import pytest
import torch
from small_training import Counting, Problem, recipe
from torch import nn

from randcond.jobs.errors import UserError
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import fit


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
