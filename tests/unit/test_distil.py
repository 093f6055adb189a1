"""Distillation: what D and C hold, that a step depends on (seed, step) alone, and the whole of it in small."""

import argparse
import json
import os
import shutil
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import AutoModel, PNDMScheduler, UNet2DConditionModel
from hypothesis import given
from hypothesis import strategies as st
from tiny_pipelines import every_family, student_of

from randcond.jobs.errors import UserError
from randcond.jobs.tensors import write_tensors
from randcond.method.conditioning import probability
from randcond.method.losses import DistillationLoss
from randcond.method.noise_level import equivalent_timesteps
from randcond.method.student import build_student, count_parameters, feature_pairs
from randcond.method.trajectories import Trajectories
from randcond.prompts.pool import ArrowTexts, TextPool, write_pool
from randcond.prompts.table import read_prompts, write_prompts
from randcond.settings.config import Config
from randcond.students import distil as stage
from randcond.students.data import LatentShards, Pairs, load_data
from randcond.students.importance import importance
from randcond.students.kept import Kept
from randcond.students.problem import Distillation
from randcond.teachers.pipelines import draw_latents, load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher
from randcond.training import checkpoint
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import fit
from randcond.worlds.emoji import choose, evaluation

N = 12
TRAJECTORIES = {"share": 0.5, "guidance": 2.0, "bank": 2, "stride": 300}
C_BASE = {"student": "c-base", "init": "random", "images": "rendered", "random_conditioning": None, "texts": []}


@pytest.fixture
def arguments(tmp_path: Path, pipeline_folder: Path) -> argparse.Namespace:
    captions, pool = choose({"count": 20, "seed": 0, "draw": 0}, evaluation({"evaluation": 10, "seed": 0}))
    write_prompts(tmp_path / "captions.parquet", captions)
    write_pool(tmp_path / "pool.arrow", pool)
    latents = torch.randn(N, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    write_tensors(tmp_path / "0.safetensors", {"latents": latents, "rows": torch.arange(N)})
    recipe = Config().distillation.recipe("copied") | {"batch": 4}
    run = {
        "student": student_of(pipeline_folder),
        "init": "copied",
        "prompts": "captions",
        "rows": "all",
        "size": None,
        "images": "real",
    }
    run |= {
        "images": "real",
        "random_conditioning": {"kind": "exponential", "rate": 5.0},
        "texts": ["pool"],
        "features": "blocks",
    }
    run |= {"trajectories": None, "relative_features": False, "importance": "norm"}
    return argparse.Namespace(
        settings=json.dumps({"run": run, "recipe": recipe, "steps": 7, "count": N, "seed": 3}),
        name="tiny/3", threads=1, teacher=pipeline_folder, prompts=tmp_path / "captions.parquet",
        latents=[tmp_path / "0.safetensors"], pool=tmp_path / "pool.arrow", output=tmp_path / "student",
        history=tmp_path / "history.json", checkpoint=tmp_path / "checkpoint", unets=tmp_path / "unets",
        sensitivity=None, held=json.dumps(Config().distillation.held() | {"micro_batch": 2}),
    )  # fmt: skip


def data_of(arguments: argparse.Namespace, run: dict, count: int, seed: int) -> tuple[Pairs, TextPool]:
    return load_data(arguments.prompts, arguments.latents, arguments.pool, run, count, seed)


def run_of(arguments: argparse.Namespace, **changes: object) -> dict:
    return json.loads(arguments.settings)["run"] | changes


@given(count=st.integers(1, 12), size=st.integers(1, 30), seed=st.integers(0, 3))
def test_an_epoch_deals_every_row_once(count: int, size: int, seed: int) -> None:
    rows = [3 * i + 1 for i in range(count)]
    pairs = Pairs(None, [], rows, seed)
    epochs = 4
    batches = [pairs.batch(step, size) for step in range(-(-epochs * count // size))]
    assert {len(batch) for batch in batches} == {size}
    dealt = [row for batch in batches for row in batch]
    for epoch in range(epochs):
        assert Counter(dealt[epoch * count : (epoch + 1) * count]) == Counter(rows)
    # the step alone decides
    assert Pairs(None, [], rows, seed).batch(len(batches) - 1, size) == batches[-1]


def test_order_changes_with_epoch_and_seed() -> None:
    orders = [tuple(Pairs(None, [], list(range(30)), seed).batch(epoch, 30)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9
    assert tuple(range(30)) not in orders


def test_what_d_and_c_hold(arguments: argparse.Namespace) -> None:
    frame = read_prompts(arguments.prompts)
    rendered = frame.head(N)
    seen = rendered[rendered["split"] == "seen"]["text"].tolist()
    unseen = rendered[rendered["split"] == "unseen"]["text"].tolist()
    assert seen
    assert unseen

    def load(**changes: object) -> tuple[list[str], list[str]]:
        pairs, pool = data_of(arguments, run_of(arguments, **changes), N, 0)
        return pairs.texts(sorted(pairs.batch(0, len(pairs)))), pool[:]

    assert load(texts=[]) == (rendered["text"].tolist(), rendered["text"].tolist())
    assert load(rows="seen", texts=[]) == (seen, seen)
    assert load(rows="seen", texts=["unseen"]) == (seen, seen + unseen)
    assert load(texts=["llm"])[1] == frame["text"].tolist()  # D's own and those that were not rendered
    own, pool = load(rows="seen", texts=["unseen", "pool"])
    assert own == seen
    assert pool[: N + 1] == [*seen, *unseen, ArrowTexts(arguments.pool)[0]]
    assert len(pool) == N + len(ArrowTexts(arguments.pool))


def test_data_that_do_not_belong_together(arguments: argparse.Namespace) -> None:
    with pytest.raises(UserError, match="11 prompts but 12 latents"):
        data_of(arguments, run_of(arguments), 11, 0)
    frame = read_prompts(arguments.prompts)
    write_prompts(arguments.prompts, frame[frame["split"] == "unseen"].sample(N, replace=True, random_state=0))
    with pytest.raises(UserError, match="D is empty"):
        data_of(arguments, run_of(arguments, rows="seen"), N, 0)
    write_prompts(arguments.prompts, frame[frame["split"] == "seen"].sample(N, replace=True, random_state=0))
    with pytest.raises(UserError, match="unseen is empty"):
        data_of(arguments, run_of(arguments, texts=["unseen"]), N, 0)
    with pytest.raises(UserError, match="llm is empty"):
        data_of(arguments, run_of(arguments, texts=["llm"]), N, 0)
    write_pool(arguments.pool, [])
    with pytest.raises(UserError, match="pool is empty"):
        data_of(arguments, run_of(arguments, texts=["pool"]), N, 0)


def test_latents_stay_with_their_texts(arguments: argparse.Namespace) -> None:
    pairs, _ = data_of(arguments, run_of(arguments, rows="seen", texts=[]), N, 0)
    frame, shards = read_prompts(arguments.prompts), LatentShards(arguments.latents)
    rows = pairs.batch(3, 5)
    assert pairs.texts(rows) == frame["text"].iloc[rows].tolist()
    assert torch.equal(pairs.latents(rows), shards.get(rows))


def problem(
    arguments: argparse.Namespace, teacher: Teacher, seed: int = 3, student: str | None = None, **changes: object
) -> Distillation:
    run = run_of(arguments, **changes)
    student = student or run["student"]
    torch.manual_seed(0)
    built = build_student(teacher.denoiser, student, "random")
    loss = DistillationLoss(teacher, built, feature_pairs(teacher.denoiser, built, student), run["images"] == "real")
    pairs, pool = data_of(arguments, run, N, seed)
    p = probability(run["random_conditioning"]) if run["random_conditioning"] else None
    return Distillation(loss, teacher, pairs, pool, p, 0.1, 8, seed)


def losses(of: Distillation, step: int, rows: slice) -> dict[str, float]:
    with torch.no_grad():
        return {name: float(value) for name, value in of(step, rows).items()}


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


def test_importance_is_the_same_in_less_memory(
    arguments: argparse.Namespace, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("randcond.students.importance.PAIRS", 16)
    pairs, _ = data_of(arguments, run_of(arguments, texts=["pool"]), N, 3)
    rows: list[int] = []
    teacher.denoiser.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    whole = importance(teacher, pairs, 0, 32)
    assert set(rows) == {8}
    rows.clear()
    sparing = importance(teacher, pairs, 0, 3, gradient_checkpointing=True)
    assert set(rows) == {2, 3}
    assert not teacher.denoiser.is_gradient_checkpointing
    assert whole.keys() == sparing.keys()
    for name in whole:
        torch.testing.assert_close(sparing[name], whole[name], rtol=1e-3, atol=1e-12)


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
