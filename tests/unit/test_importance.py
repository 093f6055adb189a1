"""First-order importance of the teacher's channels over D."""

import argparse
from pathlib import Path

import pytest
import torch
from small_distillation import N, data_of, run_of, small_distillation

from randcond.students.importance import importance
from randcond.teachers.teacher import Teacher


@pytest.fixture
def arguments(tmp_path: Path, pipeline_folder: Path) -> argparse.Namespace:
    return small_distillation(tmp_path, pipeline_folder)


def test_importance_is_the_same_in_less_memory(
    arguments: argparse.Namespace, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("randcond.students.importance.PAIRS", 16)
    pairs, _ = data_of(arguments, run_of(arguments, texts=["pool"]), N, 3)
    rows: list[int] = []
    teacher.denoiser.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    whole = importance(teacher, pairs, 0, 32)
    assert set(rows) == {8}
    rows.clear()
    sparing = importance(teacher, pairs, 0, 3, gradient_checkpointing=True)
    assert set(rows) == {2, 3}
    assert not teacher.denoiser.is_gradient_checkpointing
    assert whole.keys() == sparing.keys()
    for name in whole:
        torch.testing.assert_close(sparing[name], whole[name], rtol=1e-3, atol=1e-12)
