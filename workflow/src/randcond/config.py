"""The configuration: its schema, its defaults, and one line for whatever is wrong with it."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from randcond.catalogue import CHANNEL_STUDENTS, STUDENTS
from randcond.conditioning import probability
from randcond.errors import UserError

Model = TypeVar("Model", bound=BaseModel)

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Above0 = Annotated[float, Field(gt=0)]


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


class Section(BaseModel):
    """A part of the configuration: unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class LLM(Section):
    """How the LLM writes the data-free prompts (the role of GPT in the paper)."""

    count: Positive = 2000
    batch: Positive = 32
    examples: Positive = 16
    new_tokens: Positive = 96
    temperature: Above0 = 0.9
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_rounds: Positive = 400
    seed: int = Field(default=1, ge=0)


class Prompts(Section):
    """D's prompts: how many of the world's captions are rendered."""

    count: Positive = 960
    evaluation: Positive = 999
    seed: int = Field(default=0, ge=0)
    llm: LLM = LLM()


class Sampling(Section):
    """How a pipeline draws images (PNDM, as in the paper's protocol)."""

    steps: Positive = 25
    guidance_scale: float = Field(default=4.0, ge=1)
    batch: Positive = 64
    shard: Positive = 333
    seed: int = Field(default=1000, ge=0)


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
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
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
    seed: int = Field(default=2000, ge=0)


class Training(Section):
    """One of the trainings that make the emoji world's teacher and evaluator."""

    steps: Positive
    batch: Positive
    learning_rate: Above0
    seed: int = Field(ge=0)


class AutoencoderTraining(Training):
    """The autoencoder's training."""

    kl_weight: float = Field(default=2e-6, ge=0)


class DenoiserTraining(Training):
    """The teacher UNet's training: ``scenes`` real scenes of every concept on every colour."""

    scenes: Positive = 16
    ema: float = Field(default=0.999, ge=0, lt=1)


class MakeTeacher(Section):
    """How the shipped teacher and evaluator were made."""

    autoencoder: AutoencoderTraining = AutoencoderTraining(steps=5000, batch=16, learning_rate=2e-3, seed=0)
    text_encoder: Training = Training(steps=600, batch=128, learning_rate=1e-3, seed=1)
    evaluator: Training = Training(steps=1800, batch=64, learning_rate=1e-3, seed=2)
    denoiser: DenoiserTraining = DenoiserTraining(steps=4000, batch=64, learning_rate=6e-4, seed=3)


class Run(Section):
    """One distilled student: what it is made of and what it sees."""

    student: Annotated[str, AfterValidator(_known_student)] = "b-base"
    init: Literal["copied", "random"] = "copied"
    prompts: Literal["captions", "llm"] = "captions"
    rows: Literal["all", "seen"] = "all"
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
        return self


class Row(Section):
    """A row of a table: a run (or the teacher) beside the paper's row."""

    run: str
    paper: str
    label: str


class Table(Section):
    """A table of the paper."""

    title: str
    splits: list[Literal["all", "seen", "unseen"]]
    rows: list[Row]


class Grid(Section):
    """A figure of samples, a row a run."""

    title: str
    split: Literal["all", "seen", "unseen"]
    runs: list[str]
    count: Positive = 12


class Experiments(Section):
    """The runs, and the tables and figures that name them."""

    runs: dict[str, Run]
    tables: dict[str, Table]
    grids: list[Grid] = []

    @model_validator(mode="after")
    def _runs_exist(self) -> "Experiments":
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

    def check_names(self, names: list[str], where: str) -> None:
        """Raise :class:`UserError` if one of ``names`` is no run."""
        for name in names:
            if name not in self.runs:
                raise UserError(f"config: {where}: there is no run {name!r}; there are {', '.join(self.runs)}")


class Config(Section):
    """Everything a pipeline run depends on."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")] = "emoji"
    world: Literal["emoji"] = "emoji"
    teacher: str = "workflow/assets/emoji/teacher"
    evaluator: str = "workflow/assets/emoji/evaluator"
    experiments: str = "config/experiments.yaml"
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    only: list[str] = []
    prompts: Prompts = Prompts()
    rendering: Sampling = Sampling(shard=240)
    distillation: Distillation = Distillation()
    sampling: Sampling = Sampling(seed=3000)
    scoring: Scoring = Scoring()
    make_teacher: MakeTeacher = MakeTeacher()

    @model_validator(mode="after")
    def _agrees(self) -> "Config":
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds: a seed is listed twice")
        if self.prompts.llm.count < self.prompts.count:
            raise ValueError(
                f"prompts.llm.count: {self.prompts.llm.count} prompts are fewer than the {self.prompts.count} to render"
            )
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
