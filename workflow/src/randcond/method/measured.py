"""p(t) as measured from a teacher, with a share of one's choice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from randcond.jobs.errors import UserError

if TYPE_CHECKING:
    import torch  # see conditioning.py

    from randcond.method.curve import Sensitivity


@dataclass(frozen=True)
class Measured:
    """p(t) = E exp(-KL_t / tau): how little x_t tells its text from others, as the teacher sees it.

    The better x_t tells c from c~, the less their densities share: 1 - TV >= exp(-KL) / 2.

    Attributes:
        share: The mean of p over the 1000 timesteps; tau follows from it.
        curve: KL_t, from :func:`randcond.method.sensitivity.measure_sensitivity`; None for settings that nobody
            draws with.
    """

    kind: ClassVar[str] = "measured"
    share: float
    curve: Sensitivity | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise ValueError(f"measured has shares above 0 and below 1, not {self.share}")

    @cached_property
    def _table(self) -> torch.Tensor:
        import torch

        if self.curve is None:
            raise UserError("random_conditioning: measured needs the curve that the stage sensitivity measures")
        return torch.from_numpy(self.curve.probability(self.share)).float()

    def __call__(self, timesteps: torch.Tensor) -> torch.Tensor:
        """p at timesteps of Stable Diffusion v1.4's schedule, between integers interpolated: float32, same shape."""
        below = timesteps.long().clamp(0, len(self._table) - 1)
        above = (below + 1).clamp(max=len(self._table) - 1)
        return self._table[below].lerp(self._table[above], (timesteps - below).float())
