"""Trainings of a few numbers, for the loop's tests."""

import os
import signal
from types import SimpleNamespace

import torch
from torch import nn

from randcond.jobs.seeding import generator


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
