"""The experiments file: its schema; runs, and the tables, plots and grids that name them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from randcond.jobs.errors import UserError
from randcond.method.catalogue import CHANNEL_STUDENTS, STUDENTS
from randcond.method.conditioning import probability
from randcond.settings.fields import Positive, Section, validated
from randcond.settings.yaml_file import read_yaml

Split = Literal["all", "seen", "unseen", "coco30k"]
GridName = Literal["default", "full"]


def _known_student(name: str) -> str:
    if name not in STUDENTS:
        raise ValueError(f"unknown student {name!r}; choose one of {', '.join(STUDENTS)}")
    return name


def _valid_probability(settings: dict[str, Any] | None) -> dict[str, Any] | None:
    if settings is not None:
        try:
            probability(settings)
        except UserError as error:
            raise ValueError(str(error).removeprefix("random_conditioning")) from None
    return settings


def _no_teacher(name: str) -> str:
    if name == "teacher":
        raise ValueError("a run cannot be called teacher; the tables use that name for the teacher itself")
    return name


RunName = Annotated[str, Field(pattern=r"^[a-z0-9-]+$"), AfterValidator(_no_teacher)]


class Run(Section):
    """One distilled student: what it is made of and what it sees.

    Attributes:
        size: Pairs in D, the first of the prompts' rows; all of them by default.
        grid: ``full`` for a run of the full grid only.
    """

    grid: GridName = "default"
    student: Annotated[str, AfterValidator(_known_student)] = "b-base"
    init: Literal["copied", "random"] = "copied"
    prompts: Literal["captions", "llm"] = "captions"
    rows: Literal["all", "seen"] = "all"
    size: Positive | None = None
    images: Literal["rendered", "real"] = "rendered"
    random_conditioning: Annotated[dict[str, Any] | None, AfterValidator(_valid_probability)] = None
    texts: list[Literal["unseen", "pool", "llm"]] = []

    @model_validator(mode="after")
    def _makes_sense(self) -> "Run":
        if self.init == "copied" and self.student in CHANNEL_STUDENTS:
            raise ValueError(f"init: {self.student} cannot copy the teacher's weights; use random")
        if self.images == "real" and self.prompts == "llm":
            raise ValueError("images: there are no real images for the LLM's prompts; use rendered")
        if self.texts and self.random_conditioning is None:
            raise ValueError("texts: a larger pool does nothing without random_conditioning")
        if "llm" in self.texts and self.prompts != "llm":
            raise ValueError("texts: llm are the LLM's prompts beyond D's; they need prompts: llm")
        return self


class Row(Section):
    """A row of a table: a run (or the teacher, or nothing of ours) beside the paper's row."""

    run: str | None
    paper: str | None = None
    label: str


class Table(Section):
    """A table of the paper."""

    title: str
    splits: list[Split]
    rows: list[Row]
    costs: bool = False  # also show what each row's student costs
    grid: GridName = "default"


class Grid(Section):
    """A figure of samples, a row a run."""

    title: str
    split: Split
    runs: list[str]
    count: Positive = 12


class Line(Section):
    """A line of a plot over the size of D."""

    label: str
    runs: list[str]


class Series(Section):
    """A plot of every metric against the size of D, a line for each list of runs."""

    title: str
    split: Literal["all", "seen", "unseen"]
    lines: list[Line]
    grid: GridName = "default"


class Experiments(Section):
    """The runs, and the tables and figures that name them."""

    runs: dict[RunName, Run]
    tables: dict[str, Table]
    grids: list[Grid] = []
    series: dict[str, Series] = {}

    def of_grid(self, grid: GridName) -> "Experiments":
        """Without the runs, tables and plots that only the full grid has, unless ``grid`` is full."""
        if grid == "full":
            return self
        kept = {
            kind: {name: one for name, one in getattr(self, kind).items() if one.grid == grid}
            for kind in ("runs", "tables", "series")
        }
        return self.model_copy(update=kept)

    @model_validator(mode="after")
    def _runs_exist(self) -> "Experiments":
        for name, series in self.series.items():
            for line in series.lines:
                for run in line.runs:
                    self._check(run, f"series.{name}")
        for name, table in self.tables.items():
            for row in table.rows:
                if row.run is not None:
                    self._check(row.run, f"tables.{name}")
        for grid in self.grids:
            for run in grid.runs:
                self._check(run, "grids")
        return self

    def _check(self, run: str, where: str) -> None:
        if run != "teacher" and run not in self.runs:
            raise ValueError(f"{where}: there is no run {run!r}")


def load_experiments(path: Path) -> Experiments:
    """The experiments file.

    Raises:
        UserError: If it is missing, no YAML, or wrong.
    """
    return validated(Experiments, read_yaml(Path(path), "experiments", "runs and tables"), str(path))
