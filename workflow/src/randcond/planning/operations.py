"""Floating-point operations and bytes of Stable Diffusion v1.4's stages, counted on models without memory."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from randcond.method.student import student_of_config
from randcond.planning import sd14


def flops(run: Callable[[], Any]) -> int:
    """Floating-point operations of a call (a multiply-add counts two), by torch's counter."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@cache
def _meta(name: str) -> Any:
    with torch.device("meta"):
        return {"unet": sd14.unet, "vae": sd14.vae, "text": sd14.text_encoder}[name]().eval()


@cache
def student(name: str) -> Any:
    """A student at true size, without memory."""
    return student_of_config(dict(_meta("unet").config), name)


def parameters(name: str) -> int:
    """Parameters of ``unet``, ``vae``, ``text`` or a student."""
    module = _meta(name) if name in ("unet", "vae", "text") else student(name)
    return sum(parameter.numel() for parameter in module.parameters())


def _predict(unet: nn.Module, batch: int = 1) -> torch.Tensor:
    with torch.device("meta"):
        latents, condition = torch.empty(batch, *sd14.LATENT), torch.empty(batch, sd14.TOKENS, 768)
        timesteps = torch.ones(batch)
    output: torch.Tensor = unet(latents, timesteps, condition).sample
    return output


@cache
def teacher_flops() -> int:
    """One prediction of the teacher for one latent."""
    with torch.no_grad():
        return flops(lambda: _predict(_meta("unet")))


@cache
def text_flops() -> int:
    """One text through the text encoder."""
    with torch.no_grad(), torch.device("meta"):
        return flops(lambda: _meta("text")(torch.ones(1, sd14.TOKENS, dtype=torch.long)))


@cache
def decode_flops() -> int:
    """One latent to its image."""
    with torch.no_grad(), torch.device("meta"):
        return flops(lambda: _meta("vae").decode(torch.empty(1, *sd14.LATENT)))


@cache
def prediction_flops(name: str) -> int:
    """One prediction of a student for one latent."""
    with torch.no_grad():
        return flops(lambda: _predict(student(name)))


@cache
def step_flops(name: str, checkpointing: bool) -> int:
    """One training pair: text, teacher, the student forwards and backwards (forwards twice with checkpointing)."""
    unet = student(name).train()
    both = flops(lambda: _predict(unet).sum().backward())
    return text_flops() + teacher_flops() + both + (prediction_flops(name) if checkpointing else 0)


@cache
def faster_flops(name: str, checkpointing: bool) -> int:
    """One pair on which a student is made faster: itself with guidance as its teacher, and as its target, in the place
    of the teacher's prediction."""
    return step_flops(name, checkpointing) - teacher_flops() + 3 * prediction_flops(name)


@cache
def image_flops(name: str, steps: int, guided: bool = True) -> int:
    """One image: with guidance two predictions a step, one step more for PNDM's start; else one; and the decoding."""
    once = teacher_flops() if name == "unet" else prediction_flops(name)
    if not guided:
        return steps * once + decode_flops() + text_flops()
    return 2 * (steps + 1) * once + decode_flops() + 2 * text_flops()


@cache
def saved_bytes(name: str, checkpointing: bool) -> int:
    """Bytes that a student keeps for the backward pass of one pair in 16-bit precision, its weights not counted."""
    unet = student(name).train()
    getattr(unet, "enable_gradient_checkpointing" if checkpointing else "disable_gradient_checkpointing")()
    weights = {id(parameter) for parameter in unet.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in weights:
            kept[id(tensor)] = 2 * tensor.numel()
            alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []  # so that no id comes twice
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _predict(unet)
    unet.disable_gradient_checkpointing()
    return sum(kept.values())
