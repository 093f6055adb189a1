"""What a result was made with is kept for all environments that took part, from the checkpoint to the page."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from randcond.jobs import provenance
from randcond.jobs.provenance import MADE_WITH, read_made_with
from randcond.make_teacher.__main__ import _write
from randcond.report.inputs import read_histories
from randcond.report.origins import origins
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import Fitted, fit
from randcond.versions import origin

ONE_RUN = {"loss": 1.0, "step": 2}


class Problem(nn.Module):
    """As simple as can be; interrupted at a step."""

    def __init__(self, stop_at: int | None) -> None:
        super().__init__()
        self.weight, self.stop_at = nn.Parameter(torch.ones(1)), stop_at

    def forward(self, step: int, _: slice) -> dict[str, torch.Tensor]:
        if step == self.stop_at:
            raise KeyboardInterrupt
        return {"loss": self.weight.square().sum()}


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, machines: str) -> Fitted:
    """A training of 2 steps on each of the machines."""
    recipe = SimpleNamespace(
        steps=2 * len(machines), batch=1, micro_batch=1, learning_rate=0.1, schedule="constant", cycles=1,
        weight_decay=0.0, gradient_clip=0.0, ema=0.0, optimizer="adamw",
    )  # fmt: skip
    monkeypatch.setattr(provenance, "versions", lambda: {"torch": "1"})
    monkeypatch.setattr(provenance, "commit", lambda _: "abc")
    for i, name in enumerate(machines, 1):
        monkeypatch.setattr(provenance, "machine", lambda name=name: {"processor": name})
        problem = Problem(2 * i if i < len(machines) else None)
        try:
            return fit(problem, recipe, "name", checkpoint=Checkpoint(folder, {}, minutes=0), log_every=2)
        except KeyboardInterrupt:
            continue
    raise AssertionError("not finished")


@pytest.mark.parametrize(("machines", "kept"), [("a", ""), ("aa", ""), ("ab", "ab"), ("aba", "ab"), ("abcc", "abc")])
def test_a_resumed_training_keeps_all_environments(
    machines: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "randcond")
    fitted = trained(tmp_path / "checkpoint", monkeypatch, machines)
    _write(tmp_path / "part", fitted, Path.mkdir)
    history = json.loads((tmp_path / "part/history.json").read_text())
    known = history[0].pop("made_with", [])
    assert "".join(one["machine"]["processor"] for one in known) == kept
    assert all(one.keys() == {"commit", "versions", "machine"} for one in known)
    assert history == fitted.history  # no uninterrupted one says more than before
    made = read_made_with("\n".join(f"2026-01-01 00:00:00,000 DEBUG {line}" for line in caplog.messages))
    if kept:
        assert made is not None
        assert {one["machine"]["processor"] for one in [made, *made["also"]]} == set(kept)
        assert made["machine"]["processor"] == machines[-1]
    else:
        assert made is None  # a stage says it when it begins


def test_a_history_of_several_environments_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine/0/history.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([ONE_RUN | {"made_with": [{}, {}]}, ONE_RUN]))
    assert read_histories([path]) == {("mine", 0): [ONE_RUN] * 2}


def test_all_environments_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [{"processor": name} for name in ("first", "second")]
    first, second = ({"commit": name, "versions": {}, "machine": one} for name, one in zip("ab", machines, strict=True))
    line = f"2026-01-01 00:00:00,000 DEBUG {MADE_WITH}{json.dumps({**second, 'also': [first]})}\n"
    (tmp_path / "student").mkdir()
    (log := tmp_path / "student/mine-0.log").write_text(line)
    score = SimpleNamespace(path=log, seed=0)
    (student, _), environments = origins({"mine": [score]}, [log])
    assert (student.commit, student.environments) == ("b", (1, 2))
    assert [one.machine for one in environments] == machines
    monkeypatch.setattr(origin, "_texts", lambda path, _: [line])
    text = origin._paragraph("student-mine-0", {"cmd": "c", "outs": [{"path": "a.log", "md5": "0"}]}, None)
    assert "at commit b\n  machine: processor second" in text
    assert "at commit a\n  machine: processor first" in text
