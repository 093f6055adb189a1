"""Scores of the artists' world: its evaluator, a small CLIP, names concept and style.

Beside seen and unseen concepts stand pairs of a seen concept and an artist which were never together ("unseen pair").
Of prompts that name an artist, a split says in how many samples the style is right.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from randcond.scores import miniature
from randcond.scores.artists_names import class_features, concept_logits, style_logits
from randcond.scores.evaluator import Evaluator
from randcond.scores.metrics import error95
from randcond.scores.miniature import features
from randcond.scores.names import unit
from randcond.worlds.drawings import Meaning
from randcond.worlds.emoji import concepts
from randcond.worlds.meanings import UNSEEN_PAIR, parse, styles

KINDS = 1


def reference(
    evaluators: Sequence[Path], images: Sequence[Path], prompts: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Features of the real images, and of what the evaluator compares images with: classes and prompts."""
    evaluator = Evaluator(evaluators[0])
    return miniature.reference(evaluator, images, prompts, settings) | {"classes": class_features(evaluator)}


def splits(
    evaluators: Sequence[Path],
    images: Sequence[Path],
    reference: dict[str, np.ndarray],
    prompts: pd.DataFrame,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Scores of all, seen, unseen and never paired prompts' samples; ``style`` where prompts of a split name one.

    Raises:
        UserError: If there is not one sample a prompt, or a feature is not finite.
    """
    drawn = features(evaluators, images, settings["batch"])["images"]
    miniature.check(drawn, images, reference, len(prompts))
    asked: list[Meaning] = [parse(text) for text in prompts["text"]]
    found = (unit(drawn), reference["classes"], float(reference["logit_scale"][0]))
    logits, names = concept_logits(*found), list(concepts())
    wanted = np.array([names.index(meaning.concept) for meaning in asked])
    artists = np.array([list(styles()).index(meaning.artist) if meaning.artist else -1 for meaning in asked])
    in_style = style_logits(*found).argmax(1) == artists
    scores = {}
    for split, chosen in miniature.rows_of_splits(prompts, ("seen", "unseen", UNSEEN_PAIR)).items():
        if chosen.sum() < 2 and split == UNSEEN_PAIR:  # few prompts may hold none
            continue
        scores[split] = miniature.scores(drawn, reference, logits, wanted, chosen, settings)
        rows = chosen & (artists >= 0)
        if rows.any():
            right, rounds = in_style[rows], settings["bootstrap"]
            error = error95(_mean_of(right), len(right), rounds, settings["seed"], strata=wanted[rows])
            scores[split]["metrics"]["style"] = {"value": float(right.mean()), "error95": error}
    return scores


def _mean_of(values: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda rows: float(values[rows].mean())
