"""Random conditioning: with probability p(t) a noised image is paired with a random, unrelated text.

The paper's heart (its section on random conditioning; its appendix D compares choices of p(t)), free of everything
else, to be imported by anybody's training script. p(t) is high at large t, where x_t says little about the image, and
low where image and text would contradict each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from randcond.jobs.errors import UserError

if TYPE_CHECKING:
    import torch  # loaded by who draws: the configuration checks p(t) in a tenth of the time that torch takes to load

TRAIN_TIMESTEPS = 1000


class Probability(Protocol):
    """p(t): timesteps 0..999 (any integer shape) to probabilities in [0, 1] (float32, same shape)."""

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Constant:
    """p(t) = p."""

    kind: ClassVar[str] = "constant"
    p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must lie in [0, 1], not {self.p}")

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return 0 * timesteps.float() + self.p


@dataclass(frozen=True)
class Exponential:
    """p(t) = exp(-rate (1 - t/1000)): the paper's choice, with rate 5."""

    kind: ClassVar[str] = "exponential"
    rate: float = 5.0

    def __post_init__(self) -> None:
        _require_positive(self.rate)

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return (-self.rate * (1 - timesteps / TRAIN_TIMESTEPS)).exp()


@dataclass(frozen=True)
class TwoSidedExponential:
    """p(t) = exp(-rate (1 - t/1000)) for t > 500, exp(-rate t/1000) below."""

    kind: ClassVar[str] = "two-sided-exponential"
    rate: float = 5.0

    def __post_init__(self) -> None:
        _require_positive(self.rate)

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        part = timesteps / TRAIN_TIMESTEPS
        return (-self.rate * (1 - part).where(timesteps > TRAIN_TIMESTEPS // 2, part)).exp()


@dataclass(frozen=True)
class Sigmoid:
    """p(t) = sigmoid(rate (t/1000 - centre)); the authors' code has rate 20, centre 0.7."""

    kind: ClassVar[str] = "sigmoid"
    rate: float = 20.0
    centre: float = 0.7

    def __post_init__(self) -> None:
        _require_positive(self.rate)

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return (self.rate * (timesteps / TRAIN_TIMESTEPS - self.centre)).sigmoid()


@dataclass(frozen=True)
class Linear:
    """p(t) = t/1000."""

    kind: ClassVar[str] = "linear"

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps / TRAIN_TIMESTEPS


@dataclass(frozen=True)
class Parabola:
    """p(t) = (2 (t - 500)/1000)^2."""

    kind: ClassVar[str] = "parabola"

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return (2 * (timesteps - TRAIN_TIMESTEPS / 2) / TRAIN_TIMESTEPS) ** 2


_KINDS = {kind.kind: kind for kind in (Constant, Exponential, TwoSidedExponential, Sigmoid, Linear, Parabola)}


def probability(settings: dict[str, Any]) -> Probability:
    """p(t) from its settings, e.g. ``{"kind": "exponential", "rate": 5.0}``.

    Raises:
        UserError: If the kind or a parameter is unknown, or a parameter is out of range.
    """
    parameters = dict(settings)
    kind = parameters.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"random_conditioning.kind: {kind!r} is unknown; choose one of {', '.join(_KINDS)}")
    known = _KINDS[kind].__dataclass_fields__.keys() - {"kind"}
    for name, value in parameters.items():
        if name not in known:
            raise UserError(
                f"random_conditioning.{name}: {kind} has no such parameter; it has {sorted(known) or 'none'}"
            )
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"random_conditioning.{name}: must be a number, not {value!r}")
        if not math.isfinite(value):
            raise UserError(f"random_conditioning.{name}: must be a finite number, not {value!r}")
    try:
        return _KINDS[kind](**parameters)
    except ValueError as error:
        raise UserError(f"random_conditioning: {error}") from None


def recondition(
    texts: Sequence[str],
    timesteps: torch.Tensor,
    pool: Sequence[str],
    p: Probability | None,
    generator: torch.Generator,
    null: float = 0.1,
) -> tuple[list[str], torch.Tensor]:
    """Swap each text for a uniform draw from ``pool`` with probability p(t); then empty it with probability ``null``.

    Args:
        texts: The texts the images were made from, one an image.
        timesteps: Their timesteps, (n,), 0..999.
        pool: C, which holds D's own texts too.
        p: p(t), or None for no random conditioning.
        generator: CPU generator. It is advanced by the same amount whatever ``p`` is.
        null: Probability of the empty text, for classifier-free guidance.

    Returns:
        The texts to condition on, and which of them were swapped, bool (n,).

    Raises:
        ValueError: If the pool is empty or the lengths differ.
    """
    import torch

    if len(texts) != len(timesteps):
        raise ValueError(f"{len(texts)} texts but {len(timesteps)} timesteps")
    if not len(pool):
        raise ValueError("the text pool is empty")
    n = len(texts)
    chance = torch.rand(n, generator=generator)
    draws = torch.randint(len(pool), (n,), generator=generator)
    emptied = torch.rand(n, generator=generator) < null
    swapped = chance < p(timesteps.cpu()) if p is not None else torch.zeros(n, dtype=torch.bool)
    chosen = [pool[int(draw)] if swap else text for text, draw, swap in zip(texts, draws, swapped, strict=True)]
    return ["" if empty else text for text, empty in zip(chosen, emptied, strict=True)], swapped


def _require_positive(rate: float) -> None:
    if not rate > 0:
        raise ValueError(f"rate must be above 0, not {rate}")
