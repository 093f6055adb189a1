"""Stable Diffusion v1.4's models from their configurations, without weights: for planning and rehearsing."""

from typing import Any

from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from randcond.teachers.noise import NOISE_SCHEDULE

PARAMETERS = 859_520_964  # of the UNet
STUDENT_PARAMETERS = {
    "b-base": 579_384_964, "b-small": 482_346_884, "b-tiny": 323_384_964, "c-base": 553_235_204,
    "c-small": 425_288_868, "c-tiny": 314_140_228, "c-micro": 219_789_284,
}  # fmt: skip
TOKENS = 77
LATENT = (4, 64, 64)
UNET: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768}  # the rest are the class's defaults
SCHEDULER: dict[str, Any] = {**NOISE_SCHEDULE, "set_alpha_to_one": False, "skip_prk_steps": True}


def unet() -> UNet2DConditionModel:
    """The UNet, on torch's current default device."""
    return UNet2DConditionModel(**UNET)


def vae() -> AutoencoderKL:
    """The autoencoder, on torch's current default device."""
    return AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=512,
    )


def text_encoder() -> CLIPTextModel:
    """The text encoder, that of CLIP ViT-L/14, on torch's current default device."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49_408,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=TOKENS,
        )
    )


def pipeline(tokenizer: CLIPTokenizer) -> StableDiffusionPipeline:
    """The whole pipeline with random weights, in float32 on torch's current default device."""
    return StableDiffusionPipeline(
        vae=vae(),
        text_encoder=text_encoder(),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=PNDMScheduler(**SCHEDULER),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
