"""A verdict on each claim from the scores, paired over training seeds.

A verdict is computed, never written (docs/analysis.md): an effect of every seed that both runs have, its mean and the
95% interval by Student's t, with a variance that other comparisons of the metric share in. It is *reproduced* if the
whole interval lies above what the claim needs, *not reproduced* if it lies below, and *undecided* otherwise, above all
with fewer than two seeds. A claim holds by all of its metrics, so that more of them are no further chance for it; one
alone speaks against it, and Holm's correction is for that.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from randcond.report.moderated import Prior
from randcond.settings.claims import Claim, Pair

LOWER_IS_BETTER = ("fid", "fid_clean", "kid", "latents")
# "As good as" means not worse by more than this part of the way from what it is compared with to the teacher: one share
# for all metrics, and the smallest round one by which the paper's own tables bear out the paper's own claims.
PART = 1 / 3
LEVEL = 0.05

ALONE = Prior()  # of a comparison that stands for itself
Verdict = Literal["reproduced", "not reproduced", "undecided", "not run"]
Scores = Mapping[str, Mapping[int, float]]  # run -> seed -> value of the metric


@dataclass(frozen=True)
class Finding:
    """What the scores say of a claim by one metric.

    Attributes:
        effect: Mean gain over ``seeds``, positive where the claim points; None without a common seed.
        needed: What the gain must be above: 0, or less by ``PART`` of the way to the teacher; the mean over seeds. None
            as ``effect``.
        low, high: 95% interval over seeds of the gain less what is needed; None with fewer than two seeds.
        p: How probable a mean as far from 0 would be by chance (two-sided); None as ``low``.
        seeds: Seeds that all runs of the claim have.
    """

    metric: str
    effect: float | None
    needed: float | None
    low: float | None
    high: float | None
    seeds: list[int]
    verdict: Verdict
    p: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A claim's gains and what is needed of them, one of each a seed."""

    seeds: list[int]
    gains: np.ndarray
    needed: np.ndarray

    @property
    def beyond(self) -> np.ndarray:
        """What is needed varies with the seed as well: the interval is of the difference, paired."""
        found: np.ndarray = self.gains - self.needed
        return found


def compare(claim: Claim, metric: str, scores: Scores) -> Comparison | None:
    """What a claim compares by one metric; None if a run or the teacher that it needs has no score.

    Args:
        claim: The claim.
        metric: One of its metrics.
        scores: Values of that metric on the claim's split. The teacher has one sample set; it pairs with every seed.
    """
    seeds = _common_seeds([scores.get(run, {}) for run in claim.compared if run != "teacher"])
    if not seeds or any(not scores.get(run) for run in claim.compared):
        return None
    gains, needed = _gains(claim, metric, scores, seeds), np.zeros(len(seeds))
    if claim.more_than is not None:
        gains = gains - _gains(claim.more_than, metric, scores, seeds)
    elif claim.as_good:
        if not scores.get("teacher"):
            return None
        way = [_value(scores, "teacher", seed) - _value(scores, claim.than, seed) for seed in seeds]
        needed = -PART * np.abs(way)
    return Comparison(seeds, gains, needed)


def judge(claim: Claim, metric: str, scores: Scores, prior: Prior = ALONE) -> Finding:
    """The finding on a claim by one metric.

    Args:
        claim: The claim.
        metric: One of its metrics.
        scores: As of :func:`compare`.
        prior: What comparisons of this metric have in common.
    """
    found = compare(claim, metric, scores)
    if found is None:
        return Finding(metric, None, None, None, None, [], "not run")
    effect, least = float(found.gains.mean()), float(found.needed.mean())
    if len(found.seeds) < 2:
        return Finding(metric, effect, least, None, None, found.seeds, "undecided")
    low, high, p = _interval(found.beyond, prior)
    verdict: Verdict = "reproduced" if low > 0 else "not reproduced" if high < 0 else "undecided"
    return Finding(metric, effect, least, low, high, found.seeds, verdict, p)


def corrected(findings: Sequence[Finding]) -> list[Finding]:
    """A claim's findings, of which those stay *not reproduced* that are so by Holm's correction over all of them."""
    ranked = sorted((finding.p, i) for i, finding in enumerate(findings) if finding.p is not None)
    result, against = list(findings), True
    for rank, (p, i) in enumerate(ranked):
        against = against and p * (len(ranked) - rank) < LEVEL
        if findings[i].verdict == "not reproduced" and not against:
            result[i] = replace(findings[i], verdict="undecided")
    return result


def _interval(values: np.ndarray, prior: Prior) -> tuple[float, float, float]:
    """95% interval of the mean by Student's t, and the two-sided probability of a mean as far from 0."""
    variance, freedom = prior.moderated(float(values.var(ddof=1)), len(values) - 1)
    mean, error = float(values.mean()), math.sqrt(variance / len(values))
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error > 0 else float(mean == 0)
    return mean - half, mean + half, p


def _gains(pair: Pair, metric: str, scores: Scores, seeds: list[int]) -> np.ndarray:
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return np.array([sign * (_value(scores, pair.better, s) - _value(scores, pair.than, s)) for s in seeds])


def _value(scores: Scores, run: str, seed: int) -> float:
    return next(iter(scores[run].values())) if run == "teacher" else scores[run][seed]


def _common_seeds(several: list[Mapping[int, float]]) -> list[int]:
    return sorted(set.intersection(*(set(seeds) for seeds in several))) if several else []
