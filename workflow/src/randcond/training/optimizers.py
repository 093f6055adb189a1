"""What a training's steps are taken by: the optimisers, and how their learning rate goes over the steps."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from diffusers.optimization import get_scheduler
from torch import nn
from transformers import get_wsd_schedule

from randcond.jobs.stage import multiplies_bfloat16

OptimizerName = Literal["adamw", "muon"]
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic Newton-Schulz iteration, as published
_MOMENTUM = 0.95
_TOGETHER = 2**24  # weights at most that are made orthogonal at once; each holds some 20 bytes meanwhile


def make_optimizer(
    name: OptimizerName, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser of that name for the parameters."""
    if name == "muon":
        return Muon(parameters, learning_rate, weight_decay)
    return torch.optim.AdamW(parameters, learning_rate, weight_decay=weight_decay, fused=True)


def make_schedule(
    optimizer: torch.optim.Optimizer, name: str, steps: int, warmup: int, cycles: int, decay: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """How the learning rate goes over the steps.

    Args:
        optimizer: Whose it is.
        name: One of diffusers' schedules.
        steps: Steps of the training.
        warmup: First steps, in which the rate rises from 0.
        cycles: Cosines of ``cosine_with_restarts``.
        decay: If above 0, the rate is constant, whatever ``name`` says, and falls to 0 in so many last steps, by
            1 - sqrt of their share that is done (Haegele et al. 2024, 2405.18392).
    """
    if decay:
        return get_wsd_schedule(optimizer, warmup, decay, num_training_steps=steps, decay_type="1-sqrt")
    return get_scheduler(name, optimizer, num_warmup_steps=warmup, num_training_steps=steps, num_cycles=cycles)


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al. 2024) on weights of two dimensions or more, seen as matrices (out, rest); AdamW on others.

    Its steps are the momentum's with singular values near 1, rounded to bfloat16 on GPUs and some CPUs: what differs
    in a gradient's last bits, as between numbers of processes, may differ there in a step's second digit.
    torch.optim.Muon takes matrices only, one at a time; a UNet has hundreds of few shapes, so those of one shape are
    taken together, in a third of the time.
    A step is as large as AdamW's, 0.2 sqrt(longer side) (2502.16982, section 2.2), so one learning rate does for both.

    Args:
        parameters: Those to train.
        lr: Learning rate.
        weight_decay: Decoupled weight decay.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        parameters = list(parameters)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in parameters if p.ndim < 2], "matrices": False},
            {"params": [p for p in parameters if p.ndim >= 2], "matrices": True},
        ]
        # not fused: a fused optimiser is handed gradients that fp16's loss scale is still on, without being asked
        super().__init__([group for group in groups if group["params"]], lr, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step along the gradients; parameters without one stay."""
        groups = self.param_groups
        for group in groups:
            if group["matrices"]:
                self._step_matrices(group)
        self.param_groups = [group for group in groups if not group["matrices"]]
        try:
            if self.param_groups:
                super().step()
        finally:
            self.param_groups = groups

    def _step_matrices(self, group: dict[str, Any]) -> None:
        shapes: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            if parameter.grad is not None:
                shapes.setdefault(parameter.flatten(1).shape, []).append(parameter)
        for shape, parameters in shapes.items():
            many = max(1, _TOGETHER // shape.numel())
            for part in (parameters[first : first + many] for first in range(0, len(parameters), many)):
                steps = orthogonal(torch.stack([self._direction(p).flatten(1) for p in part]))
                for parameter, step in zip(part, steps, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(step.view_as(parameter), alpha=group["lr"] * 0.2 * max(shape) ** 0.5)

    def _direction(self, parameter: nn.Parameter) -> torch.Tensor:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())  # AdamW looks for one in every state that it loads
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].lerp_(gradient, 1 - _MOMENTUM)
        return gradient.lerp(momentum, _MOMENTUM)  # Nesterov's


def orthogonal(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """About the nearest orthogonal matrix to each: singular values of 0.7 to 1.2, small ones less; (n, rows, columns).

    The quintic Newton-Schulz iteration X <- aX + (bA + cA^2)X with A = XX^T, in the device's :func:`iteration_dtype`.
    """
    a, b, c = _COEFFICIENTS
    wide = matrices.shape[-1] >= matrices.shape[-2]
    x = (matrices if wide else matrices.mT.contiguous()).to(iteration_dtype(matrices.device.type))
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).to(matrices.dtype)


def iteration_dtype(device: str) -> torch.dtype:
    """What the iteration multiplies in: bfloat16, as published, where the device does; elsewhere float32."""
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32
