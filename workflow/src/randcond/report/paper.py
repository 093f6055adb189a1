"""The paper's reported numbers, by table, row and split."""

from pathlib import Path

import pandas as pd

from randcond.jobs.errors import UserError, reading
from randcond.report.checking import Number, parse
from randcond.report.shown import PaperRow

PAPER_COLUMNS = ("table", "row", "split", "fid", "is", "clip")


class Paper:
    """The paper's reported numbers.

    Args:
        path: CSV with at least the columns ``table, row, split, fid, is, clip``; an empty cell was not reported.
    """

    def __init__(self, path: Path) -> None:
        with reading(path, "CSV", missing="name another by --paper-results", broken="correct it"):
            frame = pd.read_csv(path, dtype={"table": str, "row": str, "split": str})
        if missing := [column for column in PAPER_COLUMNS if column not in frame]:
            raise UserError(f"{path}: column {missing[0]} is missing")
        self.path = path
        self._values: dict[tuple[str, str, str], dict[str, float]] = {}
        for entry in frame.to_dict("records"):
            key = (entry["table"], entry["row"], entry["split"])
            if key in self._values:
                raise UserError(f"{path}: {' '.join(key)} stands there twice")
            known = {metric: entry[metric] for metric in ("fid", "is", "clip") if not pd.isna(entry[metric])}
            self._values[key] = parse(dict[str, Number], known, f"{path}: {' '.join(key)}")
        self._rows = {key[:2] for key in self._values}

    def get(self, row: PaperRow | None, split: str) -> dict[str, float]:
        """What the paper reports for a row; metrics that it does not report are absent.

        Where the paper has no split ``all``, its 30K captions of COCO stand for it.

        Raises:
            UserError: If the paper has no such row.
        """
        if row is None:
            return {}
        if (row.table, row.row) not in self._rows:
            raise UserError(f"report settings: {row.table} row {row.row} is not in {self.path}")
        values = self._values.get((row.table, row.row, split))
        if values is None and split == "all":
            values = self._values.get((row.table, row.row, "coco30k"))
        return values or {}
