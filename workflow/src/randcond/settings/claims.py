"""The paper's claims as comparisons of runs, and a verdict on each from the scores, paired over training seeds.

A verdict is computed, never written: an effect of every seed that both runs have, its mean and the 95% interval by
Student's t. It is *reproduced* if the whole interval lies above what the claim needs, *not reproduced* if it lies
below, and *undecided* otherwise, above all with fewer than two seeds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from scipy import stats

from randcond.settings.fields import Section, validated
from randcond.settings.yaml_file import read_yaml

LOWER_IS_BETTER = ("fid", "fid_clean", "kid")
# "As good as" means not worse by more than this part of the value. CLIP scores span less of their scale than the rest.
TOLERANCE = {"fid": 0.05, "fid_clean": 0.05, "kid": 0.05, "is": 0.05, "clip": 0.02, "named": 0.05}

Verdict = Literal["reproduced", "not reproduced", "undecided", "not run"]
Scores = Mapping[str, Mapping[int, float]]  # run -> seed -> value of the metric


class Pair(Section):
    """Two runs: ``better`` should beat ``than``."""

    better: str
    than: str


class Claim(Pair):
    """A sentence of the paper and the comparison that tests it.

    Attributes:
        text: The sentence.
        source: Where the paper says so.
        metrics: Compared one by one, a verdict each.
        split: The prompts that are compared.
        as_good: The claim is that ``better`` is as good as ``than``, within the metric's ``TOLERANCE``.
        more_than: For "the gain is larger here than there": the pair there.
        figure: For a claim of the paper's figures 2, 3 and 5: which one. ``better`` and ``than`` are then two of the
            shares it measures, ``<metric>`` or ``<metric>, <model>``, and the metric is ``share``.
        near_t: The timestep that a figure's shares are of; the nearest one that it has.
    """

    text: str
    source: str
    metrics: list[Literal["fid", "fid_clean", "kid", "is", "clip", "named", "share"]] = Field(min_length=1)
    split: Literal["all", "seen", "unseen", "coco30k"] = "all"
    as_good: bool = False
    more_than: Pair | None = None
    figure: Literal["digits-classifier", "digits-diffusion", "swapped-condition", "toy"] | None = None
    near_t: int | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> "Claim":
        if self.more_than is not None and self.as_good:
            raise ValueError("as_good: a comparison of two gains (more_than) takes no tolerance")
        if ("share" in self.metrics) != (self.figure is not None) or (self.figure and self.metrics != ["share"]):
            raise ValueError("metrics: share is the one metric of a claim on a figure, and of no other")
        if self.figure and (self.as_good or self.more_than):
            raise ValueError("figure: a claim on a figure compares two of its shares, nothing else")
        if self.near_t is not None and self.figure is None:
            raise ValueError("near_t: only figures have timesteps")
        return self

    @property
    def compared(self) -> list[str]:
        """All that the claim compares: runs, or a figure's shares."""
        pairs = [self, self.more_than] if self.more_than else [self]
        return [one for pair in pairs for one in (pair.better, pair.than)]

    @property
    def runs(self) -> list[str]:
        """All runs that the claim compares."""
        return [] if self.figure else self.compared


class Claims(Section):
    """The claims file."""

    claims: list[Claim]


def load_claims(path: Path) -> list[Claim]:
    """The claims file. Claims on runs that an experiments file lacks are not tested there, and the report says so.

    Raises:
        UserError: If it is missing, no YAML, or wrong.
    """
    return validated(Claims, read_yaml(path, "claims", "claims"), str(path)).claims


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
