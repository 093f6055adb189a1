"""What one schedule's timestep has in common with another's: the noise level, as log-SNR (teachers/noise.py).

p(t) is written for the timesteps of Stable Diffusion v1.4. Another schedule's timestep stands for the one there that
has the same log-SNR, so that p(t) means the same for every teacher. How many texts it swaps does not: a schedule with
more noise swaps more (:func:`share_of`).
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from diffusers import DDPMScheduler

from randcond.teachers.noise import NOISE_SCHEDULE, log_snr


@cache
def stable_diffusion_log_snr() -> torch.Tensor:
    """Log-SNR of Stable Diffusion v1.4's 1000 timesteps, falling, float64."""
    return log_snr(DDPMScheduler(**NOISE_SCHEDULE).alphas_cumprod)


def equivalent_timesteps(levels: torch.Tensor) -> torch.Tensor:
    """Stable Diffusion v1.4's timesteps that have the given log-SNRs (any shape): float32, same shape, 0 to 999.

    Between timesteps they are interpolated in log-SNR, beyond the ends there are the first and the last. They are
    rounded to a thousandth, so that the schedule's own are integers whatever a float's last bits.
    """
    known = stable_diffusion_log_snr().numpy()
    found = np.interp(levels.double().cpu().numpy(), known[::-1], np.arange(len(known), dtype=float)[::-1])
    return torch.as_tensor(np.round(found, 3)).float()


def share_of(p: Callable[[torch.Tensor], torch.Tensor], levels: torch.Tensor) -> float:
    """The part of texts that p(t) swaps where timesteps are drawn uniformly from those of the given log-SNRs.

    On Stable Diffusion v1.4's schedule it is the share of p(t) itself.
    """
    return float(p(equivalent_timesteps(levels)).double().mean())
