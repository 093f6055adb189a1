"""Draw one shard of evaluation images from a pipeline: an uncompressed zip of images named by their prompt's row."""

import argparse
import io
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from randcond.errors import UserError
from randcond.files import atomic_path
from randcond.progress import Progress
from randcond.prompts import read_prompts
from randcond.stage import device, named_paths, run_stage, set_threads
from randcond.teacher import decode, draw_latents, load_pipeline
from randcond.worlds import load_world


def encoded(image: Image.Image, image_format: str) -> bytes:
    """The image as a file, with PIL's default settings."""
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def stored(image: Image.Image, image_format: str, resize: int | None) -> bytes:
    """The image as a file; with ``resize``, as BK-SDM does it: stored, read again, resized and stored once more."""
    if resize is None:
        return encoded(image, image_format)
    return resized(Image.open(io.BytesIO(encoded(image, image_format))), image_format, resize)


def resized(image: Image.Image, image_format: str, size: int) -> bytes:
    """The image in ``size`` x ``size`` pixels, by PIL's default filter, as a file."""
    return encoded(image.convert("RGB").resize((size, size)), image_format)


def write_images(path: Path, files: Iterable[bytes], first: int, image_format: str) -> int:
    """Write images to a zip; their names count from ``first``. Equal images give equal bytes. Their number."""
    suffix, count = {"png": "png", "jpeg": "jpg"}[image_format], 0
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for content in files:
            # a fixed date, so that equal images give equal files
            archive.writestr(zipfile.ZipInfo(f"{first + count:05d}.{suffix}", (1980, 1, 1, 0, 0, 0)), content)
            count += 1
    return count


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    first = arguments.shard * settings["shard"]
    prompts = read_prompts(arguments.prompts).head(settings["count"])
    texts = prompts["text"].tolist()[first : first + settings["shard"]]
    if not texts:
        raise UserError(f"{arguments.prompts}: has no row {first} for shard {arguments.shard}")
    write_images(arguments.output, _draw(arguments, settings, texts, first), first, settings["image_format"])


def _draw(arguments: argparse.Namespace, settings: dict[str, Any], texts: list[str], first: int) -> Iterator[bytes]:
    pipeline = load_pipeline(arguments.pipeline, device(), settings["precision"])
    progress = Progress(arguments.name, len(texts), "images")
    for start in range(0, len(texts), settings["batch"]):
        batch = texts[start : start + settings["batch"]]
        latents = draw_latents(
            pipeline, batch, first + start, settings["seed"], settings["steps"], settings["guidance_scale"]
        )
        if not torch.isfinite(latents).all():
            raise UserError(f"{arguments.pipeline}: draws images that are not finite numbers; train it again")
        for image in decode(pipeline, latents).permute(0, 2, 3, 1).numpy():
            yield stored(Image.fromarray(image), settings["image_format"], settings["resize"])
        progress.at(start + len(batch))


def _real(arguments: argparse.Namespace) -> None:
    settings, prompts = json.loads(arguments.settings), read_prompts(arguments.prompts)
    per_prompt, image_format, size = settings["real_per_prompt"], settings["image_format"], settings["resize"]
    images = load_world(settings["world"]).reference_images(
        prompts, per_prompt, settings["seed"], named_paths(arguments.sources)
    )
    # photographs have been stored before; drawings that are not resized are as they come
    files = (resized(image, image_format, size) if size else encoded(image, image_format) for image in images)
    count = write_images(arguments.output, files, 0, image_format)
    if count != len(prompts) * per_prompt:
        raise UserError(f"{arguments.prompts}: {count} real images for {len(prompts)} prompts, {per_prompt} each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pipeline", type=Path, help="left out: the world's real images")
    parser.add_argument("--name", default="sample", help="shown in progress lines")
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--sources", nargs="*", default=[], metavar="NAME=PATH", help="the world's files")
    parser.add_argument("--threads", type=int, default=1)
    run_stage(lambda arguments: _main(arguments) if arguments.pipeline else _real(arguments), parser)
