"""Train the world's autoencoder (AutoencoderKL), on scenes drawn anew at every step."""

from collections.abc import Sequence

import torch
from diffusers import AutoencoderKL
from torch import nn
from torch.nn import functional as F

from randcond.jobs.seeding import generator, numpy_generator
from randcond.make_teacher.material import RealImages

_AT_ONCE = 1024  # images that are encoded at a time


def build_autoencoder(image_size: int, widths: tuple[int, ...], latent_channels: int) -> AutoencoderKL:
    """A thin AutoencoderKL. Weights from torch's global generator.

    Args:
        image_size: Pixels of an image's sides.
        widths: Channels of its levels; each but the first halves the sides.
        latent_channels: Channels of the latents.
    """
    autoencoder = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=4,  # four channels a group, as in SD's thinnest layer
        sample_size=image_size,
    )
    # Start with little posterior noise: at a standard deviation of 1 it drowns the small latents of the first steps.
    with torch.no_grad():
        autoencoder.quant_conv.bias[latent_channels:] -= 6
    return autoencoder


class AutoencoderProblem(nn.Module):
    """Reconstruction (mean squared error) plus a weak pull of the latents towards a standard normal.

    Args:
        autoencoder: The model to train.
        texts: Captions to draw scenes from.
        real_images: The world's ``real_images``.
        batch: Images a step.
        kl_weight: Weight of the Kullback-Leibler term, a mean over the latents' elements. A strong one blurs.
        seed: Seed of this training.
    """

    def __init__(
        self,
        autoencoder: AutoencoderKL,
        texts: Sequence[str],
        real_images: RealImages,
        batch: int,
        kl_weight: float,
        seed: int,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self._texts, self._real_images = texts, real_images
        self._batch, self._kl_weight, self._seed = batch, kl_weight, seed

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """Losses of the given rows of step ``step``'s batch."""
        picks = numpy_generator(self._seed, step).integers(len(self._texts), size=self._batch)
        texts = [self._texts[i] for i in picks]
        images = to_unit(self._real_images(texts, self._seed, step * self._batch)[rows])
        posterior = self.autoencoder.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator(self._seed, step, rows.start))
        restored = self.autoencoder.decode(posterior.mean + posterior.std * noise).sample
        error = F.mse_loss(restored, images)
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        return {"loss": error + self._kl_weight * kl, "error": error, "kl": kl}


@torch.no_grad()
def start_orthogonal(autoencoder: AutoencoderKL) -> None:
    """Let every convolution begin orthogonal and without bias, and every residual block of them as its shortcut.

    Images then pass through the model undisturbed from the first step on. With torch's own weights each layer shrinks
    them beside its bias: after 1,600 images of the artists' world the error was 0.21, not 0.08 (docs/log.md).
    """
    for name, module in autoencoder.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
            if name.endswith(".conv2"):
                nn.init.zeros_(module.weight)
    channels = autoencoder.config["latent_channels"]
    autoencoder.quant_conv.weight[channels:] *= 0.1
    autoencoder.quant_conv.bias[channels:] = -6  # little posterior noise, as in build_autoencoder


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """uint8 images to float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


@torch.no_grad()
def measure_scale(autoencoder: AutoencoderKL, images: torch.Tensor) -> float:
    """1 / standard deviation of the latents of ``images`` (uint8): SD's scaling factor."""
    parts = [autoencoder.encode(to_unit(part)).latent_dist.mean for part in images.split(_AT_ONCE)]
    return 1.0 / float(torch.cat(parts).std())


@torch.no_grad()
def reconstruct(autoencoder: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """uint8 images -> uint8 reconstructions from the posterior's mean."""
    restored = autoencoder.decode(autoencoder.encode(to_unit(images)).latent_dist.mode()).sample
    return ((restored + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
