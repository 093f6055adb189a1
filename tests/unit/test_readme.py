"""The README's examples run as they stand."""

import re
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import DDPMScheduler
from torch import nn

README = Path(__file__).parents[2] / "README.md"


class Denoiser(nn.Module):
    """Predicts from noise and condition by one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, noised: torch.Tensor, t: torch.Tensor, condition: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(sample=self.layer(noised) + condition)


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_example_trains_the_student() -> None:
    example = examples()[0]
    assert len(example.strip().splitlines()) <= 17
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
    exec(compile(example, "README.md", "exec"), names)
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
    exec(compile(example.replace("(4, 64, 64)", "(1, 4, 4)"), "README.md", "exec"), names)
    assert not torch.equal(student.layer.weight, before)
    assert teacher.layer.weight.grad is None
    bank = names["states"]
    assert len(bank) == 64
    assert bank.states.shape == (64, 1, 4, 4)
