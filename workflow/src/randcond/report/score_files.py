"""The score files: what is in one, and whether several can stand beside each other."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.types import StrictFloat, StrictInt

from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json
from randcond.report.checking import SAFE_NAME, Count, Number, parse
from randcond.report.shown import Settings

_ROUNDING = 1e-6


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
    """All metrics of a split. Worlds without an evaluator that names things have no ``named``, one's own no IS, nor
    CLIP where a classifier is its evaluator."""

    fid: Distance
    kid: Estimate
    is_: InceptionScore | None = Field(default=None, alias="is")
    clip: Cosine | None = None
    named: Share | None = None
    style: Share | None = None  # of prompts that name an artist
    agreement: Cosine | None = None  # with the teacher's sample of the same prompt and noise; of one's own world
    latents: Distance | None = None  # to the same
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
    unet_parameters: Count | None = None  # None: real images
    unet_sha256: str | None = None
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

    Drawn in other steps, or by another scheduler, it may be scored again.

    Raw weights and their moving average are two students, but for the first step, whose average they are.
    """
    seen: dict[tuple[str, ...], Score] = {}
    for score in scores:
        if score.unet_sha256 is None:
            continue
        drawn = (str(score.protocol.get(key)) for key in ("scheduler", "steps", "guidance_scale"))
        other = seen.setdefault((score.unet_sha256, *drawn), score)
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
    for metric in ("clip", "named"):
        lacking = [
            f"{score.path}: splits.{name}"
            for score in scores
            for name, split in score.splits.items()
            if split.metrics.get(metric) is None
        ]
        if 0 < len(lacking) < sum(len(score.splits) for score in scores):
            raise UserError(f"{lacking[0]}.metrics.{metric} is missing, other scores have it")
