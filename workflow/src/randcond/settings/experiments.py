"""The experiments file: its schema; runs, and the tables, plots and grids that name them."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from randcond.jobs.errors import UserError
from randcond.jobs.yaml_file import read_yaml
from randcond.method.catalogue import (
    CHANNEL_STUDENTS,
    KNOWN_STUDENTS,
    NARROW_STUDENTS,
    WIDTH_STUDENTS,
    Features,
    best_features,
)
from randcond.method.conditioning import probability
from randcond.settings.faster import Drawn, Faster
from randcond.settings.fields import UNTRAINED, GridName, Init, Positive, Section, Share, Split, validated


def _known_student(name: str) -> str:
    if name not in KNOWN_STUDENTS:
        raise ValueError(f"unknown student {name!r}; choose one of {', '.join(KNOWN_STUDENTS)}")
    return name


def _valid_probability(settings: dict[str, Any] | None) -> dict[str, Any] | None:
    if settings is not None:
        try:
            probability(settings)
        except UserError as error:
            raise ValueError(str(error).removeprefix("random_conditioning")) from None
    return settings


def _not_taken(name: str) -> str:
    if name in (*UNTRAINED, "teacher-again"):
        raise ValueError(f"a run cannot be called {name}; teacher and real images are called so")
    return name


def _not_along(name: str) -> str:
    if name == "along" or name.startswith("along-"):
        raise ValueError("a table cannot be called along; the report gives such names to scores along the trainings")
    return name


RunName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$"), AfterValidator(_not_taken)]


class Trajectories(Section):
    """Pairs off the teacher's own trajectories, in the place of some of D's: states on the way from noise to an image,
    with texts of the text pool (``method/trajectories.py``)."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Their share of each batch; 1: no image is rendered at all."""
    guidance: float = Field(default=1.0, ge=1)
    """Weight of the guidance that states are moved on with; above 1 it takes the teacher a second pass."""
    bank: Positive = 8
    """States kept for each that a step takes, so that those of one step are not alike."""
    stride: Annotated[int, Field(gt=0, le=500)] = 40
    """Mean length of a move, in timesteps."""


class Run(Section):
    """One distilled student: what it is made of and what it sees."""

    grid: GridName = "default"
    """``full`` for a run of the full grid only."""
    student: Annotated[str, AfterValidator(_known_student)] = "b-base"
    """Of a UNet b-base, b-small, b-tiny: blocks removed; c-base, c-small, c-tiny, c-micro: channels narrowed; of SDXL's
    also koala-1b, koala-700m, ssd-1b: fewer transformer layers as well. Of SD3's transformer half-depth, third-depth:
    fewer blocks; two-thirds-width, half-width: fewer heads."""
    init: Init = "copied"
    """Where the weights come from: the teacher's layers, its most important channels (C-*), or chance."""
    importance: Literal["first-order", "norm"] = "first-order"
    """What makes a channel important to inherit: what the teacher's loss on D would lose without it, or its weights."""
    prompts: Literal["captions", "llm"] = "captions"
    """Which prompts D is rendered from."""
    rows: Literal["all", "seen"] = "all"
    """Which of their rows: all, or those that name no concept held out."""
    size: Positive | None = None
    """Pairs in D, the first of those rows; none: all of them."""
    images: Literal["rendered", "real", "real-augmented"] = "rendered"
    """The teacher's images, or real ones, which add the denoising loss on pairs that were not swapped; augmented is as
    BK-SDM takes them: resized bilinearly, mirrored half of the time, encoded by a sample of the posterior."""
    random_conditioning: Annotated[dict[str, Any] | None, AfterValidator(_valid_probability)] = None
    """p(t): its kind and its share, the part of texts that are swapped on average on Stable Diffusion's schedule, e.g.
    ``{kind: exponential, share: 0.35}``, or the kind's own parameters, as ``rate: 5.0`` of the paper; none: no random
    conditioning. Kinds: constant (p), exponential and two-sided-exponential (rate), sigmoid (rate, centre), linear
    (slope), parabola (scale), and measured, from the teacher, by its share alone."""
    trajectories: Trajectories | None = None
    """Pairs off the teacher's own trajectories, e.g. ``{share: 0.5}``; none: all pairs are D's."""
    texts: list[Literal["unseen", "pool", "llm"]] = []
    """What the text pool holds besides D's own texts."""
    null_text: Share | None = None
    """Share of texts that are emptied; none: ``distillation.null_text``."""
    features: Features = Field(default_factory=lambda run: best_features(run["student"]))
    """What B-Tiny and C-* are compared by: blocks' outputs, or what the authors' code has (all, or what trained).
    Unless it is said, by what drew better where it was measured: authors-effective for C-*, blocks for all others."""
    relative_features: bool = False
    """Divide each feature's error by the teacher's mean square of that feature."""

    @model_validator(mode="after")
    def _makes_sense(self) -> "Run":
        if self.init == "copied" and self.student in NARROW_STUDENTS:
            other = "random" if self.student in WIDTH_STUDENTS else "inherited or random"
            raise ValueError(f"init: {self.student} cannot copy the teacher's layers; use {other}")
        if self.init == "inherited" and self.student in WIDTH_STUDENTS:
            raise ValueError(f"init: {self.student} is of a transformer, whose channels nothing chooses; use random")
        if self.init == "inherited" and self.student not in CHANNEL_STUDENTS:
            raise ValueError(f"init: {self.student} has the teacher's channels; use copied or random")
        if self.images != "rendered" and self.prompts == "llm":
            raise ValueError("images: there are no real images for the LLM's prompts; use rendered")
        if self.texts and self.random_conditioning is None and self.trajectories is None:
            raise ValueError("texts: a larger pool does nothing without random_conditioning or trajectories")
        if self.trajectories is not None and self.trajectories.share == 1:
            if self.random_conditioning is not None:
                raise ValueError("trajectories.share: 1 leaves no pair whose text random_conditioning could swap")
            if self.images != "rendered":
                raise ValueError("images: trajectories with a share of 1 take no images at all; use rendered")
            if self.init == "inherited" and self.importance == "first-order":
                raise ValueError(
                    "importance: first-order needs images, which trajectories with a share of 1 do without"
                )
        if "llm" in self.texts and self.prompts != "llm":
            raise ValueError("texts: llm are the LLM's prompts beyond D's; they need prompts: llm")
        return self


class Row(Section):
    """A row of a table: a run (or the teacher, real images, or nothing of ours) beside the paper's row."""

    run: str | None
    """A run, ``teacher``, ``real`` for fresh real images, or null for a row of the paper's alone."""
    paper: str | None = None
    """The paper's row beside it, by its name in ``paper_results.csv``; none: no row of the paper's."""
    label: str
    """Text of the row."""
    step: Positive | None = None
    """Step of the training that is shown, of a run that is scored along it (``along``); none: the last."""
    weights: Literal["raw", "ema"] | None = None
    """Weights that are shown, of such a run; none: those that the student is saved with."""

    @model_validator(mode="after")
    def _has_a_training(self) -> "Row":
        if self.run in (None, *UNTRAINED) and (self.step or self.weights):
            raise ValueError("step: only a student has steps and weights to choose from")
        return self


class Table(Section):
    """A table of scores, of the paper or beside it."""

    title: str
    """Heading."""
    splits: list[Split]
    """Splits of the evaluation prompts that are shown."""
    rows: list[Row]
    """Its rows, from the top."""
    costs: bool = False
    """Also show what each row's student costs."""
    seconds: bool = False
    """Also plot every metric against the seconds of an image."""
    grid: GridName = "default"
    """``full`` for a table of the full grid only."""


class Grid(Section):
    """A figure of samples, a row a run."""

    title: str
    """Heading."""
    split: Split
    """Split of the evaluation prompts."""
    runs: list[str]
    """A row each."""
    count: Positive = 12
    """Prompts, a column each."""
    grid: GridName = "default"
    """``full`` for a figure of the full grid only."""


class Line(Section):
    """A line of a plot over the size of D."""

    label: str
    """Text of the line."""
    runs: list[str]
    """Its points, from the smallest D on."""


class Series(Section):
    """A plot of every metric against the size of D, a line for each list of runs."""

    title: str
    """Heading."""
    split: Split
    """Split of the evaluation prompts."""
    lines: list[Line]
    """Lines of the plot."""
    grid: GridName = "default"
    """``full`` for a plot of the full grid only."""


class Experiments(Section):
    """The runs, and the tables and figures that name them."""

    runs: dict[RunName, Run]
    """Name -> run."""
    tables: dict[Annotated[str, AfterValidator(_not_along)], Table]
    """Name -> table."""
    grids: list[Grid] = []
    """Figures of samples."""
    series: dict[str, Series] = {}
    """Name -> plot."""
    faster: dict[RunName, Faster] = {}
    """Name -> a finished student that is made to draw in few steps. It is scored, and shown, as a run is."""
    drawn: dict[RunName, Drawn] = {}
    """Name -> what is drawn in another number of steps. It is scored, and shown in tables and grids, as a run is."""

    @property
    def more(self) -> list[str]:
        """The names, beside the runs', of all that is scored."""
        return [*self.faster, *self.drawn]

    @property
    def shows_real(self) -> bool:
        """Whether a table or a grid shows fresh real images."""
        rows = [row.run for table in self.tables.values() for row in table.rows]
        return "real" in [*rows, *(run for grid in self.grids for run in grid.runs)]

    def pipeline(self, name: str) -> str:
        """Whose pipeline draws what is scored under a name: a run, one that was made faster, or ``teacher``."""
        return self.drawn[name].run if name in self.drawn else name

    def student(self, name: str) -> str:
        """The run, or ``teacher``, that what is scored under a name comes from."""
        name = self.pipeline(name)
        return self.faster[name].student if name in self.faster else name

    def of_grid(self, grid: GridName) -> "Experiments":
        """Without the runs, tables and plots that only the full grid has, unless ``grid`` is full."""
        if grid == "full":
            return self
        kept = {
            kind: {name: one for name, one in getattr(self, kind).items() if one.grid == grid}
            for kind in ("runs", "tables", "series", "faster", "drawn")
        }
        return self.model_copy(update={**kept, "grids": [one for one in self.grids if one.grid == grid]})

    @model_validator(mode="after")
    def _runs_exist(self) -> "Experiments":
        self._check_more()
        for name, series in self.series.items():
            for line in series.lines:
                for run in line.runs:
                    self._check(run, f"series.{name}")
        for name, table in self.tables.items():
            for row in table.rows:
                if row.run is not None:
                    self._check(row.run, f"tables.{name}")
                if row.run in self.more and (row.step or row.weights):
                    raise ValueError(f"tables.{name}: {row.run} has no steps and weights to choose from; runs have")
        for grid in self.grids:
            for run in grid.runs:
                self._check(run, "grids")
        return self

    def _check(self, run: str, where: str) -> None:
        if run not in (*UNTRAINED, *self.runs, *self.more):
            raise ValueError(f"{where}: there is no run {run!r}")

    def _check_more(self) -> None:
        """What is scored beside the runs has names of its own, and comes from something that is there."""
        for name in (name for name in self.more if name in self.runs or self.more.count(name) > 1):
            raise ValueError(f"{name}: a name for two of runs, faster and drawn")
        of_faster = [(f"faster.{name}", one.student, one.grid) for name, one in self.faster.items()]
        of_drawn = [(f"drawn.{name}", one.run, one.grid) for name, one in self.drawn.items()]
        for where, run, grid in of_faster + of_drawn:
            known: dict[str, Run | Faster] = {**self.runs, **(self.faster if where.startswith("drawn") else {})}
            if run not in known and not (run == "teacher" and where.startswith("drawn")):
                raise ValueError(f"{where}: there is no run {run!r} to start from")
            if grid == "default" and run in known and known[run].grid == "full":
                raise ValueError(f"{where}: {run} is of the full grid only, so this must be")
        for name, one in self.drawn.items():
            if one.run in self.faster and (fault := self.faster[one.run].fault(one.steps)):
                raise ValueError(f"drawn.{name}: {fault}")


def load_experiments(path: Path) -> Experiments:
    """The experiments file.

    Raises:
        UserError: If it is missing, no YAML, or wrong.
    """
    return validated(Experiments, read_yaml(Path(path), "runs and tables"), str(path))
