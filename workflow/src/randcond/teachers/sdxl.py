"""SDXL: a UNet that also takes a pooled text and the sizes of the image, and two text encoders."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel

from randcond.teachers.teacher import Conditions, Teacher


class SDXL(Teacher):
    """SDXL. An empty text is the one that its pipeline guides away from: nothing but zeros, where it says so."""

    title = "SDXL"
    pipeline_type = StableDiffusionXLPipeline
    denoiser_type = UNet2DConditionModel
    encoders: ClassVar = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
    left_out = ("image_encoder", "feature_extractor")

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditions:
        states, _, pooled, _ = self.pipeline.encode_prompt(
            list(texts), device=self.device, do_classifier_free_guidance=False
        )
        if self.pipeline.config["force_zeros_for_empty_prompt"]:
            empty = torch.tensor([not text for text in texts], device=states.device)
            states = states.masked_fill(empty[:, None, None], 0)
            pooled = pooled.masked_fill(empty[:, None], 0)
        size = self.latent_shape[1] * self.pipeline.vae_scale_factor
        # the image's size, where it was cropped, and the size that is wanted
        sizes = torch.tensor([size, size, 0, 0, size, size], device=states.device, dtype=states.dtype)
        return {"encoder_hidden_states": states, "text_embeds": pooled, "time_ids": sizes.repeat(len(texts), 1)}

    def arguments(self, conditions: Conditions) -> dict[str, Any]:
        added = {name: conditions[name] for name in ("text_embeds", "time_ids")}
        return {"encoder_hidden_states": conditions["encoder_hidden_states"], "added_cond_kwargs": added}

    @classmethod
    def widths(cls, pipeline: Any) -> list[tuple[str, Any, Any]]:
        config, first, second = pipeline.unet.config, pipeline.text_encoder.config, pipeline.text_encoder_2.config
        sizes = 6 * config["addition_time_embed_dim"]
        return [
            ("texts of width", config["cross_attention_dim"], first.hidden_size + second.hidden_size),
            ("pooled texts of width", config["projection_class_embeddings_input_dim"] - sizes, second.projection_dim),
        ]

    @classmethod
    def prepare(cls, pipeline: Any) -> Any:
        if pipeline.vae.config.get("force_upcast"):
            pipeline.vae.to(torch.float32)  # its activations are too large for 16 bits
        return pipeline


TEACHER = SDXL
