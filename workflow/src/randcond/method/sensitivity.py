"""KL(q(x_t|c) || q(x_t|c~)) from a teacher's noise predictions: how far x_t tells its text c from another text c~.

    KL_t = 1/2 * integral from -inf to lambda_t of E_{x ~ q(.|c)} |e_c(x) - e_c~(x)|^2 d lambda

with lambda = log-SNR and e the noise that the teacher predicts: the excess error of a mismatched estimate (Verdu 2010,
"Mismatched estimation and relative entropy"; for denoisers Kong et al., arXiv 2302.03792). KL is half the integral over
SNR of E|x_c - x_c~|^2, x the prediction of x_0, and SNR |x_c - x_c~|^2 = |e_c - e_c~|^2. Of a rectified flow
e_c - e_c~ = (1 - s) (v_c - v_c~), and the same is the integral from s to 1 of (1 - s)/s E|v_c - v_c~|^2 ds.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from diffusers import DiffusionPipeline

from randcond.jobs.progress import Progress
from randcond.jobs.seeding import generator
from randcond.method.curve import Sensitivity
from randcond.teachers.pipelines import teacher_of
from randcond.teachers.teacher import Conditions

_TRIES = 1000


class NoisePredictor(Protocol):
    """What is asked of a teacher: see :class:`randcond.teachers.teacher.Teacher`."""

    @property
    def log_snr(self) -> torch.Tensor: ...

    def encode(self, texts: Sequence[str]) -> Conditions: ...

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor: ...

    def predict_noise(self, noised: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions) -> torch.Tensor: ...


def measure_sensitivity(
    pipeline: DiffusionPipeline,
    latents: torch.Tensor,
    texts: Sequence[str],
    pool: Sequence[str],
    *,
    others: int = 3,
    levels: int = 28,
    seed: int = 0,
    batch: int = 64,
) -> Sensitivity:
    """KL_t of a teacher of any family, which is frozen for it.

    Args:
        pipeline: The teacher; predicts noise, v or a flow's velocity.
        latents: Scaled latents of images, (n, channels, h, w): samples of q(.|c) of their texts.
        texts: Their texts, n.
        pool: C, of which the other texts are drawn.
        others: Other texts for each image.
        levels: Strata of log-SNR. An image has a random noise level in each.
        seed: Seed of texts, levels and noise; image i draws from (seed, i).
        batch: Rows that the UNet takes at a time.

    Returns:
        The curve; its p(t) is ``Measured(share, curve)``.

    Raises:
        ValueError: If there is no image or no other text in the pool, or the lengths differ.
    """
    return measure(teacher_of(pipeline), latents, texts, pool, others=others, levels=levels, seed=seed, batch=batch)


@torch.no_grad()
def measure(
    teacher: NoisePredictor,
    latents: torch.Tensor,
    texts: Sequence[str],
    pool: Sequence[str],
    *,
    others: int,
    levels: int,
    seed: int,
    batch: int,
) -> Sensitivity:
    """The same of any teacher."""
    if not len(texts) or len(latents) != len(texts) or not len(pool):
        raise ValueError(f"{len(latents)} latents, {len(texts)} texts and a pool of {len(pool)}: as many, and some")
    known = teacher.log_snr.numpy()
    last = int(np.flatnonzero(np.isfinite(known))[-1])  # a schedule that ends in pure noise has a last one without SNR
    edges = np.linspace(known[last], known[0], levels + 1)
    progress = Progress("sensitivity", len(texts), "images")
    kl = np.empty((len(texts), others, levels + 1))
    for i, (latent, text) in enumerate(zip(latents, texts, strict=True)):
        chance = generator(seed, i)
        drawn = [_other(text, pool, chance) for _ in range(others)]
        places = edges[:-1] + np.diff(edges) * torch.rand(levels, generator=chance, dtype=torch.float64).numpy()
        # the timestep nearest in log-SNR stands for all levels nearest to it: the integral is then one by trapezia
        timesteps = torch.from_numpy(np.abs(places[:, None] - known[: last + 1]).argmin(1))
        noise = torch.randn((levels + 1, *latent.shape), generator=chance)
        asked = torch.cat([torch.tensor([last]), timesteps])
        half = 0.5 * _squared_differences(teacher, latent, [text, *drawn], asked, noise, batch)
        # below the schedule's last level the integrand falls as e^lambda, so that its integral is its value there
        kl[i] = half[:, :1] + np.concatenate([np.zeros((others, 1)), (half[:, 1:] * np.diff(edges)).cumsum(1)], 1)
        progress.at(i + 1)
    return Sensitivity(edges, kl)


def _other(text: str, pool: Sequence[str], chance: torch.Generator) -> str:
    """A uniform draw from the pool that is not ``text``."""
    for _ in range(_TRIES):
        other = pool[int(torch.randint(len(pool), (), generator=chance))]
        if other != text:
            return other
    raise ValueError(f"the pool holds next to nothing but {text!r}")


def _squared_differences(
    teacher: NoisePredictor,
    latent: torch.Tensor,
    texts: list[str],
    timesteps: torch.Tensor,
    noise: torch.Tensor,
    batch: int,
) -> np.ndarray:
    """|e_c - e_c~|^2 of x_t of one latent, c the first text and c~ each of the rest: (texts - 1, timesteps)."""
    conditions, found = teacher.encode(texts), []
    at_once = max(1, batch // len(texts))
    for first in range(0, len(timesteps), at_once):
        part = slice(first, first + at_once)
        steps, drawn = timesteps[part].to(latent.device), noise[part].to(latent)
        noised = teacher.add_noise(latent.expand_as(drawn), drawn, steps)
        rows = {name: one.repeat(len(steps), *[1] * (one.ndim - 1)) for name, one in conditions.items()}
        predicted = teacher.predict_noise(
            noised.repeat_interleave(len(texts), 0), steps.repeat_interleave(len(texts)), rows
        )
        predicted = predicted.double().view(len(steps), len(texts), -1)
        found.append((predicted[:, 1:] - predicted[:, :1]).square().sum(-1).T.cpu())
    return torch.cat(found, 1).numpy()
