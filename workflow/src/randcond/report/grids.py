"""Grids of samples: a row for each run, a column for each prompt."""

import base64
import io
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from randcond.jobs.errors import UserError, reading
from randcond.report.inputs import run_and_seed
from randcond.report.shown import Grid
from randcond.report.text import plain

CELL = 96  # pixels of a picture in the PNG, at least
LARGEST = 192  # pixels of a picture; larger ones are reduced
LONGEST = 120  # characters of a caption
LABEL = 190  # pixels for the names of the runs
FONT = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"

Shards = dict[tuple[str, int], list[Path]]


@dataclass(frozen=True)
class GridRow:
    """A run's pictures; none if it has no samples."""

    run: str
    seed: int | None
    images: list[Image.Image]


@dataclass(frozen=True)
class FilledGrid:
    """A grid ready to be shown. ``rows`` and ``captions`` are in the order of the settings and of the prompts."""

    title: str
    split: str
    file: str
    captions: list[str]
    rows: list[GridRow]


def shards(paths: Iterable[Path]) -> Shards:
    """Sample files by (run, seed), taken from ``.../<run>/<seed>/<shard>.zip``."""
    found: Shards = {}
    for path in sorted(paths):
        found.setdefault(run_and_seed(path), []).append(path)
    return found


def chosen_rows(prompts: pd.DataFrame, split: str, count: int, benchmark: int | None = None) -> list[int]:
    """``count`` row numbers of ``split``, evenly spread over the file; fewer if there are fewer.

    The split ``all`` is every row, ``coco30k`` the first ``benchmark`` rows.

    Raises:
        UserError: If the split has no prompts.
    """
    if split in ("all", "coco30k"):
        rows = np.arange(len(prompts) if split == "all" else benchmark or 0)
    else:
        rows = np.flatnonzero(prompts["split"] == split)
    if not len(rows):
        raise UserError(f"report settings: the evaluation prompts have no split {split}")
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [int(rows[place]) for place in places]


def fill(
    number: int, grid: Grid, prompts: pd.DataFrame, samples: Shards, seeds: Sequence[int], folder: Path
) -> FilledGrid:
    """Collect a grid's pictures and draw them into ``folder``; the file's name is in the result.

    Each run shows the first of ``seeds`` that it has samples of, or any other.

    Raises:
        UserError: If a sample is missing from a run that was sampled, or cannot be read.
    """
    rows = chosen_rows(prompts, grid.split, grid.count, grid.benchmark)
    filled = []
    for run in grid.runs:
        have = sorted(seed for name, seed in samples if name == run)
        seed = next((one for one in seeds if one in have), have[0] if have else None)
        filled.append(GridRow(run, seed, [] if seed is None else read_samples(samples[run, seed], rows)))
    name = "".join(character if character.isalnum() else "-" for character in grid.split)
    captions = [shown(str(prompts["text"].iloc[row])) for row in rows]
    result = FilledGrid(grid.title, grid.split, f"samples-{number}-{name}.png", captions, filled)
    draw(result).save(folder / result.file)
    return result


def shown(caption: str) -> str:
    """A caption fit for a page: one short line, without control characters and marks that turn the direction."""
    line = " ".join(plain(caption).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def read_samples(paths: Sequence[Path], rows: Sequence[int]) -> list[Image.Image]:
    """The samples of some prompts, RGB, at most ``LARGEST`` pixels wide and high."""
    images: dict[int, Image.Image] = {}
    for path in paths:
        broken = "delete it and sample again"
        with reading(path, "a zip file of pictures", broken=broken), zipfile.ZipFile(path) as file:
            for name in file.namelist():
                row = int(Path(name).stem) if Path(name).stem.isdecimal() else -1
                if row in rows:
                    images[row] = Image.open(io.BytesIO(file.read(name))).convert("RGB")
                    images[row].thumbnail((LARGEST, LARGEST))
    for row in rows:
        if row not in images:
            raise UserError(
                f"{paths[0].parent}: the sample of prompt {row} is missing; delete the folder and sample again"
            )
    return [images[row] for row in rows]


def data_uri(image: Image.Image) -> str:
    """A picture as a ``data:`` address."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def draw(grid: FilledGrid) -> Image.Image:
    """The grid as one picture: names of the runs at the left, captions below; without the runs that have no samples."""
    rows = [row for row in grid.rows if row.images]
    size = max((_enlarged(image).width for row in rows for image in row.images), default=CELL)
    step, font = size + 6, ImageFont.truetype(str(FONT), 11)
    captions = [_wrap(caption, font, size) for caption in grid.captions]
    foot = 14 * max(caption.count("\n") + 1 for caption in captions) + 10
    picture = Image.new("RGB", (LABEL + step * len(captions), step * len(rows) + foot), "white")
    pen = ImageDraw.Draw(picture)
    for y, row in enumerate(rows):
        pen.multiline_text((8, y * step + size / 2 - 8), _wrap(row.run, font, LABEL - 12), "black", font)
        for x, image in enumerate(row.images):
            picture.paste(_enlarged(image), (LABEL + x * step, y * step))
    for x, caption in enumerate(captions):
        pen.multiline_text((LABEL + x * step, step * len(rows)), caption, "black", font, spacing=2)
    return picture


def _enlarged(image: Image.Image) -> Image.Image:
    """By a whole factor, to ``CELL`` pixels at least: a caption's words fit below."""
    factor = -(-CELL // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Break lines at spaces, and words that are wider than ``width`` anywhere."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}".strip()
            if font.getlength(joined) <= width:
                line = joined
                continue
            lines += [line] if line else []
            while font.getlength(word) > width and len(word) > 1:
                end = next(i for i in range(len(word) - 1, 0, -1) if font.getlength(word[:i]) <= width or i == 1)
                lines.append(word[:end])
                word = word[end:]
            line = word
        lines.append(line)
    return "\n".join(lines)
