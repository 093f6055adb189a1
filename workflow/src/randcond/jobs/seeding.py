"""Random numbers that depend on (seed, index) alone.

Every image, training step and swap draws from a generator of its own, so that no result depends on
batch size, number of processes, order of jobs, or on how often a job was interrupted. NumPy takes a missing number for
0, so that of two streams of one seed no index may be the other's beginning, gone on with zeros.
"""

import numpy as np
import torch


def generator(seed: int, *index: int) -> torch.Generator:
    """A CPU generator for item ``index`` of the stream ``seed``.

    torch's CPU generator has 2^32 states to begin from: of a million items some hundred share theirs with another.

    Args:
        seed: Non-negative seed of the run.
        *index: Non-negative integers that name the item, e.g. ``(step,)`` or ``(image, try)``.

    Raises:
        ValueError: If a number is negative.
    """
    state = np.random.SeedSequence([seed, *index]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))


def numpy_generator(seed: int, *index: int) -> np.random.Generator:
    """The numpy twin of :func:`generator`."""
    return np.random.default_rng(np.random.SeedSequence([seed, *index]))


def normal(shape: tuple[int, ...], seed: int, *index: int) -> torch.Tensor:
    """Standard normal float32 tensor of ``shape`` for item ``index`` of the stream ``seed``."""
    return torch.randn(shape, generator=generator(seed, *index))
