"""Was it trained long enough? What the second half of a training moved, as a part of the way left to the teacher.

A training has converged if twice the steps move each metric by less than "as good as" allows (docs/analysis.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from randcond.report.score_files import Score
from randcond.report.tables import METRICS, NONE, Metric, Points
from randcond.report.verdicts import PART


@dataclass(frozen=True)
class Doubling:
    """A run's last step against half of it, on one split, by the same weights.

    Attributes:
        moved: Metric -> part of the way from the half to the teacher that the second half went; below 0: away from it.
    """

    run: str
    split: str
    weights: str
    half: int
    last: int
    moved: dict[str, float]

    @property
    def converged(self) -> bool:
        """Whether no metric moved by more than "as good as" allows."""
        return all(abs(part) < PART for part in self.moved.values())

    def shown(self, metric: Metric) -> str:
        """What a metric moved, in percent; of one that had no way to go a dash."""
        return f"{100 * self.moved[metric.key]:+.0f}" if metric.key in self.moved else NONE


def columns(rows: Sequence[Doubling]) -> list[Metric]:
    """The metrics that any row has."""
    return [metric for metric in METRICS if any(metric.key in row.moved for row in rows)]


def doublings(points: Points, teacher: Sequence[Score], splits: Sequence[str]) -> list[Doubling]:
    """Every run, split and kind of weights that was scored at its last step and at half of it.

    Args:
        points: Scores by run, step and weights.
        teacher: The teacher's.
        splits: Those that are shown.
    """
    found = []
    last = {run: max(step for one, step, _ in points if one == run) for run, _, _ in points}
    for run, step, weights in points:
        if 2 * step != last[run] or (run, 2 * step, weights) not in points:
            continue
        for split in splits:
            half, end = (_means(points[run, at, weights], split) for at in (step, 2 * step))
            moved = _moved(half, end, _means(teacher, split))
            if moved:
                found.append(Doubling(run, split, weights, step, 2 * step, moved))
    return found


def _means(several: Sequence[Score], split: str) -> dict[str, float]:
    parts = [part.metrics for score in several if (part := score.splits.get(split))]
    found = {metric.key: [one.get(metric.key) for one in parts] for metric in METRICS}
    return {key: float(np.mean([one.value for one in of if one])) for key, of in found.items() if any(of)}


def _moved(half: Mapping[str, float], last: Mapping[str, float], teacher: Mapping[str, float]) -> dict[str, float]:
    """Signed by the way: 1 is all of it. A student that stood where the teacher stands had none to go."""
    shared = [key for key in half if key in last and key in teacher and teacher[key] != half[key]]
    return {key: (last[key] - half[key]) / (teacher[key] - half[key]) for key in shared}
