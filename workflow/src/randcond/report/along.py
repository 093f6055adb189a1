"""Quality along a training: the scores of every kept step, of raw weights and of their moving average.

They are shown table by table: for each table that has such runs a plot of each of its splits and a table of all points.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from randcond.jobs.errors import UserError
from randcond.report import figures
from randcond.report.score_files import Score, check_comparable, read_score
from randcond.report.shown import Row, Settings, Table
from randcond.report.tables import WEIGHTS, Points
from randcond.settings.fields import Split

SPLITS = get_args(Split)


@dataclass(frozen=True)
class Group:
    """The points of the runs of one table.

    Attributes:
        name: Of its files: ``along-<table>``, or ``along`` for runs of no table.
        table: The table of all its points.
        points: Its runs' scores.
    """

    name: str
    table: Table
    points: Points


def read(
    paths: Iterable[Path], settings: Settings, scores: Mapping[str, Sequence[Score]], steps: Mapping[str, int]
) -> Points:
    """Scores along trainings, ordered by run and step; where they end, those of the finished students.

    Args:
        paths: ``scores/along/<run>/<seed>/<step>-<weights>.json``.
        settings: The report's.
        scores: Scores of the finished students, by run.
        steps: Steps that these were trained for.

    Raises:
        UserError: If a file is not what it should be, belongs to another world, is there twice, or scores the UNet of
            another.
    """
    found: Points = {}
    for path in sorted(paths):
        score = read_score(path, settings)
        if score.step is None or score.weights not in WEIGHTS:
            raise UserError(f"{path}: says neither step nor weights; score it again")
        _add(found, (score.run, score.step, score.weights), score)
    along = [score for several in found.values() for score in several]
    check_comparable([*(score for several in scores.values() for score in several), *along], steps)
    for run in {run for run, _, _ in found if run in steps}:
        for score in scores.get(run, ()):
            _add(found, (run, steps[run], score.weights), score)
    return {point: sorted(found[point], key=lambda score: score.seed) for point in sorted(found)}


def _add(points: Points, point: tuple[str, int, str], score: Score) -> None:
    several = points.setdefault(point, [])
    if same := [one for one in several if one.seed == score.seed]:
        raise UserError(f"{score.path}: the same step, weights and seed are also in {same[0].path}")
    several.append(score)


def groups(points: Points, settings: Settings) -> list[Group]:
    """The points of each table's runs, on the table's splits; those of runs of no table together, on what all have."""
    result: list[Group] = []
    tabled: set[str | None] = set()
    for name, one in settings.tables.items():
        runs = dict.fromkeys(row.run for row in one.rows)
        tabled |= runs.keys()
        part = {point: points[point] for run in runs for point in points if point[0] == run}
        result.append(_group(f"along-{name}", one.title, one.splits, part))
    others = {point: several for point, several in points.items() if point[0] not in tabled}
    result.append(_group("along", "other runs", _shared_splits(others), others))
    return [group for group in result if group.points]


def _group(name: str, title: str, splits: list[str], points: Points) -> Group:
    rows = [Row(run=run, label=run, step=step, weights=weights) for run, step, weights in points]
    return Group(name, Table.model_construct(title=f"Along the training: {title}", rows=rows, splits=splits), points)


def _shared_splits(points: Points) -> list[str]:
    return [name for name in SPLITS if all(name in score.splits for several in points.values() for score in several)]


def draw(group: Group, folder: Path) -> dict[str, str]:
    """Split -> SVG of its scores against the step; the files are ``folder``/<group>-<split>.svg and .csv."""
    splits = group.table.splits
    return {split: figures.step_curves(f"{group.name}-{split}", group.points, split, folder) for split in splits}
