"""What the report is to show: its settings, with tables, grids of samples and plots."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator

from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json
from randcond.report.checking import SAFE_NAME, Count, parse
from randcond.report.text import plain
from randcond.settings.claims import Claim, swapped

SOME_WORLDS = frozenset({"unseen pair"})  # splits that only some worlds have, and few prompts may lack


class PaperRow(BaseModel):
    """Where the paper reports a row: ``table`` and ``row`` of paper_results.csv."""

    table: str
    row: str


class Row(BaseModel):
    """One row of a table: a run (None: nothing of ours stands here) beside a row of the paper."""

    run: str | None
    paper: PaperRow | None = None
    label: str
    step: Count | None = None  # of a step along the training, with ``weights``; None: the finished student
    weights: str | None = None


class Table(BaseModel):
    """A table of the report, with one part for each split."""

    title: str
    rows: list[Row] = Field(min_length=1)
    splits: list[str] = Field(min_length=1)
    costs: bool = False
    seconds: bool = False


class Grid(BaseModel):
    """A grid of samples: a row for each run, a column for each of ``count`` prompts of ``split``."""

    title: str
    split: str
    runs: list[str] = Field(min_length=1)
    count: int = Field(gt=0)
    benchmark: int | None = None  # prompts of the split coco30k, the first of all


class Line(BaseModel):
    """A line of a plot over the size of D."""

    label: str
    runs: list[str] = Field(min_length=1)


class Series(BaseModel):
    """A plot of every metric against the size of D."""

    title: str
    split: str
    lines: list[Line] = Field(min_length=1)


class Settings(BaseModel):
    """What the report is to show; see the module ``randcond.report``."""

    title: str
    world: str
    name: str
    seeds: list[int] = Field(min_length=1)
    runs: dict[str, dict[str, Any]]
    tables: dict[Annotated[str, Field(pattern=SAFE_NAME)], Table]
    grids: list[Grid] = []
    series: dict[Annotated[str, Field(pattern=SAFE_NAME)], Series] = {}
    claims: list[Claim] = []
    questions: list[Claim] = []
    drawn: dict[str, str] = {}  # what is drawn otherwise, and whose pipeline draws it
    count: Count = 1  # pairs in D of a run that names no size
    settings: dict[str, Any] = {}

    @property
    def shares(self) -> dict[str, float]:
        """The share of texts that random conditioning swaps, of the runs that have it."""
        return {
            run: swapped(made["random_conditioning"], (made.get("trajectories") or {}).get("share", 0.0))
            for run, made in self.runs.items()
            if made.get("random_conditioning")
        }

    def with_splits(self, known: Collection[str]) -> "Settings":
        """The same without tables' splits and grids that only some worlds have, unless they are among ``known``."""
        lacking = SOME_WORLDS.difference(known)
        kept = {name: [split for split in one.splits if split not in lacking] for name, one in self.tables.items()}
        tables = {name: self.tables[name].model_copy(update={"splits": some}) for name, some in kept.items() if some}
        grids = [grid for grid in self.grids if grid.split not in lacking]
        return self.model_copy(update={"tables": tables, "grids": grids})

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        return plain(values)


def read_settings(text: str) -> Settings:
    """Settings from a JSON object or from the path of a JSON file.

    Raises:
        UserError: If something is missing or of the wrong type.
    """
    if not text.lstrip().startswith("{"):
        return parse(Settings, read_json(Path(text)), text)
    try:
        return parse(Settings, json.loads(text), "report settings")
    except json.JSONDecodeError as error:
        raise UserError(f"report settings: not valid JSON ({error})") from None
