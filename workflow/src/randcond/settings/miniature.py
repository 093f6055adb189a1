"""Settings of the miniature worlds: how teacher and evaluator are trained, and the paper's small figures."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from randcond.settings.fields import Above0, Optimizer, Positive, Section, Seed


class Training(Section):
    """One of the trainings that make a world's teacher and evaluator."""

    steps: Positive
    """Optimiser steps."""
    batch: Positive
    """Images of a step."""
    learning_rate: Above0
    """Learning rate."""
    seed: Seed
    """Seed of weights and data."""
    warmup: int = Field(default=0, ge=0)
    """First steps, in which the learning rate rises."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Precision of the training; bf16 halves the time of convolutions where a CPU has AMX; on one that
    only emulates it no is taken."""


class AutoencoderTraining(Training):
    """The autoencoder's training."""

    kl_weight: float = Field(default=2e-6, ge=0)
    """Weight of the latents' KL divergence."""


class ContrastiveTraining(Training):
    """A CLIP's training."""

    colours: Positive
    """Different backgrounds in a batch."""


class DenoiserTraining(Training):
    """The teacher UNet's training."""

    cycles: Positive = 2
    """Cosines that the learning rate falls along, one after the other."""
    scenes: Positive = 16
    """Real scenes of every concept on every colour."""
    ema: float = Field(default=0.999, ge=0, lt=1)
    """Decay of the weights' moving average."""
    optimizer: Optimizer = "adamw"
    """What steps are taken by; Muon makes those along matrices orthogonal and needs fewer."""
    decay: int = Field(default=0, ge=0)
    """Last steps, in which the learning rate falls from a constant; 0: it falls along cosines."""
    noisier: bool = False
    """A UNet is shown timesteps by a density that grows with them, not an even one."""

    @model_validator(mode="after")
    def _has_time(self) -> "DenoiserTraining":
        if self.decay and self.warmup + self.decay > self.steps:
            raise ValueError(
                f"decay: {self.warmup} steps of warmup and {self.decay} of decay are more than {self.steps}"
            )
        return self


class MakeTeacher(Section):
    """How a world's teacher and evaluator are made; by default those that the artists' world is shipped with."""

    world: Literal["emoji", "artists"] = "artists"
    """The world that they know."""
    family: Literal["stable_diffusion", "sd3"] = "stable_diffusion"
    """The teacher's family: a UNet that predicts noise, or SD3's transformer and a rectified flow."""
    parts_of: str | None = None
    """Folder of a teacher whose autoencoder and text encoder are taken, while the configuration's ``evaluator``
    judges; none: all three are trained."""
    autoencoder: AutoencoderTraining = AutoencoderTraining(
        steps=4500, batch=16, learning_rate=2e-3, warmup=100, mixed_precision="bf16", seed=0
    )
    """The autoencoder."""
    text_encoder: ContrastiveTraining = ContrastiveTraining(steps=2000, batch=64, colours=2, learning_rate=1e-3, seed=1)
    """The teacher's text encoder."""
    evaluator: ContrastiveTraining = ContrastiveTraining(
        steps=9000, batch=64, colours=8, learning_rate=2e-3, warmup=300, mixed_precision="bf16", seed=2
    )
    """The evaluator, a CLIP."""
    denoiser: DenoiserTraining = DenoiserTraining(
        steps=14000, decay=1800, optimizer="muon", noisier=True, batch=96, learning_rate=2e-3, warmup=100, scenes=8,
        ema=0.998, seed=3,
    )  # fmt: skip
    """The teacher's UNet or transformer."""


class DigitsClassifier(Section):
    """Figure 2: classifiers of digits."""

    temperature: Above0 = 4.0
    """Softens the students' targets."""
    steps: Positive = 800
    """Optimiser steps."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    """Seeds of these; a classifier takes seconds."""


class DigitsDiffusion(Section):
    """Figure 2: diffusion models of digits."""

    teacher_steps: Positive = 1200
    """Optimiser steps of the teacher."""
    student_steps: Positive = 1200
    """Optimiser steps of the students."""
    images: Positive = 60
    """Images of each digit but 3 in D."""
    samples: Positive = 100
    """Samples of each digit that are judged."""
    sampling_steps: Positive = 25
    """Denoising steps."""
    guidance_scale: float = Field(default=2.0, ge=1)
    """Weight of the guidance; 1 is none."""


class SwappedCondition(Section):
    """Figure 3: one image under another's condition."""

    pairs: Positive = 32
    """Pairs of images for each seed."""
    steps: Annotated[int, Field(gt=1, lt=1000)] = 20
    """Timesteps of the sampler that they are noised to."""
    guidance_scale: float = Field(default=2.5, ge=1)
    """Weight of the guidance; 1 is none."""


class Toy(Section):
    """Figure 5: two densities in the plane."""

    step: Annotated[int, Field(gt=0, lt=1000)] = 20
    """Timesteps from one point of the curve to the next."""
    cells: Positive = 200
    """The distance is summed on so many x so many places."""
    points: Positive = 400
    """Points shown."""


class Figures(Section):
    """The paper's figures 2, 3 and 5, with seeds of their own."""

    seeds: Annotated[list[Seed], Field(min_length=1)] = [1, 2, 3]
    """Seeds of all that have none of their own; seed 0 chose the sizes of figure 2's models."""
    classifier: DigitsClassifier = DigitsClassifier()
    """Figure 2, classifiers."""
    diffusion: DigitsDiffusion = DigitsDiffusion()
    """Figure 2, diffusion models."""
    swapped: SwappedCondition = SwappedCondition()
    """Figure 3."""
    toy: Toy = Toy()
    """Figure 5."""
