"""How far a noised image tells its text from another, at every noise level, and the p(t) that follows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import read_json
from randcond.method.bisection import bisect
from randcond.method.noise_level import stable_diffusion_log_snr

_LEAST = 1e-12  # nats; the logarithm of a pair of equal texts


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """KL(q(x_t|c) || q(x_t|c~)) of pairs of an image's own text c and another text c~.

    Attributes:
        log_snr: Noise levels, rising, (levels,), float64.
        kl: In nats, (images, texts, levels), float64: rising along the last axis.
    """

    log_snr: np.ndarray
    kl: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """KL at every level, (levels,)."""
        return np.asarray(self.kl.mean((0, 1)))

    @property
    def standard_error(self) -> np.ndarray:
        """Standard error of :attr:`mean`, (levels,): over images, as an image's texts share its noise."""
        return _standard_error(self.kl)

    def at(self, log_snr: np.ndarray) -> np.ndarray:
        """KL of all pairs at other noise levels, (images, texts, n).

        log KL is interpolated in log-SNR. Above the highest level it stays what it is there; below the lowest KL falls
        as the signal's power e^lambda, as the two predictions of x_0 are constants there.
        """
        levels = np.concatenate([[self.log_snr[0] - 100], self.log_snr])
        logs = np.log(np.maximum(self.kl, _LEAST))
        logs = np.concatenate([logs[..., :1] - 100, logs], -1)
        return np.exp(np.apply_along_axis(lambda one: np.interp(log_snr, levels, one), -1, logs))

    def tau(self, share: float) -> float:
        """The tau with which the mean of E exp(-KL_t / tau) over Stable Diffusion's 1000 timesteps is ``share``.

        Raises:
            UserError: If there is none, as a part of the pairs are of equal texts.
        """
        kl, ends = self._at_timesteps(), (-20.0, 30.0)

        def found(log_tau: float) -> float:
            return float(np.exp(-kl / np.exp(log_tau)).mean())

        if not found(ends[0]) <= share <= found(ends[1]):
            raise UserError(
                f"random_conditioning.share: the measured p(t) has shares from {found(ends[0]):.3g} to"
                f" {found(ends[1]):.3g}, not {share}"
            )
        return float(np.exp(bisect(found, ends, share)))

    def probability(self, share: float) -> np.ndarray:
        """p(t) = E exp(-KL_t / tau) at Stable Diffusion v1.4's timesteps 0..999, with mean ``share``: (1000,)."""
        return np.asarray(np.exp(-self._at_timesteps() / self.tau(share)).mean((0, 1)))

    def probability_error(self, share: float) -> np.ndarray:
        """Standard error of :meth:`probability` over images, for the tau that was found: (1000,)."""
        return _standard_error(np.exp(-self._at_timesteps() / self.tau(share)))

    def _at_timesteps(self) -> np.ndarray:
        return self.at(stable_diffusion_log_snr().numpy())

    def record(self) -> dict[str, Any]:
        """What a JSON file holds of it; :meth:`read` takes it back."""
        return {
            "log_snr": _short(self.log_snr),
            "mean": _short(self.mean),
            "standard_error": _short(self.standard_error),
            "kl": [[_short(pair) for pair in image] for image in self.kl],
        }

    @classmethod
    def read(cls, path: Path) -> "Sensitivity":
        """The curve of a JSON file.

        Raises:
            UserError: If it is missing or holds something else.
        """
        content = read_json(path)
        with reading(path, "a curve of the stage sensitivity"):
            levels, kl = np.array(content["log_snr"], float), np.array(content["kl"], float)
        if kl.ndim != 3 or levels.shape != kl.shape[-1:] or not kl.size or not (np.diff(levels) > 0).all():
            raise UserError(f"{path}: its KL is {kl.shape} at levels {levels.shape}; delete it and run again")
        if not (np.isfinite(kl) & (kl >= 0)).all():
            raise UserError(f"{path}: holds a KL below 0 or none at all; delete it and run again")
        return cls(levels, kl)


def _standard_error(values: np.ndarray) -> np.ndarray:
    images = values.mean(1)
    if len(images) < 2:
        return np.zeros(images.shape[-1])
    return np.asarray(images.std(0, ddof=1) / np.sqrt(len(images)))


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.7g}") for value in values]
