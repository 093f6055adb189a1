"""Scenes of the six artists' world: one drawing of a concept on a coloured background, 64 x 64 pixels.

The drawings lie in one file, ``workflow/assets/artists/drawings.zip``, as ``<artist>/<concept>.webp``; their licences
beside it.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.seeding import numpy_generator
from randcond.worlds.emoji import COLOURS

DRAWINGS = Path(__file__).parents[3] / "assets" / "artists" / "drawings.zip"
ARTISTS = ("openmoji", "twemoji", "noto", "noto-v1", "emojione", "fluent-3d")
SIZE = 64  # pixels of a scene's sides

_SIDES = (44, 50, 56)  # pixels that the drawing's longer side takes
_SHADE = 8  # the background's channels vary by so much, of 255


@dataclass(frozen=True)
class Meaning:
    """What a text says: a concept, a background's colour and, where the text names it, the artist."""

    concept: str
    colour: str
    artist: str | None = None


@cache
def drawn() -> dict[str, tuple[str, ...]]:
    """Concept -> the artists that draw it, in ``ARTISTS``' order; concepts in alphabetical order."""
    found: dict[str, list[str]] = {}
    for artist in ARTISTS:
        for name in _sources():
            if name[0] == artist:
                found.setdefault(name[1], []).append(artist)
    return {concept: tuple(found[concept]) for concept in sorted(found)}


def real_images(meanings: Sequence[Meaning], seed: int, first: int = 0) -> torch.Tensor:
    """A real scene of each meaning: place, size, direction and the background's shade are drawn, as is the artist where
    none is named.

    Args:
        meanings: What is drawn.
        seed: Seed of the set of images; the i-th image depends on its meaning and (seed, first + i) only.
        first: Number of the first image in the set.

    Returns:
        uint8 tensor (len(meanings), 3, 64, 64), RGB.

    Raises:
        UserError: If the named artist has not drawn the concept.
    """
    images = np.empty((len(meanings), SIZE, SIZE, 3), np.uint8)
    for i, meaning in enumerate(meanings):
        images[i] = _scene(meaning, numpy_generator(seed, first + i))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _scene(meaning: Meaning, rng: np.random.Generator) -> np.ndarray:
    artist = meaning.artist or str(rng.choice(drawn()[meaning.concept]))
    side = int(rng.choice(_SIDES))
    drawing = _drawing(artist, meaning.concept, side)
    if rng.random() < 0.5:
        drawing = drawing[:, ::-1]
    height, width = drawing.shape[:2]
    top, left = int(rng.integers(SIZE - height + 1)), int(rng.integers(SIZE - width + 1))
    background = np.array(COLOURS[meaning.colour]) + rng.integers(-_SHADE, _SHADE + 1, 3)
    scene = np.broadcast_to(background, (SIZE, SIZE, 3)).astype(np.float32)
    place = scene[top : top + height, left : left + width]
    alpha = drawing[..., 3:].astype(np.float32) / 255
    place += alpha * (drawing[..., :3] - place)
    return scene.round().clip(0, 255).astype(np.uint8)


@cache
def _drawing(artist: str, concept: str, longest_side: int) -> np.ndarray:
    """RGBA drawing (height, width, 4), its longer side ``longest_side`` pixels."""
    try:
        stored = _sources()[artist, concept]
    except KeyError:
        raise UserError(f"{DRAWINGS}: {artist} has not drawn a {concept}; name another artist or none") from None
    drawing = Image.open(io.BytesIO(stored)).convert("RGBA")
    scale = longest_side / max(drawing.size)
    width, height = (max(1, round(length * scale)) for length in drawing.size)
    return np.asarray(drawing.resize((width, height), Image.Resampling.BOX))


@cache
def _sources() -> dict[tuple[str, str], bytes]:
    try:
        with zipfile.ZipFile(DRAWINGS) as archive:
            names = [Path(name) for name in archive.namelist() if name.endswith(".webp")]
            return {(name.parent.name, name.stem): archive.read(str(name)) for name in names}
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{DRAWINGS}: cannot be read ({error}); check the project out anew") from None
