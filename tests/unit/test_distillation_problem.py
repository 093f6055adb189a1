"""A step of distillation: a function of (seed, step) alone, and what its losses are given."""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler
from small_distillation import N, data_of, problem, run_of, small_distillation
from tiny_pipelines import every_family

from randcond.method.losses import DistillationLoss
from randcond.method.noise_level import equivalent_timesteps
from randcond.method.student import build_student, feature_pairs
from randcond.method.trajectories import Trajectories
from randcond.prompts.table import read_prompts
from randcond.settings.config import Config
from randcond.students.data import LatentShards
from randcond.students.problem import Distillation
from randcond.teachers.pipelines import teacher_of
from randcond.teachers.teacher import Teacher
from randcond.training.loop import fit


@pytest.fixture
def arguments(tmp_path: Path, pipeline_folder: Path) -> argparse.Namespace:
    return small_distillation(tmp_path, pipeline_folder)


def losses(of: Distillation, step: int, rows: slice) -> dict[str, float]:
    with torch.no_grad():
        return {name: float(value) for name, value in of(step, rows).items()}


class Seen:
    """Stands in for the losses and keeps what they are given: latents, noise, timesteps, texts' tensors, swapped."""

    def __init__(self, of: Distillation) -> None:
        self.batches: list[tuple] = []
        self._kept = of._teacher.pipeline.scheduler.alphas_cumprod
        of.loss.forward = self._forward

    def _forward(self, noised: torch.Tensor, timesteps: torch.Tensor, *rest: Any) -> tuple[dict, torch.Tensor]:
        conditions, noise, known, _ = rest  # the tiny teacher predicts noise: that is the target
        kept = self._kept[timesteps].view(-1, 1, 1, 1)
        latents = (noised - (1 - kept).sqrt() * noise) / kept.sqrt()
        self.batches.append((latents, noise, timesteps, conditions, ~known))
        return {}, noised


@every_family
def test_a_step_depends_on_seed_and_step_alone(arguments: argparse.Namespace, teacher: Teacher) -> None:
    whole = slice(0, 8)
    first = losses(problem(arguments, teacher), 5, whole)
    other = problem(arguments, teacher)
    for step, rows in ((9, slice(2, 4)), (5, slice(0, 1)), (0, whole)):
        losses(other, step, rows)
    torch.manual_seed(99)
    assert losses(other, 5, whole) == first
    assert losses(other, 6, whole) != first
    assert losses(problem(arguments, teacher, seed=4), 5, whole) != first


@every_family
def test_halves_of_a_step_make_the_whole(arguments: argparse.Namespace, teacher: Teacher) -> None:
    asked = problem(arguments, teacher)
    whole = losses(asked, 5, slice(0, 8))
    halves = [losses(asked, 5, rows) for rows in (slice(0, 4), slice(4, 8))]
    assert set(whole) == {"loss", "out", "feat", "denoise"}
    for name, value in whole.items():
        assert value == pytest.approx((halves[0][name] + halves[1][name]) / 2, rel=1e-4)
    assert halves[0] != pytest.approx(halves[1], rel=1e-3)


def test_what_the_losses_are_given(
    arguments: argparse.Namespace, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    monkeypatch.setattr(teacher, "encode", lambda asked: texts.extend(asked) or {})
    asked = problem(arguments, teacher, random_conditioning={"kind": "linear"})
    seen = Seen(asked)
    for step in range(250):
        asked(step, slice(0, 8))
    latents, noise, timesteps, _, swapped = (
        [row for batch in seen.batches for row in batch[i]] if i != 3 else [] for i in range(5)
    )
    own = read_prompts(arguments.prompts)["text"].tolist()[:N]
    stored = LatentShards(arguments.latents).get(list(range(N)))
    distances = torch.cdist(torch.stack(latents).flatten(1), stored.flatten(1))
    assert float(distances.min(1).values.max()) < 0.1
    rows = distances.argmin(1).tolist()
    # a text that was neither swapped nor emptied is its image's own
    kept = [not swap and text != "" for swap, text in zip(swapped, texts, strict=True)]
    assert all(text == own[row] for text, row, keep in zip(texts, rows, kept, strict=True) if keep)
    assert sum(text == own[row] for text, row, swap in zip(texts, rows, swapped, strict=True) if swap) < 20
    n = 2000
    t = torch.stack(timesteps)
    assert t.min() >= 0
    assert t.max() <= 999
    assert abs(float(t.float().mean()) - 499.5) < 5 * 288.7 / n**0.5
    late = t >= 500
    share = torch.stack(swapped).float()
    for part, expected in ((late, 0.75), (~late, 0.25)):
        assert abs(float(share[part].mean()) - expected) < 5 * (0.1875 / (n / 2)) ** 0.5 + 0.02
    assert abs(texts.count("") - 0.1 * n) < 5 * (n * 0.09) ** 0.5
    values = torch.stack(noise)
    assert abs(float(values.mean())) < 0.02
    assert float(values.std()) == pytest.approx(1, abs=0.02)
    assert len({float(row.sum()) for row in noise}) == n


def test_p_is_asked_at_the_noise_level_of_the_teachers_schedule(
    arguments: argparse.Namespace, teacher: Teacher
) -> None:
    asked: list[torch.Tensor] = []
    batches = []
    for schedule in ({}, {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}):  # the second is DDPM's
        teacher.pipeline.scheduler = PNDMScheduler.from_config(teacher.pipeline.scheduler.config, **schedule)
        other = problem(arguments, teacher_of(teacher.pipeline), random_conditioning={"kind": "linear"})
        other._p = lambda t: asked.append(t) or torch.zeros(len(t))
        batches.append(other._draw(7))
    assert torch.equal(batches[0][1], batches[1][1])  # what is noised is the same
    assert torch.equal(asked[0], batches[0][1].float())
    known = teacher_of(teacher.pipeline).log_snr[batches[1][1]]
    assert torch.equal(asked[1], equivalent_timesteps(known))
    assert not torch.equal(asked[0], asked[1])


def test_runs_with_and_without_random_conditioning_share_all_other_draws(
    arguments: argparse.Namespace, teacher: Teacher
) -> None:
    batches = []
    for settings in (None, {"kind": "constant", "p": 1.0}):
        asked = problem(arguments, teacher, random_conditioning=settings)
        seen = Seen(asked)
        asked(7, slice(0, 8))
        (batch,) = seen.batches
        assert batch[4].tolist() == [settings is not None] * 8
        batches.append(batch)
    for i in range(3):
        assert torch.equal(batches[0][i], batches[1][i])


def test_clipping_includes_the_projections(
    arguments: argparse.Namespace, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    original = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, *args: object, **kwargs: object) -> object:
        gradients = [p.grad.flatten() for p in asked.parameters() if p.grad is not None]
        projections = [p.grad.flatten() for p in asked.loss.features.parameters()]
        norms.extend((float(torch.cat(gradients).norm()), float(torch.cat(projections).norm())))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    asked = problem(arguments, teacher, student="c-base")
    changes = {"steps": 1, "cycles": 1, "batch": 8, "micro_batch": 4, "gradient_clip": 1e-3}
    recipe = SimpleNamespace(**Config().distillation.recipe("copied") | changes)
    before = [parameter.clone() for parameter in asked.loss.features.parameters()]
    fit(asked, recipe, "clip")
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] > 1e-5
    after = list(asked.loss.features.parameters())
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))


def test_trajectories_take_the_last_pairs_of_a_batch(arguments: argparse.Namespace, teacher: Teacher) -> None:
    asked = problem(arguments, teacher)
    shape, pool = teacher.latent_shape, [f"text {i}" for i in range(9)]
    asked._batch, asked.trajectories = 5, Trajectories(pool, shape, teacher.solver(), 3, 2, 300, seed=3)
    seen = Seen(asked)
    asked(0, slice(0, 8))
    noised, timesteps, swapped = (seen.batches[0][i] for i in (0, 2, 4))
    assert noised.shape == (8, *shape)
    _, times, _ = asked.trajectories.batch(0)
    assert torch.equal(timesteps[5:], times)
    assert swapped[5:].all()  # nothing to denoise towards
    for rows in (slice(0, 4), slice(4, 6), slice(6, 8)):  # of D alone, of both, of trajectories alone
        asked(0, rows)
        assert torch.equal(seen.batches[-1][2], timesteps[rows])
    asked.after_step(0)
    assert (asked.trajectories.batch(0)[1] != times).all()
    assert torch.equal(asked.trajectories.batch(1)[1], asked.trajectories.timesteps[3:])


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_the_teacher_tells_first_needs_no_more_memory_than_a_step(
    arguments: argparse.Namespace, teacher: Teacher, share: float
) -> None:
    rows: list[int] = []
    teacher.denoiser.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    student = build_student(teacher.denoiser, "b-base", "copied")
    names = feature_pairs(teacher.denoiser, student, "b-base")
    pairs, pool = data_of(arguments, run_of(arguments, texts=["pool"]), N, 3)
    sizes = []
    for at_once in (2, None):
        loss = DistillationLoss(teacher, student, names, denoise=False, relative=True)
        bank = Trajectories(pool, teacher.latent_shape, teacher.solver(), round(8 * share), 2, 300, seed=3)
        asked = Distillation(loss, teacher, pairs, pool, None, 0.1, 8, 3, bank, 2.0, at_once)
        rows.clear()
        asked._prepare(0)
        assert max(rows) == (at_once or round(8 * share))
        sizes.append(loss.features.sizes)
    torch.testing.assert_close(*sizes)
