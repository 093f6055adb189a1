"""A Stable Diffusion pipeline as one file, under the names that the original code gave its weights.

The other way round from diffusers' loader, which the tests hold it to: what is written here is read by that.
"""

import re
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_ENDS = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
}  # fmt: skip
_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def unet_name(name: str, layers: int, attentions: set[str]) -> str:
    """The original name of a UNet's weight.

    Args:
        name: Its name in diffusers.
        layers: Layers of a down block.
        attentions: Blocks that have attentions, e.g. ``up_blocks.0``.
    """
    stem, _, kind = name.rpartition(".")
    if stem in _ENDS:
        return f"{_ENDS[stem]}.{kind}"
    if found := re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name):
        part, number, rest = found[1], int(found[2]), found[3]
        return f"middle_block.{1 if part == 'attentions' else 2 * number}.{_inside(part, rest)}"
    found = re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name)
    assert found, name
    side, block, part, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
    if side == "down":
        first = 1 + block * (layers + 1)
        if part == "downsamplers":
            return f"input_blocks.{first + layers}.0.op.{rest.removeprefix('conv.')}"
        return f"input_blocks.{first + layer}.{int(part == 'attentions')}.{_inside(part, rest)}"
    first = block * (layers + 1)
    if part == "upsamplers":
        return f"output_blocks.{first + layers}.{1 + (f'up_blocks.{block}' in attentions)}.{rest}"
    return f"output_blocks.{first + layer}.{int(part == 'attentions')}.{_inside(part, rest)}"


def _inside(part: str, rest: str) -> str:
    name, _, kind = rest.rpartition(".")
    return f"{_RESNET[name]}.{kind}" if part == "resnets" else rest


def vae_name(name: str, levels: int) -> str:
    """The original name of an autoencoder's weight."""
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
    if "mid_block.attentions" in name:
        head, rest = name.split("mid_block.attentions.0.")
        stem, _, kind = rest.rpartition(".")
        return f"{head}mid.attn_1.{_ATTENTION[stem]}.{kind}"
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    for kind, there in (("resnets", "block"), (r"upsamplers\.0", "upsample")):
        name = re.sub(rf"up_blocks\.(\d)\.{kind}", lambda found: f"up.{levels - 1 - int(found[1])}.{there}", name)  # noqa: B023
    return name


def save_single_file(pipeline: StableDiffusionPipeline, path: Path) -> None:
    """Write a pipeline's weights as one file."""
    unet, vae, text = (getattr(pipeline, part).state_dict() for part in ("unet", "vae", "text_encoder"))
    layers, levels = pipeline.unet.config["layers_per_block"], len(pipeline.vae.config["block_out_channels"])
    attentions = {".".join(name.split(".")[:2]) for name in unet if ".attentions." in name}
    weights: dict[str, torch.Tensor] = {}
    for name, tensor in unet.items():
        weights[f"model.diffusion_model.{unet_name(name, layers, attentions)}"] = tensor
    for name, tensor in vae.items():
        square = "mid_block.attentions" in name and tensor.ndim == 2  # convolutions there
        weights[f"first_stage_model.{vae_name(name, levels)}"] = tensor[:, :, None, None] if square else tensor
    for name, tensor in text.items():
        weights[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
