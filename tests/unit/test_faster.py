"""Students that are made faster: the training problem, the whole command in small, and what draws with them."""

import argparse
import json
import os
import signal
from functools import partial
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from small_distillation import N, write_data
from tiny_pipelines import every_family

from randcond.faster import distil as stage
from randcond.faster.problem import Consistency
from randcond.jobs.errors import UserError
from randcond.jobs.tensors import write_tensors
from randcond.method.conditioning import probability
from randcond.method.consistency import Phases
from randcond.settings.config import Config
from randcond.students.data import load_data
from randcond.teachers.pipelines import draw_latents, load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher, denoiser_of


@pytest.fixture
def arguments(tmp_path: Path, pipeline_folder: Path) -> argparse.Namespace:
    write_data(tmp_path)
    recipe = Config().distillation.recipe("faster") | {"batch": 4}
    run = {"rows": "all", "size": None, "texts": ["pool"], "trajectories": None}
    run["random_conditioning"] = {"kind": "linear"}
    made = {"times": 8, "phases": 4, "guidance_scale": 2.0, "count": N, "seed": 3, "steps": 7}
    return argparse.Namespace(
        settings=json.dumps({"run": run, "recipe": recipe, **made}), name="fast/3", threads=1, student=pipeline_folder,
        prompts=tmp_path / "captions.parquet", latents=[tmp_path / "0.safetensors"], pool=tmp_path / "pool.arrow",
        output=tmp_path / "fast", history=tmp_path / "history.json", checkpoint=tmp_path / "checkpoint",
        sensitivity=None, held=json.dumps(Config().distillation.held() | {"micro_batch": 2}),
    )  # fmt: skip


def change(arguments: argparse.Namespace, **changes: object) -> None:
    settings = json.loads(arguments.settings)
    held, recipe = json.loads(arguments.held), changes.pop("recipe", {})
    arguments.held = json.dumps(held | {name: value for name, value in recipe.items() if name in held})
    settings["recipe"] |= {name: value for name, value in recipe.items() if name not in held}
    arguments.settings = json.dumps(settings | changes)


def finished(arguments: argparse.Namespace) -> tuple[dict[str, torch.Tensor], list]:
    weights: dict[str, torch.Tensor] = teacher_of(load_pipeline(arguments.output)).denoiser.state_dict()
    return weights, json.loads(arguments.history.read_text())


def problem(
    arguments: argparse.Namespace, teacher: Teacher, swap: dict | None, guidance: float = 2.0, batch: int = 8
) -> Consistency:
    run = json.loads(arguments.settings)["run"]
    pairs, pool = load_data(arguments.prompts, arguments.latents, arguments.pool, run, N, 3)
    p = probability(swap) if swap else None
    return Consistency(teacher.denoiser, teacher, pairs, pool, p, Phases(8, 4), guidance, batch, seed=3)


@every_family
def test_a_step_depends_on_seed_and_step_alone(arguments: argparse.Namespace, teacher: Teacher) -> None:
    swap = {"kind": "constant", "p": 0.5}
    asked, again = problem(arguments, teacher, swap), problem(arguments, teacher, swap)
    asked(0, slice(0, 8))
    whole, same = (one(5, slice(0, 8))["loss"] for one in (asked, again))
    assert float(whole) == float(same)
    parts = [again(5, slice(first, first + 2))["loss"] for first in range(0, 8, 2)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    assert float(asked(6, slice(0, 8))["loss"]) != float(whole)


@every_family
def test_texts_are_swapped_and_none_is_emptied(arguments: argparse.Namespace, teacher: Teacher) -> None:
    always, never = (problem(arguments, teacher, swap, batch=64) for swap in ({"kind": "constant", "p": 1.0}, None))
    for step in range(4):
        chosen, places, texts, noise = never._draw(step)
        assert texts == never._pairs.texts(chosen)
        same_rows, same_places, swapped, same_noise = always._draw(step)
        assert (same_rows, same_places.tolist()) == (chosen, places.tolist())
        assert torch.equal(noise, same_noise)
        assert sum(one != other for one, other in zip(texts, swapped, strict=True)) > 48
        assert "" not in texts + swapped
        assert set(places.tolist()) <= set(range(8))


@every_family
def test_the_teachers_step_is_guided(arguments: argparse.Namespace, teacher: Teacher) -> None:
    states, timesteps, texts = torch.randn(3, *teacher.latent_shape), torch.tensor([999, 500, 3]), ["a tiger"] * 3
    of_text, of_none = teacher.encode(texts), teacher.encode([""] * 3)
    with torch.no_grad():
        expected = [teacher.predict(teacher.denoiser, states, timesteps, of) for of in (of_text, of_none)]
        for guidance in (1.0, 3.0):
            found = problem(arguments, teacher, None, guidance)._guided(states, timesteps, of_text)
            torch.testing.assert_close(found, expected[1] + guidance * (expected[0] - expected[1]))


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of the history every 2 steps."""
    monkeypatch.setattr(stage, "fit", partial(stage.fit, log_every=2))


@pytest.mark.usefixtures("often")
@every_family
def test_end_to_end_and_stopped_half_way(
    arguments: argparse.Namespace, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    stage.distil(arguments)
    weights, history = finished(arguments)
    assert [entry["step"] for entry in history] == [2, 4, 6, 7]
    assert not arguments.checkpoint.exists()
    start = teacher.denoiser.state_dict()
    assert weights.keys() == start.keys()
    assert any(not torch.equal(weights[name], start[name]) for name in weights)
    for name in ("output", "history"):
        setattr(arguments, name, arguments.checkpoint.with_name(f"{name} again"))
    original, steps = Consistency.forward, list[int]()

    def stopped(self: Consistency, step: int, rows: slice) -> dict[str, torch.Tensor]:
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, step, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Consistency, "forward", stopped)
        torch.manual_seed(2)
        with pytest.raises(UserError, match="fast/3: stopped by SIGTERM at step 6"):
            stage.distil(arguments)
    assert not arguments.output.exists()
    monkeypatch.setattr(
        Consistency, "forward", lambda self, step, rows: steps.append(step) or original(self, step, rows)
    )
    stage.distil(arguments)
    assert min(steps) == 6
    resumed, resumed_history = finished(arguments)
    assert resumed_history == history
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)


def test_checkpoint_of_another_student_is_refused(
    arguments: argparse.Namespace, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(arguments, steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr("randcond.training.checkpoint.Checkpoint.due", lambda _: True)
        patch.setattr(stage, "fit", partial(stage.fit, log_every=1))
        with pytest.raises(KeyboardInterrupt):
            stage.distil(arguments)
    change(arguments, phases=2)
    with pytest.raises(UserError, match="made with other settings"):
        stage.distil(arguments)


@pytest.mark.parametrize("phases", [1, 4])
@every_family
def test_the_pipeline_draws_over_its_phases_edges(
    phases: int, arguments: argparse.Namespace, pipeline_folder: Path
) -> None:
    change(arguments, steps=1, phases=phases)
    stage.distil(arguments)
    kind = type(load_pipeline(pipeline_folder)).__name__
    own, usual = (load_pipeline(arguments.output, own_scheduler=own) for own in (True, False))
    flow = type(usual.scheduler).__name__.startswith("FlowMatch")
    if flow:
        assert own.scheduler.config["stochastic_sampling"] == (phases == 1)
        assert not usual.scheduler.config["stochastic_sampling"]
    else:
        # as anybody loads it
        pipeline = getattr(diffusers, kind).from_pretrained(arguments.output, local_files_only=True)
        assert isinstance(pipeline.scheduler, LCMScheduler if phases == 1 else DDIMScheduler)
        assert type(own.scheduler) is type(pipeline.scheduler)
    if phases > 1 and not flow:
        pipeline.scheduler.set_timesteps(phases)
        assert pipeline.scheduler.timesteps.tolist() == Phases(8, phases).starts
        assert float(pipeline.scheduler.final_alpha_cumprod) == 1  # the last jump ends without noise
    assert type(usual.scheduler) is type(load_pipeline(pipeline_folder).scheduler)
    calls: list[tuple[int, float]] = []

    def called(_: object, given: tuple, named: dict) -> None:
        latents, time = (*given, *(named[name] for name in ("hidden_states", "timestep") if name in named))[:2]
        calls.append((len(latents), float(time.flatten()[0])))

    denoiser_of(own).register_forward_pre_hook(called, with_kwargs=True)
    both = draw_latents(own, ["a tiger", "a red circle"], 4, seed=1, steps=4, guidance_scale=1.0)
    assert [rows for rows, _ in calls] == [2] * 4  # one pass a step
    if phases > 1:
        asked = teacher_of(usual)._process.times(torch.tensor(Phases(8, 4).starts))
        assert [time for _, time in calls] == pytest.approx(asked.tolist(), rel=1e-5)
    # what LCM adds is each image's own too
    torch.manual_seed(9)
    alone = draw_latents(own, ["a red circle"], 5, seed=1, steps=4, guidance_scale=1.0)
    torch.testing.assert_close(alone, both[1:], rtol=1e-3, atol=1e-4)


def test_latents_of_another_size(arguments: argparse.Namespace) -> None:
    write_tensors(arguments.latents[0], {"latents": torch.randn(N, 4, 4, 4), "rows": torch.arange(N)})
    with pytest.raises(UserError, match="render them again"):
        stage.distil(arguments)
