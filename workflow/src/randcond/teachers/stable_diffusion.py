"""Stable Diffusion 1.x and 2.x: a UNet that predicts noise or v, and one text encoder."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel

from randcond.teachers.teacher import Conditions, Teacher


class StableDiffusion(Teacher):
    """Stable Diffusion 1.x and 2.x."""

    title = "Stable Diffusion"
    pipeline_type = StableDiffusionPipeline
    denoiser_type = UNet2DConditionModel
    encoders: ClassVar = {"text_encoder": "tokenizer"}
    left_out = ("safety_checker", "feature_extractor")

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditions:
        # as the pipeline's encode_prompt, which also looks for textual inversions and takes half as long again
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        tokens = tokenizer(list(texts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return {"encoder_hidden_states": self.pipeline.text_encoder(tokens.input_ids.to(self.device))[0]}

    @classmethod
    def widths(cls, pipeline: Any) -> list[tuple[str, Any, Any]]:
        taken = pipeline.unet.config["cross_attention_dim"]
        given = pipeline.text_encoder.config.hidden_size
        return [("texts of width", taken, [given] * len(taken) if isinstance(taken, list | tuple) else given)]

    @classmethod
    def prepare(cls, pipeline: Any) -> Any:
        pipeline.register_to_config(requires_safety_checker=False)
        return pipeline


TEACHER = StableDiffusion
