"""The interface of all families: what distillation knows of a teacher, and what loading its pipeline takes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, ModelMixin

from randcond.teachers.families import FAMILIES
from randcond.teachers.processes import process_of
from randcond.teachers.solvers import Solver

Conditions = dict[str, torch.Tensor]  # what the denoiser takes besides latents and times, one row a text


class Teacher(ABC):
    """What distillation knows of a teacher. A family fills in how texts are encoded, and what its parts must be.

    Attributes:
        title: The family's name, for people.
        pipeline_type: diffusers' class of its pipelines.
        denoiser_type: diffusers' class of its denoiser.
        encoders: Names of its text encoders and their tokenizers.
        left_out: Parts of a pipeline that are not loaded.
        optional: Parts that a pipeline may lack.
        denoiser: The frozen denoiser.
        latent_shape: (channels, height, width) of a latent.
    """

    title: ClassVar[str]
    pipeline_type: ClassVar[type[DiffusionPipeline]]
    denoiser_type: ClassVar[type[ModelMixin]]
    encoders: ClassVar[dict[str, str]]
    left_out: ClassVar[tuple[str, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.pipeline, self.denoiser = pipeline, denoiser_of(pipeline)
        for model in (self.denoiser, pipeline.vae, *(getattr(pipeline, name) for name in self.encoders)):
            if model is not None:
                model.requires_grad_(False).eval()
        self._process = process_of(pipeline.scheduler)
        size = self.denoiser.config["sample_size"]
        self.latent_shape = (self.denoiser.config["in_channels"], size, size)

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> Conditions:
        """Conditioning tensors of the texts, one row a text; opaque to the training loop."""

    def conditions(self, texts: Sequence[str]) -> Conditions:
        """:meth:`encode` in the encoders' own precision, inside autocast too: T5 overflows float16's range in it."""
        with torch.autocast(self.device.type, enabled=False):
            return self.encode(texts)

    @classmethod
    @abstractmethod
    def widths(cls, pipeline: Any) -> list[tuple[str, Any, Any]]:
        """What its denoiser takes and its text encoders give: (what, taken, given), each pair equal if they fit."""

    @classmethod
    def prepare(cls, pipeline: Any) -> Any:
        """The pipeline with whatever it needs once it was loaded; mostly nothing."""
        return pipeline

    @classmethod
    def drawing(cls, pipeline: Any) -> dict[str, Any]:
        """What a call of such a pipeline takes so that it draws with the texts that :meth:`encode` gives."""
        return {}

    def arguments(self, conditions: Conditions) -> dict[str, Any]:
        """What the denoiser calls the conditions."""
        return dict(conditions)

    def predict(
        self, denoiser: Any, noised: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions
    ) -> torch.Tensor:
        """The prediction of a denoiser of this family, the teacher's or a student's."""
        return denoiser(noised, timestep=self._process.times(timesteps), **self.arguments(conditions)).sample

    @property
    def device(self) -> torch.device:
        """Where it is; the denoiser's own property looks through all its modules for that, and so does its dtype."""
        return next(self.denoiser.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision that its denoiser runs in."""
        return next(self.denoiser.parameters()).dtype

    @property
    def log_snr(self) -> torch.Tensor:
        """Log-SNR of its timesteps, falling, (timesteps,), float64 on the CPU; -inf at one of pure noise."""
        return self._process.log_snr

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t of the latents."""
        return self._process.add_noise(latents, noise, timesteps)

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What a denoiser of this family learns to predict: the noise, v, or a flow's velocity."""
        return self._process.target(latents, noise, timesteps)

    def predict_noise(self, noised: torch.Tensor, timesteps: torch.Tensor, conditions: Conditions) -> torch.Tensor:
        """The noise in x_t by the teacher, whatever its denoiser predicts: float32, the shape of ``noised``."""
        predicted = self.predict(self.denoiser, noised.to(self.dtype), timesteps, conditions).float()
        return self._process.noise(predicted, noised, timesteps)

    def solver(self) -> Solver:
        """What moves a state of this family's sampler on by a prediction."""
        return self._process.solver()

    def few_steps(self, times: int, phases: int) -> Any:
        """What draws, in diffusers, with a student that has learned to jump over its sampler's phases."""
        return self._process.few_steps(times, phases)


def denoiser_of(pipeline: Any) -> Any:
    """The denoiser of a pipeline of a known family."""
    return getattr(pipeline, FAMILIES[type(pipeline).__name__].denoiser)


def with_denoiser(pipeline: Any, denoiser: Any) -> Any:
    """A new pipeline of the same parts with another denoiser in the place of its own."""
    name, kind = FAMILIES[type(pipeline).__name__].denoiser, type(pipeline)
    parts = pipeline.components
    options = {key: pipeline.config[key] for key in kind._get_signature_keys(kind)[1] if key in pipeline.config}
    return kind(**options | parts | {name: denoiser})
