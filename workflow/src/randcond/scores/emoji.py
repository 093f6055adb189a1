"""Scores of the emoji world: its evaluator is a small CLIP, which also names the concepts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from randcond.scores import miniature
from randcond.scores.evaluator import Evaluator, class_logits
from randcond.scores.miniature import features
from randcond.scores.names import unit
from randcond.worlds import emoji

KINDS = 1


def reference(
    evaluators: Sequence[Path], images: Sequence[Path], prompts: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Features of the real images, and of what the evaluator compares images with: classes and prompts."""
    evaluator = Evaluator(evaluators[0])
    classes = evaluator.class_features(emoji.captions())
    return miniature.reference(evaluator, images, prompts, settings) | {"classes": classes}


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
    miniature.check(drawn, images, reference, len(prompts))
    logits = class_logits(unit(drawn), reference["classes"], float(reference["logit_scale"][0]))
    names = list(emoji.concepts())
    wanted = np.array([names.index(emoji.parse(text).concept) for text in prompts["text"]])
    return {
        split: miniature.scores(drawn, reference, logits, wanted, chosen, settings)
        for split, chosen in miniature.rows_of_splits(prompts, ("seen", "unseen")).items()
    }
