"""KL from noise predictions against closed forms of Gaussians; the p(t) that follows; and the stage."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDPMScheduler, PNDMScheduler
from small_world import SmallWorld, build
from tiny_pipelines import every_family

from randcond.jobs.errors import UserError
from randcond.jobs.tensors import write_tensors
from randcond.method.conditioning import Exponential, probability
from randcond.method.curve import Sensitivity
from randcond.method.measured import Measured
from randcond.method.noise_level import stable_diffusion_log_snr
from randcond.method.sensitivity import measure, measure_sensitivity
from randcond.sensitivity.measure import images_of
from randcond.teachers.noise import NOISE_SCHEDULE, flow_log_snr, log_snr
from randcond.teachers.pipelines import teacher_of
from randcond.teachers.teacher import Teacher

SIZE = 4 * 3 * 3  # numbers in a latent


class Gaussians:
    """A teacher of q(x_0|c) = N(mean, spread^2), both in the text, which predicts noise exactly.

    x_t = signal x_0 + noise e, for the signal and noise of every timestep.
    """

    def __init__(self, signal: torch.Tensor, noise: torch.Tensor, levels: torch.Tensor) -> None:
        self.signal, self.noise, self.log_snr = signal.double(), noise.double(), levels

    def encode(self, texts: list[str]) -> dict[str, torch.Tensor]:
        return {"of": torch.tensor([[float(number) for number in text.split()] for text in texts]).double()}

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.signal[t].view(-1, 1, 1, 1) * latents + self.noise[t].view(-1, 1, 1, 1) * noise

    def predict_noise(self, noised: torch.Tensor, t: torch.Tensor, conditions: dict) -> torch.Tensor:
        mean, spread = conditions["of"].view(-1, 2, 1, 1, 1).unbind(1)
        signal, noise = self.signal[t].view(-1, 1, 1, 1), self.noise[t].view(-1, 1, 1, 1)
        return noise * (noised - signal * mean) / ((signal * spread) ** 2 + noise**2)

    @staticmethod
    def kl(text: str, other: str, log_snr: np.ndarray) -> np.ndarray:
        """The divergence of two Gaussians, of x_t over its noise."""
        (mean, spread), (other_mean, other_spread) = (tuple(map(float, one.split())) for one in (text, other))
        snr = np.exp(log_snr)
        one, two = 1 + snr * spread**2, 1 + snr * other_spread**2
        return SIZE / 2 * (one / two - 1 - np.log(one / two) + snr * (mean - other_mean) ** 2 / two)


def stable_diffusion() -> Gaussians:
    kept = DDPMScheduler(**NOISE_SCHEDULE).alphas_cumprod
    return Gaussians(kept.sqrt(), (1 - kept).sqrt(), log_snr(kept))


def flow() -> Gaussians:
    s = torch.arange(1, 1001) / 1000  # its last time is pure noise, without a log-SNR
    return Gaussians(1 - s, s, flow_log_snr(s))


@pytest.mark.parametrize("schedule", [stable_diffusion, flow])
@pytest.mark.parametrize("other", ["0.4 0.5", "0.0 0.8"])  # another mean, which x_t does not change; another spread
def test_against_the_closed_form(schedule: Callable[[], Gaussians], other: str) -> None:
    text, n, teacher = "0.0 0.5", 200, schedule()
    latents = 0.5 * torch.randn(n, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    curve = measure(teacher, latents, [text] * n, [other, text], others=1, levels=28, seed=1, batch=64)
    assert curve.kl.shape == (n, 1, 29)
    finite = teacher.log_snr[torch.isfinite(teacher.log_snr)]
    assert (curve.log_snr[0], curve.log_snr[-1]) == pytest.approx((float(finite.min()), float(finite.max())))
    exact = teacher.kl(text, other, curve.log_snr)
    assert (np.abs(curve.mean - exact) < 4 * curve.standard_error + 0.02 * exact + 1e-4).all()
    assert curve.standard_error[14] < 0.1 * exact[14]
    # the standard error is as large as it should be: 200 images are as far off as it says, not ten times less
    halves = [Sensitivity(curve.log_snr, part).mean for part in np.split(curve.kl, 2)]
    assert (np.abs(halves[0] - halves[1]) < 4 * np.sqrt(2) * np.sqrt(2) * curve.standard_error + 1e-9).all()
    between = (curve.log_snr[1:] + curve.log_snr[:-1]) / 2
    found, exact = curve.at(between), teacher.kl(text, other, between)
    error = found[:, 0].std(0, ddof=1) / n**0.5
    assert (np.abs(found.mean((0, 1)) - exact) < 4 * error + 0.05 * exact + 1e-4).all()


def test_the_tail_below_the_last_level() -> None:
    teacher = stable_diffusion()
    latents = torch.zeros(3, 4, 3, 3)
    curve = measure(teacher, latents, ["0 0.5"] * 3, ["1 0.5"], others=2, levels=4, seed=0, batch=1)
    # predictions differ by a number that no noise changes, so that the tail is known but for its next term
    assert curve.kl[:, :, 0] == pytest.approx(float(teacher.kl("0 0.5", "1 0.5", curve.log_snr[:1])[0]), rel=2e-3)
    below = curve.log_snr[0] - np.array([1.0, 3.0])
    assert curve.at(below)[0, 0] == pytest.approx(teacher.kl("0 0.5", "1 0.5", below), rel=3e-3)
    assert curve.at(curve.log_snr[-1:] + 5) == pytest.approx(curve.kl[..., -1:])


def test_an_image_is_its_own_whatever_stands_beside_it() -> None:
    teacher, latents = stable_diffusion(), torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    texts, pool = [f"{i} 0.5" for i in range(5)], [f"0 {1 + i}" for i in range(9)]
    whole = measure(teacher, latents, texts, pool, others=2, levels=6, seed=3, batch=64).kl
    assert measure(teacher, latents[:2], texts[:2], pool, others=2, levels=6, seed=3, batch=1).kl == pytest.approx(
        whole[:2]
    )
    other = measure(teacher, latents, texts, pool, others=2, levels=6, seed=4, batch=64).kl
    assert not np.allclose(other, whole)


def test_what_cannot_be_measured() -> None:
    teacher, latent = stable_diffusion(), torch.zeros(1, 4, 3, 3)
    how = {"others": 1, "levels": 2, "seed": 0, "batch": 4}
    for latents, texts, pool in (
        (latent, [], ["a"]),
        (latent[:0], [], ["a"]),
        (latent, ["a"], []),
        (latent, ["a"] * 2, ["b"]),
    ):
        with pytest.raises(ValueError, match="as many, and some"):
            measure(teacher, latents, texts, pool, **how)
    with pytest.raises(ValueError, match="nothing but '0 1'"):
        measure(teacher, latent, ["0 1"], ["0 1"], **how)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_pipeline_predicts_noise_whatever_its_unet_predicts(
    teacher: Teacher, prediction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = teacher.pipeline.scheduler.config
    teacher.pipeline.scheduler = PNDMScheduler.from_config(config, prediction_type=prediction)
    asked = teacher_of(teacher.pipeline)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([3, 500, 990])
    monkeypatch.setattr(Teacher, "predict", lambda *_: asked.target(latents, noise, t))
    torch.testing.assert_close(
        asked.predict_noise(asked.add_noise(latents, noise, t), t, {}), noise, atol=1e-4, rtol=1e-4
    )


def paper_like(tau: float) -> Sensitivity:
    """A curve whose p(t) is the paper's exponential: KL_t / tau = 5 (1 - t/1000)."""
    kl = tau * 5 * (1 - np.arange(1000) / 1000)
    return Sensitivity(stable_diffusion_log_snr().numpy()[::-1], np.broadcast_to(kl[::-1], (2, 3, 1000)))


def test_p_of_a_curve() -> None:
    curve, paper = paper_like(9.0), Exponential(5.0)
    assert curve.tau(paper.share) == pytest.approx(9.0)
    p = Measured(paper.share, curve)
    t = torch.arange(1000)
    assert p(t).dtype == torch.float32
    torch.testing.assert_close(p(t), paper(t), atol=1e-6, rtol=1e-5)
    between = torch.tensor([[0.25, 499.5], [998.75, 999.0]])
    torch.testing.assert_close(p(between), paper(between), atol=1e-4, rtol=1e-4)
    assert probability({"kind": "measured", "share": 0.35}, curve) == Measured(0.35, curve)
    for share in (0.05, 0.35, 0.9):
        assert float(Measured(share, curve)(t).double().mean()) == pytest.approx(share, abs=1e-6)


def test_p_is_an_expectation_over_pairs() -> None:
    levels = stable_diffusion_log_snr().numpy()[[999, 0]]
    curve = Sensitivity(levels, np.array([[[1.0, 1.0], [9.0, 9.0]], [[1.0, 1.0], [9.0, 9.0]]]))
    share = 0.5 * (math.exp(-0.5) + math.exp(-4.5))
    assert curve.tau(share) == pytest.approx(2.0)
    assert curve.probability(share) == pytest.approx(share)  # not exp(-5/2)
    assert curve.probability_error(share) == pytest.approx(0)
    apart = Sensitivity(levels, np.array([[[1.0, 1.0]], [[9.0, 9.0]]]))
    assert apart.probability_error(share) == pytest.approx((math.exp(-0.5) - math.exp(-4.5)) / 2)
    assert apart.standard_error == pytest.approx(4.0)


def test_shares_that_a_curve_cannot_have() -> None:
    equal = Sensitivity(np.array([-5.0, 5.0]), np.array([[[0.0, 0.0]], [[1.0, 2.0]]]))
    with pytest.raises(UserError, match=r"shares from 0.5 to 1, not 0.4"):
        Measured(0.4, equal)(torch.arange(2))
    with pytest.raises(UserError, match="measured needs the curve"):
        Measured(0.4)(torch.arange(2))


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    curve, file = paper_like(3.0), tmp_path / "curve.json"
    file.write_text(json.dumps(curve.record()))
    read = Sensitivity.read(file)
    assert read.kl == pytest.approx(curve.kl, rel=1e-6)
    assert read.log_snr == pytest.approx(curve.log_snr, rel=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"kl": [[1.0]]},
        {"kl": [[[1.0, 2.0, 3.0]]]},
        {"kl": [[["a", "b"]]]},
        {"kl": [[[1.0, -2.0]]]},
        {"kl": [[[1.0, float("nan")]]]},
        {"log_snr": [1.0, -1.0]},
        {"log_snr": None},
    ],
)
def test_broken_curves_are_one_line(tmp_path: Path, change: dict) -> None:
    file = tmp_path / "curve.json"
    file.write_text(json.dumps({"log_snr": [-1.0, 1.0], "kl": [[[1.0, 2.0]]]} | change))
    with pytest.raises(UserError, match=r"curve\.json: ") as caught:
        Sensitivity.read(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        Sensitivity.read(tmp_path / "none.json")


@every_family
def test_a_pipeline_is_measured(teacher: Teacher) -> None:
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    curve = measure_sensitivity(teacher.pipeline, latents, ["a sword", "a bee"], ["a bee", "a dog"], others=2, levels=3)
    assert curve.kl.shape == (2, 2, 4)
    assert (np.diff(curve.kl) > 0).all()


def test_images_are_of_seen_concepts(tmp_path: Path) -> None:
    prompts = pd.DataFrame({"text": list("abcdef"), "split": ["seen", "unseen"] * 3})
    paths = [tmp_path / "0.safetensors", tmp_path / "1.safetensors"]
    latents = torch.arange(4.0).view(4, 1, 1, 1)
    for i, path in enumerate(paths):
        rows = torch.arange(2 * i, 2 * i + 2)
        write_tensors(path, {"latents": latents[rows], "rows": rows})
    found, texts = images_of(prompts, paths, 96)
    assert (found.flatten().tolist(), texts) == ([0, 2], ["a", "c"])
    assert images_of(prompts, paths, 1)[1] == ["a"]
    for wrong, named in (
        ((prompts, paths[1:], 9), "not of the first of 6"),
        ((prompts[:3], paths, 9), "not of the first of 3"),
        ((prompts.assign(split="unseen"), paths, 9), "no seen concept"),
    ):
        with pytest.raises(UserError, match=named):
            images_of(*wrong)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, pipeline_folder: Path) -> SmallWorld:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return build(tmp_path_factory.mktemp("small"), pipeline_folder, monkeypatch)


@every_family
def test_the_stage(small: SmallWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    assert small.run("sensitivity", monkeypatch) == 0
    curve = Sensitivity.read(small / "sensitivity.out")
    assert curve.kl.shape == (3, 2, 4)  # of six prompts the seen ones
    assert (small / "figure.svg").read_text().startswith("<?xml")
    rows = pd.read_csv(small / "table.csv")
    means = rows.groupby("share")[["probability", "exponential"]].mean()
    assert means["probability"].tolist() == pytest.approx([0.2, 0.35, 0.5], abs=1e-5)
    assert means["exponential"].tolist() == pytest.approx([0.2, 0.35, 0.5], abs=1e-5)
    first = (small / "sensitivity.out").read_bytes()
    assert small.run("sensitivity", monkeypatch) == 0
    assert (small / "sensitivity.out").read_bytes() == first


@every_family
def test_a_student_draws_with_what_was_measured(
    small: SmallWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads(small.command("distill")[small.command("distill").index("--settings") + 1])
    settings["run"]["random_conditioning"] = {"kind": "measured", "share": 0.35}
    more = ["--settings", json.dumps(settings), "--sensitivity", "curve.json"]
    assert small.run("distill", monkeypatch, *more[:2]) == 1
    assert "measured needs the curve" in capsys.readouterr().err
    assert small.run("distill", monkeypatch, *more) == 1
    assert "curve.json: no such file" in capsys.readouterr().err
    (small / "curve.json").write_text(json.dumps(paper_like(3.0).record()))
    assert small.run("distill", monkeypatch, *more) == 0
