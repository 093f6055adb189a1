"""How far a student can be rehearsed with so much memory: what a training takes is counted before anything is made."""

import math
from dataclasses import dataclass

import torch
from torch import nn

from randcond.jobs.errors import UserError
from randcond.planning.operations import Models

# GB of a process with its libraries, and of what lives within a step, by the pixels of an image. The sum is within
# 0.3 GB of what each student of Stable Diffusion v1.4 took (docs/runs/rehearse.txt)
_LIBRARIES, _WORK = 0.6, 0.25


@dataclass(frozen=True)
class Way:
    """How far a student is rehearsed.

    Attributes:
        words: What is done.
        student: Bytes of each parameter of the student and of what it is compared through.
        teacher: Bytes of each parameter of the teacher, its text encoders and its autoencoder.
        trained: Whether anything is kept for a backward pass.
    """

    words: str
    student: int
    teacher: int
    trained: bool

    def needs(self, models: Models, student: str) -> float:
        """GB that it takes, of a pair of an image and a text."""
        return sum(self.parts(models, student))

    def parts(self, models: Models, student: str) -> tuple[float, float, float]:
        """GB of the student, of the teacher, and of the rest: what is kept, and room to work.

        What is compared adds nothing to the peak of a step: it is gone again when all gradients are there.
        """
        own = models.parameters(student) + models.projections(student)
        teacher = sum(models.parameters(part) for part in ("unet", "vae", "text"))
        # the former are counted in 16 bits, and are in float32
        kept = 2 * models.saved_bytes(student, True) if self.trained else 4 * models.compared(student)
        rest = kept / 1e9 + _LIBRARIES + _WORK * (models.pixels / 512) ** 2
        return self.student * own / 1e9, self.teacher * teacher / 1e9, rest


_STEP = 16  # bytes: weights, gradients and AdamW's two moments in float32
WAYS = {
    # weights that are read stay beside those that they are copied to
    "whole": Way("a step, saved and resumed; an image", _STEP + 4, 4, True),
    "step": Way("a step", _STEP, 4, True),
    "half-step": Way("a step, the teacher's weights in 16 bits", _STEP, 2, True),
    "prediction": Way("a prediction, all weights in 16 bits", 2, 2, False),
}


def choose(models: Models, student: str, memory: float, whole: bool) -> str | None:
    """The farthest way that so many GB are enough for; None: not even a prediction.

    Args:
        models: The teacher's.
        student: The student.
        memory: GB.
        whole: Whether it is the one that is also saved, resumed and drawn with, where that fits.
    """
    ways = [name for name in WAYS if whole or name != "whole"]
    return next((name for name in ways if WAYS[name].needs(models, student) <= memory), None)


def refusal(models: Models, student: str, memory: float) -> str:
    """Why there is no training step of a student with so many GB, and no prediction either; ``""`` if there is one."""
    least, alone = WAYS["half-step"], WAYS["prediction"].needs(models, student)
    needed, own = least.needs(models, student), least.parts(models, student)[0]
    if needed <= memory:
        return ""
    why = (
        f"no step: it takes {_up(needed)} GB even with the teacher's weights in 16 bits, {own:.1f} of them for weights,"
        " gradients and moments"
    )
    return why if alone <= memory else f"{why}; no prediction: it takes {_up(alone)} GB"


def _up(gigabytes: float) -> str:
    """Rounded up: what takes a bit more than there is must not read as much as there is."""
    return f"{math.ceil(10 * gigabytes) / 10:.1f}"


def table(models: Models, ways: dict[str, str | None], memory: float) -> list[str]:
    """What a training step of each student takes, what of it is rehearsed, and why not more: lines of text."""
    lines = [
        "GB of a training step of one pair in float32. Student: weights, gradients and two moments; teacher: with text"
        " encoders and autoencoder; rest: what is kept for the backward pass, and room to work",
        f"{'student':16} {'parameters':>13} {'student':>8} {'teacher':>8} {'rest':>6} {'all':>6}  of {memory:g} GB",
    ]
    for student, way in ways.items():
        parts = WAYS["step"].parts(models, student)
        numbers = "{:8.1f} {:8.1f} {:6.1f} ".format(*parts) + f"{sum(parts):6.1f}"
        words = [WAYS[way].words] if way else []
        if why := refusal(models, student, memory):
            words.append(why)
        lines.append(f"{student:16} {models.parameters(student):13,} {numbers}  {'; '.join(words)}")
    return lines


def check_any(models: Models, ways: dict[str, str | None], family: str, memory: float) -> None:
    """Raise :class:`UserError` if nothing fits."""
    if not any(ways.values()):
        least = min(WAYS["prediction"].needs(models, student) for student in ways)
        raise UserError(
            f"rehearse: {memory:g} GB are too few for anything of {family}: a prediction with all weights in 16 bits"
            f" takes {_up(least)} GB; give more (make rehearse MEMORY=...), or take another family"
        )


def keep_in_16_bits(model: nn.Module) -> None:
    """Keep the weights of a model's layers in 16 bits; each is in float32 while it computes, and all else is always.

    Many processors take minutes for what they compute in 16 bits (docs/log.md). It is for predictions alone: a backward
    pass would find other weights than those computed with. The first layer stays in float32, as the precision that a
    model computes in is read off it.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    for layer in layers[1:]:
        layer.half()
        layer.register_forward_pre_hook(_widen)
        layer.register_forward_hook(_narrow)
    narrow = {id(tensor) for layer in layers[1:] for tensor in layer.parameters()}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in narrow:
            tensor.data = tensor.data.float()


def _widen(layer: nn.Module, _inputs: tuple[torch.Tensor, ...]) -> None:
    layer.float()


def _narrow(layer: nn.Module, _inputs: tuple[torch.Tensor, ...], _output: torch.Tensor) -> None:
    layer.half()
