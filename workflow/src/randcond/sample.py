"""Draw one shard of evaluation images from a pipeline: an uncompressed zip of PNGs named by their prompt's row."""

import argparse
import io
import json
import zipfile
from pathlib import Path

import torch
from PIL import Image

from randcond.errors import UserError
from randcond.files import atomic_path
from randcond.progress import Progress
from randcond.prompts import read_prompts
from randcond.stage import run_stage, set_threads
from randcond.teacher import decode, draw_latents, load_pipeline
from randcond.worlds import emoji


def write_images(path: Path, images: torch.Tensor, first: int) -> None:
    """Write uint8 images (n, 3, h, w) to a zip; the names count from ``first``. Equal images give equal bytes."""
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG")
            # a fixed date, so that equal images give equal files
            archive.writestr(zipfile.ZipInfo(f"{first + i:05d}.png", (1980, 1, 1, 0, 0, 0)), buffer.getvalue())


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    first = arguments.shard * settings["shard"]
    texts = read_prompts(arguments.prompts)["text"].tolist()[first : first + settings["shard"]]
    if not texts:
        raise UserError(f"{arguments.prompts}: has no row {first} for shard {arguments.shard}")
    pipeline = load_pipeline(arguments.pipeline)
    progress = Progress(arguments.name, len(texts), "images")
    images = []
    for start in range(0, len(texts), settings["batch"]):
        batch = texts[start : start + settings["batch"]]
        latents = draw_latents(
            pipeline, batch, first + start, settings["seed"], settings["steps"], settings["guidance_scale"]
        )
        if not torch.isfinite(latents).all():
            raise UserError(f"{arguments.pipeline}: draws images that are not finite numbers; train it again")
        images.append(decode(pipeline, latents))
        progress.at(start + len(batch))
    write_images(arguments.output, torch.cat(images), first)


def _real(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    texts = [text for text in read_prompts(arguments.prompts)["text"] for _ in range(settings["real_per_prompt"])]
    write_images(arguments.output, emoji.real_images(texts, settings["seed"]), 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pipeline", type=Path, help="left out: the world's real images")
    parser.add_argument("--name", default="sample", help="shown in progress lines")
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    run_stage(lambda arguments: _main(arguments) if arguments.pipeline else _real(arguments), parser)
