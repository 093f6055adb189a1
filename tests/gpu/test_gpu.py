"""On a GPU: training, drawing and scoring run there, agree with the CPU, and are the same twice.

Skipped where torch finds none. `pytest tests/gpu`; speeds: `python benchmarks/gpu.py`.
"""

from pathlib import Path

import numpy as np
import pytest
import torch

import gpu
from randcond.scores.evaluator import Evaluator
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline

ASSETS = Path(__file__).parents[2] / "workflow/assets/emoji"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
PRECISIONS = ["no", "fp16", "bf16"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_is_the_same_twice_and_when_resumed(precision: str, tmp_path: Path) -> None:
    found = gpu.same_twice(precision, tmp_path, True, torch.device("cuda"))
    assert found["two_runs_equal"]
    assert found["resumed_equal"], found["largest_difference"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_losses_are_the_cpus(precision: str, tmp_path: Path) -> None:
    histories = []
    for device, kind in (("cpu", "no"), ("cuda", precision)):
        setting = gpu.Setting(precision=kind)
        asked = gpu.problem(setting, 4, tmp_path, True, torch.device(device))
        histories.append([entry["loss"] for entry in gpu.train(asked, setting, 4, 3, torch.device(device))[0]])
    assert histories[1] == pytest.approx(histories[0], rel=1e-3 if precision == "no" else 0.05)


@pytest.mark.parametrize(("precision", "off"), [("no", 2), ("fp16", 24)])
def test_images_are_the_cpus(precision: str, off: int) -> None:
    texts = ["a tiger on a red background", "a bus on a blue background"]
    drawn = []
    for device, kind in (("cpu", "no"), ("cuda", precision)):
        pipeline = load_pipeline(ASSETS / "teacher", device, kind)
        drawn.append(decode(pipeline, draw_latents(pipeline, texts, 0, 7, 10, 2.0)).float())
    assert float((drawn[0] - drawn[1]).abs().mean()) < off


def test_features_are_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    on_gpu = Evaluator(ASSETS / "evaluator").features_of(images)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    np.testing.assert_allclose(on_gpu, Evaluator(ASSETS / "evaluator").features_of(images), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("student", ["b-base", "c-micro"])
def test_a_step_at_true_size(student: str, tmp_path: Path) -> None:
    found = gpu.step_speed(gpu.Setting(student), 2, 4, tmp_path, False, torch.device("cuda"))
    assert "failed" not in found
    assert found["pairs_a_second"] > 0
    assert found["gigabytes"] < torch.cuda.get_device_properties(0).total_memory / 1e9
