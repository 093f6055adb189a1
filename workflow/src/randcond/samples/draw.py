"""Draw one shard of evaluation images from a pipeline: a zip of images named by their prompt's row."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.progress import Progress
from randcond.jobs.stage import device, run_stage, set_threads
from randcond.prompts.table import read_prompts
from randcond.samples.images import stored, write_images
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline


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
    own = "scheduler" in settings  # a student that was made for its own
    pipeline = load_pipeline(arguments.pipeline, device(), settings["precision"], arguments.unet, own)
    progress = Progress(arguments.name, len(texts), "images")
    for start in range(0, len(texts), settings["batch"]):
        batch = texts[start : start + settings["batch"]]
        latents = draw_latents(
            pipeline, batch, first + start, settings["seed"], settings["steps"], settings["guidance_scale"]
        )
        if not torch.isfinite(latents).all():
            raise UserError(
                f"{arguments.unet or arguments.pipeline}: draws images that are not finite numbers; train it again"
            )
        for image in decode(pipeline, latents).permute(0, 2, 3, 1).numpy():
            yield stored(Image.fromarray(image), settings["image_format"], settings["resize"])
        progress.at(start + len(batch))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--pipeline", type=Path, required=True)
    parser.add_argument("--unet", type=Path, help="folder of a UNet in the place of the pipeline's own")
    parser.add_argument("--name", default="sample", help="shown in progress lines")
    parser.add_argument("--shard", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    run_stage(_main, parser)
