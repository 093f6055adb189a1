"""Scores as BK-SDM takes them: FID and IS by Inception, CLIP score by ViT-g-14; and FID in clean-fid's mode clean.

The split ``coco30k`` is the first ``benchmark`` samples against all photos; ``seen``, ``unseen`` and ``all`` compare
samples with the photos of the same prompts, and need a sample of every prompt.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import from_numpy
from torch_fidelity.metric_isc import isc_features_to_metric

from randcond.jobs.errors import UserError
from randcond.jobs.stage import device
from randcond.scores.evaluator import Evaluator
from randcond.scores.inception import fid_features, logits
from randcond.scores.metrics import FidToReference, error95, fid, kid, kid_in_parts

KINDS = 1
MODES = {"fid": "legacy_pytorch", "fid_clean": "clean"}
_SPLITS = 10  # torch-fidelity's default, with its own shuffle


def reference(
    evaluators: Sequence[Path], images: Sequence[Path], prompts: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Inception's features of the photos in both modes, and CLIP's of the prompts.

    Raises:
        UserError: If there is not one photo a prompt.
    """
    clip, inception = _two(evaluators)
    real = _features(inception, list(images), settings["batch"])
    for found in real.values():
        _count(images[0], len(found), len(prompts), "photos")
    return {**real, "prompts": Evaluator(clip).text_features(prompts["text"].tolist())}


def features(evaluators: Sequence[Path], images: Sequence[Path], batch: int) -> dict[str, np.ndarray]:
    """Inception's features in both modes and its logits, and CLIP's ``images``, of the images of the zips."""
    clip, inception = _two(evaluators)
    found = _features(inception, list(images), batch)
    found["logits"] = logits(inception, list(images), batch, device())
    return {**found, "images": Evaluator(clip).image_features(list(images), batch)}


def splits(
    evaluators: Sequence[Path],
    images: Sequence[Path],
    reference: dict[str, np.ndarray],
    prompts: pd.DataFrame,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Scores of the splits that the samples suffice for.

    Raises:
        UserError: If there are not as many samples as ``settings["count"]``, or a feature is not finite.
    """
    samples = features(evaluators, images, settings["batch"])
    unit = samples.pop("images")
    _count(images[0], len(unit), settings["count"], "samples")
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    samples["clip"] = (unit * reference["prompts"][: len(unit)]).sum(1)
    for name, values in samples.items():
        _count(images[0], len(values), settings["count"], "samples")
        if not np.isfinite(values).all():
            raise UserError(f"{images[0]}: {name} of the samples are not finite numbers; look at them")
    everyone = np.arange(settings["count"])
    chosen = {"coco30k": (everyone[: settings["benchmark"]], np.arange(len(prompts)))} if settings["benchmark"] else {}
    if settings["count"] == len(prompts):
        split = prompts["split"].to_numpy()
        for name in ("all", "seen", "unseen"):
            rows = everyone if name == "all" else np.flatnonzero(split == name)
            chosen[name] = (rows, rows)
    return {
        name: {
            "count": len(rows),
            "reference_count": len(photos),
            "metrics": _metrics(
                {key: values[rows] for key, values in samples.items()},
                {key: reference[key][photos] for key in MODES},
                settings["bootstrap"],
                settings["seed"],
            ),
        }
        for name, (rows, photos) in chosen.items()
    }


def _two(evaluators: Sequence[Path]) -> tuple[Path, Path]:
    if len(evaluators) != 2:
        raise UserError("inception: the paper world needs the folder of Inception's weights beside the evaluator")
    return evaluators[0], evaluators[1]


def _features(inception: Path, images: list[Path], batch: int) -> dict[str, np.ndarray]:
    return {name: fid_features(inception, images, mode, batch, device()) for name, mode in MODES.items()}


def _count(where: Path, found: int, expected: int, what: str) -> None:
    if found != expected:
        raise UserError(f"{where.parent}: {found} {what}, {expected} expected; delete them and run again")


def inception_score(values: np.ndarray) -> float:
    """Inception score over ten splits of the shuffled logits, as torch-fidelity's command has it."""
    result = isc_features_to_metric(from_numpy(np.asarray(values, np.float64)), splits=min(_SPLITS, len(values)))
    return float(result["inception_score_mean"])


def _metrics(
    samples: dict[str, np.ndarray], reference: dict[str, np.ndarray], rounds: int, seed: int
) -> dict[str, dict[str, float]]:
    count = min(len(samples["clip"]), *(len(values) for values in reference.values()))
    if count < 2:
        raise UserError(f"scores need at least 2 images of every split, not {count}")
    statistics: dict[str, tuple[float, Callable[[np.ndarray], float]]] = {}
    for name in MODES:
        statistics[name] = (fid(samples[name], reference[name]), _fid_of(samples[name], reference[name]))
    real, drawn = reference["fid"], samples["fid"]
    statistics["kid"] = (kid(drawn, real, seed), lambda i: kid_in_parts(drawn[i], real, seed))
    statistics["is"] = (inception_score(samples["logits"]), lambda i: inception_score(samples["logits"][i]))
    statistics["clip"] = (float(samples["clip"].mean()), lambda i: float(samples["clip"][i].mean()))
    scores = {}
    for name, (value, statistic) in statistics.items():
        error = error95(statistic, len(samples["clip"]), rounds, seed)
        if not np.isfinite([value, error]).all():
            raise UserError(f"{name} is not a finite number over {count} images; look at the samples")
        scores[name] = {"value": value, "error95": error}
    return scores


def _fid_of(samples: np.ndarray, reference: np.ndarray) -> Callable[[np.ndarray], float]:
    to_reference = FidToReference(reference)
    return lambda rows: to_reference(samples[rows])
