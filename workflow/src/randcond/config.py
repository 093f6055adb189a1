"""The configuration: its schema, its defaults, and one line for whatever is wrong with it."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from randcond.errors import UserError
from randcond.experiments import Experiments, GridName
from randcond.fields import Above0, Positive, Section, Seed, Share, validated
from randcond.large import Calibration, Gpus, Precision, Sources, Writer


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
    shard: Positive = 500
    precision: Precision = "no"
    seed: Seed = 1000


class Rendering(Sampling):
    """How the teacher renders D."""

    shard: Positive = 480
    latents: Literal["fp32", "fp16"] = "fp32"


class Evaluation(Sampling):
    """How evaluation images are drawn and stored."""

    seed: Seed = 3000
    image_format: Literal["png", "jpeg"] = "png"
    resize: Positive | None = None  # pixels; the image is stored, read again, resized and stored once more


class Steps(Section):
    """Optimiser steps by where the student's weights come from."""

    copied: Positive = 800
    random: Positive = 1400


class LearningRates(Section):
    """AdamW's learning rate by where the student's weights come from; chosen by docs/runs/learning_rate.txt."""

    copied: Above0 = 1e-3
    random: Above0 = 3e-3


class Distillation(Section):
    """The paper's recipe; a run's own settings are in the experiments file."""

    steps: Steps = Steps()
    batch: Positive = 32
    micro_batch: Positive = 32
    learning_rate: LearningRates = LearningRates()
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = Field(default=1e-2, ge=0)
    gradient_clip: float = Field(default=1.0, ge=0)
    ema: float = Field(default=0.998, ge=0, lt=1)
    weights: Literal["ema", "raw"] = "ema"
    null_text: Share = 0.1
    mixed_precision: Precision = "no"
    gradient_checkpointing: bool = False
    checkpoint_minutes: Above0 = 2.0

    def recipe(self, init: Literal["copied", "random"]) -> dict[str, Any]:
        """All of it but the steps, for students whose weights come from ``init``."""
        return self.model_dump(exclude={"steps"}) | {"learning_rate": getattr(self.learning_rate, init)}

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

    pairs: Positive = 32
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
    claims: str = "config/claims.yaml"
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

    def check_experiments(self, experiments: Experiments) -> None:
        """Raise :class:`UserError` if a run is named that is not there, or there are fewer prompts than a run needs."""
        for where, names in (("only", self.only), ("more_seeds", self.more_seeds)):
            for name in names:
                if name not in experiments.runs:
                    raise UserError(
                        f"config: {where}: there is no run {name!r}; there are {', '.join(experiments.runs)}"
                    )
        for name, run in experiments.runs.items():
            if (run.size or 0) > self.prompts.count:
                raise UserError(
                    f"{self.experiments}: runs.{name}.size: {run.size} pairs, but prompts.count is only"
                    f" {self.prompts.count}"
                )

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
    return validated(Config, values, "config")
