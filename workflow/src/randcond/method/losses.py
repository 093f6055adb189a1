"""The distillation losses: L = L_out + L_feat (+ the denoising loss where real images are)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from torch.nn import functional as F

from randcond.teachers.stable_diffusion import Conditions, Teacher


@contextmanager
def captured(model: nn.Module, names: list[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of the named modules during the forward passes inside the context."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # blocks return tuples with the hidden states in front
            outputs.setdefault(name, output if isinstance(output, torch.Tensor) else output[0])

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


class FeatureLoss(nn.Module):
    """L_feat: sum over pairs of modules of the mean squared error of their outputs.

    Where widths differ, a temporary 1x1 convolution, trained with the student, projects its output to the
    teacher's width.

    Args:
        teacher: The teacher's UNet.
        student: The student's UNet.
        pairs: (teacher's module, student's module), from :func:`randcond.method.student.feature_pairs`.
    """

    def __init__(
        self, teacher: UNet2DConditionModel, student: UNet2DConditionModel, pairs: list[tuple[str, str]]
    ) -> None:
        super().__init__()
        self.pairs = pairs
        self.projections = nn.ModuleDict()
        for of_teacher, of_student in pairs:
            wide, narrow = _width(teacher.get_submodule(of_teacher)), _width(student.get_submodule(of_student))
            if wide != narrow and wide is not None and narrow is not None:
                # a linear layer's output is (n, places, channels), any other's (n, channels, h, w)
                linear = isinstance(student.get_submodule(of_student), nn.Linear)
                self.projections[_key(of_student)] = nn.Linear(narrow, wide) if linear else nn.Conv2d(narrow, wide, 1)

    def forward(self, teacher: dict[str, torch.Tensor], student: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of captured outputs (module name -> (n, channels, h, w))."""
        total = torch.zeros(())
        for of_teacher, of_student in self.pairs:
            output = student[of_student]
            if _key(of_student) in self.projections:
                output = self.projections[_key(of_student)](output)
            total = total.to(output.device) + F.mse_loss(output.float(), teacher[of_teacher].float())
        return total


def _width(module: nn.Module) -> int | None:
    """Channels of a module's output, where it says so."""
    width: int | None = getattr(module, "out_channels", getattr(module, "out_features", None))
    return width


def _key(name: str) -> str:
    return name.replace(".", "-")  # module names must not hold dots


class DistillationLoss(nn.Module):
    """All losses of one batch: the student learns to predict what the teacher predicts, under the same condition.

    Args:
        teacher: The frozen teacher.
        student: The student's UNet.
        pairs: Modules whose outputs are compared.
        denoise: Add the denoising loss against the true target, on pairs whose text was not swapped.
    """

    def __init__(
        self, teacher: Teacher, student: UNet2DConditionModel, pairs: list[tuple[str, str]], denoise: bool
    ) -> None:
        super().__init__()
        self._teacher = teacher
        self._denoise = denoise
        self.student = student
        self.features = FeatureLoss(teacher.unet, student, pairs)

    def forward(
        self,
        noised: torch.Tensor,
        timesteps: torch.Tensor,
        conditions: Conditions,
        target: torch.Tensor | None = None,
        known: torch.Tensor | None = None,
        share_known: float = 1.0,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Losses of a batch.

        Args:
            noised: x_t, (n, channels, h, w).
            timesteps: (n,), 0..999.
            conditions: The texts' conditioning tensors.
            target: For the denoising loss, what a denoiser should predict of x_t, of the same shape.
            known: For the denoising loss, bool (n,): which pairs' target belongs to their text.
            share_known: Their share of the whole batch, of which these n pairs may be a part.

        Returns:
            Scalars ``loss``, ``out``, ``feat`` and, with the denoising loss, ``denoise``: of the whole batch its mean
            over the known pairs, of a part what it adds to that. And the teacher's predictions, (n, channels, h, w).
        """
        of_teacher, of_student = map(list, zip(*self.features.pairs, strict=True))
        # the frozen teacher runs in its own precision: autocast would convert its weights anew at every step
        dtype, plain = self._teacher.dtype, torch.autocast(noised.device.type, enabled=False)
        with torch.no_grad(), plain, captured(self._teacher.unet, of_teacher) as expected:
            own = {name: tensor.to(dtype) for name, tensor in conditions.items()}
            teacher = self._teacher.predict(self._teacher.unet, noised.to(dtype), timesteps, own)
        with captured(self.student, of_student) as found:
            student = self._teacher.predict(self.student, noised, timesteps, conditions)
        losses = {"out": F.mse_loss(student.float(), teacher.float()), "feat": self.features(expected, found)}
        if self._denoise:
            if target is None or known is None:
                raise ValueError("the denoising loss needs a target and which pairs know it")
            error = F.mse_loss(student.float(), target.float(), reduction="none").mean((1, 2, 3))
            losses["denoise"] = torch.where(known, error, torch.zeros_like(error)).mean() / (share_known or 1.0)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}, teacher
