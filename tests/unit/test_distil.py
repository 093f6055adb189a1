"""Distillation from its arguments to a finished pipeline: killed, stopped, refused, gone on with."""

import argparse
import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import AutoModel, UNet2DConditionModel
from small_distillation import N, small_distillation
from tiny_pipelines import every_family, student_of

from randcond.jobs.errors import UserError
from randcond.jobs.tensors import write_tensors
from randcond.method.student import build_student, count_parameters
from randcond.prompts.pool import write_pool
from randcond.students import distil as stage
from randcond.students.kept import Kept
from randcond.students.problem import Distillation
from randcond.teachers.pipelines import draw_latents, load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher
from randcond.training import checkpoint
from randcond.training.checkpoint import Checkpoint

TRAJECTORIES = {"share": 0.5, "guidance": 2.0, "bank": 2, "stride": 300}
C_BASE = {"student": "c-base", "init": "random", "images": "rendered", "random_conditioning": None, "texts": []}


@pytest.fixture
def arguments(tmp_path: Path, pipeline_folder: Path) -> argparse.Namespace:
    return small_distillation(tmp_path, pipeline_folder)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint and an entry of the history every 2 steps."""
    monkeypatch.setattr(stage, "fit", partial(stage.fit, log_every=2))


def change(
    arguments: argparse.Namespace, run: dict | None = None, recipe: dict | None = None, **others: object
) -> None:
    settings = json.loads(arguments.settings)
    settings["run"] |= run or {}
    held, changes = json.loads(arguments.held), recipe or {}
    arguments.held = json.dumps(held | {name: value for name, value in changes.items() if name in held})
    settings["recipe"] |= {name: value for name, value in changes.items() if name not in held}
    arguments.settings = json.dumps(settings | others)


def finished(arguments: argparse.Namespace) -> tuple[dict[str, torch.Tensor], list]:
    weights: dict[str, torch.Tensor] = teacher_of(load_pipeline(arguments.output)).denoiser.state_dict()
    return weights, json.loads(arguments.history.read_text())


def kept(arguments: argparse.Namespace) -> dict[str, dict[str, torch.Tensor]]:
    """Denoisers that were kept along the training."""
    return {
        path.name: AutoModel.from_pretrained(str(path), local_files_only=True).state_dict()
        for path in sorted(arguments.unets.iterdir())
    }


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("run", "by", "first"),
    [
        pytest.param({}, "interrupt", 4, id="b-base"),
        # the other two here, test_golden its losses
        pytest.param(C_BASE, "signal", 6, id="c-base", marks=pytest.mark.slow),
        pytest.param({"trajectories": TRAJECTORIES, "relative_features": True}, "signal", 6, id="trajectories"),
    ],
)
@every_family
def test_end_to_end_and_killed_half_way(
    arguments: argparse.Namespace, run: dict, by: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "student" in run:
        run = run | {"student": student_of(arguments.teacher, narrow=True)}
    change(arguments, run, keep=[(3, "ema"), (5, "raw"), (7, "raw")])
    torch.manual_seed(1)
    stage.distil(arguments)
    weights, history = finished(arguments)
    unets = kept(arguments)
    assert unets.keys() == {"3-ema", "5-raw", "7-raw"}
    assert [entry["step"] for entry in history] == [2, 4, 6, 7]
    assert set(history[-1]) == {"step", "loss", "out", "feat"} | (set() if "student" in run else {"denoise"})
    assert not arguments.checkpoint.exists()
    for name in ("output", "history", "unets"):
        setattr(arguments, name, arguments.checkpoint.with_name(f"{name} again"))
    change(arguments, recipe={"checkpoint_minutes": 0.0})
    original = Distillation.forward

    def killed(self: Distillation, step: int, rows: slice) -> dict[str, torch.Tensor]:
        if step == 5 and by == "interrupt":
            raise KeyboardInterrupt
        if step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, step, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Distillation, "forward", killed)
        if by == "signal":
            patch.setattr("randcond.jobs.provenance.machine", lambda: {"processor": "another"})
        torch.manual_seed(2)
        with pytest.raises(KeyboardInterrupt if by == "interrupt" else UserError):
            stage.distil(arguments)
    assert not any(path.exists() for path in (arguments.output, arguments.history, arguments.unets))
    steps: list[int] = []
    monkeypatch.setattr(
        Distillation, "forward", lambda self, step, rows: steps.append(step) or original(self, step, rows)
    )
    torch.manual_seed(3)
    stage.distil(arguments)
    assert min(steps) == first  # the last checkpoint before step 5, or the state when the signal came
    resumed, resumed_history = finished(arguments)
    assert len(resumed_history[0].pop("made_with", [])) == (2 if by == "signal" else 0)
    assert resumed_history == history
    assert resumed.keys() == weights.keys()
    assert all(torch.equal(resumed[name], weights[name]) for name in weights)
    again = kept(arguments)
    assert again.keys() == unets.keys()
    assert all(torch.equal(again[point][name], weights[name]) for point, weights in unets.items() for name in weights)


@pytest.mark.usefixtures("often")
@every_family
def test_the_finished_pipeline(arguments: argparse.Namespace, teacher: Teacher) -> None:
    change(arguments, steps=2)
    stage.distil(arguments)
    average, _ = finished(arguments)
    assert not arguments.unets.exists()
    change(arguments, recipe={"weights": "raw"}, keep=[(1, "raw"), (2, "ema"), (2, "raw")])
    stage.distil(arguments)
    raw, _ = finished(arguments)
    assert any(not torch.equal(average[name], raw[name]) for name in raw)
    # what is kept is what a student is saved with, and keeping it changes no later step
    unets = kept(arguments)
    for expected, name in ((average, "2-ema"), (raw, "2-raw")):
        assert all(torch.equal(unets[name][key], tensor) for key, tensor in expected.items())
    assert any(not torch.equal(unets["1-raw"][key], tensor) for key, tensor in raw.items())
    assert not arguments.checkpoint.exists()
    pipeline = load_pipeline(arguments.output)
    assert count_parameters(teacher_of(pipeline).denoiser) < count_parameters(teacher.denoiser)
    for part in ("vae", "text_encoder"):
        theirs = getattr(teacher.pipeline, part).state_dict()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in getattr(pipeline, part).state_dict().items())
    assert pipeline.tokenizer("a tiger").input_ids == teacher.pipeline.tokenizer("a tiger").input_ids
    latents = draw_latents(pipeline, ["a tiger"], 0, seed=0, steps=2, guidance_scale=2.0)
    assert torch.isfinite(latents).all()
    # it is a student's: another seed gives another one
    change(arguments, seed=4)
    stage.distil(arguments)
    other, _ = finished(arguments)
    assert any(not torch.equal(other[name], raw[name]) for name in raw)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("changed", ["data", "pool", "teacher", "settings"])
def test_checkpoint_of_something_else_is_refused(
    changed: str, arguments: argparse.Namespace, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments.teacher = shutil.copytree(pipeline_folder, arguments.output.with_name("teacher"))
    change(arguments, recipe={"checkpoint_minutes": 0.0}, steps=3)
    with monkeypatch.context() as patch:
        patch.setattr(stage, "save_pipeline", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stage.distil(arguments)
    if changed == "data":
        write_tensors(arguments.latents[0], {"latents": torch.randn(N, 4, 8, 8), "rows": torch.arange(N)})
    elif changed == "pool":
        write_pool(arguments.pool, ["a tiger"])
    elif changed == "teacher":
        file = arguments.teacher / "scheduler" / "scheduler_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"beta_end": 0.03}))
    else:
        change(arguments, recipe={"learning_rate": 1.0})
    named = {"pool": "data"}.get(changed, changed)
    with pytest.raises(UserError, match=f"made with other {named};"):
        stage.distil(arguments)
    assert not arguments.output.exists()


def test_kept_unets_that_are_gone_are_missed_at_once(tmp_path: Path) -> None:
    keeping = Kept([(2, "raw"), (9, "ema")], tmp_path / "run/kept", torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match=r"run/kept/2-raw: is missing.* delete \S+/run$"):
        keeping.after_step(6, None)  # the first step of a training that goes on
    Kept([(2, "raw")], tmp_path / "run/kept", torch.nn.Linear(1, 1)).after_step(1, None)
    with pytest.raises(UserError, match="2-raw: is missing"):
        keeping.collect(tmp_path / "unets")
    assert not list(tmp_path.iterdir())


def test_second_process_is_refused(arguments: argparse.Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.0)
    with Checkpoint(arguments.checkpoint, {}).lock(), pytest.raises(UserError, match="another process"):
        stage.distil(arguments)


@pytest.mark.usefixtures("often")
def test_loss_that_is_no_number(arguments: argparse.Namespace) -> None:
    change(arguments, recipe={"learning_rate": 1e30, "gradient_clip": 0.0, "schedule": "constant"})
    with pytest.raises(UserError, match=r"tiny/3: the loss is no longer a finite number at step \d") as caught:
        stage.distil(arguments)
    assert "\n" not in str(caught.value)
    assert not arguments.output.exists()
    assert (arguments.checkpoint / "failed.safetensors").exists()


@every_family
def test_trajectories_alone_need_no_image(arguments: argparse.Namespace, teacher: Teacher) -> None:
    alone = {"images": "rendered", "random_conditioning": None, "trajectories": TRAJECTORIES | {"share": 1.0}}
    alone["relative_features"] = True
    change(arguments, alone)
    with pytest.raises(UserError, match="render them again"):  # latents that no pair would be taken from
        stage.distil(arguments)
    arguments.latents = []
    stage.distil(arguments)
    weights, history = finished(arguments)
    assert history[-1]["step"] == 7
    before = build_student(teacher.denoiser, student_of(arguments.teacher), "copied").state_dict()
    assert any(not torch.equal(weights[name], before[name]) for name in weights)
    change(arguments, alone | {"trajectories": None})
    with pytest.raises(UserError, match="but 0 latents"):
        stage.distil(arguments)


@pytest.mark.parametrize("criterion", ["first-order", "norm"])
def test_inherited_channels_are_where_the_training_starts(
    arguments: argparse.Namespace, teacher: Teacher, monkeypatch: pytest.MonkeyPatch, criterion: str
) -> None:
    asked: list[dict | None] = []
    original = stage.build_student
    monkeypatch.setattr(stage, "build_student", lambda *given: asked.append(given[3]) or original(*given))
    monkeypatch.setattr("randcond.students.importance.PAIRS", 16)
    monkeypatch.setattr("randcond.students.importance.PIECE", 4)
    change(arguments, C_BASE | {"init": "inherited", "importance": criterion}, recipe={"learning_rate": 1e-9})
    stage.distil(arguments)
    assert (asked[0] is None) == (criterion == "norm")
    found = UNet2DConditionModel.from_pretrained(arguments.output / "unet", local_files_only=True)
    expected = build_student(teacher.denoiser, "c-base", "inherited", asked[0])
    torch.testing.assert_close(found.conv_in.weight, expected.conv_in.weight)
    if asked[0] is not None:  # the teacher is as it was
        assert torch.equal(load_pipeline(arguments.teacher).unet.conv_in.weight, teacher.denoiser.conv_in.weight)


def test_a_student_that_is_no_smaller_is_refused(arguments: argparse.Namespace, tmp_path: Path) -> None:
    pipeline = load_pipeline(arguments.teacher)
    arguments.teacher = tmp_path / "small"
    stage.save_pipeline(pipeline, build_student(pipeline.unet, "b-base", "copied"), arguments.teacher)
    change(arguments, {"student": "b-base", "init": "copied"})
    with pytest.raises(UserError, match="student: b-base of this teacher has .* parameters, the teacher .*; name a sm"):
        stage.distil(arguments)
    assert not arguments.output.exists()
