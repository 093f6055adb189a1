"""A verdict on each claim from the scores, paired over training seeds.

A verdict is computed, never written: an effect of every seed that both runs have, its mean and the 95% interval by
Student's t. It is *reproduced* if the whole interval lies above what the claim needs, *not reproduced* if it lies
below, and *undecided* otherwise, above all with fewer than two seeds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from randcond.settings.claims import Claim, Pair

LOWER_IS_BETTER = ("fid", "fid_clean", "kid", "latents")
# "As good as" means not worse by more than this part of the value. CLIP scores span less of their scale than the rest.
TOLERANCE = {
    **dict.fromkeys(("fid", "fid_clean", "kid", "is", "named", "latents"), 0.05),
    **dict.fromkeys(("clip", "agreement"), 0.02),
}

Verdict = Literal["reproduced", "not reproduced", "undecided", "not run"]
Scores = Mapping[str, Mapping[int, float]]  # run -> seed -> value of the metric


@dataclass(frozen=True)
class Finding:
    """What the scores say of a claim by one metric.

    Attributes:
        effect: Mean gain over ``seeds``, positive where the claim points; None without a common seed.
        needed: What the gain must be above: 0, or less by the tolerance; the mean over seeds. None as ``effect``.
        low, high: 95% interval over seeds of the gain less what is needed; None with fewer than two seeds.
        seeds: Seeds that all runs of the claim have.
    """

    metric: str
    effect: float | None
    needed: float | None
    low: float | None
    high: float | None
    seeds: list[int]
    verdict: Verdict


def judge(claim: Claim, metric: str, scores: Scores) -> Finding:
    """The finding on a claim by one metric.

    Args:
        claim: The claim.
        metric: One of its metrics.
        scores: Values of that metric on the claim's split. The teacher has one sample set; it pairs with every seed.
    """
    seeds = _common_seeds([scores.get(run, {}) for run in claim.compared if run != "teacher"])
    if not seeds or any(not scores.get(run) for run in claim.compared):
        return Finding(metric, None, None, None, None, [], "not run")
    gains = _gains(claim, metric, scores, seeds)
    needed = np.zeros(len(seeds))
    if claim.more_than is not None:
        gains = gains - _gains(claim.more_than, metric, scores, seeds)
    elif claim.as_good:
        needed = -TOLERANCE[metric] * np.abs([_value(scores, claim.than, seed) for seed in seeds])
    effect, least = float(gains.mean()), float(needed.mean())
    if len(seeds) < 2:
        return Finding(metric, effect, least, None, None, seeds, "undecided")
    # what is needed varies with the seed as well: the interval is of the difference, paired
    low, high = _interval(gains - needed)
    verdict: Verdict = "reproduced" if low > 0 else "not reproduced" if high < 0 else "undecided"
    return Finding(metric, effect, least, low, high, seeds, verdict)


def _interval(values: np.ndarray) -> tuple[float, float]:
    """95% interval of the mean, by Student's t."""
    half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half


def _gains(pair: Pair, metric: str, scores: Scores, seeds: list[int]) -> np.ndarray:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return np.array([sign * (_value(scores, pair.better, s) - _value(scores, pair.than, s)) for s in seeds])


def _value(scores: Scores, run: str, seed: int) -> float:
    return next(iter(scores[run].values())) if run == "teacher" else scores[run][seed]


def _common_seeds(several: list[Mapping[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(seeds) for seeds in several))) if several else []
