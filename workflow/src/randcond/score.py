"""Score one run's samples against the world's real images: features -> statistics -> one JSON file."""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel

from randcond.errors import UserError
from randcond.evaluator import Evaluator, class_logits
from randcond.files import read_tensors, write_json, write_tensors
from randcond.metrics import all_metrics
from randcond.progress import log
from randcond.prompts import read_prompts
from randcond.stage import run_stage, set_threads
from randcond.worlds import emoji


def _reference(arguments: argparse.Namespace) -> None:
    """Features of the real images, and of what the evaluator compares images with: classes and prompts."""
    settings = json.loads(arguments.settings)
    evaluator = Evaluator(arguments.evaluator)
    texts = read_prompts(arguments.prompts)["text"].tolist()
    images = evaluator.image_features(arguments.images, settings["batch"])
    expected = len(texts) * settings["real_per_prompt"]
    if len(images) != expected:
        raise UserError(
            f"{arguments.images[0]}: {len(images)} real images, {expected} expected; delete it and run again"
        )
    classes = evaluator.class_features(emoji.captions())
    tensors = {"images": _unit(images), "prompts": evaluator.text_features(texts), "classes": classes}
    tensors["logit_scale"] = np.array([evaluator.logit_scale], np.float32)
    write_tensors(arguments.output, {name: torch.from_numpy(array) for name, array in tensors.items()})


def _score(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    prompts = read_prompts(arguments.prompts)
    reference = {name: tensor.numpy() for name, tensor in read_tensors(arguments.reference).items()}
    features = Evaluator(arguments.evaluator).image_features(arguments.images, settings["batch"])
    if len(features) != len(prompts):
        raise UserError(f"{arguments.images[0]}: {len(features)} samples for {len(prompts)} prompts; draw them again")
    if not np.isfinite(features).all():
        raise UserError(f"{arguments.images[0]}: the evaluator's features are not finite; look at the samples")
    unit = _unit(features)
    logits = class_logits(unit, reference["classes"], float(reference["logit_scale"][0]))
    names = list(emoji.concepts())
    wanted = np.array([names.index(emoji.parse(text).concept) for text in prompts["text"]])
    cosines = (unit * reference["prompts"]).sum(1)
    named = logits.argmax(1) == wanted
    split = prompts["split"].to_numpy()
    per_prompt = len(reference["images"]) // len(prompts)
    # Distances are between directions, as the cosines are; of length sqrt(width), so that KID's kernel is (cos + 1)^3.
    scale = features.shape[1] ** 0.5
    splits: dict[str, Any] = {}
    for name in ("all", "seen", "unseen"):
        chosen = np.ones(len(split), bool) if name == "all" else split == name
        real = np.repeat(chosen, per_prompt)
        splits[name] = {
            "count": int(chosen.sum()),
            "reference_count": int(real.sum()),
            "metrics": all_metrics(
                *(
                    scale * unit[chosen],
                    scale * reference["images"][real],
                    logits[chosen],
                    cosines[chosen],
                    named[chosen],
                ),
                *(settings["bootstrap"], settings["seed"]),
            ),
        }
        shown = {metric: round(score["value"], 3) for metric, score in splits[name]["metrics"].items()}
        log.info("%s, %s: %s", arguments.run, name, shown)
    unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(arguments.pipeline / "unet"))
    write_json(
        arguments.output,
        {
            **{"run": arguments.run, "seed": arguments.seed, "world": settings["world"], "name": settings["name"]},
            "unet_parameters": sum(parameter.numel() for parameter in unet.parameters()),
            "protocol": settings["protocol"],
            "splits": splits,
        },
    )


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    reference = commands.add_parser("reference", help="features of the real images")
    reference.set_defaults(command=_reference)
    score = commands.add_parser("run", help="scores of one run")
    score.set_defaults(command=_score)
    for command in (reference, score):
        command.add_argument("--settings", required=True)
        command.add_argument("--images", type=Path, nargs="+", required=True)
        for option in ("--evaluator", "--prompts", "--output"):
            command.add_argument(option, type=Path, required=True)
        command.add_argument("--threads", type=int, default=1)
    for option in ("--reference", "--pipeline"):
        score.add_argument(option, type=Path, required=True)
    score.add_argument("--run", required=True)
    score.add_argument("--seed", type=int, required=True)

    def _main(arguments: argparse.Namespace) -> None:
        set_threads(arguments.threads)
        arguments.command(arguments)

    run_stage(_main, parser)
