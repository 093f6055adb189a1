"""The examples of docs/library.md run as they stand."""

import ast
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

import randcond
from randcond.jobs.code import code_of

PAGE = Path(__file__).parents[2] / "docs/library.md"


class Denoiser(nn.Module):
    """Predicts from noise and condition by one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, noised: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.layer(noised) + condition)


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_example_trains_the_student() -> None:
    example = examples()[0]
    assert len(example.strip().splitlines()) <= 16
    torch.manual_seed(0)
    asked: list[str] = []

    def encode(texts: list[str]) -> torch.Tensor:
        asked.extend(texts)
        return torch.tensor([[float(len(text))] for text in texts])

    student, teacher = Denoiser(), Denoiser()
    before = student.layer.weight.clone()
    names = {
        "loader": [(torch.randn(64, 4), ["own"] * 64) for _ in range(8)],
        "pool": ["other"],
        "scheduler": DDPMScheduler(),
        "encode": encode,
        "teacher": teacher,
        "student": student,
        "optimizer": torch.optim.SGD(student.parameters(), lr=0.01),
    }
    exec(compile(example, PAGE, "exec"), names)
    assert set(asked) == {"own", "other", ""}
    assert not torch.equal(student.layer.weight, before)
    assert teacher.layer.weight.grad is None


def test_example_trains_on_trajectories() -> None:
    (example,) = [one for one in examples() if "Trajectories" in one]
    assert len(example.strip().splitlines()) <= 25
    torch.manual_seed(0)
    student, teacher = Denoiser(), Denoiser()
    before = student.layer.weight.clone()
    names = {
        "pool": ["some text", "another"],
        "scheduler": DDPMScheduler(),
        "encode": lambda texts: torch.tensor([float(len(text)) for text in texts]).view(-1, 1, 1, 1),
        "teacher": teacher,
        "student": student,
        "optimizer": torch.optim.SGD(student.parameters(), lr=1e-6),
        "steps": 10,
    }
    exec(compile(example.replace("(4, 64, 64)", "(1, 4, 4)"), PAGE, "exec"), names)
    assert not torch.equal(student.layer.weight, before)
    assert teacher.layer.weight.grad is None
    bank = names["states"]
    assert len(bank) == 64
    assert bank.states.shape == (64, 1, 4, 4)


def test_example_measures_p_from_a_pipeline(pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [one for one in examples() if "measure_sensitivity" in one]
    assert len(example.strip().splitlines()) <= 20
    texts = ["a sword", "a bee", "a red apple"]
    names = {"folder": pipeline_folder, "device": "cpu", "texts": texts, "pool": [*texts, "a dog"]}
    torch.manual_seed(0)
    exec(compile(example, PAGE, "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("t = 999: ") and lines[-1].startswith("t = 0: ")
    chances = names["p"](torch.arange(1000))
    assert float(chances.mean()) == pytest.approx(0.35, abs=1e-4)
    assert (chances.diff() >= 0).all()


def test_measuring_needs_no_more_than_it_says() -> None:
    package = Path(randcond.__file__).parent
    allowed = {"randcond", "torch", "diffusers", "transformers", "safetensors", "numpy"} | sys.stdlib_module_names
    for file in map(Path, code_of(package, "method.sensitivity")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {name.split(".")[0] for name in names} <= allowed, file
