"""The one training loop: resumable, reproducible, on any number of processes.

A *problem* is a module with ``forward(step, rows) -> {"loss": ..., ...}``: it draws the whole batch of that
step from generators seeded by (seed, step) and computes the losses of the rows it is asked for. The loop
knows nothing else about it, so the autoencoder, CLIP, the teacher and every student are trained by it.
"""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import nn

from randcond.checkpoint import Checkpoint
from randcond.errors import UserError
from randcond.progress import Progress


class Recipe(Protocol):
    """What the loop reads of a training's settings."""

    steps: int
    batch: int
    micro_batch: int
    learning_rate: float
    schedule: str
    weight_decay: float
    gradient_clip: float
    ema: float


@dataclass(frozen=True)
class Fitted:
    """What a training leaves behind besides the trained problem.

    Attributes:
        history: One dict of mean losses for every ``log_every`` steps, with the ``step`` they end at.
        ema: Moving average of the parameters of ``averaged``, or None.
    """

    history: list[dict[str, float]]
    ema: EMAModel | None


def fit(
    problem: nn.Module,
    recipe: Recipe,
    name: str,
    averaged: nn.Module | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    log_every: int = 20,
) -> Fitted:
    """Train the parameters of ``problem`` that require gradients, with AdamW.

    Args:
        problem: See the module's docstring.
        recipe: Steps, batch (in all processes together), learning rate, ...
        name: Shown in progress lines and errors.
        averaged: The part of ``problem`` to keep a moving average of, if ``recipe.ema`` is above 0.
        checkpoint: Where to resume from and save to.
        accelerator: Device, processes and precision; a plain one by default.
        log_every: Steps that one entry of the history averages over.

    Raises:
        UserError: If a loss stops being a finite number.
    """
    accelerator = accelerator or Accelerator()
    parameters = [p for p in problem.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = get_scheduler(recipe.schedule, optimizer, num_warmup_steps=0, num_training_steps=recipe.steps)
    ema = EMAModel(averaged.parameters(), decay=recipe.ema) if averaged is not None and recipe.ema else None
    wrapped, optimizer = accelerator.prepare(problem, optimizer)
    if ema is not None:
        ema.to(accelerator.device)
    first, history = 0, []
    if checkpoint is not None and (state := checkpoint.load()) is not None:
        first, history = state["step"], state["history"]
        problem.load_state_dict(state["problem"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        if ema is not None:
            ema.load_state_dict(state["ema"])
    progress = Progress(name, recipe.steps, "steps", first)
    recent: list[torch.Tensor] = []
    names: list[str] = []
    for step in range(first, recipe.steps):
        losses = _step(accelerator, wrapped, recipe, step)
        if recipe.gradient_clip:
            accelerator.clip_grad_norm_(parameters, recipe.gradient_clip)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if ema is not None and averaged is not None:
            ema.step(averaged.parameters())
        names = list(losses)
        recent.append(torch.stack([losses[key] for key in names]))
        done = step + 1
        if done % log_every == 0 or done == recipe.steps:
            means = accelerator.reduce(torch.stack(recent).mean(0), "mean").tolist()
            if not all(map(math.isfinite, means)):
                raise UserError(
                    f"{name}: the loss is no longer a finite number at step {done}; lower the learning rate"
                )
            history.append({"step": done, **dict(zip(names, means, strict=True))})
            recent = []
            progress.at(done, f"loss {history[-1]['loss']:.4f}")
            # only here, where no loss is waiting to be averaged, so that a resumed history equals an uninterrupted one
            if checkpoint is not None and accelerator.is_main_process and checkpoint.due() and done < recipe.steps:
                checkpoint.save(_state(done, history, problem, optimizer, schedule, ema))
    return Fitted(history, ema)


def _step(accelerator: Accelerator, wrapped: nn.Module, recipe: Recipe, step: int) -> dict[str, torch.Tensor]:
    """Forward and backward over this process's rows of the batch; mean losses over them."""
    parts = list(_rows(recipe.batch, recipe.micro_batch, accelerator.process_index, accelerator.num_processes))
    total: dict[str, torch.Tensor] = {}
    for i, rows in enumerate(parts):
        share = (rows.stop - rows.start) * accelerator.num_processes / recipe.batch
        # processes exchange gradients once a step, after the last part
        with accelerator.no_sync(wrapped) if i + 1 < len(parts) else nullcontext():
            losses = wrapped(step, rows)
            accelerator.backward(losses["loss"] * share)
        for key, value in losses.items():
            total[key] = total.get(key, torch.zeros((), device=value.device)) + value.detach() * share
    return total


def _rows(batch: int, micro_batch: int, process: int, processes: int) -> Iterator[slice]:
    """This process's rows of the batch, in pieces of at most ``micro_batch``."""
    start, stop = batch * process // processes, batch * (process + 1) // processes
    for first in range(start, stop, micro_batch):
        yield slice(first, min(first + micro_batch, stop))


def _state(
    step: int, history: list[dict[str, float]], problem: nn.Module, optimizer: Any, schedule: Any, ema: EMAModel | None
) -> dict[str, Any]:
    return {
        "step": step,
        "history": history,
        "problem": problem.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "ema": ema.state_dict() if ema is not None else None,
    }
