"""Render D: one shard of latents from prompts, by the teacher or from the world's real images.

A shard is a safetensors file with ``latents`` (n, channels, h, w), already scaled, and ``rows``: their row
numbers in the prompts file. Of real images that are to be augmented, ``latents`` are the posterior's means and
``spread`` its standard deviations; ``mirrored`` and ``mirrored_spread`` are those of the images' mirror images.
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from randcond.jobs.errors import UserError
from randcond.jobs.progress import Progress
from randcond.jobs.stage import device, named_paths, run_stage, set_threads
from randcond.jobs.tensors import write_tensors
from randcond.prompts.table import read_prompts
from randcond.teachers.pipelines import draw_latents, encode_images, image_size, load_pipeline, posterior
from randcond.worlds import load_world


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    prompts = read_prompts(arguments.prompts).head(settings["count"])
    first = arguments.shard * settings["shard"]
    prompts = prompts[first : first + settings["shard"]]
    texts = prompts["text"].tolist()
    if not texts:
        raise UserError(f"{arguments.prompts}: has no row {first} for shard {arguments.shard}")
    pipeline = load_pipeline(arguments.teacher, device(), settings["precision"])
    world, sources = load_world(settings["world"]), named_paths(arguments.sources)
    progress = Progress(f"render {arguments.output.parent.name} {arguments.shard}", len(texts), "images")
    parts: dict[str, list[torch.Tensor]] = {}
    dtype = torch.float16 if settings["latents"] == "fp16" else torch.float32
    for start in range(0, len(texts), settings["batch"]):
        rows = prompts[start : start + settings["batch"]]
        if settings["images"] == "rendered":
            drawn = {
                "latents": draw_latents(
                    *(pipeline, rows["text"].tolist(), first + start),
                    *(settings["seed"], settings["steps"], settings["guidance_scale"]),
                )
            }
        else:
            augmented, size = settings["images"] == "real-augmented", image_size(pipeline)
            images = world.training_images(rows, settings["seed"], first + start, size, sources, bilinear=augmented)
            drawn = _augmentable(pipeline, images) if augmented else {"latents": encode_images(pipeline, images)}
        for name, tensor in drawn.items():
            # a tensor of its own: a slice would be stored with the whole batch behind it
            parts.setdefault(name, []).append(tensor.to("cpu", dtype, copy=True))
        progress.at(start + len(rows))
    whole = {name: torch.cat(tensors) for name, tensors in parts.items()}
    latents = whole["latents"]
    if not all(torch.isfinite(tensor).all() for tensor in whole.values()) or float(latents.float().std()) < 1e-3:
        raise UserError(f"{arguments.teacher}: the teacher's latents are constant or not finite; check its weights")
    write_tensors(arguments.output, whole | {"rows": torch.arange(first, first + len(texts))})


def _augmentable(pipeline: DiffusionPipeline, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The posterior of the images and of their mirror images."""
    latents, spread = posterior(pipeline, images)
    mirrored, mirrored_spread = posterior(pipeline, images.flip(-1))
    return {"latents": latents, "spread": spread, "mirrored": mirrored, "mirrored_spread": mirrored_spread}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--shard", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sources", nargs="*", default=[], metavar="NAME=PATH", help="the world's files")
    for option in ("--teacher", "--prompts", "--output"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
