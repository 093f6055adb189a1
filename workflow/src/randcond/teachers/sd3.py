"""SD3 and SD3.5: a joint transformer trained by rectified flow; two text encoders with pooled texts, and T5 or none."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

from randcond.teachers.teacher import Conditions, Teacher


class SD3(Teacher):
    """SD3 and SD3.5. Without T5 its part of the text is zeros, as many as the CLIPs have tokens, as in its trainers.

    diffusers would have 256 of them: three quarters of the text that each patch attends to.
    """

    title = "SD3"
    pipeline_type = StableDiffusion3Pipeline
    denoiser_type = SD3Transformer2DModel
    encoders: ClassVar = {f"text_encoder{n}": f"tokenizer{n}" for n in ("", "_2", "_3")}
    left_out = ("image_encoder", "feature_extractor")
    optional = ("text_encoder_3", "tokenizer_3")

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Conditions:
        states, _, pooled, _ = self.pipeline.encode_prompt(
            *(list(texts), None, None),
            device=self.device,
            do_classifier_free_guidance=False,
            **self.drawing(self.pipeline),
        )
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    @classmethod
    def drawing(cls, pipeline: Any) -> dict[str, Any]:
        if pipeline.text_encoder_3 is not None:
            return {}
        return {"max_sequence_length": pipeline.tokenizer.model_max_length}

    @classmethod
    def widths(cls, pipeline: Any) -> list[tuple[str, Any, Any]]:
        config, third = pipeline.transformer.config, pipeline.text_encoder_3
        clips = [pipeline.text_encoder.config, pipeline.text_encoder_2.config]
        joint, together = config["joint_attention_dim"], sum(clip.hidden_size for clip in clips)
        return [
            # narrower texts are filled up with zeros
            ("texts of width", joint, (max(joint, together) if third is None else third.config.d_model)),
            ("pooled texts of width", config["pooled_projection_dim"], sum(clip.projection_dim for clip in clips)),
        ]


TEACHER = SD3
