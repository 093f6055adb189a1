"""Consistency distillation: a finished student learns to jump where its own sampler would have got in many steps.

Its sampler's way from noise to an image is cut into phases. Within one the student learns to reach the phase's lower
edge from anywhere, in one step of the sampler: from a time, and from the time below it to which the sampler moves the
state, the jumps must end alike (latent consistency models, arXiv:2310.04378; phases, arXiv:2405.18407). One phase, the
whole way, is the former. As a jump is a step of the sampler itself, one of length zero is the identity: the boundary
condition needs no weights of its own, whether the network predicts noise, v or a rectified flow's velocity.
"""

from collections.abc import Callable

import torch

from randcond.method.conditioning import TRAIN_TIMESTEPS
from randcond.teachers.solvers import Solver

HUBER = 1e-3
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # states (n, c, h, w), timesteps (n,) -> predictions


class Phases:
    """The times of a training, evenly from the noisiest timestep down, and the edges of the phases they make up.

    Args:
        times: How many.
        phases: How many phases, of equally many times each.

    Attributes:
        timesteps: The times, falling, (times,).
        below: To each the next lower time, ``CLEAN`` below the last.
        edges: To each the lower edge of its phase, ``CLEAN`` of the last phase.

    Raises:
        ValueError: If the phases do not divide the times.
    """

    def __init__(self, times: int, phases: int) -> None:
        if min(times, phases) < 1 or times % phases:
            raise ValueError(f"{times} times cannot be cut into {phases} phases")
        # as diffusers' "trailing" timesteps of a sampler with so many steps
        grid = (
            TRAIN_TIMESTEPS - torch.arange(times + 1, dtype=torch.float64) * TRAIN_TIMESTEPS / times
        ).round().long() - 1
        length = times // phases
        self.timesteps, self.below = grid[:-1], grid[1:]
        self.edges = grid[(torch.arange(times) // length + 1) * length]

    @property
    def starts(self) -> list[int]:
        """The timesteps at which phases begin: those of a sampler with one step a phase."""
        return list(dict.fromkeys([int(self.timesteps[0]), *self.edges.tolist()]))[:-1]


def guided(predicted: torch.Tensor, plain: torch.Tensor, guidance: float) -> torch.Tensor:
    """Classifier-free guidance of predictions with and without their texts, float32; a guidance of 1 is none."""
    return plain.float() + guidance * (predicted.float() - plain.float())


def consistency_loss(
    student: Predict, teacher: Predict, solver: Solver, states: torch.Tensor, places: torch.Tensor, phases: Phases
) -> torch.Tensor:
    """How far the student's jumps from neighbouring times end apart: Huber's loss, a scalar.

    Args:
        student: The denoiser that is trained.
        teacher: What moves a state to the time below, guided as the student is to draw without guidance.
        solver: A step of the sampler.
        states: Noised latents, float32 (n, channels, h, w).
        places: The place of each one's time among ``phases.timesteps``, (n,).
        phases: Times and edges.
    """
    now, below, edge = (of[places].to(states.device) for of in (phases.timesteps, phases.below, phases.edges))
    # first, while autocast has no weights in its cache that were converted without a gradient
    jumped = solver(states, student(states, now).float(), now, edge)
    with torch.no_grad():
        lower = solver(states, teacher(states, now).float(), now, below)
        # at an edge the jump has no length, whatever the student says there
        target = solver(lower, student(lower, below.clamp(min=0)).float(), below, edge)
    return huber(jumped, target)


def huber(found: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Mean of sqrt(d^2 + c^2) - c over all differences d, with c = ``HUBER``."""
    return (((found - expected) ** 2 + HUBER**2).sqrt() - HUBER).mean()
