"""The distillation losses: L = L_out + L_feat (+ the denoising loss where real images are).

L_out and L_feat are the two equations of the paper's section "Naive Baseline Approach": the squared distance of what
teacher and student predict of (x_t, c, t), and of what their layers l give out, summed over l. Random conditioning
(conditioning.py) leaves them as they are and puts c^ in the place of c.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention import JointTransformerBlock
from torch import nn
from torch.nn import functional as F

from randcond.teachers.teacher import Conditions, Teacher


def _module(model: nn.Module, name: str) -> nn.Module:
    return model.get_submodule(name.partition(":")[0])


def _place(name: str) -> int:
    return int(name.partition(":")[2] or 0)


@contextmanager
def captured(model: nn.Module, names: list[str]) -> Iterator[dict[str, torch.Tensor]]:
    """Collect the outputs of the named modules, ``name:i`` the i-th, during the forward passes inside the context."""
    outputs: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # blocks return tuples, most with the hidden states in front
            outputs.setdefault(name, output if isinstance(output, torch.Tensor) else output[_place(name)])

        return hook

    handles = [_module(model, name).register_forward_hook(keep(name)) for name in names]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


class FeatureLoss(nn.Module):
    """L_feat: sum over pairs of modules of the mean squared error of their outputs.

    The paper's L_feat = E sum_l ||f_T^l(x_t, c, t) - f_S^l(x_t, c, t)||^2, as its code has it: of each layer the mean.
    Their sizes differ, by a factor of thousands in some teachers: as they are, few of them are most of the sum.

    Where widths differ, a temporary 1x1 convolution, trained with the student, projects its output to the
    teacher's width.

    Args:
        teacher: The teacher's denoiser.
        student: The student's denoiser.
        pairs: (teacher's module, student's module), from :func:`randcond.method.student.feature_pairs`.
        relative: Divide each error by the mean square of the teacher's output, which :meth:`measure` has to tell first.
    """

    sizes: torch.Tensor

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        pairs: list[tuple[str, str]],
        relative: bool = False,
    ) -> None:
        super().__init__()
        self.pairs = pairs
        if relative:
            self.register_buffer("sizes", torch.zeros(len(pairs)))
        self.projections = nn.ModuleDict()
        for of_teacher, of_student in pairs:
            wide, narrow = _width(_module(teacher, of_teacher)), _width(_module(student, of_student))
            if wide != narrow and wide is not None and narrow is not None:
                # a linear layer's or a joint block's output is (n, places, channels), any other's (n, channels, h, w)
                linear = isinstance(_module(student, of_student), nn.Linear | JointTransformerBlock)
                self.projections[_key(of_student)] = nn.Linear(narrow, wide) if linear else nn.Conv2d(narrow, wide, 1)

    def forward(self, teacher: dict[str, torch.Tensor], student: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss of captured outputs (module name -> (n, channels, h, w))."""
        total = torch.zeros(())
        for i, error in enumerate(self.errors(teacher, student)):
            total = total.to(error.device) + (error / self.sizes[i] if self.relative else error)
        return total

    def errors(self, teacher: dict[str, torch.Tensor], student: dict[str, torch.Tensor]) -> Iterator[torch.Tensor]:
        """The mean squared error of each pair's outputs."""
        for of_teacher, of_student in self.pairs:
            output = student[of_student]
            if _key(of_student) in self.projections:
                output = self.projections[_key(of_student)](output)
            yield F.mse_loss(output.float(), teacher[of_teacher].float())

    @property
    def relative(self) -> bool:
        """Whether the errors are divided by the sizes of the teacher's outputs."""
        return hasattr(self, "sizes")

    @property
    def measured(self) -> bool:
        """Whether the sizes are known, where they are needed."""
        return not self.relative or bool(self.sizes.all())

    def measure(self, parts: Iterable[tuple[float, dict[str, torch.Tensor]]]) -> None:
        """Take the sizes, mean squares, from the teacher's captured outputs of a batch. From then on they stay:
        those of each part of a batch would weigh its pairs otherwise than those of the whole.

        Args:
            parts: Share of the batch and outputs of each part of it, of which one at a time is in memory.
        """
        sizes = torch.zeros_like(self.sizes)
        for share, teacher in parts:
            sizes += share * torch.stack([teacher[name].float().square().mean() for name, _ in self.pairs])
        self.sizes.copy_(sizes)


def _width(module: nn.Module) -> int | None:
    """Channels of a module's output, where it says so."""
    if isinstance(module, JointTransformerBlock):
        return int(module.norm2.normalized_shape[0])
    width: int | None = getattr(module, "out_channels", getattr(module, "out_features", None))
    return width


def _key(name: str) -> str:
    return name.replace(".", "-")  # module names must not hold dots


class DistillationLoss(nn.Module):
    """All losses of one batch: the student learns to predict what the teacher predicts, under the same condition.

    The paper's L_out = E ||e_T(x_t, c, t) - e_S(x_t, c, t)||^2, as its code has it: the mean, not the sum; and L_feat.

    Args:
        teacher: The frozen teacher.
        student: The student's denoiser.
        pairs: Modules whose outputs are compared.
        denoise: Add the denoising loss against the true target, on pairs whose text was not swapped.
        relative: See :class:`FeatureLoss`.
    """

    def __init__(
        self,
        teacher: Teacher,
        student: nn.Module,
        pairs: list[tuple[str, str]],
        denoise: bool,
        relative: bool = False,
    ) -> None:
        super().__init__()
        self._teacher = teacher
        self._denoise = denoise
        self.student = student
        self.features = FeatureLoss(teacher.denoiser, student, pairs, relative)

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
        teacher, expected = self.teach(noised, timesteps, conditions)
        with captured(self.student, [name for _, name in self.features.pairs]) as found:
            student = self._teacher.predict(self.student, noised, timesteps, conditions)
        losses = {"out": F.mse_loss(student.float(), teacher.float()), "feat": self.features(expected, found)}
        if self._denoise:
            if target is None or known is None:
                raise ValueError("the denoising loss needs a target and which pairs know it")
            error = F.mse_loss(student.float(), target.float(), reduction="none").mean((1, 2, 3))
            losses["denoise"] = torch.where(known, error, torch.zeros_like(error)).mean() / (share_known or 1.0)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}, teacher

    @torch.no_grad()
    def teach(
        self, noised: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The teacher's predictions, and the outputs of its modules that are compared."""
        # the frozen teacher runs in its own precision: autocast would convert its weights anew at every step
        dtype, plain = self._teacher.dtype, torch.autocast(noised.device.type, enabled=False)
        with plain, captured(self._teacher.denoiser, [name for name, _ in self.features.pairs]) as outputs:
            own = {name: tensor.to(dtype) for name, tensor in conditions.items()}
            return self._teacher.predict(self._teacher.denoiser, noised.to(dtype), timesteps, own), outputs
