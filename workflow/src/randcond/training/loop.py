"""The one training loop: resumable, reproducible, on any number of processes.

A *problem* is a module with ``forward(step, rows) -> {"loss": ..., ...}``: it draws the whole batch of that
step from generators seeded by (seed, step) and computes the losses of the rows it is asked for. The loop
knows nothing else about it, so the autoencoder, CLIP, the teacher and every student are trained by it.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from torch import nn

from randcond.jobs.errors import UserError, reading
from randcond.jobs.progress import Progress
from randcond.jobs.provenance import taken_part
from randcond.jobs.stopping import asked_to_stop
from randcond.training.checkpoint import Checkpoint
from randcond.training.optimizers import OptimizerName, make_optimizer, make_schedule

EXPLODED = 100.0  # times the loss of the first steps: more than any batch or schedule explains


class Recipe(Protocol):
    """What the loop reads of a training's settings."""

    steps: int
    batch: int
    micro_batch: int
    optimizer: OptimizerName
    learning_rate: float
    schedule: str
    cycles: int
    weight_decay: float
    gradient_clip: float
    ema: float


class MovingAverage(EMAModel):
    """diffusers' moving average of parameters, updated in place: a third of the time, nothing of their size in between.

    Its decay rises from 0 at the first step, (1 + n) / (10 + n) at step n + 1, up to the one that is set.
    """

    @torch.no_grad()
    def step(self, parameters: Iterable[nn.Parameter]) -> None:
        """Move towards the parameters."""
        self.optimization_step += 1
        share = 1 - self.get_decay(self.optimization_step)
        for average, parameter in zip(self.shadow_params, parameters, strict=True):
            average.lerp_(parameter, share)


@dataclass(frozen=True)
class Fitted:
    """What a training leaves behind besides the trained problem.

    Attributes:
        history: One dict of mean losses for every ``log_every`` steps, with the ``step`` they end at.
        made_with: What it was made with, of each environment that took part: more than one if it was resumed in
            another. Empty without a checkpoint.
        ema: Moving average of the parameters of ``averaged``, or None.
    """

    history: list[dict[str, float]]
    made_with: list[dict[str, Any]]
    ema: MovingAverage | None

    def record(self) -> list[dict[str, Any]]:
        """The history for a file. Where several environments took part, its first entry names them as ``made_with``.

        The first, as DVC plots no entries that have more keys than that.
        """
        more = {"made_with": self.made_with} if len(self.made_with) > 1 else {}
        return [entry | more if i == 0 else entry for i, entry in enumerate(self.history)]


def fit(
    problem: nn.Module,
    recipe: Recipe,
    name: str,
    averaged: nn.Module | None = None,
    checkpoint: Checkpoint | None = None,
    accelerator: Accelerator | None = None,
    log_every: int = 20,
    after_step: Callable[[int, MovingAverage | None], None] | None = None,
    warmup: int = 0,
    decay: int = 0,
) -> Fitted:
    """Train the parameters of ``problem`` that require gradients.

    Args:
        problem: See the module's docstring.
        recipe: Steps, batch (in all processes together), learning rate, ...; ``cycles`` are those of the schedule
            ``cosine_with_restarts``.
        name: Shown in progress lines and errors.
        averaged: The part of ``problem`` to keep a moving average of, if ``recipe.ema`` is above 0.
        checkpoint: Where to resume from and save to.
        accelerator: Device, processes and precision; a plain one by default.
        log_every: Steps that one entry of the history averages over.
        after_step: Called after every step with the number of steps done and the moving average, in every process.
        warmup: First steps, in which the learning rate rises from 0 to the recipe's; ``constant`` has none of its own.
        decay: Last steps, in which a constant learning rate falls to 0, in place of the recipe's schedule.

    Raises:
        UserError: If a loss or the weights stop being finite numbers, if the loss explodes (the state is kept as
            evidence), or if the job is asked to stop (the state is saved).
    """
    accelerator = accelerator or Accelerator()
    parameters = [p for p in problem.parameters() if p.requires_grad]
    optimizer = make_optimizer(recipe.optimizer, parameters, recipe.learning_rate, recipe.weight_decay)
    schedule = make_schedule(optimizer, recipe.schedule, recipe.steps, warmup, recipe.cycles, decay)
    ema = MovingAverage(averaged.parameters(), decay=recipe.ema) if averaged is not None and recipe.ema else None
    wrapped, optimizer = accelerator.prepare(problem, optimizer)
    run = _Run(name, checkpoint, accelerator, problem, optimizer, schedule, ema)
    run.resume()
    if ema is not None:
        ema.to(accelerator.device)  # only now: loading its state puts tensors of the file, on the CPU, in their place
    progress = Progress(name, recipe.steps, "steps", run.done)
    with asked_to_stop() as signal:
        for step in range(run.done, recipe.steps):
            losses = _step(accelerator, wrapped, recipe, step)
            if recipe.gradient_clip:
                accelerator.clip_grad_norm_(parameters, recipe.gradient_clip)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            if ema is not None and averaged is not None:
                ema.step(averaged.parameters())
            run.add(losses)
            if after_step is not None:
                after_step(run.done, ema)
            asked, ended = run.agreed(bool(signal())), run.done == recipe.steps
            logged = ended or run.done % log_every == 0
            if logged:
                run.log(list(losses))
                progress.at(run.done, f"loss {run.history[-1]['loss']:.4f}")
            if asked and not ended:
                run.stop(signal())
            if logged and not ended:
                run.save_if_due()
    return Fitted(run.history, run.made_with, ema)


class _Run:
    """How far a training has come, and how its state is kept: now and then, when it is asked to stop or has failed.

    Attributes:
        done: Steps that are done.
        history: See :class:`Fitted`.
        made_with: See there.
    """

    def __init__(
        self,
        name: str,
        checkpoint: Checkpoint | None,
        accelerator: Accelerator,
        problem: nn.Module,
        optimizer: Any,
        schedule: Any,
        ema: MovingAverage | None,
    ) -> None:
        self._name, self._checkpoint, self._accelerator = name, checkpoint, accelerator
        self._keeper = checkpoint if accelerator.is_main_process else None  # one process writes
        self._problem, self._parts = problem, {"problem": problem, "optimizer": optimizer, "schedule": schedule}
        if ema is not None:
            self._parts["ema"] = ema
        if accelerator.scaler is not None:  # fp16's: without it a resumed run would skip other steps
            self._parts["scaler"] = accelerator.scaler
        self.done, self.history = 0, list[dict[str, float]]()
        self.made_with: list[dict[str, Any]] = []
        self._recent: list[torch.Tensor] = []  # losses of the steps since the last entry of the history

    def resume(self) -> None:
        """Go on where the checkpoint is, if there is one."""
        if self._checkpoint is None:
            return
        state = self._checkpoint.load()
        self.made_with = taken_part(state.get("made_with", []) if state else [])
        if state is None:
            return
        with reading(self._checkpoint.file, "the state of this training", broken="delete it to start anew"):
            self.done, self.history = state["step"], state["history"]
            self._recent = [losses.to(self._accelerator.device) for losses in state.get("recent", [])]
            for name, part in self._parts.items():
                part.load_state_dict(state[name])

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Count a step and its losses."""
        self.done += 1
        self._recent.append(torch.stack(list(losses.values())))

    def agreed(self, asked: bool) -> bool:
        """Was any process asked to stop? They stop together, or one would wait for the others for ever."""
        if self._accelerator.num_processes == 1:
            return asked
        flag = torch.tensor(float(asked), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, "sum") > 0)

    def log(self, names: list[str]) -> None:
        """Close an entry of the history, the mean over steps and processes.

        Raises:
            UserError: If the training has failed.
        """
        steps, place = torch.stack(self._recent), names.index("loss")
        # what is decided upon is the same in all processes
        both = torch.cat([steps.mean(0), steps[:1, place]])
        *means, first = self._accelerator.reduce(both, "mean").tolist()
        entry = dict(zip(names, means, strict=True))
        if trouble := self._trouble(entry, self.history[0]["loss"] if self.history else first):
            self._fail(trouble)
        self.history.append({"step": self.done, **entry})
        self._recent = []

    def save_if_due(self) -> None:
        """Save the state if the last one is old."""
        if self._keeper is not None and self._keeper.due():
            self._keeper.save(self._state())

    def stop(self, signal: str) -> NoReturn:
        """Save the state and end."""
        if self._accelerator.num_processes > 1:  # each has the losses of its rows; one writes, and all go on from that
            self._recent = [self._accelerator.reduce(losses, "mean") for losses in self._recent]
        if self._keeper is not None:
            self._keeper.save(self._state())
        self._accelerator.wait_for_everyone()  # the launcher ends all processes soon after the first
        asked = f"by {signal} " if signal else ""
        raise UserError(f"{self._name}: stopped {asked}at step {self.done}; the same command goes on from there")

    def _fail(self, trouble: str) -> NoReturn:
        """Keep the state as evidence, apart from the one that the same command would go on from, and end."""
        kept = ""
        if self._keeper is not None:
            with suppress(OSError, SafetensorError):  # a full disk must not hide the trouble
                kept = f" (its state is kept in {self._keeper.keep(self._state())})"
        self._accelerator.wait_for_everyone()
        raise UserError(f"{self._name}: {trouble}{kept}")

    def _trouble(self, entry: dict[str, float], start: float) -> str:
        """What is wrong with the losses or the weights, or ``""``."""
        steps = torch.stack(self._recent)
        if not all(map(math.isfinite, entry.values())):
            finite = torch.isfinite(steps).all(1).tolist()
            step = self.done - len(finite) + 1 + (finite.index(False) if False in finite else len(finite) - 1)
            if step == 1:
                return "the loss of the first step is not a finite number; look at the teacher and the data"
            return f"the loss is no longer a finite number at step {step}; lower the learning rate"
        if 0 < EXPLODED * start < entry["loss"]:
            return f"the loss grew from {start:.3g} to {entry['loss']:.3g} by step {self.done}; lower the learning rate"
        losses = [one["loss"] for one in self.history] + [entry["loss"]]
        # twice in a row, as one entry of a few steps may be a hard one
        if 0 < 2 * min(losses) < start <= min(losses[-2:]):
            return (
                f"the loss had fallen from {start:.3g} to {min(losses):.3g} and is back at {entry['loss']:.3g} by step"
                f" {self.done}: all is lost that was learned; lower the learning rate"
            )
        if not math.isfinite(nn.utils.get_total_norm(self._problem.parameters(), foreach=True)):
            return f"the weights are no longer finite numbers at step {self.done}; lower the learning rate"
        return ""

    def _state(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        known = {"step": self.done, "history": self.history, "recent": self._recent, "made_with": self.made_with}
        return {**known, "ema": None, **parts}


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
