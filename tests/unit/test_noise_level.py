"""Log-SNR against numbers of the literature and closed forms; timesteps of equal noise."""

import math

import pytest
import torch
from diffusers import DDPMScheduler

from randcond.method.conditioning import probability
from randcond.method.noise_level import equivalent_timesteps, stable_diffusion_log_snr
from randcond.teachers.noise import flow_log_snr, log_snr
from randcond.teachers.teacher import Teacher


def test_stable_diffusions_levels() -> None:
    found = stable_diffusion_log_snr()
    assert found[[0, 250, 500, 750, 999]].tolist() == pytest.approx([7.07, 0.73, -0.96, -2.82, -5.36], abs=0.005)
    kept, level = 1.0, []
    for i in range(1000):  # betas are the squares of 1000 equal steps
        kept *= 1 - (0.00085**0.5 + (0.012**0.5 - 0.00085**0.5) * i / 999) ** 2
        level.append(math.log(kept / (1 - kept)))
    assert found.tolist() == pytest.approx(level, abs=1e-3)


def test_its_own_timesteps_stay_what_they_are() -> None:
    found = equivalent_timesteps(stable_diffusion_log_snr())
    assert torch.equal(found, torch.arange(1000.0))
    # as another machine's last bits would have them
    assert torch.equal(equivalent_timesteps(stable_diffusion_log_snr() * (1 + 1e-7)), torch.arange(1000.0))


def test_between_timesteps_and_beyond_the_ends() -> None:
    known = stable_diffusion_log_snr()
    asked = torch.stack(
        [0.75 * known[400] + 0.25 * known[401], torch.tensor(-math.inf), torch.tensor(-9.0), known[0] + 5]
    )
    assert equivalent_timesteps(asked).tolist() == pytest.approx([400.25, 999, 999, 0], abs=1e-3)
    assert equivalent_timesteps(asked.view(2, 2)).shape == (2, 2)
    assert float(equivalent_timesteps(known[7])) == 7


def test_a_flow_at_equal_noise() -> None:
    s = torch.tensor([0.25, 0.5, 0.75])
    assert flow_log_snr(s).tolist() == pytest.approx([2 * math.log(3), 0, -2 * math.log(3)])
    t = equivalent_timesteps(flow_log_snr(s))
    # there signal and noise have the same ratio: sqrt(a / (1 - a)) = (1 - s) / s
    a = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    for one, ratio in zip(t, ((1 - s) / s).tolist(), strict=True):
        below, above = a[int(one) + 1], a[int(one)]
        assert math.sqrt(below / (1 - below)) <= ratio <= math.sqrt(above / (1 - above))


def test_p_is_asked_at_equal_noise() -> None:
    other = DDPMScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")  # DDPM's own
    levels = log_snr(other.alphas_cumprod)
    p = probability({"kind": "exponential", "share": 0.35})
    found = p(equivalent_timesteps(levels))
    nearest = (stable_diffusion_log_snr()[:, None] - levels).abs().argmin(0)
    torch.testing.assert_close(found, p(nearest), atol=2e-3, rtol=0)
    assert not torch.allclose(found, p(torch.arange(1000)), atol=0.05)


def test_a_teacher_tells_its_levels(teacher: Teacher) -> None:
    kept = DDPMScheduler.from_config(teacher.pipeline.scheduler.config).alphas_cumprod.double()
    assert teacher.log_snr.dtype == torch.float64
    torch.testing.assert_close(teacher.log_snr.exp(), kept / (1 - kept))
