"""Train two CLIPs on the world: the teacher's text encoder, and the evaluator that scores images.

They differ in seed, size, architecture and library, so that the evaluator does not grade its own homework.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import open_clip
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from randcond.jobs.seeding import generator, numpy_generator
from randcond.make_teacher.batches import Batches
from randcond.make_teacher.material import RealImages
from randcond.worlds.drawings import Meaning

_UNNAMED = -1
_BOS, _EOS = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(texts: Sequence[str], vocabulary: int = 1024, context: int = 16) -> CLIPTokenizer:
    """A CLIP tokenizer (byte-level BPE) whose merges are learned from ``texts``; every other text spells out.

    Args:
        texts: Texts to learn from; in lower case, as the tokenizer reads them.
        vocabulary: Tokens in all, about.
        context: Tokens that a text is cut at.
    """
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator((text.lower() for text in texts), trainer)
    learned = [merge for merge in _merges(bpe) if all(part for part in merge)]
    tokens = alphabet + [f"{letter}</w>" for letter in alphabet] + ["".join(merge) for merge in learned] + [_BOS, _EOS]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=learned, model_max_length=context)


def _merges(bpe: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [
        tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in json.loads(bpe.to_str())["model"]["merges"]
    ]


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """The teacher's text encoder: token states (context, 128), projected to 128."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def evaluator_config(
    tokenizer: CLIPTokenizer, width: int = 20, layers: tuple[int, int, int, int] = (1, 1, 1, 1)
) -> dict:
    """open_clip's model configuration of the evaluator: a small ResNet at 64 x 64 and a text transformer."""
    return {
        "embed_dim": 160,
        "vision_cfg": {"image_size": 64, "layers": list(layers), "width": width},
        "text_cfg": {
            "context_length": tokenizer.model_max_length,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": ".",
            "width": 96,
            "heads": 4,
            "layers": 2,
        },
    }


class TextEncoderTowers(nn.Module):
    """The teacher's text encoder beside an image tower that is thrown away after training."""

    def __init__(self, text_encoder: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.image_tower = open_clip.modified_resnet.ModifiedResNet([1, 1, 1, 1], 128, heads=8, image_size=64, width=16)

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self.image_tower(images)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.text_encoder(tokens).text_embeds


class Names(nn.Module):
    """Linear heads that name what an image's features show; thrown away after training.

    A batch of 64 texts asks for little more than colour and style to tell its pictures apart, and the text tower has
    to be learned before it asks for anything (docs/log.md has what that cost).

    Args:
        width: Features of an image.
        meanings: What each text says; an artist who is not named is not learned from.
    """

    _labels: torch.Tensor  # the numbers of concept, colour and artist of each text, (texts, 3)

    def __init__(self, width: int, meanings: Sequence[Meaning]) -> None:
        super().__init__()
        said = [(meaning.concept, meaning.colour, meaning.artist) for meaning in meanings]
        known = [sorted({name for name in names if name is not None}) for names in zip(*said, strict=True)]
        self.heads = nn.ModuleList(nn.Linear(width, len(names)) for names in known)
        numbers = [{name: i for i, name in enumerate(names)} for names in known]
        labels = [[number.get(name, _UNNAMED) for number, name in zip(numbers, one, strict=True)] for one in said]
        self.register_buffer("_labels", torch.tensor(labels), persistent=False)

    def forward(self, features: torch.Tensor, texts: Sequence[int]) -> torch.Tensor:
        """Cross-entropy of concept, colour and artist, summed.

        Args:
            features: Of images, (n, width).
            texts: The number of the text that each was drawn for.
        """
        labels = self._labels[list(texts)]
        losses = [
            # a sum over none is 0, a mean of none is not a number
            F.cross_entropy(head(features), label, ignore_index=_UNNAMED, reduction="sum") / len(label)
            for head, label in zip(self.heads, labels.T, strict=True)
        ]
        return torch.stack(losses).sum()


class ClipProblem(nn.Module):
    """CLIP's contrastive loss on batches in which no two captions mean the same picture.

    Where a picture is described twice, each pair of the three is contrasted: that two texts say the same is learned
    far sooner than what they show, and the image tower then has something firm to go by.

    Args:
        towers: A module (ours or open_clip's) with ``encode_image`` and ``encode_text``.
        texts: The world's texts.
        tokenize: Texts -> token ids (n, context).
        real_images: Real scenes of texts.
        batches: Which texts stand together in a batch.
        batch: Pairs a step.
        seed: Seed of this training.
        names: Heads on the images' features that are trained too, if any.
    """

    def __init__(
        self,
        towers: Any,
        texts: Sequence[str],
        tokenize: Callable[[list[str]], torch.Tensor],
        real_images: RealImages,
        batches: Batches,
        batch: int,
        seed: int,
        names: Names | None = None,
    ) -> None:
        super().__init__()
        self.towers, self.names = towers, names
        self.logit_scale = nn.Parameter(torch.tensor(2.66))
        self._texts, self._tokenize, self._real_images = texts, tokenize, real_images
        self._batches, self._batch, self._seed = batches, batch, seed

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """The loss of the whole batch; a contrastive loss has no meaning on a part of it."""
        if rows != slice(0, self._batch):
            raise ValueError("the contrastive loss needs its whole batch in one piece")
        views = self._batches(numpy_generator(self._seed, step))
        said = [[self._texts[i] for i in view] for view in views]
        images = self._real_images(said[0], self._seed, step * self._batch)
        features = self.towers.encode_image(self._augment(images, step))
        image = F.normalize(features, dim=-1)
        texts = [F.normalize(self.towers.encode_text(self._tokenize(several)), dim=-1) for several in said]
        scale, target = self.logit_scale.exp().clamp(max=100), torch.arange(len(image))
        losses = []
        for one, other in itertools.combinations([image, *texts], 2):
            logits = scale * one @ other.T
            losses.append((F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2)
        right = ((scale * image @ texts[0].T).argmax(1) == target).float().mean()
        loss = torch.stack(losses).mean()
        if self.names is None:
            return {"loss": loss, "right": right}
        naming = self.names(features, views[0])
        return {"loss": loss + naming, "right": right, "naming": naming}

    def _augment(self, images: torch.Tensor, step: int) -> torch.Tensor:
        """As the evaluator sees them (64 x 64, normalised); half of them softened, half a little noisy.

        Generated images are softer than drawings; an evaluator that never saw a soft edge would judge just that.
        """
        image = images.float() / 255
        chance = generator(self._seed, step, 1)
        soft = torch.rand(len(image), 1, 1, 1, generator=chance) < 0.5
        size = int(torch.randint(images.shape[-1] // 2, images.shape[-1], (), generator=chance))
        small = F.interpolate(image, (size, size), mode="bilinear", antialias=True)
        image = torch.where(soft, F.interpolate(small, images.shape[-2:], mode="bicubic"), image)
        amount = (torch.rand(len(image), 1, 1, 1, generator=chance) * 0.1 - 0.05).clamp(min=0)
        noise = torch.randn(image.shape, generator=chance)
        return preprocess((image + amount * noise).clamp(0, 1))


def preprocess(image: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] -> 64 x 64, bicubic, normalised with open_clip's constants."""
    image = F.interpolate(image, (64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    return (image - mean) / std
