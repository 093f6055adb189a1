"""Students of UNets: a smaller UNet made from any teacher's UNet2DConditionModel configuration.

B-* drop blocks (BK-SDM's block pruning), C-* narrow the channels: the paper's seven, whatever the teacher's size.
KOALA-* and SSD-1B, of UNets of SDXL's layout, also keep fewer transformer layers of a stack: the lower ones, which are
better than every second or the upper ones (KOALA, arXiv:2312.04005).
"""

import copy
from typing import Any

from diffusers import UNet2DConditionModel

from randcond.jobs.errors import UserError
from randcond.method.catalogue import CHANNEL_STUDENTS, STACK_STUDENTS


def student_config(teacher: dict[str, Any], student: str) -> dict[str, Any]:
    """The student's UNet configuration.

    Args:
        teacher: The teacher UNet's configuration (``unet.config``), with Stable Diffusion's or SDXL's block layout.
        student: One of :data:`randcond.method.catalogue.UNET_STUDENTS`.

    Raises:
        UserError: If the teacher's widths cannot be scaled so, or it has no such stacks of transformer layers.
    """
    config = {key: value for key, value in copy.deepcopy(dict(teacher)).items() if not key.startswith("_")}
    if student in CHANNEL_STUDENTS:
        config["block_out_channels"] = widths = _narrow(config, student)
        heads = config["attention_head_dim"]  # diffusers' name for the number of heads
        if isinstance(heads, list | tuple):
            # SD 2.x's 5, 10 and 20 do not divide narrower widths: as many as do, so that no channel is left out
            config["attention_head_dim"] = [_heads(width, most) for width, most in zip(widths, heads, strict=True)]
        return config
    if student in STACK_STUDENTS:
        return _fewer_layers(config, student)
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


def _fewer_layers(config: dict[str, Any], student: str) -> dict[str, Any]:
    pairs, layers, middle, ups = STACK_STUDENTS[student]
    depths = config["transformer_layers_per_block"]
    most = [layers, *(ups or ())]
    if not isinstance(depths, list | tuple) or len(depths) != len(layers) or depths[-1] < max(map(_most, most)):
        raise UserError(f"student: {student} is made of SDXL's stacks of 2 and 10 transformer layers, not of {depths}")
    config |= {"layers_per_block": pairs, "transformer_layers_per_block": list(layers), "mid_block_type": middle}
    if ups:
        config["reverse_transformer_layers_per_block"] = [list(one) if isinstance(one, tuple) else one for one in ups]
    return config


def _most(layers: Any) -> int:
    return max(layers) if isinstance(layers, tuple) else int(layers)


DENOISER = UNet2DConditionModel


def source(name: str, teacher: dict[str, Any], student: dict[str, Any]) -> str:
    """The teacher's parameter that the student's parameter ``name`` copies.

    Args:
        name: The student's.
        teacher: The teacher's configuration.
        student: The student's configuration.
    """
    ups, theirs = len(student["up_block_types"]), len(teacher["up_block_types"])
    return teacher_name(name, ups, theirs, student["layers_per_block"] < teacher["layers_per_block"])


def teacher_name(name: str, student_ups: int, teacher_ups: int, one_less: bool = True) -> str:
    """The teacher's parameter that the student's parameter ``name`` copies.

    Of one pair less in an up block the first and the last are kept, so student layer 1 is teacher layer 2; a student
    without the innermost stage has its up block k stand for the teacher's k + 1.
    """
    parts = name.split(".")
    if parts[0] == "up_blocks":
        parts[1] = str(int(parts[1]) + teacher_ups - student_ups)
        if parts[2] in ("resnets", "attentions") and parts[3] == "1" and one_less:
            parts[3] = "2"
    return ".".join(parts)


def feature_pairs(
    teacher: UNet2DConditionModel, student: UNet2DConditionModel, name: str, features: str = "blocks"
) -> list[tuple[str, str]]:
    """(teacher's module, student's module) whose outputs the feature loss compares.

    Args:
        teacher: The teacher's UNet.
        student: The student's UNet.
        name: One of :data:`randcond.method.catalogue.UNET_STUDENTS`.
        features: One of :data:`randcond.method.catalogue.FEATURES`.

    Raises:
        UserError: If the teacher's UNet has none of the layers asked for.

    ``blocks``: B-Base and B-Small, the outputs of the down and up blocks. B-Tiny, down blocks 0 and 1, the last
    attention of down block 2, and its up blocks with the teacher's one further out. C-*, the last layer of every down,
    up and mid block. ``authors``: as the authors' code has it, which for C-* takes the last convolution of the
    innermost down block, and for C-* and B-Tiny the output projections of attentions, before their residuals are added.
    ``authors-effective``: those of them that carried a gradient in that code, whose library recomputed attentions and
    the innermost block's layers: without B-Tiny's attention, and without C-*'s first and last of the three. Of KOALA-*
    ``authors`` are the outputs of all self-attentions, of SSD-1B those of all resnets and attentions outside of the
    middle, and the middle's.
    """
    if name in STACK_STUDENTS and features != "blocks":
        of_teacher, of_student = dict(teacher.config), dict(student.config)
        return [(source(own, of_teacher, of_student), own) for own in _compared(student, name)]
    if name in CHANNEL_STUDENTS:
        layers = [_last_layer(teacher, block) for block in _blocks(teacher)]
        if features != "blocks":
            layers = [_inside(teacher, layer) for layer in layers]
        if features == "authors-effective":
            layers = [layer for layer in layers if _is_resampler(layer) or layer.startswith("mid_block")]
        if not layers:
            raise UserError(f"features: {features} leaves nothing to compare in a UNet of one level; use blocks")
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
        attentions = [one for one in getattr(unet.mid_block, "attentions", []) if one is not None]
        return f"mid_block.attentions.{len(attentions) - 1}.proj_out" if attentions else layer
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


def _compared(student: UNet2DConditionModel, name: str) -> list[str]:
    """The modules that KOALA's and SSD-1B's authors compare."""
    if name != "ssd-1b":
        return [own for own, _ in student.named_modules() if own.endswith(".attn1")]
    layers = [own for own, _ in student.named_modules() if own.split(".")[-2:-1] in (["resnets"], ["attentions"])]
    return [own for own in layers if not own.startswith("mid_block")] + ["mid_block"]
