"""A table of prompts as a file: Parquet with the columns id, text, split and source."""

from pathlib import Path

import numpy as np
import pandas as pd

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import atomic_path

COLUMNS = ["id", "text", "split", "source"]


def write_prompts(path: Path, frame: pd.DataFrame) -> None:
    """Write prompts (text, split, source) with ids 0.. to Parquet, atomically."""
    frame = frame.reset_index(drop=True).assign(id=lambda f: np.arange(len(f), dtype=np.int64))
    with atomic_path(path) as partial:
        frame[COLUMNS].to_parquet(partial, index=False)


def read_prompts(path: Path) -> pd.DataFrame:
    """Read prompts.

    Raises:
        UserError: If the file is missing, broken, lacks a column or is empty, or a text or split is no text.
    """
    with reading(path, "a whole Parquet file", missing="run the prompts stage"):
        frame = pd.read_parquet(path)
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise UserError(f"{path}: lacks the column {', '.join(missing)}")
    if frame.empty:
        raise UserError(f"{path}: holds no prompts")
    for column in ("text", "split"):
        for row, value in enumerate(frame[column]):
            if not isinstance(value, str):
                raise UserError(f"{path}: row {row} of its column {column} is no text but {value!r}")
    return frame
