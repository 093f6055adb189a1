"""Make the file of drawings that the artists' world ships, from the packages that hold its six sets.

    npm install --prefix FOLDER @iconify-json/openmoji@1.2.29 @iconify-json/twemoji@1.2.5 @iconify-json/noto@1.2.9 \
        @iconify-json/noto-v1@1.2.5 @iconify-json/emojione@1.2.3 @lobehub/fluent-emoji-3d@1.1.0
    python -m randcond.make_teacher.drawings --packages FOLDER --output drawings.zip --log drawings.log

Each drawing is rasterised, cropped to what is drawn and made small: RGBA, its longer side 128 pixels. Two runs with the
same versions of Pillow and resvg give the same bytes.
"""

import argparse
import io
import json
import logging
import zipfile
from functools import cache
from pathlib import Path

import resvg_py
from PIL import Image

from randcond.jobs.errors import UserError, reason
from randcond.jobs.files import atomic_path
from randcond.jobs.progress import Progress
from randcond.jobs.stage import run_stage
from randcond.worlds.drawings import ARTISTS
from randcond.worlds.emoji import codepoints

log = logging.getLogger("randcond")

SIDE = 128  # pixels of the longer side
_RASTER = 256  # pixels that a drawing is rasterised at
_PHOTOGRAPHED = "fluent-3d"  # the set that comes as pictures; the others are SVG
_OLDER = ("noto-v1", "emojione")  # sets that ended before all concepts had a codepoint
_NAMED = ("noto", "twemoji", "openmoji")  # sets that say which icon a codepoint is; the older ones use their names
_DATE = (1980, 1, 1, 0, 0, 0)


def cropped(drawing: Image.Image) -> Image.Image:
    """An RGBA drawing without its empty margin, the longer side 128 pixels.

    Raises:
        ValueError: If all of it is transparent.
    """
    if (box := drawing.getchannel("A").getbbox()) is None:
        raise ValueError("nothing is drawn")
    drawing = drawing.crop(box)
    scale = SIDE / max(drawing.size)
    width, height = (max(1, round(length * scale)) for length in drawing.size)
    return drawing.resize((width, height), Image.Resampling.LANCZOS)


def _drawing(packages: Path, artist: str, codepoint: str) -> Image.Image | None:
    if artist == _PHOTOGRAPHED:
        folder = _package(packages, "@lobehub/fluent-emoji-3d") / "assets"
        for name in (codepoint, f"{codepoint}-fe0f"):
            if (file := folder / f"{name}.webp").exists():
                return Image.open(file).convert("RGBA")
        return None
    icons = _json(_package(packages, f"@iconify-json/{artist}") / "icons.json")
    for name in _names(packages, codepoint):
        if name in icons["icons"]:
            return _rasterised(icons, icons["icons"][name])
    return None


def _names(packages: Path, codepoint: str) -> list[str]:
    """What the sets call the icon of a codepoint."""
    tables = [_json(_package(packages, f"@iconify-json/{artist}") / "chars.json") for artist in _NAMED]
    names = [table[key] for table in tables for key in (codepoint, f"{codepoint}-fe0f") if key in table]
    return names + [f"{name}-face" for name in names]  # as older sets call animals


def _rasterised(icons: dict, icon: dict) -> Image.Image:
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=_RASTER, skip_system_fonts=True)
    return Image.open(io.BytesIO(png)).convert("RGBA")


def _package(packages: Path, name: str) -> Path:
    folder = packages / "node_modules" / name
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such package; install it by npm, as the head of this module says")
    return folder


@cache
def _json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); install its package anew") from None


def write(packages: Path, output: Path) -> None:
    """Write the zip: ``<artist>/<concept>.webp`` of all that there are, in a fixed order; the log says what two older
    sets lack.

    Raises:
        UserError: If a package is missing or damaged, an icon cannot be drawn, or one of the other sets lacks one.
    """
    pairs = [(artist, *row) for artist in ARTISTS for row in sorted(codepoints().items())]
    progress = Progress("drawings", len(pairs), "drawings")
    lacking: dict[str, list[str]] = {artist: [] for artist in _OLDER}
    with atomic_path(output) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for i, (artist, concept, codepoint) in enumerate(pairs):
            if (stored := _stored(packages, artist, concept, codepoint.lower())) is not None:
                archive.writestr(zipfile.ZipInfo(f"{artist}/{concept}.webp", _DATE), stored)
            else:
                lacking[artist].append(concept)
            progress.at(i + 1)
    for artist, concepts in lacking.items():
        log.info("%s has no icon of %d concepts: %s", artist, len(concepts), ", ".join(concepts))


def _stored(packages: Path, artist: str, concept: str, codepoint: str) -> bytes | None:
    """The WebP file of a drawing; None where an older set lacks it."""
    try:
        drawing = _drawing(packages, artist, codepoint)
        if drawing is None and artist in _OLDER:
            return None
        if drawing is None:
            raise ValueError(f"no icon of {codepoint}")
        stored = io.BytesIO()
        cropped(drawing).save(stored, "WEBP", quality=90, method=4)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{packages}: {artist}'s {concept} cannot be drawn ({reason(error)}); install the versions of its package "
            "and of resvg-py that the project names"
        ) from None
    return stored.getvalue()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True, help="the folder that npm installed into")
    parser.add_argument("--output", type=Path, required=True)
    run_stage(lambda arguments: write(arguments.packages, arguments.output), parser)
