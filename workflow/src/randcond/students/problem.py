"""Distillation as a training problem: random conditioning on D and C, and the losses against the teacher."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn

from randcond.jobs.seeding import generator
from randcond.method.conditioning import TRAIN_TIMESTEPS, Probability, recondition
from randcond.method.losses import DistillationLoss
from randcond.students.data import Pairs
from randcond.teachers.stable_diffusion import Teacher


class Distillation(nn.Module):
    """The training problem: draws the batch of a step from (seed, step) and computes its losses.

    Args:
        loss: What the student is trained by.
        teacher: Encodes the texts.
        pairs: D.
        pool: C, with D's own texts.
        p: p(t), or None for no random conditioning.
        null_text: Probability of the empty text.
        batch: Pairs a step, in all processes together.
        seed: Seed of the run.
    """

    def __init__(
        self,
        loss: DistillationLoss,
        teacher: Teacher,
        pairs: Pairs,
        pool: Sequence[str],
        p: Probability | None,
        null_text: float,
        batch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.loss = loss
        self._teacher, self._pairs, self._pool = teacher, pairs, pool
        self._p, self._null_text, self._batch, self._seed = p, null_text, batch, seed
        self._draw = lru_cache(1)(self._drawn)  # the parts of a batch are asked for one after another

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """Losses of the given rows of step ``step``'s batch."""
        chosen, timesteps, texts, swapped, noise = self._draw(step)
        varied = self._pairs.variation(step, self._batch)
        device = self._teacher.device
        return self.loss(
            self._pairs.latents(chosen[rows], varied and (varied[0][rows], varied[1][rows])).to(device),
            noise[rows].to(device),
            timesteps[rows].to(device),
            self._teacher.encode(texts[rows]),
            swapped[rows].to(device),
            1 - float(swapped.float().mean()),
        )

    def _drawn(self, step: int) -> tuple[list[int], torch.Tensor, list[str], torch.Tensor, torch.Tensor]:
        """Rows, timesteps, texts, which were swapped, and noise: of the whole batch, whoever asks for a part."""
        chance = generator(self._seed, 2, step)
        chosen = self._pairs.batch(step, self._batch)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (self._batch,), generator=chance)
        texts, swapped = recondition(self._pairs.texts(chosen), timesteps, self._pool, self._p, chance, self._null_text)
        noise = torch.randn((self._batch, *self._teacher.latent_shape), generator=chance)
        return chosen, timesteps, texts, swapped, noise
