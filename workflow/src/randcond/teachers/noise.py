"""The noise level of a schedule, and Stable Diffusion v1.4's schedule, for whoever adds noise without a teacher."""

import torch

TIMESTEPS = 1000  # of every schedule that is known, 0 the cleanest
NOISE_SCHEDULE = {
    "num_train_timesteps": TIMESTEPS,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def log_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """log(a / (1 - a)) of a schedule's cumulative products (any shape), float64: x_t = sqrt(a) x_0 + sqrt(1 - a) e."""
    kept = alphas_cumprod.double().cpu()
    return (kept / (1 - kept)).log()


def flow_log_snr(times: torch.Tensor) -> torch.Tensor:
    """2 log((1 - s) / s) of a rectified flow's times (any shape), float64: x_s = (1 - s) x_0 + s e."""
    times = times.double().cpu()
    return 2 * ((1 - times) / times).log()
