"""What the report reads, checked before any of it is shown: what is no finite number never gets into a table."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pandas as pd
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.types import StrictFloat, StrictInt

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import read_json
from randcond.report.text import plain
from randcond.settings.claims import Claim

Parsed = TypeVar("Parsed")
Number = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Count = Annotated[StrictInt, Field(gt=0)]
Histories = dict[tuple[str, int], list[dict[str, float]]]

_ROUNDING = 1e-6
SAFE_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


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
    count: Count = 1  # pairs in D of a run that names no size
    settings: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        return plain(values)


class Estimate(BaseModel):
    """A metric and the half width of its 95% bootstrap interval over images."""

    value: Number
    error95: Annotated[StrictFloat, Field(ge=0, allow_inf_nan=False)]


class Distance(Estimate):
    """An estimate that is never below 0 but for the rounding of matrix roots."""

    value: Annotated[StrictFloat, Field(ge=-0.01, allow_inf_nan=False)]


class InceptionScore(Estimate):
    """An estimate that is never below 1 but for rounding."""

    value: Annotated[StrictFloat, Field(ge=1 - _ROUNDING, allow_inf_nan=False)]


class Cosine(Estimate):
    """An estimate between -1 and 1."""

    value: Annotated[StrictFloat, Field(ge=-1 - _ROUNDING, le=1 + _ROUNDING)]


class Share(Estimate):
    """An estimate between 0 and 1."""

    value: Annotated[StrictFloat, Field(ge=0, le=1)]


class Metrics(BaseModel):
    """All metrics of a split. Worlds without an evaluator that names things have no ``named``."""

    fid: Distance
    kid: Estimate
    is_: InceptionScore = Field(alias="is")
    clip: Cosine
    named: Share | None = None
    fid_clean: Distance | None = None  # by another resize; of worlds that are scored by Inception

    def get(self, metric: str) -> Estimate | None:
        """The estimate by its name in the file, e.g. ``"is"``."""
        found: Estimate | None = getattr(self, "is_" if metric == "is" else metric)
        return found


class Split(BaseModel):
    """The scores of ``count`` samples against ``reference_count`` real images."""

    count: Count
    reference_count: Count
    metrics: Metrics


class Score(BaseModel):
    """One score file: a run and a seed. ``path`` is where it was read, for messages."""

    model_config = ConfigDict(extra="ignore")

    run: Annotated[str, Field(pattern=SAFE_NAME)]
    seed: StrictInt
    world: str
    name: str
    unet_parameters: Count
    unet_sha256: str
    protocol: dict[str, Any]
    splits: dict[str, Split] = Field(min_length=1)
    step: Count | None = None  # of a point along the training; None: the finished student
    path: Path = Path()

    @property
    def weights(self) -> str:
        """``raw`` or ``ema``, whatever else the protocol says, or nothing."""
        return str(self.protocol.get("weights", ""))

    @property
    def file(self) -> str:
        """Its place in the report's folder."""
        if self.step is None:
            return f"scores/{self.run}/{self.seed}.json"
        return f"scores/along/{self.run}/{self.seed}/{self.step}-{self.weights}.json"


class StudentCost(BaseModel):
    """What a run's student costs; ``latency``: seconds for one image, one prompt at a time, on ``device``."""

    run: str
    unet_parameters: Count
    macs: Count
    unet_bytes: Count
    latency: Annotated[StrictFloat, Field(gt=0, allow_inf_nan=False)]
    device: str


class Checked(BaseModel):
    """A score of the teacher beside what it should be."""

    expected: Number
    tolerance: Number
    found: Number


class Calibration(BaseModel):
    """Whether the teacher came out as it should, or who answers for scoring students all the same."""

    passed: bool
    overridden_by: str | None
    split: str
    scores: dict[str, Checked]


class PromptsSummary(BaseModel):
    """How many prompts fall to each side of the split, and how many should."""

    expected: dict[str, StrictInt]
    captions: dict[str, StrictInt]
    evaluation: dict[str, StrictInt]
    pool: StrictInt


class LlmSummary(BaseModel):
    """How the data-free prompts came about."""

    model: str
    asked: StrictInt
    accepted: StrictInt
    duplicates: StrictInt
    filtered: StrictInt
    acceptance_rate: FiniteFloat
    examples: list[str]
    pool: StrictInt


def parse(kind: type[Parsed] | Any, value: Any, where: str | Path) -> Parsed:
    """Check ``value`` against a type; what is wrong first becomes a :class:`UserError` that names ``where``."""
    try:
        parsed: Parsed = TypeAdapter(kind).validate_python(value)
        json.dumps(value, allow_nan=False)  # also the numbers that no type describes, e.g. in a protocol
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "content"
        raise UserError(f"{where}: {place}: {first['msg']}") from None
    except ValueError:
        raise UserError(f"{where}: holds a number that is not finite") from None
    return parsed


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


def read_score(path: Path, settings: Settings) -> Score:
    """A score file.

    Raises:
        UserError: If it is not what it should be, or belongs to another world.
    """
    score: Score = parse(Score, read_json(path), path)
    score.path = path
    if (score.world, score.name) != (settings.world, settings.name):
        wanted = f"{settings.world}/{settings.name}"
        raise UserError(f"{path}: scores of {score.world}/{score.name} in a report on {wanted}; score it again")
    return score


def read_scores(paths: Iterable[Path], settings: Settings) -> dict[str, list[Score]]:
    """Score files by run, ordered by seed.

    Raises:
        UserError: If a file is not what it should be, belongs to another world, repeats a run's seed or scores the
            student of another, or lacks a metric that others have.
    """
    by_run: dict[str, dict[int, Score]] = {}
    for path in sorted(paths):
        score = read_score(path, settings)
        seeds = by_run.setdefault(score.run, {})
        if score.seed in seeds:
            raise UserError(f"{path}: run {score.run}, seed {score.seed} is also in {seeds[score.seed].path}")
        seeds[score.seed] = score
    scores = {run: [seeds[seed] for seed in sorted(seeds)] for run, seeds in sorted(by_run.items())}
    check_comparable([score for of_run in scores.values() for score in of_run])
    return scores


def check_comparable(scores: Sequence[Score], steps: Mapping[str, int] | None = None) -> None:
    """Raise :class:`UserError` if two scores are of one student, or one lacks a metric that others have.

    Args:
        scores: Of finished students, and of points along their trainings.
        steps: Steps that finished students were trained for, as far as it is known.
    """
    check_students(scores, steps or {})
    _same_metrics(scores)


def check_students(scores: Iterable[Score], steps: Mapping[str, int] | None = None) -> None:
    """Raise :class:`UserError` if two scores are of one student: the numbers of a run would be shown as another's.

    Raw weights and their moving average are two students, but for the first step, whose average they are.
    """
    seen: dict[str, Score] = {}
    for score in scores:
        other = seen.setdefault(score.unet_sha256, score)
        if other is not score and not _first_step(score, other, steps or {}):
            raise UserError(
                f"{score.path}: scores the same student as {other.path}; score each run's own, or keep one of runs"
                " that do not differ"
            )


def _first_step(score: Score, other: Score, steps: Mapping[str, int]) -> bool:
    """Whether both are of a training's first step, one of raw weights, one of their average."""
    one, two = ((each.run, each.seed, each.step or steps.get(each.run)) for each in (score, other))
    return one == two == (score.run, score.seed, 1) and score.weights != other.weights


def _same_metrics(scores: Sequence[Score]) -> None:
    naming = {split.metrics.named is not None for score in scores for split in score.splits.values()}
    if len(naming) < 2:
        return
    for score in scores:
        for name, split in score.splits.items():
            if split.metrics.named is None:
                raise UserError(f"{score.path}: splits.{name}.metrics.named is missing, other scores have it")


def read_student_costs(paths: Iterable[Path]) -> dict[str, StudentCost]:
    """Costs by run."""
    found: list[StudentCost] = [parse(StudentCost, read_json(path), path) for path in sorted(paths)]
    return {cost.run: cost for cost in found}


def read_histories(paths: Iterable[Path]) -> Histories:
    """Training histories by (run, seed), taken from ``.../<run>/<seed>/history.json``.

    Raises:
        UserError: If an entry lacks its step or its loss, or holds something that is not a finite number.
    """
    histories: Histories = {}
    for path in sorted(paths):
        content = read_json(path)
        if isinstance(content, list) and content and isinstance(content[0], dict):
            content[0].pop("made_with", None)  # see training.loop; the log says it too
        entries: list[dict[str, float]] = parse(list[dict[str, Number]], content, path)
        if not all("step" in entry and entry.get("loss", 0) > 0 for entry in entries):
            raise UserError(f"{path}: an entry without a step or without a loss above 0")
        histories[run_and_seed(path)] = entries
    return histories


def run_and_seed(path: Path) -> tuple[str, int]:
    """``(run, seed)`` of a file in ``.../<run>/<seed>/``."""
    run, seed = path.parent.parent.name, path.parent.name
    if not run or not seed.isdecimal():
        raise UserError(f"{path}: expected a file in a folder <run>/<seed>")
    return run, int(seed)


def read_llm_summary(path: Path) -> LlmSummary:
    """The summary that the stage of the data-free prompts wrote."""
    return parse(LlmSummary, read_json(path), path)


def read_prompts_summary(path: Path) -> PromptsSummary:
    """The counts that the prompts stage wrote."""
    return parse(PromptsSummary, read_json(path), path)


def read_calibration(path: Path) -> Calibration:
    """The verdict on the teacher's scores."""
    return parse(Calibration, read_json(path), path)


def read_prompts(path: Path) -> pd.DataFrame:
    """Evaluation prompts: at least the columns ``text`` and ``split``; the row number names the sample."""
    with reading(path, "a Parquet file with columns text and split"):
        return pd.read_parquet(path, columns=["text", "split"])
