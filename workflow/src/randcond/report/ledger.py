"""The ledger: each claim of the paper, what the scores say of it, and the verdict that follows."""

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from randcond.claims import Claim, Finding, judge
from randcond.report.inputs import Score
from randcond.report.tables import NONE, Metric, shown_metrics


@dataclass(frozen=True)
class Entry:
    """A claim by one metric."""

    claim: Claim
    metric: Metric
    finding: Finding

    @property
    def effect(self) -> str:
        """The gain with its interval, in the metric's units; positive where the claim points."""
        found = self.finding
        if found.effect is None:
            return NONE
        if found.low is None or found.high is None:
            return self._signed(found.effect)
        return f"{self._signed(found.effect)} [{self._signed(found.low)}, {self._signed(found.high)}]"

    @property
    def needed(self) -> str:
        """What the gain must be above."""
        return NONE if self.finding.effect is None else self._signed(self.finding.needed)

    @property
    def better(self) -> str:
        """The run or the gain that should be larger."""
        claim = self.claim
        return claim.better if claim.more_than is None else f"{claim.better} over {claim.than}"

    @property
    def than(self) -> str:
        """What it is compared with."""
        claim = self.claim
        return claim.than if claim.more_than is None else f"{claim.more_than.better} over {claim.more_than.than}"

    def _signed(self, value: float) -> str:
        return f"{value * self.metric.scale:+.{self.metric.digits}f}"


def entries(claims: list[Claim], scores: dict[str, list[Score]]) -> list[Entry]:
    """Every claim by every metric of it that the scores have, in the order of the claims."""
    result = []
    for claim in claims:
        for metric in shown_metrics(scores):
            if metric.key in claim.metrics:
                found = {run: values(several, claim.split, metric.key) for run, several in scores.items()}
                result.append(Entry(claim, metric, judge(claim, metric.key, found)))
    return result


def values(several: list[Score], split: str, metric: str) -> dict[int, float]:
    """The metric by seed, where the scores have it."""
    found = {}
    for score in several:
        estimate = score.splits[split].metrics.get(metric) if split in score.splits else None
        if estimate is not None:
            found[score.seed] = estimate.value
    return found


def summary(found: list[Entry]) -> str:
    """How many comparisons came out how, e.g. ``5 reproduced, 1 not reproduced, 30 undecided``."""
    counts = Counter[str](entry.finding.verdict for entry in found)
    order = ("reproduced", "not reproduced", "undecided", "not run")
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in order if counts[verdict])


def tidy(found: list[Entry]) -> pd.DataFrame:
    """One row for each comparison, in the units of the score files."""
    rows = [
        {
            "claim": entry.claim.text,
            "source": entry.claim.source,
            "better": entry.better,
            "than": entry.than,
            "split": entry.claim.split,
            "metric": entry.metric.key,
            "effect": entry.finding.effect,
            "low95": entry.finding.low,
            "high95": entry.finding.high,
            "needed": entry.finding.needed,
            "seeds": " ".join(map(str, entry.finding.seeds)),
            "verdict": entry.finding.verdict,
        }
        for entry in found
    ]
    return pd.DataFrame(rows)
