"""Consistency distillation as a training problem: D's latents at a sampler's times, with random conditioning."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import nn

from randcond.jobs.seeding import generator
from randcond.method.conditioning import Probability, recondition
from randcond.method.consistency import Phases, consistency_loss, guided
from randcond.method.noise_level import equivalent_timesteps
from randcond.students.data import Pairs
from randcond.teachers.teacher import Conditions, Teacher


class Consistency(nn.Module):
    """The training problem: draws the batch of a step from (seed, step) and computes its loss.

    Args:
        student: The denoiser that is trained.
        teacher: The finished student that it started from, with its text encoder.
        pairs: D.
        pool: C, with D's own texts.
        p: p(t), or None for no random conditioning.
        phases: Times and phases.
        guidance: Weight of the guidance that is put into the student, which then draws without.
        batch: Pairs a step, in all processes together.
        seed: Seed of the run.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: Teacher,
        pairs: Pairs,
        pool: Sequence[str],
        p: Probability | None,
        phases: Phases,
        guidance: float,
        batch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.student = student
        self._teacher, self._pairs, self._pool, self._p = teacher, pairs, pool, p
        self._phases, self._guidance, self._batch, self._seed = phases, guidance, batch, seed
        self._solver, self._null = teacher.solver(), teacher.encode([""])
        self._equivalent = equivalent_timesteps(teacher.log_snr)  # p is asked at these
        self._draw = lru_cache(1)(self._drawn)  # the parts of a batch are asked for one after another

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """The loss of the given rows of step ``step``'s batch."""
        chosen, places, texts, noise = self._draw(step)
        teacher, at = self._teacher, self._phases.timesteps[places[rows]]
        latents, added = (of.to(teacher.device) for of in (self._pairs.latents(chosen[rows]), noise[rows]))
        noised = teacher.add_noise(latents, added, at.to(teacher.device))
        conditions = teacher.conditions(texts[rows])
        loss = consistency_loss(
            lambda states, timesteps: teacher.predict(self.student, states, timesteps, conditions),
            lambda states, timesteps: self._guided(states, timesteps, conditions),
            *(self._solver, noised, places[rows], self._phases),
        )
        return {"loss": loss}

    def _guided(self, states: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """The teacher's predictions with guidance."""
        teacher, null = self._teacher, {name: of.expand_as(conditions[name]) for name, of in self._null.items()}

        def predict(conditions: Conditions) -> torch.Tensor:
            own = {name: tensor.to(teacher.dtype) for name, tensor in conditions.items()}
            return teacher.predict(teacher.denoiser, states.to(teacher.dtype), timesteps, own)

        # the frozen teacher runs in its own precision: autocast would convert its weights anew at every step
        with torch.autocast(states.device.type, enabled=False):
            predicted = predict(conditions)
            return predicted if self._guidance == 1 else guided(predicted, predict(null), self._guidance)

    def _drawn(self, step: int) -> tuple[list[int], torch.Tensor, list[str], torch.Tensor]:
        """Rows, places of their times, texts and noise: of the whole batch, whoever asks for a part."""
        chance = generator(self._seed, 7, step)
        chosen = self._pairs.batch(step, self._batch)
        places = torch.randint(len(self._phases.timesteps), (self._batch,), generator=chance)
        # no text is emptied: what draws without guidance is never asked for the empty one
        asked = self._equivalent[self._phases.timesteps[places]]
        texts, _ = recondition(self._pairs.texts(chosen), asked, self._pool, self._p, chance, null=0.0)
        noise = torch.randn((self._batch, *self._teacher.latent_shape), generator=chance)
        return chosen, places, texts, noise
