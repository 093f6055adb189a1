"""What a student costs."""

import json
from argparse import Namespace
from pathlib import Path

import torch
from torch import nn

from randcond import costs
from randcond.teacher import Teacher


def test_operations_are_those_of_convolutions_and_matrices(teacher: Teacher) -> None:
    counted = 0

    def count(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal counted
        counted += output.numel() * module.weight[0].numel()

    hooks = [m.register_forward_hook(count) for m in teacher.unet.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    found = costs.multiply_accumulates(teacher)
    for hook in hooks:
        hook.remove()
    # attention's two products come on top
    assert counted < found < 1.2 * counted


def test_costs_of_a_pipeline(pipeline_folder: Path, tmp_path: Path) -> None:
    settings = json.dumps({"steps": 1, "guidance_scale": 2.0, "repeats": 1})
    output = tmp_path / "costs.json"
    costs.main(Namespace(settings=settings, run="mine", threads=1, pipeline=pipeline_folder, output=output))
    found = json.loads(output.read_text())
    assert found["unet_bytes"] == 2 * found["unet_parameters"] > 0
    assert found["latency"] > 0
    assert found["run"] == "mine"
