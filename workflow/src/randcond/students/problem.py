"""Distillation as a training problem: random conditioning on D and C, and the losses against the teacher."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import nn

from randcond.jobs.seeding import generator
from randcond.method.conditioning import TRAIN_TIMESTEPS, Probability, recondition
from randcond.method.losses import DistillationLoss
from randcond.method.noise_level import equivalent_timesteps
from randcond.method.trajectories import Total, Trajectories
from randcond.students.data import Pairs
from randcond.teachers.teacher import Teacher

MEASURED = 64  # pairs that the sizes of the teacher's features are taken from


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
        trajectories: Where the last pairs of each batch come from in place of D, as many as it takes; none: all from D.
        guidance: Weight of the guidance that the trajectories' states are moved on with; 1 is none.
        micro_batch: Pairs at a time of what the teacher tells before the first step; none: as many as it can use.
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
        trajectories: Trajectories | None = None,
        guidance: float = 1.0,
        micro_batch: int | None = None,
    ) -> None:
        super().__init__()
        self.loss = loss
        self.trajectories, self._guidance = trajectories, guidance
        self._at_once = micro_batch or MEASURED
        self._teacher, self._pairs, self._pool = teacher, pairs, pool
        self._p, self._null_text, self._seed = p, null_text, seed
        self._equivalent = equivalent_timesteps(teacher.log_snr)  # p is asked at these
        self._batch = batch - (trajectories.take if trajectories else 0)  # pairs of D
        self._draw = lru_cache(1)(self._drawn)  # the parts of a batch are asked for one after another

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """Losses of the given rows of step ``step``'s batch."""
        self._prepare(step)
        if self.trajectories is None:
            noised, timesteps, texts, target, known, share = self._of_data(step, rows)
            return self._losses(noised, timesteps, texts, target, known, share)[0]
        own = slice(rows.start, max(rows.start, min(rows.stop, self._batch)))
        states, times, more = self.trajectories.batch(step, self._moved(rows))
        noised, timesteps, texts, target, known, share = self._of_data(step, own)
        # no image is known at a trajectory's end: nothing to denoise towards
        losses, predicted = self._losses(
            torch.cat([noised, states]),
            torch.cat([timesteps, times]),
            texts + more,
            torch.cat([target, torch.zeros_like(states)]),
            torch.cat([known, torch.zeros_like(times, dtype=torch.bool)]),
            share * self._batch / (self._batch + self.trajectories.take),
        )
        if len(more):
            predicted = predicted[len(texts) :]
            if self._guidance != 1:
                predicted = self._guide(predicted, states, times)
            self.trajectories.advance(step, predicted, self._moved(rows))
        return losses

    def after_step(self, step: int, total: Total | None = None) -> None:
        """Move the trajectories of step ``step`` on; ``total`` sums a tensor over processes."""
        if self.trajectories is not None:
            self.trajectories.settle(step, total)

    def _prepare(self, step: int) -> None:
        """What the teacher has to tell before the first step, the same in each process."""
        if self.trajectories is not None and not self.trajectories.filled:
            self.trajectories.fill(self._guided, self._at_once)
        if not self.loss.features.measured:
            self.loss.features.measure(self._taught(step))

    def _taught(self, step: int) -> Iterator[tuple[float, dict[str, torch.Tensor]]]:
        """Parts of the step's first pairs: the share of each, and the teacher's outputs that are compared."""
        # with no pairs of D all are off trajectories
        count = min(MEASURED, self._batch or (self.trajectories.take if self.trajectories else 0))
        for first in range(0, count, self._at_once):
            some = slice(first, min(first + self._at_once, count))
            if self._batch:
                noised, timesteps, texts, *_ = self._of_data(step, some)
            elif self.trajectories is not None:
                noised, timesteps, texts = self.trajectories.batch(step, some)
            yield (some.stop - first) / count, self.loss.teach(noised, timesteps, self._teacher.conditions(texts))[1]

    def _moved(self, rows: slice) -> slice:
        """Rows of the trajectories among the given rows of a batch."""
        return slice(max(rows.start - self._batch, 0), max(rows.stop - self._batch, 0))

    def _losses(
        self,
        noised: torch.Tensor,
        timesteps: torch.Tensor,
        texts: list[str],
        target: torch.Tensor,
        known: torch.Tensor,
        share: float,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        found: tuple[dict[str, torch.Tensor], torch.Tensor] = self.loss(
            noised, timesteps, self._teacher.conditions(texts), target, known, share
        )
        return found

    def _of_data(
        self, step: int, rows: slice
    ) -> tuple[torch.Tensor, torch.Tensor, list[str], torch.Tensor, torch.Tensor, float]:
        """Noised latents, timesteps, texts, denoising targets, which of them belong to their texts, and their share."""
        chosen, timesteps, texts, swapped, noise = self._draw(step)
        varied = self._pairs.variation(step, self._batch)
        device = self._teacher.device
        own, at = noise[rows].to(device), timesteps[rows].to(device)
        latents = own  # of no rows
        if len(own):
            latents = self._pairs.latents(chosen[rows], varied and (varied[0][rows], varied[1][rows])).to(device)
        noised, target = self._teacher.add_noise(latents, own, at), self._teacher.target(latents, own, at)
        share = 1 - float(swapped.float().mean()) if len(swapped) else 0.0
        return noised, at, texts[rows], target, ~swapped[rows].to(device), share

    def _drawn(self, step: int) -> tuple[list[int], torch.Tensor, list[str], torch.Tensor, torch.Tensor]:
        """Rows, timesteps, texts, which were swapped, and noise: of all pairs of D, whoever asks for a part."""
        chance = generator(self._seed, 2, step)
        chosen = self._pairs.batch(step, self._batch)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (self._batch,), generator=chance)
        texts, swapped = recondition(
            *(self._pairs.texts(chosen), self._equivalent[timesteps], self._pool, self._p, chance, self._null_text)
        )
        noise = torch.randn((self._batch, *self._teacher.latent_shape), generator=chance)
        return chosen, timesteps, texts, swapped, noise

    def _guided(self, states: torch.Tensor, timesteps: torch.Tensor, texts: list[str]) -> torch.Tensor:
        """The teacher's predictions with guidance, float32."""
        predicted = self._predict(states, timesteps, texts)
        return predicted if self._guidance == 1 else self._guide(predicted, states, timesteps)

    def _guide(self, predicted: torch.Tensor, states: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        plain = self._predict(states, timesteps, [""] * len(states))
        return plain + self._guidance * (predicted.float() - plain)

    @torch.no_grad()
    def _predict(self, states: torch.Tensor, timesteps: torch.Tensor, texts: list[str]) -> torch.Tensor:
        teacher = self._teacher
        conditions = {name: tensor.to(teacher.dtype) for name, tensor in teacher.conditions(texts).items()}
        with torch.autocast(states.device.type, enabled=False):
            return teacher.predict(teacher.denoiser, states.to(teacher.dtype), timesteps, conditions).float()
