"""What a student costs."""

import json
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from diffusers import SD3Transformer2DModel
from tiny_pipelines import every_family
from torch import nn

from randcond.costs import measure as costs
from randcond.teachers.pipelines import load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher


@every_family
def test_operations_are_those_of_convolutions_and_matrices(teacher: Teacher) -> None:
    counted = 0

    def count(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in teacher.denoiser.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    found = costs.multiply_accumulates(teacher)
    for hook in hooks:
        hook.remove()
    # attention's two products come on top
    if isinstance(teacher.denoiser, SD3Transformer2DModel):
        image = 16  # patches; half of the blocks attend to them a second time
        tokens = image + teacher.encode([""])["encoder_hidden_states"].shape[1]
        assert found == counted + 2 * 16 * (6 * tokens**2 + 3 * image**2)
    else:
        assert counted < found < 1.2 * counted


@pytest.mark.parametrize("precision", ["no", "fp16"])
@every_family
def test_costs_of_a_pipeline(pipeline_folder: Path, tmp_path: Path, precision: str) -> None:
    settings = json.dumps({"steps": 1, "guidance_scale": 2.0, "repeats": 1, "precision": precision})
    output = tmp_path / "costs.json"
    costs.main(Namespace(settings=settings, run="mine", threads=1, pipeline=pipeline_folder, output=output))
    found = json.loads(output.read_text())
    assert found["unet_bytes"] == 2 * found["unet_parameters"] > 0
    assert found["latency"] > 0
    assert found["memory"] > found["unet_bytes"] * (1 if precision == "fp16" else 2)
    assert found["passes"] == 2  # one step, with and without the text
    assert found["run"] == "mine"
    assert found["device"] == "CPU, 1 thread"
    assert found["macs"] == costs.multiply_accumulates(teacher_of(load_pipeline(pipeline_folder)))
