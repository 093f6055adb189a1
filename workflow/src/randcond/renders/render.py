"""Render D: one shard of latents from prompts, by the teacher or from the world's real images.

A shard is a safetensors file with ``latents`` (n, channels, h, w), already scaled, and ``rows``: their row
numbers in the prompts file.
"""

import argparse
import json
from pathlib import Path

import torch

from randcond.jobs.errors import UserError
from randcond.jobs.progress import Progress
from randcond.jobs.stage import device, named_paths, run_stage, set_threads
from randcond.jobs.tensors import write_tensors
from randcond.prompts.table import read_prompts
from randcond.teachers.stable_diffusion import draw_latents, encode_images, image_size, load_pipeline
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
    latents = []
    for start in range(0, len(texts), settings["batch"]):
        batch = texts[start : start + settings["batch"]]
        if settings["images"] == "real":
            rows = prompts[start : start + settings["batch"]]
            images = world.training_images(rows, settings["seed"], first + start, image_size(pipeline), sources)
            drawn = encode_images(pipeline, images)
        else:
            drawn = draw_latents(
                pipeline, batch, first + start, settings["seed"], settings["steps"], settings["guidance_scale"]
            )
        # a tensor of its own: a slice would be stored with the whole batch behind it
        latents.append(drawn.to("cpu", torch.float16 if settings["latents"] == "fp16" else torch.float32, copy=True))
        progress.at(start + len(batch))
    whole = torch.cat(latents)
    if not torch.isfinite(whole).all() or float(whole.float().std()) < 1e-3:
        raise UserError(f"{arguments.teacher}: the teacher's latents are constant or not finite; check its weights")
    write_tensors(arguments.output, {"latents": whole, "rows": torch.arange(first, first + len(texts))})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--shard", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sources", nargs="*", default=[], metavar="NAME=PATH", help="the world's files")
    for option in ("--teacher", "--prompts", "--output"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
