"""Train a second teacher of a world from nothing: SD3's joint transformer, by rectified flow on the same latents."""

from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from randcond.jobs.seeding import generator, numpy_generator
from randcond.teachers.processes import Flow
from randcond.teachers.sd3 import SD3
from randcond.teachers.teacher import Conditions

_ENCODERS = 2  # SD3's CLIPs; the world's only one stands for both


def build_transformer(
    latent_size: int, channels: int, text_width: int, pooled_width: int, blocks: int = 8, heads: int = 4, patch: int = 1
) -> SD3Transformer2DModel:
    """SD3.5's layout, with norms of queries and keys, at 1/12 of medium's width with a third of its blocks.

    Args:
        latent_size: Side of the latents.
        channels: Channels of the latents.
        text_width: Of a text's token states, of all encoders together.
        pooled_width: Of a pooled text, of all encoders together.
        blocks: Joint blocks, the first half with SD3.5's second attention.
        heads: Attention heads of 32.
        patch: Side of what becomes a token. SD3's is 2, which of latents as small as a miniature's leaves 16 tokens.
    """
    return SD3Transformer2DModel(
        sample_size=latent_size,
        patch_size=patch,
        in_channels=channels,
        out_channels=channels,
        num_layers=blocks,
        num_attention_heads=heads,
        attention_head_dim=32,
        caption_projection_dim=32 * heads,
        joint_attention_dim=text_width,
        pooled_projection_dim=pooled_width,
        pos_embed_max_size=latent_size,
        dual_attention_layers=tuple(range(blocks // 2)),
        qk_norm="rms_norm",
    )


def flow_pipeline(
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModelWithProjection,
    tokenizer: CLIPTokenizer,
    transformer: SD3Transformer2DModel | None = None,
) -> StableDiffusion3Pipeline:
    """The parts put together, without T5; a new transformer that fits them if there is none."""
    autoencoder.register_to_config(shift_factor=0.0)  # SD3's pipeline takes it for granted
    if transformer is None:
        sides = autoencoder.config["sample_size"] // 2 ** (len(autoencoder.config["block_out_channels"]) - 1)
        text = text_encoder.config
        transformer = build_transformer(
            *(sides, autoencoder.config["latent_channels"]),
            *(_ENCODERS * text.hidden_size, _ENCODERS * text.projection_dim),
        )
    return StableDiffusion3Pipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder,
        text_encoder_3=None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=None,
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),  # no more than SD3 has at 256 pixels
    )


Encode = Callable[[Sequence[str]], Conditions]


def encoding(pipeline: StableDiffusion3Pipeline) -> Encode:
    """How the pipeline encodes texts, one row a text."""
    teacher = SD3(pipeline)
    pipeline.transformer.requires_grad_(True).train()  # the teacher froze it
    return teacher.encode


class FlowProblem(nn.Module):
    """Mean squared error of the predicted velocity e - x_0 on cached latents; 10% of the texts are empty.

    A step encodes its own texts: all captions of the artists' world, encoded, take 5.9 GB.

    Timesteps are drawn as SD3's are, the sigmoid of a normal number (Esser et al. 2024, section 3.1).

    Args:
        transformer: The denoiser to train.
        latents: Scaled latents of scenes, (n, channels, h, w).
        choices: For each scene the indices into ``texts`` of the captions that describe it, (n, captions).
        texts: Captions.
        encode: Texts to what the transformer takes of them, one row a text.
        scheduler: The pipeline's.
        batch: Latents a step.
        seed: Seed of this training.
    """

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        latents: torch.Tensor,
        choices: torch.Tensor,
        texts: Sequence[str],
        encode: Encode,
        scheduler: FlowMatchEulerDiscreteScheduler,
        batch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self._latents, self._choices, self._texts, self._encode = latents, choices, texts, encode
        self._process, self._batch, self._seed = Flow(scheduler), batch, seed

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """Loss of the given rows of step ``step``'s batch."""
        rng = numpy_generator(self._seed, step)
        scenes = rng.integers(len(self._latents), size=self._batch)
        captions = self._choices[scenes, rng.integers(self._choices.shape[1], size=self._batch)].tolist()
        emptied = rng.random(self._batch) < 0.1
        texts = ["" if empty else self._texts[i] for i, empty in zip(captions, emptied, strict=True)][rows]
        timesteps = (1000 * torch.from_numpy(rng.normal(size=self._batch)).sigmoid()).long()[rows]
        latents = self._latents[scenes]
        noise = torch.randn(latents.shape, generator=generator(self._seed, step))[rows]
        latents = latents[rows]
        noised = self._process.add_noise(latents, noise, timesteps)
        times = self._process.times(timesteps)
        velocity = self.transformer(noised, timestep=times, **self._encode(texts)).sample
        return {"loss": F.mse_loss(velocity, self._process.target(latents, noise, timesteps))}
