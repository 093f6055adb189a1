"""A tiny pipeline of each family: the real classes with random weights, latents of 4 x 8 x 8."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from made_up_family import MadeUpPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, T5Config, T5EncoderModel

from randcond.make_teacher.clip import build_tokenizer
from randcond.teachers.families import family_of
from randcond.teachers.noise import NOISE_SCHEDULE
from randcond.worlds import emoji


def tiny_unet() -> UNet2DConditionModel:
    """SD v1.4's block layout at 1/32 of its widths."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(10, 20, 40, 40),
        cross_attention_dim=8,
        attention_head_dim=1,
        norm_num_groups=1,
    )


def tiny_sdxl_unet(depths: tuple[int, ...] = (1, 2, 10)) -> UNet2DConditionModel:
    """SDXL's block layout and depths, or other ones, at 1/32 of its widths."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(10, 20, 40),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=depths,
        attention_head_dim=(1, 2, 4),
        cross_attention_dim=16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=32,
        norm_num_groups=1,
    )


def tiny_transformer() -> SD3Transformer2DModel:
    """SD3.5 medium's layout with 6 blocks of 4 narrow heads."""
    return SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=6,
        num_attention_heads=4,
        attention_head_dim=4,
        caption_projection_dim=16,
        joint_attention_dim=24,
        pooled_projection_dim=16,
        pos_embed_max_size=8,
        dual_attention_layers=(0, 1, 2),
        qk_norm="rms_norm",
    )


def _autoencoder(**more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 4), latent_channels=4, norm_num_groups=1, sample_size=32, **more,
    )  # fmt: skip


def _texts() -> tuple[Any, CLIPTextConfig]:
    tokenizer = build_tokenizer([caption.text for caption in emoji.captions()[:200]], vocabulary=600)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=16, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        projection_dim=8,
    )  # fmt: skip
    return tokenizer, config


def stable_diffusion(folder: Path) -> None:
    """Stable Diffusion 1.x."""
    tokenizer, config = _texts()
    StableDiffusionPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(config),
        tokenizer=tokenizer,
        unet=tiny_unet(),
        scheduler=PNDMScheduler(**NOISE_SCHEDULE, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def sdxl(folder: Path) -> None:
    """SDXL."""
    tokenizer, config = _texts()
    StableDiffusionXLPipeline(
        vae=_autoencoder(force_upcast=True, scaling_factor=0.13025),
        text_encoder=CLIPTextModel(config),
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=tiny_sdxl_unet((1, 1, 2)),
        scheduler=EulerDiscreteScheduler(**NOISE_SCHEDULE, timestep_spacing="leading"),
        add_watermarker=False,
    ).save_pretrained(folder)


def sd3(folder: Path, t5: bool = False) -> None:
    """SD3.5, with or without T5."""
    tokenizer, config = _texts()
    third = T5Config(vocab_size=len(tokenizer), d_model=24, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    StableDiffusion3Pipeline(
        vae=_autoencoder(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(config),
        text_encoder_2=CLIPTextModelWithProjection(config),
        text_encoder_3=T5EncoderModel(third) if t5 else None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=tokenizer if t5 else None,
        transformer=tiny_transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    ).save_pretrained(folder)


def made_up(folder: Path) -> None:
    """The family that does not exist."""
    tokenizer, config = _texts()
    MadeUpPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(config),
        tokenizer=tokenizer,
        denoiser=tiny_unet(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0),
    ).save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "stable_diffusion": stable_diffusion,
    "sdxl": sdxl,
    "sd3": sd3,
    "made_up": made_up,
}
# `make test` takes a diffusion model and a flow through every stage, CI's `make test-all` the other two as well
_SLOW = ("sdxl", "made_up")
every_family = pytest.mark.parametrize(
    "pipeline_folder",
    [pytest.param(name, marks=pytest.mark.slow if name in _SLOW else ()) for name in FAMILIES],
    indirect=True,
)


class Folders(dict[str, Path]):
    """A tiny pipeline of each family, written when it is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, family: str) -> Path:
        self[family] = tiny(family, self._folder / family / "pipeline")
        return self[family]


def student_of(pipeline: Path, narrow: bool = False) -> str:
    """A student that a pipeline's denoiser can have, of fewer layers or narrower."""
    if family_of(pipeline).denoiser == "transformer":
        return "half-width" if narrow else "half-depth"
    return "c-base" if narrow else "b-base"


def tiny(family: str, folder: Path) -> Path:
    """Write the family's pipeline with the weights of seed 0."""
    torch.manual_seed(0)
    FAMILIES[family](folder)
    return folder
