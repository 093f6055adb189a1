"""The teacher's own trajectories as a source of pairs: states on the way from noise to an image, each with its text.

After DKDM (arXiv:2409.03550), carried over to texts: the prediction that a distillation loss asks of the teacher anyway
also takes the state one step of a deterministic sampler on. So texts of which no image was ever rendered come with
noised images of their own at every t.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from randcond.jobs.seeding import generator, normal
from randcond.teachers.solvers import Solver

Predict = Callable[[torch.Tensor, torch.Tensor, list[str]], torch.Tensor]  # states, timesteps, texts -> predictions
Total = Callable[[torch.Tensor], torch.Tensor]  # a tensor -> its sum over processes

LAST_TIMESTEP = 999  # where a trajectory starts


class Trajectories(nn.Module):
    """A bank of states of the teacher's trajectories, of which each training step takes some and moves them on.

    The bank holds ``depth`` times what a step takes, and starts with its states spread over all t, so that those of one
    step or of neighbouring ones are not alike. A finished state starts anew from noise with a new text. The states
    depend on teacher, texts and seed alone, not on the student. They are buffers: ``state_dict`` has all of them.

    Args:
        pool: The texts, uniformly drawn; the same order in every process.
        shape: (channels, height, width) of a state.
        solver: How a state is moved on.
        take: States of a training step.
        depth: Steps until a state is taken again.
        stride: Mean length of a move, in timesteps; each is drawn from 1 .. 2 stride - 1.
        null: Share of the trajectories with the empty text.
        seed: Seed of texts, noise and strides.

    Raises:
        ValueError: If the pool is empty or a number is not positive.
    """

    states: torch.Tensor
    timesteps: torch.Tensor
    lives: torch.Tensor

    def __init__(
        self,
        pool: Sequence[str],
        shape: tuple[int, ...],
        solver: Solver,
        take: int,
        depth: int = 8,
        stride: int = 40,
        null: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not len(pool):
            raise ValueError("the text pool is empty")
        if min(take, depth, stride) < 1:
            raise ValueError(f"take, depth and stride must be at least 1, not {take}, {depth}, {stride}")
        self._pool, self._shape, self._solver, self._null, self._seed = pool, shape, solver, null, seed
        self.take, self._depth, self._stride = take, depth, stride
        count = take * depth
        self.register_buffer("states", torch.zeros(count, *shape))
        self.register_buffer("timesteps", torch.full((count,), -1))  # -1: not filled yet
        self.register_buffer("lives", torch.zeros(count, dtype=torch.long))  # trajectories that each has finished
        self._moved: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def filled(self) -> bool:
        """Whether the bank holds states."""
        return bool(self.timesteps[0] >= 0)

    @torch.no_grad()
    def fill(self, predict: Predict, batch: int | None = None) -> None:
        """Start all states from noise, then move them on until they are spread evenly over t.

        Takes about half a trajectory a state, in batches of at most ``take`` states; a few of them, to be near t = 0,
        go through several before one comes to lie there.

        Args:
            predict: The teacher's prediction for states (n, channels, h, w), timesteps (n,) and texts.
            batch: At most so many states at a time, where memory has no room for ``take``.
        """
        everything = torch.arange(len(self))
        self.timesteps.fill_(LAST_TIMESTEP)
        self.states.copy_(torch.stack([self._start(int(slot), 0) for slot in everything]))
        # slots of one step lie next to each other: spread those first
        place = everything % self.take * self._depth + everything // self.take
        target = LAST_TIMESTEP * (1 - (place + 0.5) / len(self))
        while len(behind := everything[self.timesteps.cpu() > target]):
            for slots in behind.split(min(self.take, batch or self.take)):
                predicted = predict(self.states[slots], self.timesteps[slots], self._texts(slots))
                for buffer, moved in zip(
                    (self.states, self.timesteps, self.lives), self._move(slots, predicted), strict=True
                ):
                    buffer[slots] = moved

    def batch(self, step: int, rows: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """States (n, channels, h, w), timesteps (n,) and texts of step ``step``, or of the given rows of them."""
        slots = self._slots(step)[rows]
        return self.states[slots], self.timesteps[slots], self._texts(slots)

    @torch.no_grad()
    def advance(self, step: int, predicted: torch.Tensor, rows: slice = slice(None)) -> None:
        """Move the states of :meth:`batch` on by the teacher's predictions for them; :meth:`settle` puts them back."""
        slots = self._slots(step)[rows]
        self._moved.append((slots, *self._move(slots, predicted)))

    @torch.no_grad()
    def settle(self, step: int, total: Total | None = None) -> None:
        """Put the states of ``step``, all of which were moved, back into the bank.

        Args:
            step: The training step.
            total: Sums a tensor over processes, where each has moved a part of the states.
        """
        slots = self._slots(step)
        for i, buffer in enumerate((self.states, self.timesteps, self.lives)):
            moved = torch.zeros_like(buffer[slots])
            for part in self._moved:
                moved[part[0] - slots[0]] = part[1 + i]
            buffer[slots] = moved if total is None else total(moved)
        self._moved = []

    def _slots(self, step: int) -> torch.Tensor:
        return step % self._depth * self.take + torch.arange(self.take)

    def _move(self, slots: torch.Tensor, predicted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States, timesteps and lives after a move."""
        now, lives = self.timesteps[slots], self.lives[slots]
        strides = [self._stride_of(*of) for of in zip(slots.tolist(), lives.tolist(), now.tolist(), strict=True)]
        following = now - torch.tensor(strides, device=now.device)
        ended = following < 0
        states = self._solver(self.states[slots], predicted.float(), now, following.clamp(min=0))
        lives = lives + ended
        for i in ended.nonzero().flatten().tolist():
            states[i] = self._start(int(slots[i]), int(lives[i]))
        return states, following.masked_fill(ended, LAST_TIMESTEP), lives

    def _stride_of(self, slot: int, life: int, timestep: int) -> int:
        chance = generator(self._seed, 5, slot, life, timestep)
        return int(torch.randint(1, 2 * self._stride, (1,), generator=chance))

    def _start(self, slot: int, life: int) -> torch.Tensor:
        return normal(self._shape, self._seed, 6, slot, life).to(self.states.device)

    def _texts(self, slots: torch.Tensor) -> list[str]:
        return [self._text(slot, life) for slot, life in zip(slots.tolist(), self.lives[slots].tolist(), strict=True)]

    def _text(self, slot: int, life: int) -> str:
        chance = generator(self._seed, 4, slot, life)
        drawn = self._pool[int(torch.randint(len(self._pool), (1,), generator=chance))]
        return "" if float(torch.rand(1, generator=chance)) < self._null else drawn
