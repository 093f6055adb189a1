"""Train the teacher's UNet from nothing on real scenes: plain noise prediction with classifier-free guidance."""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from randcond.jobs.progress import Progress
from randcond.jobs.seeding import generator, numpy_generator
from randcond.make_teacher.autoencoder import to_unit
from randcond.make_teacher.material import RealImages
from randcond.teachers.noise import NOISE_SCHEDULE
from randcond.worlds.drawings import Meaning


def build_denoiser(
    latent_size: int, text_width: int, channels: int = 4, widths: tuple[int, ...] = (30, 60, 120, 120)
) -> UNet2DConditionModel:
    """SD v1.4's block layout (3 CrossAttnDown + Down, 2 layers a block, mid block) at 3/32 of its widths, or others.

    Heads and norm groups are 3, so that the widths of the C-* students (4/5, 7/10, 3/5, 1/2) divide as SD's do.
    """
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        layers_per_block=2,
        cross_attention_dim=text_width,
        attention_head_dim=3,
        norm_num_groups=3,
    )


def scenes_and_captions(
    texts: Sequence[str], meanings: Sequence[Meaning], scenes: int
) -> tuple[list[str], torch.Tensor, list[str]]:
    """What the denoiser is shown: for each meaning so many scenes, and as many captions as the rarest meaning has.

    Args:
        texts: The world's texts.
        meanings: What each says.
        scenes: Scenes of each meaning.

    Returns:
        A text of each scene; for each scene the indices of its captions, (scenes in all, captions); the captions.
    """
    rows: dict[Meaning, list[int]] = {}
    for i, meaning in enumerate(meanings):
        rows.setdefault(meaning, []).append(i)
    fewest = min(map(len, rows.values()))
    spread = [[said[k * len(said) // fewest] for k in range(fewest)] for said in rows.values()]
    used = {row: i for i, row in enumerate(sorted(itertools.chain.from_iterable(spread)))}
    choices = torch.tensor([[used[row] for row in said] for said in spread for _ in range(scenes)])
    return [texts[said[0]] for said in spread for _ in range(scenes)], choices, [texts[row] for row in used]


@torch.no_grad()
def encode_scenes(
    autoencoder: AutoencoderKL, texts: list[str], real_images: RealImages, seed: int, batch: int = 64
) -> torch.Tensor:
    """One scaled latent (float32) for each text's real scene; shape (len(texts), channels, h, w)."""
    latents, progress = [], Progress("scenes to latents", len(texts), "images")
    for first in range(0, len(texts), batch):
        images = to_unit(real_images(texts[first : first + batch], seed, first))
        latents.append(autoencoder.encode(images).latent_dist.mode() * autoencoder.config["scaling_factor"])
        progress.at(first + len(images))
    return torch.cat(latents)


@torch.no_grad()
def encode_texts(
    text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, texts: list[str], batch: int = 256
) -> torch.Tensor:
    """Token states (len(texts), context, width) as StableDiffusionPipeline makes them."""
    states = []
    for first in range(0, len(texts), batch):
        tokens = tokenizer(
            texts[first : first + batch],
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        states.append(text_encoder(tokens.input_ids).last_hidden_state)
    return torch.cat(states)


class DenoiserProblem(nn.Module):
    """Mean squared error of the predicted noise on cached latents; 10% of the texts are empty.

    Args:
        unet: The UNet to train.
        latents: Scaled latents of scenes, (n, channels, h, w).
        choices: For each scene the indices into ``states`` of the captions that describe it, (n, captions).
        states: Encoded captions, (m, context, width); the last one is the empty text's.
        batch: Latents a step.
        seed: Seed of this training.
        noisier: Timesteps by a density that grows with t, in place of an even one: what is to be drawn and where
            is decided in much noise, and an even draw spends a half of its loss below t = 250.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        latents: torch.Tensor,
        choices: torch.Tensor,
        states: torch.Tensor,
        batch: int,
        seed: int,
        noisier: bool = False,
    ) -> None:
        super().__init__()
        self.unet = unet
        self._latents, self._choices, self._states = latents, choices, states
        self._batch, self._seed, self._noisier = batch, seed, noisier
        self._scheduler = DDPMScheduler(**NOISE_SCHEDULE, clip_sample=False)

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """Loss of the given rows of step ``step``'s batch."""
        rng = numpy_generator(self._seed, step)
        scenes = rng.integers(len(self._latents), size=self._batch)
        texts = self._choices[scenes, rng.integers(self._choices.shape[1], size=self._batch)]
        texts = torch.where(torch.from_numpy(rng.random(self._batch) < 0.1), len(self._states) - 1, texts)
        if self._noisier:
            timesteps = torch.from_numpy((1000 * np.sqrt(rng.random(self._batch))).astype(np.int64))[rows]
        else:
            timesteps = torch.from_numpy(rng.integers(1000, size=self._batch))[rows]
        latents = self._latents[scenes][rows]
        noise = torch.randn(self._latents[scenes].shape, generator=generator(self._seed, step))[rows]
        noised = self._scheduler.add_noise(latents, noise, timesteps)
        predicted = self.unet(noised, timesteps, self._states[texts[rows]]).sample
        return {"loss": F.mse_loss(predicted, noise)}
