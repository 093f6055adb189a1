"""Real handwritten digits, 10,000 of MNIST's as the project ships them, and small classifiers of them."""

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional as F

from randcond.figures.output import FigureScore
from randcond.jobs.errors import UserError, reason
from randcond.jobs.seeding import numpy_generator
from randcond.training.loop import fit

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LEFT_OUT = NAMES.index("three")
SHIPPED = Path(__file__).parents[3] / "assets" / "mnist" / "digits.npz"


@dataclass(frozen=True)
class Digits:
    """Images in [-1, 1], float32 (n, pixels), and which digit each is, int64 (n,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: torch.Tensor) -> "Digits":
        """The digits that ``rows`` (numbers or a mask) chooses."""
        return Digits(self.images[rows], self.labels[rows])

    def without(self, digit: int) -> "Digits":
        """All but one of the ten."""
        return self.take(self.labels != digit)

    def halved(self) -> "Digits":
        """The same at half the side's length, each pixel the mean of four."""
        side = math.isqrt(self.images.shape[1])
        small = F.avg_pool2d(self.images.reshape(-1, 1, side, side), 2)
        return Digits(small.flatten(1), self.labels)

    def split(self, share: float, seed: int) -> tuple["Digits", "Digits"]:
        """The rest, and ``share`` of every digit, drawn from ``seed``."""
        rows = np.arange(len(self))
        rest, part = train_test_split(rows, test_size=share, random_state=seed, stratify=self.labels.numpy())
        return self.take(torch.from_numpy(rest)), self.take(torch.from_numpy(part))


def load() -> Digits:
    """The 10,000 digits that the project ships, 28 x 28 pixels.

    Raises:
        UserError: If their file is missing or damaged.
    """
    try:
        with np.load(SHIPPED, allow_pickle=False) as stored:
            images, labels = stored["images"], stored["labels"]
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise UserError(f"{SHIPPED}: cannot be read ({reason(error)}); check the project out anew") from None
    pixels = torch.from_numpy(images.reshape(len(images), -1)).float() / 127.5 - 1
    return Digits(pixels, torch.from_numpy(labels).long())


class Classification(nn.Module):
    """Training problem: cross entropy against class probabilities, at a temperature (Hinton et al., 2015).

    Args:
        network: Images to logits.
        images: (n, pixels).
        targets: Class probabilities, (n, 10): of a teacher at the same temperature, or 0 and 1.
        temperature: Divides the logits; the loss is multiplied by its square, as in that paper.
        batch: Images a step.
        seed: Seed of the order.
    """

    def __init__(
        self,
        network: nn.Module,
        images: torch.Tensor,
        targets: torch.Tensor,
        temperature: float,
        batch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self._images, self._targets, self._temperature = images, targets, temperature
        self._batch, self._seed = batch, seed

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """Loss of the given rows of step ``step``'s batch."""
        chosen = torch.from_numpy(numpy_generator(self._seed, step).integers(len(self._images), size=self._batch))[rows]
        logits = self.network(self._images[chosen]) / self._temperature
        loss = F.cross_entropy(logits, self._targets[chosen])
        return {"loss": self._temperature**2 * loss}


def train_classifier(
    images: torch.Tensor,
    targets: torch.Tensor,
    width: int,
    recipe: dict[str, Any],
    seed: int,
    name: str,
    temperature: float = 1.0,
) -> nn.Module:
    """A network with two hidden layers of ``width``, trained from weights drawn from ``seed``.

    Args:
        images: (n, pixels).
        targets: Class probabilities, (n, 10).
        width: Units of a hidden layer.
        recipe: ``steps``, ``batch`` and ``learning_rate``.
        seed: Seed of weights and order.
        name: Shown in progress lines.
        temperature: See :class:`Classification`.
    """
    pixels = images.shape[1]
    with seeded(seed):
        network = nn.Sequential(
            *(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, len(NAMES)))
        )
    problem = Classification(network, images, targets, temperature, recipe["batch"], seed)
    fit(problem, plain_recipe(recipe), name)
    return network.eval().requires_grad_(False)


def accuracies(seed: int, model: str, called: torch.Tensor, labels: torch.Tensor) -> list[FigureScore]:
    """Shares of the "3"s and of the rest that ``called`` (n,) names as ``labels`` (n,) do."""
    right, three = called == labels, labels == LEFT_OUT
    return [
        FigureScore(
            seed=seed, model=model, metric=metric, value=float(right[chosen].double().mean()), count=int(chosen.sum())
        )
        for metric, chosen in (("threes", three), ("rest", ~three))
    ]


def confusion(seed: int, model: str, called: torch.Tensor, labels: torch.Tensor) -> pd.DataFrame:
    """How many images of each digit were called which: columns seed, model, digit, called, images."""
    counts = torch.bincount(labels * len(NAMES) + called, minlength=len(NAMES) ** 2).tolist()
    rows = [(seed, model, *divmod(i, len(NAMES)), count) for i, count in enumerate(counts)]
    return pd.DataFrame(rows, columns=["seed", "model", "digit", "called", "images"])


def one_hot(labels: torch.Tensor) -> torch.Tensor:
    """Labels as class probabilities, float32 (n, 10)."""
    return F.one_hot(labels, len(NAMES)).float()


def plain_recipe(values: dict[str, Any]) -> SimpleNamespace:
    """What :func:`randcond.training.loop.fit` wants to know, for the small trainings of the figures."""
    common = {
        "schedule": "cosine",
        "weight_decay": 1e-2,
        "gradient_clip": 1.0,
        "cycles": 1,
        "ema": 0.0,
        "optimizer": "adamw",
    }
    return SimpleNamespace(**common | values | {"micro_batch": values["batch"]})


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw the weights of new layers, for which torch has only its global generator, from ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
