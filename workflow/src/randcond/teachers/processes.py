"""How states get from an image to noise and back: by diffusion (noise or v is predicted), or by a rectified flow.

Both have 1000 timesteps, 0 the cleanest. A denoiser is asked at the *times* that stand for them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler, PNDMScheduler

from randcond.jobs.errors import UserError
from randcond.teachers.noise import TIMESTEPS, flow_log_snr, log_snr
from randcond.teachers.solvers import DDIM, Euler, Solver

_PREDICTED = ("epsilon", "v_prediction")  # by a diffusion's denoiser
# the schedule itself: diffusers hands another class's own defaults on where a scheduler's file leaves one out
_SCHEDULE = ("beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type", "num_train_timesteps")


class Process(Protocol):
    """A schedule of noise. Latents and noise are (n, channels, h, w), timesteps (n,) integers 0..999."""

    @property
    def log_snr(self) -> torch.Tensor:
        """Log-SNR of the timesteps, falling, (timesteps,), float64 on the CPU; -inf at one of pure noise."""

    def times(self, timesteps: torch.Tensor) -> torch.Tensor:
        """What a denoiser is given for timesteps, (n,)."""

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """x_t of the latents."""

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What a denoiser learns to predict."""

    def noise(self, predicted: torch.Tensor, noised: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The noise in x_t by a prediction, float32."""

    def solver(self) -> Solver:
        """What moves a state of the sampler on by a prediction."""

    def sampler(self) -> Any:
        """What draws evaluation images, in diffusers."""

    def few_steps(self, times: int, phases: int) -> Any:
        """What draws, in diffusers, with a student that has learned to jump over its sampler's phases.

        Of one phase one that adds noise between two jumps to the clean image.
        """

    def drawing(self, steps: int) -> dict[str, Any]:
        """What a pipeline's call takes so that it draws at the times of this schedule."""


class Diffusion:
    """x_t = sqrt(a) x_0 + sqrt(1 - a) e, of a scheduler's configuration.

    Raises:
        UserError: If that has no schedule of betas, one of other than 1000 timesteps, or one that PNDM draws by another
            than training adds noise by, or if neither the noise nor v is predicted.
    """

    def __init__(self, scheduler: Any) -> None:
        _check_diffusion(scheduler.config)
        self._own = scheduler.config
        self._schedule = {name: self._own[name] for name in _SCHEDULE if name in self._own}
        self._noise = DDPMScheduler.from_config(self._own, **self._schedule)
        self._v = self._noise.config["prediction_type"] == "v_prediction"

    @property
    def log_snr(self) -> torch.Tensor:
        return log_snr(self._noise.alphas_cumprod)

    def times(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self._noise.add_noise(latents, noise, timesteps)

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self._noise.get_velocity(latents, noise, timesteps) if self._v else noise

    def noise(self, predicted: torch.Tensor, noised: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        if not self._v:
            return predicted.float()
        # v = sqrt(a) e - sqrt(1 - a) x_0, so that e = sqrt(a) v + sqrt(1 - a) x_t
        kept = self._noise.alphas_cumprod.to(predicted.float())[timesteps][:, None, None, None]
        return kept.sqrt() * predicted.float() + (1 - kept).sqrt() * noised.float()

    def solver(self) -> DDIM:
        return DDIM(self._noise.alphas_cumprod, self._v)

    def sampler(self) -> PNDMScheduler:
        # linspace, DPM-Solver's and Euler's, has longer steps than those of 1000 // n that PNDM takes
        linspace = self._own.get("timestep_spacing") == "linspace"
        spacing = {"timestep_spacing": "leading", "steps_offset": 1} if linspace else {}
        return PNDMScheduler.from_config(self._own, skip_prk_steps=True, **self._schedule, **spacing)

    def few_steps(self, times: int, phases: int) -> DDIMScheduler | LCMScheduler:
        if phases == 1:
            return LCMScheduler.from_config(self._noise.config, original_inference_steps=times, clip_sample=False)
        # from pure noise, over the phases' edges, to no noise at all
        edges = {"timestep_spacing": "trailing", "set_alpha_to_one": True}
        return DDIMScheduler.from_config(self._noise.config, clip_sample=False, **edges)

    def drawing(self, steps: int) -> dict[str, Any]:
        return {}


def _check_diffusion(config: Any) -> None:
    where, no = "scheduler/scheduler_config.json", "such teachers are not supported"
    if not config.get("beta_schedule"):
        raise UserError(f"{where}: beta_schedule is not there, so it is no schedule of diffusion; {no}")
    if (predicted := config.get("prediction_type", "epsilon")) not in _PREDICTED:
        raise UserError(f"{where}: prediction_type: {predicted} is none of {', '.join(_PREDICTED)}; {no}")
    _check_length(config)
    if config.get("rescale_betas_zero_snr"):
        raise UserError(f"{where}: rescale_betas_zero_snr is true, but PNDM, which draws the images, ignores it; {no}")


def _check_length(config: Any) -> None:
    if (steps := config.get("num_train_timesteps", TIMESTEPS)) != TIMESTEPS:
        raise UserError(
            f"scheduler/scheduler_config.json: num_train_timesteps is {steps}, not {TIMESTEPS};"
            " such teachers are not supported"
        )


class Flow:
    """x_t = (1 - s) x_0 + s e with s = shift u / (1 + (shift - 1) u), u = (t + 1) / 1000; v = e - x_0 is predicted.

    Raises:
        UserError: If there are not 1000 timesteps, or if the shift depends on the images' size: the times of a training
            would be none of the sampler's.
    """

    def __init__(self, scheduler: Any) -> None:
        _check_length(scheduler.config)
        if scheduler.config.get("use_dynamic_shifting"):
            raise UserError("scheduler: a shift that depends on the size is not known; set shift in its config.json")
        self._scheduler = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
        self._amount = self._scheduler.sigmas.flip(0)  # of noise, by timestep

    @property
    def log_snr(self) -> torch.Tensor:
        return flow_log_snr(self._amount)

    def times(self, timesteps: torch.Tensor) -> torch.Tensor:
        return self._amount.to(timesteps.device)[timesteps] * self._scheduler.config["num_train_timesteps"]

    def _at(self, timesteps: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return self._amount.to(like.device)[timesteps.to(like.device)].view(-1, *[1] * (like.ndim - 1))

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        amount = self._at(timesteps, latents)
        return (1 - amount) * latents + amount * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return noise - latents

    def noise(self, predicted: torch.Tensor, noised: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return noised.float() + (1 - self._at(timesteps, noised)) * predicted.float()

    def solver(self) -> Euler:
        return Euler(self._amount)

    def sampler(self) -> FlowMatchEulerDiscreteScheduler:
        return FlowMatchEulerDiscreteScheduler.from_config(self._scheduler.config, stochastic_sampling=False)

    def few_steps(self, times: int, phases: int) -> FlowMatchEulerDiscreteScheduler:
        return FlowMatchEulerDiscreteScheduler.from_config(self._scheduler.config, stochastic_sampling=phases == 1)

    def drawing(self, steps: int) -> dict[str, Any]:
        # diffusers' own would shift twice and end just above no noise, a step of next to nothing
        return {"sigmas": [1 - i / steps for i in range(steps)]}


@contextmanager
def seeded(scheduler: Any, generators: list[torch.Generator]) -> Iterator[None]:
    """Let a flow's sampler add each image's own noise: its pipelines hand it no generators, unlike those of UNets."""
    if not scheduler.config.get("stochastic_sampling"):
        yield
        return
    scheduler.step = partial(scheduler.step, generator=generators)
    try:
        yield
    finally:
        del scheduler.step


def process_of(scheduler: Any) -> Process:
    """The process of a pipeline's scheduler, whichever of its family's it is.

    Raises:
        UserError: If it is one whose images would be drawn by another schedule than students are trained on.
    """
    return Flow(scheduler) if type(scheduler).__name__.startswith("FlowMatch") else Diffusion(scheduler)
