"""Tables: the paper's numbers beside the measured ones, as numbers (CSV) and as text (HTML, LaTeX)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
from scipy import stats

from randcond.jobs.errors import UserError
from randcond.report.paper import Paper
from randcond.report.score_files import Score, Split
from randcond.report.shown import Row, Table
from randcond.settings.claims import SAME_SHARE
from randcond.settings.fields import UNTRAINED

OVER_IMAGES = "bootstrap over images"
OVER_SEEDS = "Student t over seeds"
NOT_RUN = "not run"
WEIGHTS = {"raw": "raw weights", "ema": "moving average"}
Points = dict[tuple[str, int, str], list[Score]]  # scores along trainings: run, step, weights -> by seed
NONE = "–"


@dataclass(frozen=True)
class Metric:
    """How a metric is shown: ``scale`` times its value, with ``digits`` decimals."""

    key: str
    name: str
    scale: float
    digits: int
    lower_is_better: bool
    in_paper: bool

    def text(self, value: float) -> str:
        """The value as shown."""
        return f"{value * self.scale:.{self.digits}f}"

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↓" if self.lower_is_better else "↑"


METRICS = (
    Metric("fid", "FID", 1, 2, True, True),
    Metric("fid_clean", "FID (clean)", 1, 2, True, False),
    Metric("kid", "KID × 1000", 1000, 2, True, False),
    Metric("is", "IS", 1, 2, False, True),
    Metric("clip", "CLIP", 1, 4, False, True),
    Metric("named", "named right, %", 100, 1, False, False),
    Metric("style", "right style, %", 100, 1, False, False),
    Metric("agreement", "agreement", 1, 4, False, False),
    Metric("latents", "distance in latents", 1, 3, True, False),
)


@dataclass(frozen=True)
class Measured:
    """A measured number, ``error95`` the half width of its 95% interval, ``kind`` what that interval is over."""

    value: float
    error95: float
    kind: str


@dataclass(frozen=True)
class Line:
    """A row of a table for one split. Metrics without a number are absent from ``paper`` and ``measured``.

    ``point`` says which step of the training and which weights were scored; empty for the teacher and where none were.
    """

    row: str
    label: str
    run: str | None
    paper: dict[str, float]
    measured: dict[str, Measured]
    scores: list[Score]
    point: str

    @property
    def seeds(self) -> int:
        """How many were scored."""
        return len(self.scores)

    def paper_text(self, metric: Metric) -> str:
        """The paper's cell."""
        return metric.text(self.paper[metric.key]) if metric.key in self.paper else NONE

    def measured_text(self, metric: Metric) -> str:
        """The measured cell, with the half width of its interval."""
        if self.run is None:
            return NONE
        if not self.seeds:
            return NOT_RUN
        found = self.measured.get(metric.key)
        return f"{metric.text(found.value)} ± {metric.text(found.error95)}" if found else NONE


@dataclass(frozen=True)
class Part:
    """A table's rows for one split; ``count`` samples each, ``reference_count`` real images (0: none ran)."""

    split: str
    lines: list[Line]
    count: int
    reference_count: int


def shown_metrics(scores: dict[str, list[Score]]) -> list[Metric]:
    """The measured columns: all metrics, less "named right" in a world whose scores do not have it."""
    splits = [split for several in scores.values() for score in several for split in score.splits.values()]
    return [m for m in METRICS if not splits or splits[0].metrics.get(m.key) is not None]


def paper_metrics(table: Sequence[Part]) -> list[Metric]:
    """The paper's columns; none for a table of which the paper reports nothing."""
    found = any(line.paper for part in table for line in part.lines)
    return [metric for metric in METRICS if metric.in_paper and found]


def parts(
    name: str,
    table: Table,
    scores: dict[str, list[Score]],
    paper: Paper,
    steps: Mapping[str, int] | None = None,
    along: Points | None = None,
    shares: Mapping[str, float] | None = None,
    drawn: Mapping[str, str] | None = None,
) -> list[Part]:
    """The table's rows, split by split.

    Where a table has runs of unequal share of swapped texts, its rows say theirs.

    Args:
        name: The table's.
        table: Its rows and splits.
        scores: Scores by run.
        paper: What the paper reports.
        steps: How long runs were trained, as far as it is known.
        along: What rows that name a step show.
        shares: Share of swapped texts by run.
        drawn: Whose samples are drawn otherwise under another name.

    Raises:
        UserError: If a score lacks a split of the table, or counts other numbers of images than its neighbours.
    """
    metrics = shown_metrics(scores)
    result = []
    swapped = _unequal(table, shares or {})
    for split in table.splits:
        lines, first = [], None
        for number, row in enumerate(table.rows, 1):
            several = _scores(row, scores, along or {})
            found = [_split(name, score, split) for score in several]
            for score, part in zip(several, found, strict=True):
                first = first or (score, part)
                _same_counts(name, split, first, (score, part))
            measured = {m.key: one for m in metrics if (one := estimate(found, m.key))}
            untrained = (drawn or {}).get(row.run or "", row.run) in UNTRAINED
            point = "" if untrained else _point(row, several, steps or {})
            label = f"{row.label}, {point}" if row.step and point else row.label
            if row.run is not None and row.run in swapped:
                label = f"{label}, share {swapped[row.run]:.2f}"
            key = row.paper.row if row.paper else row.run if row.run in UNTRAINED else str(number)
            lines.append(Line(key, label, row.run, paper.get(row.paper, split), measured, several, point))
        counts = (first[1].count, first[1].reference_count) if first else (0, 0)
        result.append(Part(split, lines, *counts))
    return result


def _unequal(table: Table, shares: Mapping[str, float]) -> dict[str, float]:
    """Shares of swapped texts of a table's runs, if they differ."""
    found = {row.run: shares[row.run] for row in table.rows if row.run is not None and row.run in shares}
    return found if found and max(found.values()) - min(found.values()) > SAME_SHARE else {}


def _split(table: str, score: Score, split: str) -> Split:
    if split not in score.splits:
        raise UserError(f"{score.path}: splits.{split} is missing, which {table} shows; score it again")
    return score.splits[split]


def _same_counts(table: str, split: str, first: tuple[Score, Split], other: tuple[Score, Split]) -> None:
    for what in ("count", "reference_count"):
        expected, found = getattr(first[1], what), getattr(other[1], what)
        if found != expected:
            raise UserError(
                f"{other[0].path}: splits.{split}.{what} is {found}, but {expected} in {first[0].path}; "
                f"{table} cannot show both, score them alike"
            )


def _scores(row: Row, scores: dict[str, list[Score]], along: Points) -> list[Score]:
    if row.run is None:
        return []
    return scores.get(row.run, []) if row.step is None else along.get((row.run, row.step, row.weights or ""), [])


def _point(row: Row, several: list[Score], steps: Mapping[str, int]) -> str:
    """Which step and which weights a student's scores are of, in words."""
    if row.run is None or not several:
        return ""
    step, weights = row.step or steps.get(row.run), several[0].weights
    return ", ".join([*([f"step {step:,}"] if step else []), *([WEIGHTS.get(weights, weights)] if weights else [])])


def estimate(splits: Sequence[Split], metric: str) -> Measured | None:
    """A metric over the seeds of a run; None if no score has it.

    With several seeds: their mean and the half width of its 95% interval by Student's t with n - 1 degrees of
    freedom. With one: its value and its bootstrap interval over images.
    """
    found = [value for split in splits if (value := split.metrics.get(metric)) is not None]
    if not found:
        return None
    if len(found) == 1:
        return Measured(found[0].value, found[0].error95, OVER_IMAGES)
    values = pd.Series([one.value for one in found])
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(values.std()) / math.sqrt(len(values))
    return Measured(float(values.mean()), half, OVER_SEEDS)


@dataclass(frozen=True)
class Agreement:
    """Of ``pairs`` pairs of rows that the paper orders by a metric: how many are measured in that order."""

    metric: Metric
    pairs: int
    same: int
    reversed: int

    @property
    def undecided(self) -> int:
        """Pairs whose measured difference lies within the intervals."""
        return self.pairs - self.same - self.reversed


def agreements(lines: Sequence[Line]) -> list[Agreement]:
    """For each metric of the paper, how many pairs of rows are measured in the paper's order.

    A pair counts as decided where the difference is larger than the two half widths added in quadrature. The teacher
    is left out: that it beats its students says nothing about them.
    """
    result = []
    for metric in (m for m in METRICS if m.in_paper):
        students = [line for line in lines if line.run != "teacher"]
        known = [line for line in students if metric.key in line.paper and metric.key in line.measured]
        pairs = same = other = 0
        for a, b in combinations(known, 2):
            reported = a.paper[metric.key] - b.paper[metric.key]
            if a.run == b.run or reported == 0:
                continue
            x, y = a.measured[metric.key], b.measured[metric.key]
            pairs += 1
            if abs(x.value - y.value) > math.hypot(x.error95, y.error95):
                agrees = (x.value > y.value) == (reported > 0)
                same, other = same + agrees, other + (not agrees)
        if pairs:
            result.append(Agreement(metric, pairs, same, other))
    return result


def tidy(name: str, table: Sequence[Part], metrics: Sequence[Metric]) -> pd.DataFrame:
    """One row for each cell, in the units of the score files (KID not times 1000, shares between 0 and 1).

    Columns: table, row, label, run, split, metric, paper, measured, error95, error_kind, count, seeds. What was not
    run has no number and the error kind ``not run``.
    """
    rows = []
    for part in table:
        for line in part.lines:
            for metric in metrics:
                found = line.measured.get(metric.key)
                rows.append(
                    {
                        "table": name,
                        "row": line.row,
                        "label": line.label,
                        "run": line.run or "",
                        "split": part.split,
                        "metric": metric.key,
                        "paper": line.paper.get(metric.key),
                        "measured": found.value if found else None,
                        "error95": found.error95 if found else None,
                        "error_kind": found.kind if found else NOT_RUN,
                        "count": part.count if found else None,
                        "seeds": line.seeds,
                    }
                )
    frame = pd.DataFrame(rows)
    frame["count"] = frame["count"].astype("Int64")
    return frame
