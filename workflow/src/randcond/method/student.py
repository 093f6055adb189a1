"""Students: a smaller UNet made from any teacher's UNet2DConditionModel configuration.

B-* drop blocks (BK-SDM's block pruning), C-* narrow the channels. All seven come from the functions here,
whatever the teacher's size.
"""

import copy
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from randcond.jobs.errors import UserError
from randcond.method.catalogue import BLOCK_STUDENTS, CHANNEL_STUDENTS, STUDENTS
from randcond.method.inherit import inherit


def student_config(teacher: dict[str, Any], student: str) -> dict[str, Any]:
    """The student's UNet configuration.

    Args:
        teacher: The teacher UNet's configuration (``unet.config``), with SD v1.4's block layout.
        student: One of :data:`randcond.method.catalogue.STUDENTS`.

    Raises:
        UserError: If the student is unknown, or the teacher's widths cannot be scaled so.
    """
    config = {key: value for key, value in copy.deepcopy(dict(teacher)).items() if not key.startswith("_")}
    if student in CHANNEL_STUDENTS:
        config["block_out_channels"] = widths = _narrow(config, student)
        heads = config["attention_head_dim"]  # diffusers' name for the number of heads
        if isinstance(heads, list | tuple):
            # SD 2.x's 5, 10 and 20 do not divide narrower widths: as many as do, so that no channel is left out
            config["attention_head_dim"] = [_heads(width, most) for width, most in zip(widths, heads, strict=True)]
        return config
    if student not in BLOCK_STUDENTS:
        raise UserError(f"student: {student!r} is unknown; choose one of {', '.join(STUDENTS)}")
    config["layers_per_block"] = 1
    if student in ("b-small", "b-tiny"):
        config["mid_block_type"] = None
    if student == "b-tiny":
        config["block_out_channels"] = list(config["block_out_channels"])[:-1]
        config["down_block_types"] = list(config["down_block_types"])[:-1]
        config["up_block_types"] = list(config["up_block_types"])[1:]
        for key in ("attention_head_dim", "num_attention_heads", "cross_attention_dim", "transformer_layers_per_block"):
            if isinstance(config.get(key), list | tuple):
                config[key] = list(config[key])[:-1]
    return config


def _heads(width: int, most: int) -> int:
    """The largest number of heads, up to ``most``, that divides a width."""
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


def _narrow(config: dict[str, Any], student: str) -> list[int]:
    part, whole = CHANNEL_STUDENTS[student]
    groups, heads = config["norm_num_groups"], config["attention_head_dim"]
    widths = []
    for width in config["block_out_channels"]:
        narrow, rest = divmod(width * part, whole)
        if rest or narrow % groups or narrow % (heads if isinstance(heads, int) else 1):
            raise UserError(f"student: {student} needs widths that {part}/{whole} leaves divisible; {width} is not")
        widths.append(narrow)
    return widths


def build_student(
    teacher: UNet2DConditionModel, student: str, init: str, importance: dict[str, torch.Tensor] | None = None
) -> UNet2DConditionModel:
    """A student of ``teacher``; random weights come from torch's global generator.

    Args:
        teacher: The teacher's UNet.
        student: One of :data:`randcond.method.catalogue.STUDENTS`.
        init: ``"random"``, ``"copied"`` to take over the teacher's kept layers (B-* only), or ``"inherited"`` to take
            over its most important channels (C-* only).
        importance: Of the teacher's weights, for ``"inherited"``; see :func:`randcond.method.inherit.inherit`.

    Raises:
        UserError: If a channel-compressed student is to copy weights.
    """
    if init == "copied" and student in CHANNEL_STUDENTS:
        raise UserError(f"init: {student} has other widths than the teacher and cannot copy its weights; use random")
    built = UNet2DConditionModel.from_config(student_config(teacher.config, student))
    if init == "copied":
        copy_weights(teacher, built)
    elif init == "inherited":
        inherit(teacher, built, importance)
    return built


def copy_weights(teacher: UNet2DConditionModel, student: UNet2DConditionModel) -> None:
    """Give every layer of a block-pruned student the teacher's layer it stands for.

    Raises:
        UserError: If the student has a layer that the teacher lacks, or of another shape.
    """
    theirs = teacher.state_dict()
    taken = {}
    for name, tensor in student.state_dict().items():
        source = teacher_name(name, len(student.up_blocks), len(teacher.up_blocks))
        if source not in theirs or theirs[source].shape != tensor.shape:
            raise UserError(f"init: the teacher has no layer {source} of shape {tuple(tensor.shape)} to copy")
        taken[name] = theirs[source].to(tensor.dtype)
    student.load_state_dict(taken)


def teacher_name(name: str, student_ups: int, teacher_ups: int) -> str:
    """The teacher's parameter that the student's parameter ``name`` copies.

    In an up block the first and the last pair are kept, so student layer 1 is teacher layer 2; a student
    without the innermost stage has its up block k stand for the teacher's k + 1.
    """
    parts = name.split(".")
    if parts[0] == "up_blocks":
        parts[1] = str(int(parts[1]) + teacher_ups - student_ups)
        if parts[2] in ("resnets", "attentions") and parts[3] == "1":
            parts[3] = "2"
    return ".".join(parts)


def feature_pairs(
    teacher: UNet2DConditionModel, student: UNet2DConditionModel, name: str, features: str = "blocks"
) -> list[tuple[str, str]]:
    """(teacher's module, student's module) whose outputs the feature loss compares.

    Args:
        teacher: The teacher's UNet.
        student: The student's UNet.
        name: One of :data:`randcond.method.catalogue.STUDENTS`.
        features: One of :data:`randcond.method.catalogue.FEATURES`.

    ``blocks``: B-Base and B-Small, the outputs of the down and up blocks. B-Tiny, down blocks 0 and 1, the last
    attention of down block 2, and its up blocks with the teacher's one further out. C-*, the last layer of every down,
    up and mid block. ``authors``: as the authors' code has it, which for C-* takes the last convolution of the
    innermost down block, and for C-* and B-Tiny the output projections of attentions, before their residuals are added.
    ``authors-effective``: those of them that carried a gradient in that code, whose library recomputed attentions and
    the innermost block's layers: without B-Tiny's attention, and without C-*'s first and last of the three.
    """
    if name in CHANNEL_STUDENTS:
        layers = [_last_layer(teacher, block) for block in _blocks(teacher)]
        if features != "blocks":
            layers = [_inside(teacher, layer) for layer in layers]
        if features == "authors-effective":
            layers = [layer for layer in layers if _is_resampler(layer) or layer.startswith("mid_block")]
        return [(layer, layer) for layer in layers]
    ups, shift = len(student.up_blocks), len(teacher.up_blocks) - len(student.up_blocks)
    downs = [(f"down_blocks.{i}",) * 2 for i in range(len(student.down_blocks))]
    if shift:
        # the student's last down block has no downsampler; the attention before it is the same in both
        inner = f"down_blocks.{len(student.down_blocks) - 1}"
        last = (_last_pair(teacher, inner), _last_pair(student, inner))
        downs[-1] = last if features == "blocks" else (f"{last[0]}.proj_out", f"{last[1]}.proj_out")
        if features == "authors-effective":
            del downs[-1]
    return downs + [(f"up_blocks.{i + shift}", f"up_blocks.{i}") for i in range(ups)]


def _is_resampler(layer: str) -> bool:
    return layer.split(".")[-2] in ("downsamplers", "upsamplers")


def _inside(unet: UNet2DConditionModel, layer: str) -> str:
    """The layer that the authors' code takes for one of ours."""
    if _is_resampler(layer):
        return layer
    if layer.startswith("mid_block"):
        return f"mid_block.attentions.{len(unet.mid_block.attentions) - 1}.proj_out"
    return f"{layer}.proj_out" if ".attentions." in layer else f"{layer}.conv2"


def _blocks(unet: UNet2DConditionModel) -> list[str]:
    downs = [f"down_blocks.{i}" for i in range(len(unet.down_blocks))]
    ups = [f"up_blocks.{i}" for i in range(len(unet.up_blocks))]
    return [*downs, *(["mid_block"] if unet.mid_block is not None else []), *ups]


def _last_layer(unet: UNet2DConditionModel, block: str) -> str:
    """Name of a block's last layer: what changes the resolution, where there is such a layer."""
    module = unet.get_submodule(block)
    for kind in ("downsamplers", "upsamplers"):
        if getattr(module, kind, None):
            return f"{block}.{kind}.0"
    return _last_pair(unet, block)


def _last_pair(unet: UNet2DConditionModel, block: str) -> str:
    """Name of the output layer of a block's last resnet+attention pair."""
    module = unet.get_submodule(block)
    if block == "mid_block" or not getattr(module, "attentions", None):
        return f"{block}.resnets.{len(module.resnets) - 1}"
    return f"{block}.attentions.{len(module.attentions) - 1}"


def count_parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def student_of_config(teacher: dict[str, Any], student: str) -> UNet2DConditionModel:
    """The student on the meta device (shapes without memory), for counting and planning."""
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(student_config(teacher, student))
