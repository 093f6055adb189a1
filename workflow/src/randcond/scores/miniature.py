"""What the scores of the miniature worlds share: their evaluator is a small CLIP that names what it is shown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from randcond.jobs.errors import UserError
from randcond.scores.evaluator import Evaluator
from randcond.scores.metrics import all_metrics
from randcond.scores.names import unit

_IN_REFERENCE = {"images", "prompts", "classes", "logit_scale"}


def reference(
    evaluator: Evaluator, images: Sequence[Path], prompts: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Features of the real images and of the prompts; a world adds its ``classes``.

    Raises:
        UserError: If there are not as many real images as were asked for.
    """
    texts = prompts["text"].tolist()
    real = evaluator.image_features(list(images), settings["batch"])
    expected = len(texts) * settings["real_per_prompt"]
    if len(real) != expected:
        raise UserError(f"{images[0]}: {len(real)} real images, {expected} expected; delete it and run again")
    return {
        "images": unit(real),
        "prompts": evaluator.text_features(texts),
        "logit_scale": np.array([evaluator.logit_scale], np.float32),
    }


def features(evaluators: Sequence[Path], images: Sequence[Path], batch: int) -> dict[str, np.ndarray]:
    """The evaluator's features of the images of the zips."""
    return {"images": Evaluator(evaluators[0]).image_features(list(images), batch)}


def check(drawn: np.ndarray, images: Sequence[Path], reference: dict[str, np.ndarray], prompts: int) -> None:
    """Refuse features (n, width) of the samples that the reference is not for.

    Raises:
        UserError: If there is not one sample a prompt, a feature is not finite, or the reference is another's.
    """
    if len(drawn) != prompts:
        raise UserError(f"{images[0]}: {len(drawn)} samples for {prompts} prompts; draw them again")
    if not np.isfinite(drawn).all():
        raise UserError(f"{images[0]}: the evaluator's features are not finite; look at the samples")
    missing = _IN_REFERENCE - reference.keys()
    if missing or len(reference["prompts"]) != prompts or len(reference["images"]) % prompts:
        raise UserError(f"scores/reference.safetensors: not made for these {prompts} prompts; delete it and run again")
    if {array.shape[-1] for array in (drawn, reference["images"], reference["classes"])} != {drawn.shape[1]}:
        raise UserError("scores/reference.safetensors: made by another evaluator; delete it and run again")


def rows_of_splits(prompts: pd.DataFrame, splits: Sequence[str]) -> dict[str, np.ndarray]:
    """``"all"`` and each split -> bool (prompts,), which are of it."""
    split = prompts["split"].to_numpy()
    return {"all": np.ones(len(split), bool)} | {name: split == name for name in splits}


def scores(
    drawn: np.ndarray,
    reference: dict[str, np.ndarray],
    logits: np.ndarray,
    wanted: np.ndarray,
    chosen: np.ndarray,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """``count``, ``reference_count`` and ``metrics`` of the chosen prompts.

    Args:
        drawn: The samples' features, (prompts, width).
        reference: As :func:`reference` has it.
        logits: How well each concept fits each sample, (prompts, concepts).
        wanted: The concept of each prompt, (prompts,).
        chosen: Which prompts are judged, bool (prompts,).
        settings: ``bootstrap`` and ``seed``.
    """
    directions, real = unit(drawn), np.repeat(chosen, len(reference["images"]) // len(chosen))
    cosines, right = (directions * reference["prompts"]).sum(1), logits.argmax(1) == wanted
    # Distances are between directions, as the cosines are; of length sqrt(width), so that KID's kernel is (cos + 1)^3.
    scale = drawn.shape[1] ** 0.5
    return {
        "count": int(chosen.sum()),
        "reference_count": int(real.sum()),
        "metrics": all_metrics(
            *(
                scale * directions[chosen],
                scale * reference["images"][real],
                logits[chosen],
                cosines[chosen],
                right[chosen],
            ),
            *(settings["bootstrap"], settings["seed"]),
            strata=wanted[chosen],  # as many prompts of each concept
        ),
    }
