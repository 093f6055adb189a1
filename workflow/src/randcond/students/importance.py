"""How much each of the teacher's weights matters on D: for students that inherit its channels."""

from collections.abc import Iterator

import torch
from torch.nn import functional as F

from randcond.jobs.seeding import generator
from randcond.method.conditioning import TRAIN_TIMESTEPS
from randcond.method.inherit import first_order
from randcond.students.data import Pairs
from randcond.teachers.teacher import Teacher

PAIRS = 256  # that the importance is taken from
PIECE = 8  # that are in memory at a time


def importance(teacher: Teacher, pairs: Pairs, seed: int) -> dict[str, torch.Tensor]:
    """(weight x gradient)^2 of each of the teacher's weights by name, for the denoising loss on D's first pairs."""
    return first_order(teacher.denoiser, _losses(teacher, pairs, seed))


def _losses(teacher: Teacher, pairs: Pairs, seed: int) -> Iterator[torch.Tensor]:
    for number in range(PAIRS // PIECE):
        rows, chance = pairs.batch(number, PIECE), generator(seed, 7, number)
        latents = pairs.latents(rows, pairs.variation(number, PIECE)).to(teacher.device)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (PIECE,), generator=chance).to(teacher.device)
        noise = torch.randn(latents.shape, generator=chance).to(teacher.device)
        noised = teacher.add_noise(latents, noise, timesteps)
        predicted = teacher.predict(teacher.denoiser, noised, timesteps, teacher.encode(pairs.texts(rows)))
        yield F.mse_loss(predicted, teacher.target(latents, noise, timesteps)) * PIECE / PAIRS
