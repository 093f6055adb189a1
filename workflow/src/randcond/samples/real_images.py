"""The world's real images of the evaluation prompts, to measure distances to."""

import argparse
import json
from pathlib import Path

from randcond.jobs.errors import UserError
from randcond.jobs.stage import named_paths, run_stage
from randcond.prompts.table import read_prompts
from randcond.samples.images import encoded, resized, write_images
from randcond.worlds import load_world


def main(arguments: argparse.Namespace) -> None:
    """Write ``real_per_prompt`` images of each prompt into one zip, in the prompts' order."""
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
    parser.add_argument("--sources", nargs="*", default=[], metavar="NAME=PATH", help="the world's files")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    run_stage(main, parser)
