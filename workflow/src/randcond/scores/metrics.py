"""Scores of a set of images from their features, with a bootstrap over images."""

import math
from collections.abc import Callable

import numpy as np
from cleanfid.fid import frechet_distance, kernel_distance
from torch import from_numpy
from torch_fidelity.metric_isc import isc_features_to_metric

from randcond.jobs.errors import UserError
from randcond.jobs.progress import Progress
from randcond.jobs.seeding import numpy_generator

_FEWEST = 5  # images of a stratum of its own


def fid(features: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance of two sets of features (n, width), by clean-fid, in float64."""
    moments = [(f.mean(0), np.cov(f, rowvar=False)) for f in (_double(features), _double(reference))]
    return float(frechet_distance(*moments[0], *moments[1]))


def kid(features: np.ndarray, reference: np.ndarray, seed: int, subsets: int = 100, size: int = 1000) -> float:
    """Kernel distance of two sets of features, by clean-fid, over subsets of ``size`` drawn from ``seed``."""
    # as tensors, whose third powers take half of NumPy's time
    sets = from_numpy(_double(reference)), from_numpy(_double(features))
    state = np.random.get_state()
    np.random.seed(seed)  # clean-fid draws its subsets from the global generator
    try:
        return kernel_distance(*sets, num_subsets=subsets, max_subset_size=size)
    finally:
        np.random.set_state(state)


def kid_in_parts(features: np.ndarray, reference: np.ndarray, seed: int, size: int = 1000) -> float:
    """Kernel distance as the mean over disjoint parts of at most ``size`` images, for a bootstrap.

    :func:`kid`'s subsets overlap and leave images out: of as few of them the chance would be added to the images'.
    """
    parts = math.ceil(len(features) / size)
    each = [features[part::parts] for part in range(parts)]
    return float(np.mean([kid(one, reference, seed + i, 1, len(one)) for i, one in enumerate(each)]))


def inception_score(logits: np.ndarray) -> float:
    """exp of the mean divergence of class probabilities from their mean, by torch-fidelity, one split."""
    result = isc_features_to_metric(from_numpy(_double(logits)), splits=1, shuffle=False)
    return float(result["inception_score_mean"])


class FidToReference:
    """FID against a fixed reference, fast enough for a bootstrap: only symmetric eigenvalue problems."""

    def __init__(self, reference: np.ndarray) -> None:
        reference = _double(reference)
        self._mean = reference.mean(0)
        covariance = np.cov(reference, rowvar=False)
        values, vectors = np.linalg.eigh(covariance)
        self._root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
        self._trace = np.trace(covariance)

    def __call__(self, features: np.ndarray) -> float:
        features = _double(features)
        covariance = np.cov(features, rowvar=False)
        cross = np.linalg.eigvalsh(self._root @ covariance @ self._root).clip(0)
        shift = features.mean(0) - self._mean
        return float(shift @ shift + np.trace(covariance) + self._trace - 2 * np.sqrt(cross).sum())


def error95(
    statistic: Callable[[np.ndarray], float], count: int, rounds: int, seed: int, strata: np.ndarray | None = None
) -> float:
    """Half width of the 95% interval: 1.96 standard deviations over bootstrap samples of the images.

    Args:
        statistic: Score of the images with the given indices (with repetitions).
        count: Number of images.
        rounds: Bootstrap samples.
        seed: Seed of the samples.
        strata: What prompts were drawn by, (count,), say an equal number of each concept: images are drawn again within
            these, and those of strata with fewer than five images, which tell little of themselves, within one. None:
            of all.
    """
    rng, progress, values = numpy_generator(seed), Progress("bootstrap", rounds, "resamples"), list[float]()
    if strata is not None:
        _, places, sizes = np.unique(strata, return_inverse=True, return_counts=True)
        strata = np.where(sizes[places] < _FEWEST, -1, places)
    for done in range(rounds):
        progress.at(done)  # nothing of what is over soon
        values.append(statistic(rng.integers(count, size=count) if strata is None else _within(strata, rng)))
    return float(1.96 * np.std(values, ddof=1))


def _within(strata: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices drawn with repetitions, from each stratum as many as it has."""
    order, (_, sizes) = np.argsort(strata, kind="stable"), np.unique(strata, return_counts=True)
    sizes_of, starts_of = np.repeat(sizes, sizes), np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen: np.ndarray = order[starts_of + (rng.random(len(order)) * sizes_of).astype(int)]
    return chosen


def all_metrics(
    features: np.ndarray,
    reference: np.ndarray,
    logits: np.ndarray,
    cosines: np.ndarray,
    named: np.ndarray,
    rounds: int,
    seed: int,
    strata: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """FID, KID, IS, CLIP score and the share named correctly, each with its ``error95``.

    Args:
        features: The samples' features, (n, width).
        reference: The real images' features, (m, width).
        logits: Class logits of the samples, (n, classes).
        cosines: Cosine of each sample and its prompt, (n,).
        named: Whether each sample is named correctly, (n,).
        rounds: Bootstrap samples.
        seed: Seed of the bootstrap.
        strata: As of :func:`error95`.

    Raises:
        UserError: If an input or a score is not a finite number, or there are fewer than two images.
    """
    count = len(features)
    if min(count, len(reference)) < 2:
        raise UserError(f"scores need at least 2 images, not {count} samples and {len(reference)} real ones")
    for name, values in (("features", features), ("reference", reference), ("logits", logits), ("cosines", cosines)):
        if not np.isfinite(values).all():
            raise UserError(f"{name} are not finite numbers over {count} images; look at the samples")
    to_reference = FidToReference(reference)
    statistics: dict[str, tuple[float, Callable[[np.ndarray], float]]] = {
        "fid": (fid(features, reference), lambda i: to_reference(features[i])),
        "kid": (kid(features, reference, seed), lambda i: kid_in_parts(features[i], reference, seed)),
        "is": (inception_score(logits), lambda i: inception_score(logits[i])),
        "clip": (float(cosines.mean()), lambda i: float(cosines[i].mean())),
        "named": (float(named.mean()), lambda i: float(named[i].mean())),
    }
    scores = {}
    for name, (value, statistic) in statistics.items():
        error = error95(statistic, count, rounds, seed, strata)
        if not np.isfinite([value, error]).all():
            raise UserError(f"{name} is not a finite number over {count} images; look at the samples")
        scores[name] = {"value": value, "error95": error}
    return scores


def _double(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, np.float64)
