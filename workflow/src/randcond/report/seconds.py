"""Quality against the seconds of an image: every metric of a table's rows, a line for each pipeline that draws them."""

from pathlib import Path

import pandas as pd

from randcond.report import figures
from randcond.report.inputs import StudentCost
from randcond.report.score_files import Score
from randcond.report.shown import Table
from randcond.report.tables import estimate, shown_metrics


def draw(
    name: str,
    table: Table,
    split: str,
    scores: dict[str, list[Score]],
    costs: dict[str, StudentCost],
    drawn: dict[str, str],
    folder: Path,
) -> str:
    """Draw ``folder``/<name>.svg, with <name>.csv.

    Args:
        name: Of the files.
        table: Its rows; those without scores or costs are left out, of which one at least has both.
        split: Of the evaluation prompts.
        scores: Scores by run.
        costs: Costs by run.
        drawn: Rows that are drawn otherwise, and whose pipeline draws them.
        folder: Where to write.

    Returns:
        The SVG.
    """
    rows = [
        {"line": drawn.get(row.run, row.run), "run": row.run, "seconds": costs[row.run].latency, "metric": metric}
        | {"passes": costs[row.run].passes, "seeds": len(scores[row.run])}
        | {"value": found.value, "error95": found.error95, "error_kind": found.kind}
        for row in table.rows
        if row.run is not None and row.run in costs and scores.get(row.run)
        for metric in shown_metrics(scores)
        if (found := estimate([score.splits[split] for score in scores[row.run]], metric.key))
    ]
    return figures.second_curves(name, pd.DataFrame(rows), folder)
