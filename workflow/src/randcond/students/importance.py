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
PIECE = 8  # that are drawn at a time, and at most in memory


def importance(
    teacher: Teacher, pairs: Pairs, seed: int, micro_batch: int = PIECE, gradient_checkpointing: bool = False
) -> dict[str, torch.Tensor]:
    """(weight x gradient)^2 of each of the teacher's weights by name, for the denoising loss on D's first pairs.

    Args:
        teacher: The teacher, in float32.
        pairs: D.
        seed: Of timesteps and noise.
        micro_batch: Pairs that are in memory at a time, if fewer than :data:`PIECE`.
        gradient_checkpointing: Compute the denoiser's inner values anew instead of keeping them.
    """
    if gradient_checkpointing:
        teacher.denoiser.enable_gradient_checkpointing()
    try:
        return first_order(teacher.denoiser, _losses(teacher, pairs, seed, min(micro_batch, PIECE)))
    finally:
        teacher.denoiser.disable_gradient_checkpointing()


def _losses(teacher: Teacher, pairs: Pairs, seed: int, at_once: int) -> Iterator[torch.Tensor]:
    for number in range(PAIRS // PIECE):
        rows, chance = pairs.batch(number, PIECE), generator(seed, 7, number)
        latents = pairs.latents(rows, pairs.variation(number, PIECE)).to(teacher.device)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (PIECE,), generator=chance).to(teacher.device)
        noise = torch.randn(latents.shape, generator=chance).to(teacher.device)
        noised = teacher.add_noise(latents, noise, timesteps)
        target, texts = teacher.target(latents, noise, timesteps), pairs.texts(rows)
        for first in range(0, PIECE, at_once):
            part = slice(first, first + at_once)
            conditions = teacher.encode(texts[part])
            predicted = teacher.predict(teacher.denoiser, noised[part], timesteps[part], conditions)
            yield F.mse_loss(predicted, target[part]) * len(predicted) / PAIRS
