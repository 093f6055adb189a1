"""The paper's world: LAION and MS-COCO. What it reads is listed in the configuration's section ``sources``."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.files import files_below
from randcond.worlds.animals import names_animal
from randcond.worlds.archives import Archive, only_file, open_archive, parse_captions
from randcond.worlds.lines import clean
from randcond.worlds.texts import sample_texts

REASONS = ("empty", "length", "strange characters")  # why a written line is left out
SPLITS = ("seen", "unseen")  # all that every draw must hold

_WORDS = range(3, 61)  # words of a written caption; the text encoder reads 77 tokens


def split_of(text: str) -> str:
    """``"unseen"`` if the text names an animal, else ``"seen"``."""
    return "unseen" if names_animal(text) else "seen"


def topics() -> list[str]:
    """None: what is written of is left to the model and to the examples."""
    return []


def topic_of(text: str) -> str | None:
    """None."""
    return None


def screen(line: str) -> tuple[str | None, str]:
    """Clean a written line and say whether it is a caption.

    Returns:
        (caption, "") or (None, reason), the reason one of :data:`REASONS`.
    """
    text = clean(line)
    words = text.split()
    if not words:
        return None, "empty"
    if len(words) not in _WORDS:
        return None, "length"
    if any(character in "<>{}[]|\\`*#@=_~^" for character in text) or "http" in text:
        return None, "strange characters"
    return text, ""


def evaluation(settings: dict[str, Any], sources: Mapping[str, Path]) -> pd.DataFrame:
    """The evaluation prompts, from MS-COCO. The source of a prompt is its image's file name.

    They are the rows of ``sources.evaluation`` in their order; then, with ``sources.annotations``, the first caption of
    every photo that has none among them.

    Args:
        settings: ``evaluation`` and ``benchmark``.
        sources: ``evaluation``, maybe ``annotations``.

    Raises:
        UserError: If a source is missing or broken, or does not hold as many as the settings say.
    """
    path = only_file(_source(sources, "evaluation"), "*.csv")
    try:
        found = parse_captions(path.read_bytes(), str(path))
    except OSError:
        raise UserError(f"{path}: cannot be read; run snakemake fetch") from None
    if settings["benchmark"] is not None:
        _require("prompts.benchmark", settings["benchmark"], len(found), path)
    if "annotations" in sources:
        found += _other_photos(open_archive(sources["annotations"]), {name for name, _ in found})
    _require("prompts.evaluation", settings["evaluation"], len(found), path)
    return _frame(found)


def choose(
    settings: dict[str, Any], evaluation: pd.DataFrame, sources: Mapping[str, Path]
) -> tuple[pd.DataFrame, Iterable[str]]:
    """D's prompts, the first of LAION-Aesthetics, and the pool, from LAION-400M. Neither holds a caption of COCO's.

    Args:
        settings: ``count``, ``pool``, ``max_characters`` and ``seed``; every ``draw`` is the same D, nearly all of the
            captions, and a pool of its own.
        evaluation: Not used.
        sources: ``captions``, ``texts``.

    Raises:
        UserError: If a source is missing or broken, or does not hold as many as the settings say.
    """
    captions = open_archive(_source(sources, "captions")).captions()
    _require("prompts.count", settings["count"], len(captions), sources["captions"], at_least=True)
    if settings["pool"] is None:
        raise UserError("prompts.pool: say how many texts to draw from sources.texts")
    files = files_below(_source(sources, "texts"), "*.parquet")
    if not files:
        raise UserError(f"{sources['texts']}: holds no Parquet files; run snakemake fetch")
    pool = sample_texts(files, settings["pool"], settings["seed"] + settings["draw"], settings["max_characters"])
    return _frame(captions[: settings["count"]]), pool


def _source(sources: Mapping[str, Path], name: str) -> Path:
    if name not in sources:
        raise UserError(f"sources.{name}: the paper world needs it; name the asset's path")
    return sources[name]


def _require(setting: str, wanted: int, found: int, where: Path, at_least: bool = False) -> None:
    if found < wanted if at_least else found != wanted:
        raise UserError(f"{setting}: {wanted} wanted, but {where} holds {found}; correct the setting or the source")


def _other_photos(annotations: Archive, known: set[str]) -> list[tuple[str, str]]:
    """(file name, first caption) of the photos whose names are not known, sorted by file name."""
    content = annotations.json("captions_val2014.json")
    try:
        names = {image["id"]: image["file_name"] for image in content["images"]}
        first: dict[str, str] = {}
        for caption in sorted(content["annotations"], key=lambda one: one["id"]):
            if text := " ".join(caption["caption"].split()):
                first.setdefault(names[caption["image_id"]], text)
    except (KeyError, TypeError):
        raise UserError(f"{annotations.path}: captions_val2014.json is not what COCO publishes") from None
    return sorted((name, text) for name, text in first.items() if name not in known)


def _frame(pairs: list[tuple[str, str]]) -> pd.DataFrame:
    names, texts = [name for name, _ in pairs], [text for _, text in pairs]
    return pd.DataFrame({"text": texts, "split": [split_of(text) for text in texts], "source": names})


def training_images(
    prompts: pd.DataFrame, seed: int, first: int, size: int, sources: Mapping[str, Path], bilinear: bool = False
) -> torch.Tensor:
    """The image of each of D's prompts, shorter side made ``size``, middle cut out: uint8 (n, 3, size, size)."""
    archive = open_archive(_source(sources, "captions"))
    resampling = Image.Resampling.BILINEAR if bilinear else Image.Resampling.LANCZOS
    images = [np.asarray(_square(archive.image(Path(name).name), size, resampling)) for name in prompts["source"]]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _square(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    scale = size / min(image.size)
    width, height = (max(size, round(length * scale)) for length in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), resampling).crop((left, top, left + size, top + size))


def reference_images(
    prompts: pd.DataFrame, per_prompt: int, seed: int, sources: Mapping[str, Path]
) -> Iterator[Image.Image]:
    """The photo of each evaluation prompt.

    Raises:
        UserError: If more than one a prompt is asked for; there is one.
    """
    if per_prompt != 1:
        raise UserError(f"scoring.real_per_prompt: {per_prompt} asked for, but there is 1 photo a prompt; set it to 1")
    archive = open_archive(_source(sources, "photos"))
    for name in prompts["source"]:
        yield archive.image(name)
