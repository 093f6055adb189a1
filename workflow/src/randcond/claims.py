"""The paper's claims as comparisons of runs, and a verdict on each from the scores, paired over training seeds.

A verdict is computed, never written: an effect of every seed that both runs have, its mean and the 95% interval by
Student's t. It is *reproduced* if the whole interval lies above what the claim needs, *not reproduced* if it lies
below, and *undecided* otherwise, above all with fewer than two seeds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import stats

LOWER_IS_BETTER = ("fid", "kid")

Verdict = Literal["reproduced", "not reproduced", "undecided", "not run"]
Scores = Mapping[str, Mapping[int, float]]  # run -> seed -> value of the metric


class Pair(BaseModel):
    """Two runs: ``better`` should beat ``than``."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    better: str
    than: str


class Claim(Pair):
    """A sentence of the paper and the comparison that tests it.

    Attributes:
        text: The sentence.
        source: Where the paper says so.
        metrics: Compared one by one, a verdict each.
        split: The prompts that are compared.
        at_least: The effect that the claim needs, as a part of ``than``'s value: 0 for "better", -0.05 for "as good
            as", 5% being the tolerance.
        more_than: For "the gain is larger here than there": the pair there.
    """

    text: str
    source: str
    metrics: list[Literal["fid", "kid", "is", "clip", "named"]] = Field(min_length=1)
    split: Literal["all", "seen", "unseen"] = "all"
    at_least: float = Field(default=0.0, gt=-1, lt=1)
    more_than: Pair | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> "Claim":
        if self.more_than is not None and self.at_least:
            raise ValueError("at_least: a comparison of two gains (more_than) takes none")
        return self

    @property
    def runs(self) -> list[str]:
        """All runs that the claim compares."""
        pairs = [self, self.more_than] if self.more_than else [self]
        return [run for pair in pairs for run in (pair.better, pair.than)]


@dataclass(frozen=True)
class Finding:
    """What the scores say of a claim by one metric.

    Attributes:
        effect: Mean gain over ``seeds``, positive where the claim points; None without a common seed.
        low, high: Its 95% interval over seeds; None with fewer than two seeds.
        needed: The effect must be above this.
        seeds: Seeds that all runs of the claim have.
    """

    metric: str
    effect: float | None
    low: float | None
    high: float | None
    needed: float
    seeds: list[int]
    verdict: Verdict


def judge(claim: Claim, metric: str, scores: Scores) -> Finding:
    """The finding on a claim by one metric.

    Args:
        claim: The claim.
        metric: One of its metrics.
        scores: Values of that metric on the claim's split. The teacher has one sample set; it pairs with every seed.
    """
    seeds = _common_seeds([scores.get(run, {}) for run in claim.runs if run != "teacher"])
    if not seeds or any(not scores.get(run) for run in claim.runs):
        return Finding(metric, None, None, None, 0.0, [], "not run")
    gains = _gains(claim, metric, scores, seeds)
    margins = np.zeros(len(seeds))
    if claim.more_than is not None:
        gains = gains - _gains(claim.more_than, metric, scores, seeds)
    elif claim.at_least:
        margins = claim.at_least * np.abs([_value(scores, claim.than, seed) for seed in seeds])
    effect, needed = float(gains.mean()), float(margins.mean())
    if len(seeds) < 2:
        return Finding(metric, effect, None, None, needed, seeds, "undecided")
    low, high = _interval(gains)
    # what is needed varies with the seed as well: the verdict is on the difference, paired
    least, most = _interval(gains - margins)
    verdict: Verdict = "reproduced" if least > 0 else "not reproduced" if most < 0 else "undecided"
    return Finding(metric, effect, low, high, needed, seeds, verdict)


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
