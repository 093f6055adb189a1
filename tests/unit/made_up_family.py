"""A family that does not exist: a UNet by rectified flow, which its pipeline calls ``denoiser``, and whole texts.

This module, and its line among the families, are all that the stages need to distil it.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel

from randcond.teachers.families import FAMILIES, Family
from randcond.teachers.teacher import Conditions, Teacher


class MadeUpPipeline(DiffusionPipeline):
    """Draws by Euler's steps."""

    def __init__(self, vae: Any, text_encoder: Any, tokenizer: Any, denoiser: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(
            vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, denoiser=denoiser, scheduler=scheduler
        )
        self.vae_scale_factor = 4

    @torch.no_grad()
    def __call__(
        self, prompt: Sequence[str], latents: torch.Tensor, guidance_scale: float, sigmas: list[float], **_: Any
    ) -> Any:
        words, none = (states(self, texts) for texts in (prompt, [""] * len(prompt)))
        self.scheduler.set_timesteps(sigmas=sigmas)
        for time in self.scheduler.timesteps:
            predicted = self.denoiser(latents, time, encoder_hidden_states=words).sample
            if guidance_scale > 1:
                plain = self.denoiser(latents, time, encoder_hidden_states=none).sample
                predicted = plain + guidance_scale * (predicted - plain)
            latents = self.scheduler.step(predicted, time, latents).prev_sample
        return SimpleNamespace(images=latents)


def states(pipeline: Any, texts: Sequence[str]) -> torch.Tensor:
    """One state a text, the mean of its tokens' embeddings: (n, 1, width)."""
    tokens = pipeline.tokenizer(
        list(texts), padding="max_length", max_length=16, truncation=True, return_tensors="pt"
    ).input_ids
    return pipeline.text_encoder.get_input_embeddings()(tokens.to(pipeline.device)).mean(1, keepdim=True)


class MadeUp(Teacher):
    """The made-up family."""

    title = "Made-up"
    pipeline_type = MadeUpPipeline
    denoiser_type = UNet2DConditionModel
    encoders: ClassVar = {"text_encoder": "tokenizer"}

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditions:
        return {"encoder_hidden_states": states(self.pipeline, texts)}

    @classmethod
    def widths(cls, pipeline: Any) -> list[tuple[str, Any, Any]]:
        taken = pipeline.denoiser.config["cross_attention_dim"]
        return [("texts of width", taken, pipeline.text_encoder.config.hidden_size)]


TEACHER = MadeUp
FAMILIES["MadeUpPipeline"] = Family("made_up_family", "denoiser")
