"""The configuration: its schema, its defaults, and one line for whatever is wrong with it."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from randcond.catalogue import CHANNEL_STUDENTS, STUDENTS
from randcond.claims import Claim
from randcond.conditioning import probability
from randcond.errors import UserError
from randcond.fields import Above0, Positive, Section, Seed, Share
from randcond.large import Calibration, Gpus, Precision, Sources, Writer

Model = TypeVar("Model", bound=BaseModel)
Split = Literal["all", "seen", "unseen", "coco30k"]


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


class LLM(Section):
    """How the LLM writes the data-free prompts (the role of GPT in the paper)."""

    count: Positive = 2000
    batch: Positive = 32
    examples: Positive = 16
    new_tokens: Positive = 96
    temperature: Above0 = 0.9
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_rounds: Positive = 400
    seed: Seed = 1
    writer: Writer | None = None  # none: the small model that comes in a wheel


class Prompts(Section):
    """D's prompts: how many of the world's captions are rendered."""

    count: Positive = 960
    evaluation: Positive = 999
    benchmark: Positive | None = None  # the first so many evaluation prompts are a split of their own, coco30k
    pool: Positive | None = None  # texts drawn from sources.texts
    max_characters: Positive = 1000  # of a text of the pool; a text encoder reads far fewer
    expected: dict[Literal["seen", "unseen"], Positive] = {}  # the paper's counts of D, reported beside ours
    seed: Seed = 0
    llm: LLM = LLM()


class Sampling(Section):
    """How a pipeline draws images (PNDM, as in the paper's protocol)."""

    steps: Positive = 25
    guidance_scale: float = Field(default=2.0, ge=1)
    batch: Positive = 64
    shard: Positive = 333
    precision: Precision = "no"
    seed: Seed = 1000


class Rendering(Sampling):
    """How the teacher renders D."""

    shard: Positive = 240
    latents: Literal["fp32", "fp16"] = "fp32"


class Evaluation(Sampling):
    """How evaluation images are drawn and stored."""

    seed: Seed = 3000
    image_format: Literal["png", "jpeg"] = "png"
    resize: Positive | None = None  # pixels; the image is stored, read again, resized and stored once more


class Steps(Section):
    """Optimiser steps by where the student's weights come from."""

    copied: Positive = 800
    random: Positive = 1500


class Distillation(Section):
    """The paper's recipe; a run's own settings are in the experiments file."""

    steps: Steps = Steps()
    batch: Positive = 64
    micro_batch: Positive = 64
    learning_rate: Above0 = 3e-4
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = Field(default=1e-2, ge=0)
    gradient_clip: float = Field(default=1.0, ge=0)
    ema: float = Field(default=0.998, ge=0, lt=1)
    weights: Literal["ema", "raw"] = "ema"
    null_text: Share = 0.1
    mixed_precision: Precision = "no"
    gradient_checkpointing: bool = False
    checkpoint_minutes: Above0 = 2.0

    @model_validator(mode="after")
    def _ema_exists(self) -> "Distillation":
        if self.weights == "ema" and self.ema == 0:
            raise ValueError("weights: ema needs an ema above 0")
        return self


class Scoring(Section):
    """Evaluation: real images to compare with, and the bootstrap over images."""

    real_per_prompt: Positive = 4
    batch: Positive = 128
    bootstrap: Annotated[int, Field(ge=2)] = 100
    seed: Seed = 2000


class Training(Section):
    """One of the trainings that make the emoji world's teacher and evaluator."""

    steps: Positive
    batch: Positive
    learning_rate: Above0
    seed: Seed


class AutoencoderTraining(Training):
    """The autoencoder's training."""

    kl_weight: float = Field(default=2e-6, ge=0)


class ContrastiveTraining(Training):
    """A CLIP's training: ``colours`` of the world's backgrounds in a batch."""

    colours: Positive


class DenoiserTraining(Training):
    """The teacher UNet's training: ``scenes`` real scenes of every concept on every colour.

    The learning rate falls along ``cycles`` cosines, one after the other.
    """

    cycles: Positive = 2
    scenes: Positive = 16
    ema: float = Field(default=0.999, ge=0, lt=1)


class MakeTeacher(Section):
    """How the shipped teacher and evaluator were made."""

    autoencoder: AutoencoderTraining = AutoencoderTraining(steps=4500, batch=32, learning_rate=2e-3, seed=0)
    text_encoder: ContrastiveTraining = ContrastiveTraining(steps=1500, batch=64, colours=2, learning_rate=1e-3, seed=1)
    evaluator: ContrastiveTraining = ContrastiveTraining(steps=3000, batch=64, colours=8, learning_rate=1e-3, seed=2)
    denoiser: DenoiserTraining = DenoiserTraining(steps=9000, batch=64, learning_rate=6e-4, seed=3)


GridName = Literal["default", "full"]


class DigitsClassifier(Section):
    """Figure 2: classifiers of digits; the students' targets are softened by ``temperature``."""

    temperature: Above0 = 4.0
    steps: Positive = 800


class DigitsDiffusion(Section):
    """Figure 2: diffusion models of digits; D has ``images`` of each digit but 3, ``samples`` of each are judged."""

    teacher_steps: Positive = 1500
    student_steps: Positive = 2000
    images: Positive = 60
    samples: Positive = 100
    sampling_steps: Positive = 25
    guidance_scale: float = Field(default=2.0, ge=1)


class SwappedCondition(Section):
    """Figure 3: ``pairs`` for each seed, noised to each of the ``steps`` timesteps of the sampler."""

    pairs: Positive = 64
    steps: Annotated[int, Field(gt=1, lt=1000)] = 20
    guidance_scale: float = Field(default=2.0, ge=1)


class Toy(Section):
    """Figure 5: the distance is summed on ``cells`` x ``cells`` places at every ``step``-th timestep."""

    step: Annotated[int, Field(gt=0, lt=1000)] = 20
    cells: Positive = 200
    points: Positive = 400


class Figures(Section):
    """The paper's figures 2, 3 and 5, with seeds of their own."""

    seeds: Annotated[list[Seed], Field(min_length=1)] = [0, 1, 2]
    classifier: DigitsClassifier = DigitsClassifier()
    diffusion: DigitsDiffusion = DigitsDiffusion()
    swapped: SwappedCondition = SwappedCondition()
    toy: Toy = Toy()


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
    """A row of a table: a run (or the teacher) beside the paper's row."""

    run: str
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
    """The runs, and the tables, figures and claims that name them."""

    runs: dict[RunName, Run]
    tables: dict[str, Table]
    grids: list[Grid] = []
    series: dict[str, Series] = {}
    claims: list[Claim] = []

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
        for claim in self.claims:
            for run in claim.runs:
                self._check(run, f"claims: {claim.text!r}")
        for name, series in self.series.items():
            for line in series.lines:
                for run in line.runs:
                    self._check(run, f"series.{name}")
        for name, table in self.tables.items():
            for row in table.rows:
                self._check(row.run, f"tables.{name}")
        for grid in self.grids:
            for run in grid.runs:
                self._check(run, "grids")
        return self

    def _check(self, run: str, where: str) -> None:
        if run != "teacher" and run not in self.runs:
            raise ValueError(f"{where}: there is no run {run!r}")

    def check_against(self, config: "Config") -> None:
        """Raise :class:`UserError` if ``config`` names a run that is not there, or has fewer prompts than a run."""
        for where, names in (("only", config.only), ("more_seeds", config.more_seeds)):
            for name in names:
                if name not in self.runs:
                    raise UserError(f"config: {where}: there is no run {name!r}; there are {', '.join(self.runs)}")
        for name, run in self.runs.items():
            if (run.size or 0) > config.prompts.count:
                raise UserError(
                    f"{config.experiments}: runs.{name}.size: {run.size} pairs, but prompts.count is only"
                    f" {config.prompts.count}"
                )


class Config(Section):
    """Everything a pipeline run depends on."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] = "emoji"
    world: Literal["emoji", "paper"] = "emoji"
    teacher: str = "workflow/assets/emoji/teacher"
    evaluator: str = "workflow/assets/emoji/evaluator"
    inception: str | None = None  # folder of Inception's weights, for worlds that are scored by it
    sources: Sources = Sources()
    gpus: Gpus = Gpus()
    experiments: str = "config/experiments.yaml"
    grid: GridName = "default"
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    more_seeds: dict[str, list[Seed]] = {}  # of some runs, besides seeds
    only: list[str] = []
    prompts: Prompts = Prompts()
    rendering: Rendering = Rendering()
    distillation: Distillation = Distillation()
    sampling: Evaluation = Evaluation()
    scoring: Scoring = Scoring()
    figures: Figures = Figures()
    calibration: Calibration | None = None
    make_teacher: MakeTeacher = MakeTeacher()

    def seeds_of(self, run: str) -> list[int]:
        """The seeds that a run is trained with."""
        return sorted({*self.seeds, *self.more_seeds.get(run, [])})

    @model_validator(mode="after")
    def _agrees(self) -> "Config":
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: a seed is listed twice")
        if self.prompts.llm.count < self.prompts.count:
            raise ValueError(
                f"prompts.llm.count: {self.prompts.llm.count} prompts are fewer than the {self.prompts.count} to render"
            )
        if (self.prompts.benchmark or 0) > self.prompts.evaluation:
            raise ValueError(f"prompts.benchmark: there are only {self.prompts.evaluation} evaluation prompts")
        return self


def check_config(values: dict[str, Any]) -> Config:
    """The configuration from a parsed YAML file.

    Raises:
        UserError: Naming the first setting that is wrong, and why.
    """
    return _validate(Config, values, "config")


def load_experiments(path: Path) -> Experiments:
    """The experiments file.

    Raises:
        UserError: If it is missing, no YAML, or wrong.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"experiments: there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"experiments: {path} is no readable text file ({error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must hold runs and tables")
    return _validate(Experiments, values, str(path))


def _validate(model: type[Model], values: dict[str, Any], where: str) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such setting; check its spelling"
        elif not isinstance(first["input"], dict | list):
            message += f", not {first['input']!r}"
        raise UserError(f"{where}: {place}: {message}" if place else f"{where}: {message}") from None
