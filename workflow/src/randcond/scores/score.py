"""Score one run's samples against the world's real images: features -> statistics -> one JSON file."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from randcond.jobs.errors import UserError
from randcond.jobs.files import sha256_of, write_json
from randcond.jobs.progress import log
from randcond.jobs.stage import run_stage, set_threads
from randcond.jobs.tensors import read_tensors, tensor_elements, write_tensors
from randcond.prompts.table import read_prompts
from randcond.scores.world import load_scores
from randcond.teachers.families import Family, denoiser_folder, family_of


def _reference(arguments: argparse.Namespace) -> None:
    """What all runs are compared with."""
    settings, prompts = json.loads(arguments.settings), read_prompts(arguments.prompts)
    tensors = load_scores(settings["world"]).reference(arguments.evaluator, arguments.images, prompts, settings)
    write_tensors(arguments.output, {name: torch.from_numpy(array) for name, array in tensors.items()})


def _score(arguments: argparse.Namespace) -> None:
    settings, prompts = json.loads(arguments.settings), read_prompts(arguments.prompts)
    reference = _read_reference(arguments.reference)
    world = load_scores(settings["world"])
    splits = world.splits(arguments.evaluator, arguments.images, reference, prompts, settings)
    for name, split in splits.items():
        shown = {metric: round(score["value"], 3) for metric, score in split["metrics"].items()}
        log.info("%s, %s: %s", arguments.run, name, shown)
    write_json(
        arguments.output,
        {
            **{"run": arguments.run, "seed": arguments.seed, "world": settings["world"], "name": settings["name"]},
            **({"step": settings["step"]} if arguments.unet else {}),
            **_drawn_by(arguments.pipeline, arguments.unet, settings["protocol"]),
            "splits": splits,
        },
    )


def _drawn_by(pipeline: Path | None, unet: Path | None, protocol: dict[str, Any]) -> dict[str, Any]:
    """What drew the samples, and how; real images were drawn by nothing."""
    if pipeline is None:
        return {"protocol": protocol}
    name, folder = "diffusion_pytorch_model", unet or denoiser_folder(pipeline)
    # one file, or several of one number each
    weights = sorted(folder.glob(f"{name}.safetensors")) or sorted(folder.glob(f"{name}-*-of-*.safetensors"))
    return {
        "unet_parameters": tensor_elements(weights),
        "unet_sha256": sha256_of(weights),
        "protocol": protocol | _sampler(pipeline),
    }


def _sampler(pipeline: Path) -> dict[str, str]:
    """What draws a family that none of the usual samplers fits."""
    sampler = family_of(pipeline).sampler
    return {} if sampler == Family.sampler else {"scheduler": sampler}


def _read_reference(path: Path) -> dict[str, np.ndarray]:
    """What :func:`_reference` wrote."""
    reference = {name: tensor.numpy() for name, tensor in read_tensors(path).items()}
    for name, array in reference.items():
        if not np.isfinite(array).all():
            raise UserError(f"{path}: its {name} are not finite numbers; delete it and run again")
    return reference


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    reference = commands.add_parser("reference", help="features of the real images")
    reference.set_defaults(command=_reference)
    score = commands.add_parser("run", help="scores of one run")
    score.set_defaults(command=_score)
    for command in (reference, score):
        command.add_argument("--settings", required=True)
        for option in ("--evaluator", "--images"):
            command.add_argument(option, type=Path, nargs="+", required=True)
        for option in ("--prompts", "--output"):
            command.add_argument(option, type=Path, required=True)
        command.add_argument("--threads", type=int, default=1)
    score.add_argument("--reference", type=Path, required=True)
    score.add_argument("--pipeline", type=Path, help="what drew the images; none: they are real ones")
    score.add_argument("--unet", type=Path, help="folder of a UNet in the place of the pipeline's own")
    score.add_argument("--run", required=True)
    score.add_argument("--seed", type=int, required=True)

    def _main(arguments: argparse.Namespace) -> None:
        set_threads(arguments.threads)
        arguments.command(arguments)

    run_stage(_main, parser)
