"""What the trainings use of a world: its texts, what they say, real images, and the sizes that go with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from randcond.make_teacher.batches import Batches, of_concepts, of_concepts_or_artists
from randcond.worlds import artists, emoji
from randcond.worlds.drawings import SIZE, Meaning
from randcond.worlds.grammars import GRAMMARS, texts

RealImages = Callable[..., torch.Tensor]  # (texts, seed, first) -> uint8 (n, 3, h, w)


@dataclass(frozen=True)
class Material:
    """A world as its teacher's and its evaluator's trainings see it.

    Attributes:
        texts: All that is ever said in it.
        meanings: What each text says.
        judged: Which of them the teacher is judged by.
        real_images: Real scenes of texts.
        varied_images: The same, or more varied, for encoders that should know more than the world asks for.
        batches: Which texts stand together in a batch of a contrastive training.
        image_size: Pixels of a scene's sides.
        vocabulary: Tokens of the tokenizers, about.
        context: Tokens of a text.
        autoencoder_widths: Channels of the autoencoder's levels; each but the first halves the sides.
        latent_channels: Channels of its latents.
        orthogonal_start: Whether the autoencoder begins as ``start_orthogonal`` has it; the emoji world's did not.
        denoiser_widths: Channels of the teacher UNet's levels.
        evaluator_width: Channels that the evaluator's image tower begins with.
        evaluator_layers: Blocks of each of its four levels.
        evaluator_names: Whether it is trained to name pictures without texts too; the emoji world's was not.
    """

    texts: tuple[str, ...]
    meanings: tuple[Meaning, ...]
    judged: range
    real_images: RealImages
    varied_images: RealImages
    batches: Callable[[Sequence[Meaning], int, int], Batches]
    image_size: int
    vocabulary: int
    context: int
    autoencoder_widths: tuple[int, ...]
    latent_channels: int
    orthogonal_start: bool
    denoiser_widths: tuple[int, ...]
    evaluator_width: int
    evaluator_layers: tuple[int, int, int, int]
    evaluator_names: bool


def _emoji() -> Material:
    captions = emoji.captions()
    return Material(
        texts=tuple(caption.text for caption in captions),
        meanings=tuple(Meaning(caption.concept, caption.colour) for caption in captions),
        judged=range(len(captions)),
        real_images=emoji.real_images,
        varied_images=partial(emoji.real_images, varied=True),
        batches=of_concepts,
        image_size=32,
        vocabulary=1024,
        context=16,
        autoencoder_widths=(16, 32, 64),
        latent_channels=4,
        orthogonal_start=False,
        denoiser_widths=(30, 60, 120, 120),
        evaluator_width=20,
        evaluator_layers=(1, 1, 1, 1),
        evaluator_names=False,
    )


def _artists() -> Material:
    # the teacher knows all three grammars, as CLIP does
    everything, before = [text for grammar in GRAMMARS for text in texts(grammar)], len(texts("alt"))
    return Material(
        texts=tuple(text.text for text in everything),
        meanings=tuple(text.meaning for text in everything),
        judged=range(before, before + len(texts("clean"))),
        real_images=artists.real_images,
        varied_images=artists.real_images,
        batches=of_concepts_or_artists,
        image_size=SIZE,
        vocabulary=1280,
        context=24,
        autoencoder_widths=(16, 32, 64, 64),
        latent_channels=8,
        orthogonal_start=True,
        denoiser_widths=(60, 60, 120, 120),
        evaluator_width=24,
        evaluator_layers=(1, 2, 2, 1),
        evaluator_names=True,
    )


MATERIAL: dict[str, Callable[[], Material]] = {"emoji": _emoji, "artists": _artists}
