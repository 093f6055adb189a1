"""Tensors as safetensors files, written whole or not at all."""

import math
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from randcond.jobs.errors import reading
from randcond.jobs.files import atomic_path


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file atomically."""
    with atomic_path(path) as partial:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, partial, metadata)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; anything else there is a :class:`UserError` that names it."""
    with reading(path, "a whole safetensors file"):
        return load_file(path)


def tensor_elements(paths: list[Path]) -> int:
    """Numbers in safetensors files, from their headers alone: a model's parameters."""
    total = 0
    for path in paths:
        with reading(path, "a whole safetensors file", broken="make it again"), safe_open(path, "pt") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total
