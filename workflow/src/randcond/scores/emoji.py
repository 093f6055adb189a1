"""Scores of the emoji world: its evaluator is a small CLIP, which also names the concepts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from randcond.jobs.errors import UserError
from randcond.scores.evaluator import Evaluator, class_logits
from randcond.scores.metrics import all_metrics
from randcond.worlds import emoji


def reference(
    evaluators: Sequence[Path], images: Sequence[Path], prompts: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Features of the real images, and of what the evaluator compares images with: classes and prompts."""
    evaluator = Evaluator(evaluators[0])
    texts = prompts["text"].tolist()
    real = evaluator.image_features(list(images), settings["batch"])
    expected = len(texts) * settings["real_per_prompt"]
    if len(real) != expected:
        raise UserError(f"{images[0]}: {len(real)} real images, {expected} expected; delete it and run again")
    classes = evaluator.class_features(emoji.captions())
    tensors = {"images": _unit(real), "prompts": evaluator.text_features(texts), "classes": classes}
    tensors["logit_scale"] = np.array([evaluator.logit_scale], np.float32)
    return tensors


def features(evaluators: Sequence[Path], images: Sequence[Path], batch: int) -> dict[str, np.ndarray]:
    """The evaluator's features of the images of the zips."""
    return {"images": Evaluator(evaluators[0]).image_features(list(images), batch)}


def splits(
    evaluators: Sequence[Path],
    images: Sequence[Path],
    reference: dict[str, np.ndarray],
    prompts: pd.DataFrame,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Scores of all, seen and unseen prompts' samples.

    Raises:
        UserError: If there is not one sample a prompt, or a feature is not finite.
    """
    drawn = features(evaluators, images, settings["batch"])["images"]
    if len(drawn) != len(prompts):
        raise UserError(f"{images[0]}: {len(drawn)} samples for {len(prompts)} prompts; draw them again")
    if not np.isfinite(drawn).all():
        raise UserError(f"{images[0]}: the evaluator's features are not finite; look at the samples")
    missing = {"images", "prompts", "classes", "logit_scale"} - reference.keys()
    if missing or len(reference["prompts"]) != len(prompts) or len(reference["images"]) % len(prompts):
        raise UserError(
            f"scores/reference.safetensors: not made for these {len(prompts)} prompts; delete it and run again"
        )
    if {array.shape[-1] for array in (drawn, reference["images"], reference["classes"])} != {drawn.shape[1]}:
        raise UserError("scores/reference.safetensors: made by another evaluator; delete it and run again")
    unit = _unit(drawn)
    logits = class_logits(unit, reference["classes"], float(reference["logit_scale"][0]))
    names = list(emoji.concepts())
    wanted = np.array([names.index(emoji.parse(text).concept) for text in prompts["text"]])
    cosines = (unit * reference["prompts"]).sum(1)
    named = logits.argmax(1) == wanted
    split = prompts["split"].to_numpy()
    per_prompt = len(reference["images"]) // len(prompts)
    # Distances are between directions, as the cosines are; of length sqrt(width), so that KID's kernel is (cos + 1)^3.
    scale = drawn.shape[1] ** 0.5
    found: dict[str, Any] = {}
    for name in ("all", "seen", "unseen"):
        chosen = np.ones(len(split), bool) if name == "all" else split == name
        real = np.repeat(chosen, per_prompt)
        found[name] = {
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
                strata=wanted[chosen],  # as many prompts of each concept
            ),
        }
    return found


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)
