"""A step of a teacher's sampler, for states that are at timesteps of their own."""

from typing import Protocol

import torch

CLEAN = -1  # as a timestep: no noise at all


class Solver(Protocol):
    """One step of a sampler, for states that are at timesteps of their own."""

    def __call__(
        self, states: torch.Tensor, predicted: torch.Tensor, timesteps: torch.Tensor, following: torch.Tensor
    ) -> torch.Tensor: ...


class DDIM:
    """DDIM's step without noise (Song et al. 2021, equation 12 with sigma = 0).

    Args:
        alphas_cumprod: The schedule's cumulative products, (timesteps,).
        v_prediction: Whether the model predicts v (Salimans & Ho 2022) in place of the noise.
    """

    def __init__(self, alphas_cumprod: torch.Tensor, v_prediction: bool = False) -> None:
        # one more at the end, where CLEAN looks
        self._kept, self._v = torch.cat([alphas_cumprod.float(), torch.ones(1)]), v_prediction

    def __call__(
        self, states: torch.Tensor, predicted: torch.Tensor, timesteps: torch.Tensor, following: torch.Tensor
    ) -> torch.Tensor:
        """States (n, channels, h, w) at ``timesteps`` (n,) -> the same at ``following`` (n,), which lie lower."""
        kept = self._kept.to(states.device)
        now, then = (kept[t.to(states.device)].view(-1, *[1] * (states.ndim - 1)) for t in (timesteps, following))
        if self._v:
            clean = now.sqrt() * states - (1 - now).sqrt() * predicted
            noise = now.sqrt() * predicted + (1 - now).sqrt() * states
        else:
            noise = predicted
            clean = (states - (1 - now).sqrt() * noise) / now.sqrt()
        return then.sqrt() * clean + (1 - then).sqrt() * noise


class Euler:
    """Euler's step of a rectified flow: x_s = (1 - s) x_0 + s e moves along the predicted v = e - x_0.

    Args:
        amounts: s of each timestep, rising, (timesteps,).
    """

    def __init__(self, amounts: torch.Tensor) -> None:
        # one more at the end, where CLEAN looks
        self._amounts = torch.cat([amounts.float(), torch.zeros(1)])

    def __call__(
        self, states: torch.Tensor, predicted: torch.Tensor, timesteps: torch.Tensor, following: torch.Tensor
    ) -> torch.Tensor:
        """States (n, channels, h, w) at ``timesteps`` (n,) -> the same at ``following`` (n,), which lie lower."""
        amounts = self._amounts.to(states.device)
        now, then = (amounts[t.to(states.device)].view(-1, *[1] * (states.ndim - 1)) for t in (timesteps, following))
        return states + (then - now) * predicted
