"""Settings of the stages: prompts, rendering, distillation, sampling, scoring."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from randcond.settings.fields import Above0, DrawingSteps, Init, Optimizer, Positive, Section, Seed, Share
from randcond.settings.large import Precision, Writer

OneLine = Annotated[str, Field(pattern=r"^\S(.*\S)?$")]


class LLM(Section):
    """How the LLM writes the data-free prompts (the role of GPT in the paper)."""

    count: Positive = 2000
    """Prompts to be written: the first ``prompts.count`` of them are D's, the rest are more texts."""
    batch: Positive = 32
    """Lines written at a time."""
    examples: Positive = 16
    """Captions shown as examples in each request."""
    new_tokens: Positive = 96
    """Most tokens of a line."""
    temperature: Above0 = 0.9
    """Temperature of the sampling."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of the probability that is sampled from."""
    max_rounds: Positive = 400
    """Batches after which the job gives up."""
    seed: Seed = 1
    """Seed of the examples and the sampling."""
    writer: Writer | None = None
    """Who writes; none: the small model that comes in a wheel."""


class Prompts(Section):
    """D's prompts: how many of the world's captions are rendered."""

    count: Positive = 960
    """N, pairs of D: captions that are rendered."""
    redrawn: bool = True
    """Each seed of a run draws its own D and text pool, and renders and writes them with noise of its own; false: all
    seeds share those of draw 0."""
    evaluation: Positive = 999
    """Prompts that students are judged by, in neither D nor the pool."""
    benchmark: Positive | None = None
    """The first so many evaluation prompts are a split of their own, coco30k."""
    pool: Positive | None = None
    """Texts drawn from ``sources.texts``; none: all that the world has."""
    max_characters: Positive = 1000
    """Longest text of the pool; a text encoder reads far fewer."""
    held_out: list[Annotated[str, Field(pattern=r"[^\W_]")]] = []
    """Words of the world ``own``, or words in a row, whole ones: name plurals too. Their texts are in the text pool
    alone, without an image, and are scored apart."""
    description: OneLine | None = None
    """Where the world ``own`` has no texts: what its images show, in a sentence or two, for a language model that
    writes ``llm.count`` of them."""
    examples: list[OneLine] = []
    """A few texts of the kind that is to be written; ``llm.examples`` of them are shown at a time."""
    expected: dict[Literal["seen", "unseen"], Positive] = {}
    """The paper's counts of D, reported beside ours."""
    seed: Seed = 0
    """Seed of what is chosen."""
    llm: LLM = LLM()
    """The language model's prompts."""


class Sensitivity(Section):
    """Measuring, from the teacher, what ``kind: measured`` takes p(t) from."""

    images: Positive = 96
    """D's rendered images of seen concepts, the first; all where there are fewer."""
    texts: Positive = 3
    """Other texts that each of them is told from."""
    levels: Positive = 28
    """Noise levels of each, one at random in each of so many equal parts of log-SNR."""
    batch: Positive = 64
    """Rows that the UNet takes at a time; the result does not depend on it."""
    seed: Seed = 4000
    """Seed of texts, levels and noise."""


class Sampling(Section):
    """How a pipeline draws images (PNDM, as in the paper's protocol)."""

    steps: DrawingSteps = 25
    """Denoising steps."""
    guidance_scale: float = Field(default=2.5, ge=1)
    """Weight of the classifier-free guidance; 1 is none."""
    batch: Positive = 64
    """Images drawn at a time; the images do not depend on it."""
    shard: Positive = 500
    """Images of a job and its file."""
    precision: Precision = "no"
    """Precision of the weights: no is float32."""
    seed: Seed = 1000
    """Seed of the noise."""


class Rendering(Sampling):
    """How the teacher renders D."""

    shard: Positive = 480
    """Images of a job and its file."""
    latents: Literal["fp32", "fp16"] = "fp32"
    """Precision that latents are stored in."""


class Evaluation(Sampling):
    """How evaluation images are drawn and stored."""

    seed: Seed = 3000
    """Seed of the noise."""
    image_format: Literal["png", "jpeg"] = "png"
    """Format of the stored images."""
    resize: Positive | None = None
    """Pixels; the image is stored, read again, resized and stored once more."""


class Steps(Section):
    """Optimiser steps by where the student's weights come from."""

    copied: Positive = 800
    """With the teacher's weights copied."""
    random: Positive = 1400
    """With random weights."""
    inherited: Positive = 1400
    """With the teacher's most important channels."""
    faster: Positive = 300
    """From a finished student, which is to draw in few steps."""


class LearningRates(Section):
    """The learning rate by where the student's weights come from; chosen in the emoji world
    (docs/runs/learning_rate.txt)."""

    copied: Above0 = 1e-3
    """With the teacher's weights copied."""
    random: Above0 = 3e-3
    """With random weights."""
    inherited: Above0 = 3e-3
    """With the teacher's most important channels."""
    faster: Above0 = 1e-4
    """From a finished student, which is to draw in few steps."""


class Optimizers(Section):
    """What steps are taken by, by where the student's weights come from: AdamW, as the authors do, or Muon, whose steps
    along matrices are orthogonal."""

    copied: Optimizer = "adamw"
    """With the teacher's weights copied."""
    random: Optimizer = "adamw"
    """With random weights."""
    inherited: Optimizer = "adamw"
    """With the teacher's most important channels."""
    faster: Optimizer = "adamw"
    """From a finished student, which is to draw in few steps."""


_HELD = {"micro_batch", "gradient_checkpointing", "checkpoint_minutes"}


class Distillation(Section):
    """The paper's recipe; a run's own settings are in the experiments file."""

    steps: Steps = Steps()
    """Optimiser steps."""
    batch: Positive = 32
    """Pairs of a step, on all GPUs together."""
    micro_batch: Positive = 32
    """Pairs that one process holds at a time; the result depends on it by rounding alone."""
    optimizer: Optimizers = Optimizers()
    """What steps are taken by."""
    learning_rate: LearningRates = LearningRates()
    """Learning rate."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Course of the learning rate."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Decoupled weight decay."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0: not clipped."""
    ema: float = Field(default=0.998, ge=0, lt=1)
    """Decay of the weights' moving average; 0: none is kept."""
    weights: Literal["ema", "raw"] = "ema"
    """Which weights the student is saved with."""
    keep_every: Annotated[int, Field(ge=0)] = 0
    """Steps from one kept UNet to the next, of raw and of averaged weights, beside the student; 0: none is kept."""
    null_text: Share = 0.1
    """Share of texts that are emptied, for classifier-free guidance."""
    mixed_precision: Precision = "no"
    """Precision of the training; weights stay float32."""
    gradient_checkpointing: bool = False
    """Compute activations again in place of keeping them: less memory, more time."""
    checkpoint_minutes: Above0 = 2.0
    """Time between two savings of the state."""

    def recipe(self, init: Init | Literal["faster"]) -> dict[str, Any]:
        """All of it but how long, what is kept and how a machine holds it, for students whose weights come from
        ``init``."""
        return self.model_dump(exclude={"steps", "keep_every", *_HELD}) | {
            "learning_rate": getattr(self.learning_rate, init),
            "optimizer": getattr(self.optimizer, init),
        }

    def held(self) -> dict[str, Any]:
        """How a machine holds a training, which changes its result by rounding alone: no change makes it anew."""
        return self.model_dump(include=_HELD)

    @model_validator(mode="after")
    def _ema_exists(self) -> "Distillation":
        if self.weights == "ema" and self.ema == 0:
            raise ValueError("weights: ema needs an ema above 0")
        return self


class Scoring(Section):
    """Evaluation: real images to compare with, and the bootstrap over images."""

    real_per_prompt: Positive = 4
    """Real images of each evaluation prompt."""
    batch: Positive = 128
    """Images read at a time."""
    bootstrap: Annotated[int, Field(ge=2)] = 100
    """Resamples of the interval over images."""
    seed: Seed = 2000
    """Seed of real images and resamples."""


class ModelCard(Section):
    """What the card of a student says of its teacher."""

    license: OneLine | None = None
    """Licence of the teacher and so of its students, as the Hugging Face hub spells it, where no README.md in the
    teacher's folder names one: that goes before it."""
    license_name: OneLine | None = None
    """Its name where it is ``other``, as the hub knows none of it."""
    license_link: OneLine | None = None
    """Where that licence stands."""
    base_model: OneLine | None = None
    """The teacher's name on the hub; none: a card tells its path, from outside the project the last part of it."""
