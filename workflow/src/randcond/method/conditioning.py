"""Random conditioning: with probability p(t) a noised image is paired with a random, unrelated text.

The paper's heart (section "Random Conditioning" of its method; its appendix D compares choices of p(t)), free of
everything else, to be imported by anybody's training script. p(t) is high at large t, where x_t says little about the
image, and low where image and text would contradict each other. It has a share, how many texts it swaps on average, and
a shape.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from randcond.jobs.errors import UserError
from randcond.method.bisection import bisect
from randcond.method.measured import Measured

if TYPE_CHECKING:
    import torch  # loaded by who draws: the configuration checks p(t) in a tenth of the time that torch takes to load

    from randcond.method.curve import Sensitivity

TRAIN_TIMESTEPS = 1000


class Probability(Protocol):
    """p(t): timesteps 0..999 (any shape) to probabilities in [0, 1] (float32, same shape).

    Timesteps are those of Stable Diffusion v1.4's schedule, that is noise levels: method/noise_level.py has the
    timesteps that stand for another schedule's. They need not be integers.
    """

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class Kind(ABC):
    """A shape of p(t). Its one dial decides the share of texts that are swapped: the mean of p over t = 0..999.

    Shapes are compared at equal share: the share decides what a student learns, the shape over t hardly does.

    Attributes:
        kind: Its name in the configuration.
        dial: The parameter that decides the share.
        ends: The dial's values between which a share is looked for: of the least share, and of the most.
    """

    kind: ClassVar[str]
    dial: ClassVar[str]
    ends: ClassVar[tuple[float, float]]

    @abstractmethod
    def at(self, t: float) -> float:
        """p of one timestep, without torch."""

    @abstractmethod
    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor: ...

    @property
    def share(self) -> float:
        """The mean of p over the 1000 timesteps."""
        return math.fsum(map(self.at, range(TRAIN_TIMESTEPS))) / TRAIN_TIMESTEPS

    @classmethod
    def of_share(cls, share: float, **others: float) -> Self:
        """The p(t) of this kind that has this share, to the last bits of its dial.

        Args:
            share: The mean of p over the 1000 timesteps.
            **others: Parameters besides the dial.

        Raises:
            ValueError: If the kind cannot reach the share.
        """

        def share_at(value: float) -> float:
            return cls(**{cls.dial: value, **others}).share

        least, most = map(share_at, cls.ends)
        if not least <= share <= most:
            raise ValueError(f"{cls.kind} has shares from {least:.7g} to {most:.7g}, not {share}")
        return cls(**{cls.dial: bisect(share_at, cls.ends, share), **others})


@dataclass(frozen=True)
class Constant(Kind):
    """p(t) = p."""

    kind: ClassVar[str] = "constant"
    dial: ClassVar[str] = "p"
    ends: ClassVar[tuple[float, float]] = (0.0, 1.0)
    p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must lie in [0, 1], not {self.p}")

    def at(self, t: float) -> float:
        return self.p

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return 0 * timesteps.float() + self.p


@dataclass(frozen=True)
class Exponential(Kind):
    """p(t) = exp(-rate (1 - t/1000)): the paper's choice, with rate 5, which is a share of 0.198."""

    kind: ClassVar[str] = "exponential"
    dial: ClassVar[str] = "rate"
    ends: ClassVar[tuple[float, float]] = (1e6, 1e-6)
    rate: float = 5.0

    def __post_init__(self) -> None:
        _require_positive(self.rate)

    def at(self, t: float) -> float:
        return math.exp(-self.rate * (1 - t / TRAIN_TIMESTEPS))

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return (-self.rate * (1 - timesteps / TRAIN_TIMESTEPS)).exp()


@dataclass(frozen=True)
class TwoSidedExponential(Kind):
    """p(t) = exp(-rate (1 - t/1000)) for t > 500, exp(-rate t/1000) below."""

    kind: ClassVar[str] = "two-sided-exponential"
    dial: ClassVar[str] = "rate"
    ends: ClassVar[tuple[float, float]] = (1e6, 1e-6)
    rate: float = 5.0

    def __post_init__(self) -> None:
        _require_positive(self.rate)

    def at(self, t: float) -> float:
        part = t / TRAIN_TIMESTEPS
        return math.exp(-self.rate * (1 - part if t > TRAIN_TIMESTEPS // 2 else part))

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        part = timesteps / TRAIN_TIMESTEPS
        return (-self.rate * (1 - part).where(timesteps > TRAIN_TIMESTEPS // 2, part)).exp()


@dataclass(frozen=True)
class Sigmoid(Kind):
    """p(t) = sigmoid(rate (t/1000 - centre)); the authors' code has rate 20, centre 0.7."""

    kind: ClassVar[str] = "sigmoid"
    dial: ClassVar[str] = "centre"
    ends: ClassVar[tuple[float, float]] = (1e6, -1e6)
    rate: float = 20.0
    centre: float = 0.7

    def __post_init__(self) -> None:
        _require_positive(self.rate)

    def at(self, t: float) -> float:
        return 0.5 + 0.5 * math.tanh(0.5 * self.rate * (t / TRAIN_TIMESTEPS - self.centre))  # never overflows

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return (self.rate * (timesteps / TRAIN_TIMESTEPS - self.centre)).sigmoid()


@dataclass(frozen=True)
class Linear(Kind):
    """p(t) = slope t/1000, at most 1."""

    kind: ClassVar[str] = "linear"
    dial: ClassVar[str] = "slope"
    ends: ClassVar[tuple[float, float]] = (0.0, 1e6)
    slope: float = 1.0

    def __post_init__(self) -> None:
        _require_at_least_0("slope", self.slope)

    def at(self, t: float) -> float:
        return min(1.0, self.slope * t / TRAIN_TIMESTEPS)

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return (self.slope * (timesteps / TRAIN_TIMESTEPS)).clamp(max=1)


@dataclass(frozen=True)
class Parabola(Kind):
    """p(t) = scale (2 (t - 500)/1000)^2, at most 1."""

    kind: ClassVar[str] = "parabola"
    dial: ClassVar[str] = "scale"
    ends: ClassVar[tuple[float, float]] = (0.0, 1e6)
    scale: float = 1.0

    def __post_init__(self) -> None:
        _require_at_least_0("scale", self.scale)

    def at(self, t: float) -> float:
        return min(1.0, self.scale * (2 * (t - TRAIN_TIMESTEPS / 2) / TRAIN_TIMESTEPS) ** 2)

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        return (self.scale * (2 * (timesteps - TRAIN_TIMESTEPS / 2) / TRAIN_TIMESTEPS) ** 2).clamp(max=1)


_KINDS: dict[str, type[Kind] | type[Measured]] = {
    kind.kind: kind for kind in (Constant, Exponential, TwoSidedExponential, Sigmoid, Linear, Parabola, Measured)
}


def probability(settings: dict[str, Any], curve: Sensitivity | None = None) -> Kind | Measured:
    """p(t) from its settings, e.g. ``{"kind": "exponential", "share": 0.35}`` or ``{..., "rate": 5.0}``.

    Args:
        settings: The kind, and its share or its parameters.
        curve: What ``measured`` draws with; without it only its share can be asked for.

    Raises:
        UserError: If the kind or a parameter is unknown, a parameter is out of range, or the kind has no such share.
    """
    parameters = dict(settings)
    name = parameters.pop("kind", None)
    if not isinstance(name, str) or name not in _KINDS:
        raise UserError(f"random_conditioning.kind: {name!r} is unknown; choose one of {', '.join(_KINDS)}")
    kind = _KINDS[name]
    known = (kind.__dataclass_fields__.keys() | {"share"}) - {"curve"}
    for key, value in parameters.items():
        if key not in known:
            raise UserError(f"random_conditioning.{key}: {name} has no such parameter; it has {sorted(known)}")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"random_conditioning.{key}: must be a number, not {value!r}")
        if not math.isfinite(value):
            raise UserError(f"random_conditioning.{key}: must be a finite number, not {value!r}")
    try:
        if issubclass(kind, Measured):
            if "share" not in parameters:
                raise ValueError("measured needs a share, e.g. 0.35")
            return kind(**parameters, curve=curve)
        if "share" not in parameters:
            return kind(**parameters)
        if kind.dial in parameters:
            raise ValueError(f"the share decides {name}'s {kind.dial}; give one of the two")
        return kind.of_share(**parameters)
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

    The paper's section "Random Conditioning", its one equation: the condition c^ of x_t^n is c^n with probability
    1 - p(t), and c~ of C with probability p(t). Both losses are taken of (x_t^n, c^).

    Args:
        texts: The texts the images were made from, one an image.
        timesteps: Their timesteps, (n,), 0..999 of Stable Diffusion v1.4's schedule (method/noise_level.py for others).
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


def _require_at_least_0(name: str, value: float) -> None:
    if not value >= 0:
        raise ValueError(f"{name} must be at least 0, not {value}")
