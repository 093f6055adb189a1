"""The ledger: each claim of the paper, what the scores say of it, and the verdict that follows."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd

from randcond.figures.output import FigureScores
from randcond.jobs.errors import UserError
from randcond.report.moderated import Prior, fit
from randcond.report.score_files import Score
from randcond.report.tables import NONE, Metric, shown_metrics
from randcond.report.verdicts import Finding, Scores, Verdict, compare, corrected, judge
from randcond.settings.claims import Claim

SHARE = Metric("share", "share, %", 100, 1, False, False)  # of a figure
# A student that names less than this part of the teacher's concepts right has hardly learned: a claim that it is better
# stays undecided, and so does one that another is as good as it. That it is worse may be what a claim says.
LEARNED = 0.25
# The verdicts' words where nothing is reproduced: on questions of our own.
OURS = {"reproduced": "holds", "not reproduced": "does not hold"}


@dataclass(frozen=True)
class Entry:
    """A claim by one metric.

    Attributes:
        split: The prompts compared: the claim's, or the benchmark's where a run has no others.
        unlearned: Runs that the claim calls better or a standard, and that have hardly learned: nothing is decided.
        t: The timestep of a figure's shares.
    """

    claim: Claim
    metric: Metric
    finding: Finding
    split: str = NONE
    unlearned: tuple[str, ...] = ()
    t: int | None = None

    @property
    def gain(self) -> str:
        """In the metric's units; positive where the claim points."""
        return self._signed(self.finding.effect)

    @property
    def needed(self) -> str:
        """What the gain must be above."""
        return "0" if self.finding.needed == 0 else self._signed(self.finding.needed)

    @property
    def beyond(self) -> str:
        """The gain less what is needed, with the interval that the verdict is from."""
        found = self.finding
        if found.effect is None or found.needed is None:
            return NONE
        middle = self._signed(found.effect - found.needed)
        if found.low is None:
            return middle
        return f"{middle} [{self._signed(found.low)}, {self._signed(found.high)}]"

    @property
    def where(self) -> str:
        """The split, or the timestep."""
        if self.claim.figure is None:
            return self.split
        return NONE if self.t is None else f"t = {self.t}"

    @property
    def better(self) -> str:
        """The run or the gain that should be larger."""
        claim = self.claim
        return claim.better if claim.more_than is None else f"the gain of {claim.better} over {claim.than}"

    @property
    def than(self) -> str:
        """What it is compared with."""
        claim = self.claim
        return (
            claim.than if claim.more_than is None else f"that of {claim.more_than.better} over {claim.more_than.than}"
        )

    def _signed(self, value: float | None) -> str:
        return NONE if value is None else f"{value * self.metric.scale:+.{self.metric.digits}f}"


@dataclass(frozen=True)
class Tested:
    """A claim by all its metrics."""

    claim: Claim
    entries: list[Entry]

    @property
    def verdict(self) -> Verdict:
        """Reproduced by all metrics, or not by one of them, or undecided."""
        found = {entry.finding.verdict for entry in self.entries}
        if len(found) < 2:
            return found.pop() if found else "not run"
        return "not reproduced" if "not reproduced" in found else "undecided"


def judged(
    claims: list[Claim], scores: dict[str, list[Score]], figures: Mapping[str, FigureScores] | None = None
) -> list[Tested]:
    """Every claim by every metric of it that the scores have, in the order of the claims.

    Args:
        claims: The claims.
        scores: Scores by run.
        figures: What the paper's figures 2, 3 and 5 measured, by the figures' names.

    Raises:
        UserError: If a claim names a share that its figure does not measure.
    """
    unlearned, priors = hardly_learned(scores), _priors(claims, scores)
    tested = [
        Tested(
            claim, [_on_figure(claim, figures or {})] if claim.figure else _on_runs(claim, scores, priors, unlearned)
        )
        for claim in claims
    ]
    return [one for one in tested if one.entries]  # a world may have none of a claim's metrics


def hardly_learned(scores: dict[str, list[Score]]) -> set[str]:
    """Runs that name less than ``LEARNED`` of what the teacher names right, in worlds that name what they see."""
    named = {run: values(several, "all", "named") for run, several in scores.items()}
    means = {run: float(np.mean(list(found.values()))) for run, found in named.items() if found}
    return {run for run, mean in means.items() if "teacher" in means and mean < LEARNED * means["teacher"]}


def _priors(claims: list[Claim], scores: dict[str, list[Score]]) -> dict[str, Prior]:
    """What all claims' comparisons of a metric have in common."""
    priors = {}
    for metric in shown_metrics(scores):
        found = [
            compare(claim, metric.key, _values(scores, _common_split(claim, scores), metric.key))
            for claim in claims
            if claim.figure is None and metric.key in claim.metrics
        ]
        priors[metric.key] = fit([one.beyond for one in found if one is not None])
    return priors


def _values(scores: dict[str, list[Score]], split: str, metric: str) -> Scores:
    return {run: values(several, split, metric) for run, several in scores.items()}


def _on_runs(
    claim: Claim, scores: dict[str, list[Score]], priors: Mapping[str, Prior], unlearned: set[str]
) -> list[Entry]:
    split = _common_split(claim, scores)
    praised = [pair.better for pair in (claim, claim.more_than) if pair] + [claim.than] * claim.as_good
    metrics = [metric for metric in shown_metrics(scores) if metric.key in claim.metrics]
    findings = [judge(claim, metric.key, _values(scores, split, metric.key), priors[metric.key]) for metric in metrics]
    result = []
    for metric, finding in zip(metrics, corrected(findings), strict=True):
        lacking = tuple(run for run in dict.fromkeys(praised) if run in unlearned)
        if lacking and finding.verdict != "not run":
            finding = replace(finding, verdict="undecided")
        result.append(Entry(claim, metric, finding, split, lacking))
    return result


def _common_split(claim: Claim, scores: dict[str, list[Score]]) -> str:
    """The claim's split, or the benchmark's captions in place of ``all`` where a run was scored on no others.

    The teacher too has to be scored on it where the way to it sets the margin.
    """
    judged = [*claim.compared, *(["teacher"] if claim.as_good else [])]
    compared = {run: scores[run] for run in judged if scores.get(run)}
    split: str = claim.split
    if split == "all" and any("all" not in score.splits for several in compared.values() for score in several):
        split = "coco30k"
    counts = {
        run: {(part.count, part.reference_count) for score in several if (part := score.splits.get(split))}
        for run, several in compared.items()
    }
    if len(set[tuple[int, int]]().union(*counts.values())) > 1:
        shown = ", ".join(f"{run} on {sorted(found)}" for run, found in counts.items())
        raise UserError(f"claims: {claim.text!r}: {split}: not as many samples and real images for all: {shown}")
    return split


def _on_figure(claim: Claim, figures: Mapping[str, FigureScores]) -> Entry:
    measured = figures.get(claim.figure or "")
    if measured is None:
        return Entry(claim, SHARE, judge(claim, SHARE.key, {}))
    frame = measured.frame()
    t, times = None, sorted(frame["t"].dropna().astype(int))
    if (claim.near_t is None) != (not times):
        has = "has no timesteps; leave near_t out" if not times else "has timesteps; say which by near_t"
        raise UserError(f"claims: {claim.text!r}: {claim.figure} {has}")
    if claim.near_t is not None:
        t = min(times, key=lambda one: abs(one - claim.near_t))
        frame = frame[frame["t"] == t]
    names = frame["metric"] + frame["model"].map(lambda model: f", {model}" if model else "")
    shares: Scores = {
        str(name): dict(zip(rows["seed"].astype(int), rows["value"], strict=True))
        for name, rows in frame.groupby(names)
    }
    for name in (claim.better, claim.than):
        if name not in shares:
            raise UserError(f"claims: {claim.text!r}: {claim.figure} measures no {name!r}; it has {', '.join(shares)}")
    return Entry(claim, SHARE, judge(claim, SHARE.key, shares), t=t)


def values(several: list[Score], split: str, metric: str) -> dict[int, float]:
    """The metric by seed, where the scores have it. The benchmark's captions stand for ``all`` where they are all."""
    found = {}
    for score in several:
        part = score.splits.get(split) or (score.splits.get("coco30k") if split == "all" else None)
        estimate = part.metrics.get(metric) if part else None
        if estimate is not None:
            found[score.seed] = estimate.value
    return found


def summary(tested: list[Tested], words: Mapping[str, str], what: str = "claims") -> str:
    """How many claims and comparisons came out how, e.g. ``Of 14 claims: 5 reproduced, 9 undecided. Of their ...``.

    Args:
        tested: The claims.
        words: Other words for verdicts, :data:`OURS` or none.
        what: What they are called.
    """
    claims = _counts([one.verdict for one in tested], words)
    comparisons = _counts([entry.finding.verdict for one in tested for entry in one.entries], words)
    count = sum(len(one.entries) for one in tested)
    of, of_their = f"{len(tested)} {what}", f"{count} comparisons"
    one, its = (text.removesuffix("s") if text.startswith("1 ") else text for text in (of, of_their))
    return f"Of {one}: {claims}. Of their {its}: {comparisons}."


def _counts(verdicts: list[Verdict], words: Mapping[str, str]) -> str:
    counts = Counter[str](verdicts)
    return ", ".join(
        f"{counts[verdict]} {words.get(verdict, verdict)}" for verdict in get_args(Verdict) if counts[verdict]
    )


def tidy(tested: list[Tested], words: Mapping[str, str]) -> pd.DataFrame:
    """One row for each comparison, in the units of the score files; ``low95`` and ``high95`` are of ``beyond``."""
    rows = [
        {
            "claim": one.claim.text,
            "claim_verdict": words.get(one.verdict, one.verdict),
            "source": one.claim.source,
            "better": entry.better,
            "than": entry.than,
            "split": entry.where,
            "metric": entry.metric.key,
            "gain": found.effect,
            "needed": found.needed,
            "beyond": None if found.effect is None or found.needed is None else found.effect - found.needed,
            "low95": found.low,
            "high95": found.high,
            "p": found.p,
            "seeds": " ".join(map(str, found.seeds)),
            "verdict": words.get(found.verdict, found.verdict),
            "hardly_learned": " ".join(entry.unlearned),
        }
        for one in tested
        for entry in one.entries
        for found in [entry.finding]
    ]
    return pd.DataFrame(rows)
