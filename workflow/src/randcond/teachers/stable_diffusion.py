"""The teacher as the other stages see it: encode texts, add noise, predict; and draw images from a pipeline."""

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from torch import nn
from transformers.utils import logging as transformers_logging

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import generator, normal
from randcond.teachers.noise import log_snr
from randcond.teachers.solvers import DDIM

Conditions = dict[str, torch.Tensor]  # what the UNet takes besides latents and timesteps, one row a text

# their bars for loading two megabytes would drown ours, and so would every text longer than the encoder takes
diffusers_logging.disable_progress_bar()
transformers_logging.disable_progress_bar()
diffusers_logging.set_verbosity_error()
transformers_logging.set_verbosity_error()


_BROKEN = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)  # what diffusers raises of files
DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}  # by the setting's name


def load_pipeline(
    folder: Path,
    device: str | torch.device = "cpu",
    precision: str = "no",
    unet: Path | None = None,
    own_scheduler: bool = False,
) -> StableDiffusionPipeline:
    """A finished pipeline from disk, in float32 or the precision named, without network.

    Args:
        folder: The pipeline's.
        device: Where it goes.
        precision: Of its weights.
        unet: Folder of a UNet that takes the place of the pipeline's own.
        own_scheduler: Draw by the scheduler that it comes with, as a student does that was made for it; else by PNDM.

    Raises:
        UserError: If a folder does not hold all of it with safetensors weights, or parts do not fit together.
    """
    other = {} if unet is None else {"unet": _load_unet(unet, DTYPES[precision])}
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            str(folder),
            dtype=DTYPES[precision],
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            **other,
        )
        _check_parts(pipeline, folder)
    except _BROKEN as error:
        raise UserError(
            f"{folder}: no whole Stable Diffusion pipeline with safetensors weights ({_reason(error)})"
        ) from None
    pipeline.set_progress_bar_config(disable=True)
    if not own_scheduler:
        pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config, skip_prk_steps=True)
    return pipeline.to(device)


def _load_unet(folder: Path, dtype: torch.dtype) -> UNet2DConditionModel:
    try:
        unet = UNet2DConditionModel.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, local_files_only=True
        )
        if lacking := _not_loaded(unet):
            raise ValueError(f"{lacking[0]} is missing")
    except _BROKEN as error:
        raise UserError(f"{folder}: no whole UNet with safetensors weights ({_reason(error)})") from None
    return unet


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_parts(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Raise ``ValueError`` if a part lacks weights, or if the parts were not made for each other."""
    lacking = [f"{part} {name}" for part in ("unet", "vae") for name in _not_loaded(getattr(pipeline, part))]
    # transformers would fill a gap with random numbers; a file may leave out its models' common prefix
    files = [safe_open(file, "pt") for file in Path(folder, "text_encoder").glob("*.safetensors")]
    saved = {name.removeprefix("text_model.") for file in files for name in file.keys()}  # noqa: SIM118
    names = pipeline.text_encoder.state_dict()
    lacking += [f"text_encoder {name}" for name in names if name.removeprefix("text_model.") not in saved]
    if lacking:
        raise ValueError(f"{lacking[0]} is missing")
    taken, given = pipeline.unet.config["cross_attention_dim"], pipeline.text_encoder.config.hidden_size
    if {given} != (set(taken) if isinstance(taken, list | tuple) else {taken}):
        raise ValueError(f"its UNet takes texts of width {taken}, its text encoder gives {given}")
    taken, given = pipeline.unet.config["in_channels"], pipeline.vae.config["latent_channels"]
    if given != taken:
        raise ValueError(f"its UNet takes {taken} latent channels, its autoencoder gives {given}")
    taken, given = pipeline.text_encoder.config.vocab_size, len(pipeline.tokenizer)
    if given > taken:
        raise ValueError(f"its text encoder knows {taken} tokens, its tokenizer gives {given}")


def _not_loaded(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.is_meta]


class Teacher:
    """What distillation knows of a teacher. Another family of models fills in the same names.

    Attributes:
        unet: Its frozen denoiser.
        latent_shape: (channels, height, width) of a latent.
    """

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        for model in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
            model.requires_grad_(False).eval()
        self.pipeline = pipeline
        self.unet = pipeline.unet
        self._noise = DDPMScheduler.from_config(pipeline.scheduler.config)
        size = self.unet.config["sample_size"]
        self.latent_shape = (self.unet.config["in_channels"], size, size)

    @property
    def device(self) -> torch.device:
        """Where it is; the UNet's own property looks through all its modules for that, and so does its dtype."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision that its UNet runs in."""
        return next(self.unet.parameters()).dtype

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditions:
        """Conditioning tensors of the texts, one row a text; opaque to the training loop."""
        # as the pipeline's encode_prompt, which also looks for textual inversions and takes half as long again
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        tokens = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return {"encoder_hidden_states": self.pipeline.text_encoder(tokens.input_ids.to(self.device))[0]}

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t of the latents."""
        return self._noise.add_noise(latents, noise, timesteps)

    def solver(self) -> DDIM:
        """What moves a state of this family's sampler on by a prediction."""
        return DDIM(self._noise.alphas_cumprod, self._noise.config["prediction_type"] == "v_prediction")

    def few_steps(self, times: int, phases: int) -> DDIMScheduler | LCMScheduler:
        """What draws, in diffusers, with a student that has learned to jump over its sampler's phases.

        Of one phase LCM's, which adds noise between two jumps to the clean image.
        """
        if phases == 1:
            return LCMScheduler.from_config(self._noise.config, original_inference_steps=times, clip_sample=False)
        # from pure noise, over the phases' edges, to no noise at all
        edges = {"timestep_spacing": "trailing", "set_alpha_to_one": True}
        return DDIMScheduler.from_config(self._noise.config, clip_sample=False, **edges)

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What a denoiser of this family learns to predict: the noise, or v."""
        if self._noise.config["prediction_type"] == "v_prediction":
            return self._noise.get_velocity(latents, noise, timesteps)
        return noise

    @property
    def log_snr(self) -> torch.Tensor:
        """Log-SNR of its timesteps, falling, (timesteps,), float64 on the CPU; -inf at one of pure noise."""
        return log_snr(self._noise.alphas_cumprod)

    def predict_noise(self, noised: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """The noise in x_t by the teacher, whatever its UNet predicts: float32, the shape of ``noised``."""
        predicted = self.predict(self.unet, noised.to(self.dtype), timesteps, conditions).float()
        if self._noise.config["prediction_type"] != "v_prediction":
            return predicted
        # v = sqrt(a) e - sqrt(1 - a) x_0, so that e = sqrt(a) v + sqrt(1 - a) x_t
        kept = self._noise.alphas_cumprod.to(predicted)[timesteps][:, None, None, None]
        return kept.sqrt() * predicted + (1 - kept).sqrt() * noised.float()

    @staticmethod
    def predict(unet: nn.Module, noised: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """The prediction of a denoiser of this family, the teacher's or a student's."""
        return unet(noised, timesteps, **conditions).sample


@torch.no_grad()
def draw_latents(
    pipeline: StableDiffusionPipeline, texts: Sequence[str], first: int, seed: int, steps: int, guidance_scale: float
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
    size = pipeline.unet.config["sample_size"]
    shape = (pipeline.unet.config["in_channels"], size, size)
    noise = torch.stack([normal(shape, seed, first + i) for i in range(len(texts))])
    return pipeline(
        prompt=list(texts),
        latents=noise.to(pipeline.device, pipeline.dtype),
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
        generator=[generator(seed, first + i, 1) for i in range(len(texts))],  # of what LCM adds; PNDM adds nothing
        output_type="latent",
    ).images.float()


def image_size(pipeline: StableDiffusionPipeline) -> int:
    """Pixels of a side of the images that the pipeline draws."""
    return int(pipeline.unet.config["sample_size"] * pipeline.vae_scale_factor)


@torch.no_grad()
def decode(pipeline: StableDiffusionPipeline, latents: torch.Tensor) -> torch.Tensor:
    """Scaled latents -> uint8 images (n, 3, height, width).

    Raises:
        UserError: If an image is not finite, as where the autoencoder's activations are too large for 16 bits: it would
            be stored as a black one.
    """
    scaled = latents.to(pipeline.device, pipeline.vae.dtype) / pipeline.vae.config["scaling_factor"]
    images = pipeline.vae.decode(scaled).sample.float()
    if not torch.isfinite(images).all():
        raise UserError(
            f"{pipeline.name_or_path}: its autoencoder gives images that are not finite numbers in"
            f" {pipeline.vae.dtype}; if that is no float32 set the precision to no, else check the weights in vae/"
        )
    return ((images / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).cpu()


def encode_images(pipeline: StableDiffusionPipeline, images: torch.Tensor) -> torch.Tensor:
    """uint8 images (n, 3, height, width) -> scaled latents."""
    return posterior(pipeline, images)[0]


@torch.no_grad()
def posterior(pipeline: StableDiffusionPipeline, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (n, 3, height, width) -> mean and standard deviation of their scaled latents, float32."""
    unit = (images.to(pipeline.device).float() / 127.5 - 1).to(pipeline.vae.dtype)
    found, scale = pipeline.vae.encode(unit).latent_dist, pipeline.vae.config["scaling_factor"]
    return found.mode().float() * scale, found.std.float() * scale
