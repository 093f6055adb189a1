"""Pipelines of any known family: load one, draw latents with it, images to latents and back."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from torch import nn
from transformers.utils import logging as transformers_logging

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import generator, normal
from randcond.teachers.families import FAMILIES, Family, family_of
from randcond.teachers.processes import process_of, seeded
from randcond.teachers.teacher import Teacher, denoiser_of

# their bars for loading two megabytes would drown ours, and so would every text longer than the encoder takes
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()
diffusers_logging.set_verbosity_error()
transformers_logging.set_verbosity_error()


_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)  # what diffusers raises of files
_LARGE = 512  # pixels of a side from which images are decoded one at a time: a batch's activations take tens of GB
DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}  # by the setting's name


def teacher_type(family: Family) -> type[Teacher]:
    """The family's class."""
    found: type[Teacher] = import_module(family.module).TEACHER
    return found


def teacher_of(pipeline: DiffusionPipeline) -> Teacher:
    """The teacher that a pipeline is; its models are frozen."""
    return teacher_type(FAMILIES[type(pipeline).__name__])(pipeline)


def load_pipeline(
    folder: Path,
    device: str | torch.device = "cpu",
    precision: str = "no",
    denoiser: Path | None = None,
    own_scheduler: bool = False,
) -> Any:
    """A finished pipeline from disk, in float32 or the precision named, without network.

    Args:
        folder: The pipeline's.
        device: Where it goes.
        precision: Of its weights.
        denoiser: Folder of a denoiser that takes the place of the pipeline's own.
        own_scheduler: Draw by the scheduler that it comes with, as a student does that was made for it; else by PNDM,
            or by Euler's steps where it is a flow.

    Raises:
        UserError: If a folder does not hold all of it with safetensors weights, or parts do not fit together, or if its
            scheduler is of no kind that is known.
    """
    folder = Path(folder)
    family = family_of(folder)
    kind = teacher_type(family)
    absent = {*kind.left_out, *(part for part in kind.optional if not (folder / part).is_dir())}
    other = {} if denoiser is None else {family.denoiser: _load_denoiser(kind, denoiser, DTYPES[precision])}
    try:
        pipeline = kind.pipeline_type.from_pretrained(
            str(folder),
            dtype=DTYPES[precision],
            use_safetensors=True,
            local_files_only=True,
            **dict.fromkeys(absent),
            **other,
        )
        _check_parts(pipeline, kind, folder)
    except _BROKEN as error:
        raise UserError(
            f"{folder}: no whole {kind.title} pipeline with safetensors weights ({_reason(error)})"
        ) from None
    pipeline = kind.prepare(pipeline)
    pipeline.set_progress_bar_config(disable=True)
    if image_size(pipeline) >= _LARGE:
        pipeline.vae.enable_slicing()
    if not own_scheduler:
        try:
            pipeline.scheduler = process_of(pipeline.scheduler).sampler()
        except UserError as error:
            raise UserError(f"{folder}/{error}") from None
    return pipeline.to(device)


def _load_denoiser(kind: type[Teacher], folder: Path, dtype: torch.dtype) -> nn.Module:
    try:
        denoiser: nn.Module = kind.denoiser_type.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, local_files_only=True
        )
        if lacking := _not_loaded(denoiser):
            raise ValueError(f"{lacking[0]} is missing")
    except _BROKEN as error:
        raise UserError(f"{folder}: no whole denoiser with safetensors weights ({_reason(error)})") from None
    return denoiser


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_parts(pipeline: Any, kind: type[Teacher], folder: Path) -> None:
    """Raise ``ValueError`` if a part lacks weights, or if the parts were not made for each other."""
    name = FAMILIES[type(pipeline).__name__].denoiser
    lacking = [f"{part} {weight}" for part in (name, "vae") for weight in _not_loaded(getattr(pipeline, part))]
    encoders = {part: getattr(pipeline, part) for part in kind.encoders if getattr(pipeline, part) is not None}
    for part, encoder in encoders.items():
        # transformers would fill a gap with random numbers; a file may leave out its models' common prefix
        files = [safe_open(file, "pt") for file in Path(folder, part).glob("*.safetensors")]
        saved = {weight.removeprefix("text_model.") for file in files for weight in file.keys()}  # noqa: SIM118
        # weights that are tied are one
        names = [weight for weight, _ in encoder.named_parameters()]
        lacking += [f"{part} {weight}" for weight in names if weight.removeprefix("text_model.") not in saved]
    if lacking:
        raise ValueError(f"{lacking[0]} is missing")
    called = "UNet" if name == "unet" else name
    for what, taken, given in kind.widths(pipeline):
        if given != taken:
            raise ValueError(f"its {called} takes {what} {taken}, its text encoder gives {given}")
    if denoiser_of(pipeline).config.get("time_cond_proj_dim"):  # without it another function would be learned
        raise ValueError(f"its {called} takes the guidance as a condition, as latent consistency models do")
    taken, given = denoiser_of(pipeline).config["in_channels"], pipeline.vae.config["latent_channels"]
    if given != taken:
        raise ValueError(f"its {called} takes {taken} latent channels, its autoencoder gives {given}")
    for part, encoder in encoders.items():
        taken, given = encoder.config.vocab_size, len(getattr(pipeline, kind.encoders[part]))
        if given > taken:
            raise ValueError(f"its text encoder knows {taken} tokens, its tokenizer gives {given}")


def _not_loaded(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.is_meta]


@torch.no_grad()
def draw_latents(
    pipeline: Any, texts: Sequence[str], first: int, seed: int, steps: int, guidance_scale: float
) -> torch.Tensor:
    """Denoise one latent a text with classifier-free guidance.

    Args:
        pipeline: Teacher or student.
        texts: Prompts.
        first: Index of the first text in the whole list; text i starts from the noise of (seed, first + i).
        seed: Seed of the whole list.
        steps: Denoising steps.
        guidance_scale: Weight of the guidance; 1 is none.

    Returns:
        Scaled latents, float32 (len(texts), channels, h, w).
    """
    denoiser = denoiser_of(pipeline)
    size = denoiser.config["sample_size"]
    shape = (denoiser.config["in_channels"], size, size)
    noise = torch.stack([normal(shape, seed, first + i) for i in range(len(texts))])
    generators = [generator(seed, first + i, 1) for i in range(len(texts))]  # of what LCM adds; others add nothing
    with seeded(pipeline.scheduler, generators):
        return pipeline(
            prompt=list(texts),
            latents=noise.to(pipeline.device, denoiser.dtype),
            num_inference_steps=steps,
            guidance_scale=guidance_scale,
            generator=generators,
            output_type="latent",
            **process_of(pipeline.scheduler).drawing(steps),
            **teacher_type(FAMILIES[type(pipeline).__name__]).drawing(pipeline),
        ).images.float()


def image_size(pipeline: Any) -> int:
    """Pixels of a side of the images that the pipeline draws."""
    return int(denoiser_of(pipeline).config["sample_size"] * pipeline.vae_scale_factor)


@torch.no_grad()
def decode(pipeline: Any, latents: torch.Tensor) -> torch.Tensor:
    """Scaled latents -> uint8 images (n, 3, height, width).

    Raises:
        UserError: If an image is not finite, as where the autoencoder's activations are too large for 16 bits: it would
            be stored as a black one.
    """
    scaled = latents.to(pipeline.device, pipeline.vae.dtype) / pipeline.vae.config["scaling_factor"]
    images = pipeline.vae.decode(scaled + _shift(pipeline)).sample.float()
    if not torch.isfinite(images).all():
        raise UserError(
            f"{pipeline.name_or_path}: its autoencoder gives images that are not finite numbers in"
            f" {pipeline.vae.dtype}; if that is no float32 set the precision to no, else check the weights in vae/"
        )
    return ((images / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def _shift(pipeline: Any) -> float:
    """The mean of latents that are not scaled, where the family has one."""
    return pipeline.vae.config.get("shift_factor") or 0.0


def encode_images(pipeline: Any, images: torch.Tensor) -> torch.Tensor:
    """uint8 images (n, 3, height, width) -> scaled latents."""
    return posterior(pipeline, images)[0]


@torch.no_grad()
def posterior(pipeline: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (n, 3, height, width) -> mean and standard deviation of their scaled latents, float32."""
    unit = (images.to(pipeline.device).float() / 127.5 - 1).to(pipeline.vae.dtype)
    found, scale = pipeline.vae.encode(unit).latent_dist, pipeline.vae.config["scaling_factor"]
    return (found.mode().float() - _shift(pipeline)) * scale, found.std.float() * scale
