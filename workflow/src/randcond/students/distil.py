"""Distil one student: the paper's algorithm, from D, C and p(t) to a finished pipeline on disk."""

import argparse
import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin

from randcond.jobs.code import code_of
from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path, files_below, sha256_of, write_json
from randcond.jobs.progress import log
from randcond.jobs.seeding import normal
from randcond.jobs.stage import run_stage, set_threads
from randcond.method.conditioning import TRAIN_TIMESTEPS, probability
from randcond.method.curve import Sensitivity
from randcond.method.losses import DistillationLoss
from randcond.method.noise_level import share_of
from randcond.method.student import build_student, check_smaller, count_parameters, feature_pairs
from randcond.method.trajectories import Trajectories
from randcond.students.data import Pairs, load_data
from randcond.students.importance import importance
from randcond.students.kept import Kept
from randcond.students.problem import Distillation
from randcond.teachers.pipelines import DTYPES, load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher, with_denoiser
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import Fitted, MovingAverage, fit
from randcond.training.processes import accelerator_for

_PACKAGE = Path(__file__).parents[1]
SIZES = "%s: %s parameters, D has %d pairs, C %d texts, p(t) swaps %.1f%%, %d steps"  # which a model card reads


def distil(arguments: argparse.Namespace) -> None:
    """Train the student of ``arguments.settings``; write its pipeline, its loss history and what is kept on the way."""
    settings = json.loads(arguments.settings)
    run, recipe = settings["run"], recipe_of(arguments, settings)
    set_threads(arguments.threads)
    accelerator = accelerator_for(recipe.mixed_precision)
    if not accelerator.is_main_process:
        log.setLevel(logging.WARNING)  # one voice is enough
    teacher = load_teacher(arguments.teacher, accelerator.device)
    pairs, pool = load_data(
        arguments.prompts, arguments.latents, arguments.pool, run, settings["count"], settings["seed"]
    )
    check_latents(arguments.latents, pairs, teacher)
    inherits = run["init"] == "inherited" and run["importance"] == "first-order"
    sparing = (recipe.micro_batch, recipe.gradient_checkpointing)
    important = importance(teacher, pairs, settings["seed"], *sparing) if inherits else None
    loss = student_and_loss(teacher, run, settings["seed"], recipe, important)
    curve = Sensitivity.read(arguments.sensitivity) if arguments.sensitivity else None
    p = probability(run["random_conditioning"], curve) if run["random_conditioning"] else None
    problem = Distillation(
        *(loss, teacher, pairs, pool, p, recipe.null_text, recipe.batch, settings["seed"]),
        *trajectories(run["trajectories"], teacher, pool, recipe, settings["seed"]),
        micro_batch=recipe.micro_batch,
    )
    log.info(
        SIZES,
        *(arguments.name, f"{count_parameters(loss.student):,}", len(pairs), len(pool)),
        *(100 * share_of(p, teacher.log_snr) if p else 0, recipe.steps),
    )
    data = [arguments.prompts, *arguments.latents, *filter(None, (arguments.pool, arguments.sensitivity))]
    checkpoint = Checkpoint(
        arguments.checkpoint,
        fingerprint(arguments.teacher, data, settings, "students.distil"),
        recipe.checkpoint_minutes,
    )
    keep = settings.get("keep") if accelerator.is_main_process else None
    kept = Kept(keep or [], checkpoint.folder / "kept", loss.student)
    total = partial(accelerator.reduce, reduction="sum") if accelerator.num_processes > 1 else None

    def after_step(step: int, ema: MovingAverage | None) -> None:
        problem.after_step(step - 1, total)
        kept.after_step(step, ema)

    with checkpoint.lock() if accelerator.is_main_process else nullcontext():
        fitted = fit(
            *(problem, recipe, arguments.name, loss.student, checkpoint, accelerator),
            after_step=after_step,
        )
        if keep is not None:
            kept.collect(arguments.unets)
        if accelerator.is_main_process:
            save(teacher, loss.student, fitted, recipe.weights, arguments.output, arguments.history)
    if accelerator.is_main_process:
        checkpoint.remove()


def recipe_of(arguments: argparse.Namespace, settings: dict[str, Any]) -> SimpleNamespace:
    """What a training is run by: the recipe, and how the machine holds it, with which it may go on changed."""
    return SimpleNamespace(**settings["recipe"], **json.loads(arguments.held), steps=settings["steps"], cycles=1)


def load_teacher(folder: Path, device: torch.device) -> Teacher:
    """The teacher of a folder, in float32.

    Raises:
        UserError: If it is no whole pipeline, or predicts a constant or what is no finite number.
    """
    teacher = teacher_of(load_pipeline(folder, device))
    noise = torch.stack([normal(teacher.latent_shape, 0, i) for i in range(2)]).to(teacher.device)
    timesteps = torch.tensor([1, TRAIN_TIMESTEPS - 1], device=noise.device)
    with torch.no_grad():
        predicted = teacher.predict(teacher.denoiser, noise, timesteps, teacher.encode(["", "a"]))
    if not torch.isfinite(predicted).all() or float(predicted.std()) < 1e-6:
        raise UserError(f"{folder}: the teacher's predictions are constant or not finite numbers; check its weights")
    return teacher


def check_latents(latents: list[Path], pairs: Pairs, teacher: Teacher) -> None:
    """Raise :class:`UserError` if D's latents, where there are any, are none of this teacher's."""
    if latents and pairs.shape != teacher.latent_shape:
        raise UserError(
            f"{latents[0]}: latents are {pairs.shape}, this teacher's {teacher.latent_shape}; render them again"
        )


def student_and_loss(
    teacher: Teacher,
    run: dict[str, Any],
    seed: int,
    recipe: SimpleNamespace,
    important: dict[str, torch.Tensor] | None = None,
) -> DistillationLoss:
    """The student of a run inside the loss that it is trained by; the teacher goes to the precision it runs in.

    Raises:
        UserError: If the student is no smaller than the teacher, as one of a teacher that is a student itself may be.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = build_student(teacher.denoiser, run["student"], run["init"], important)
        check_smaller(student, run["student"], teacher.denoiser)
        names = feature_pairs(teacher.denoiser, student, run["student"], run["features"])
        denoise, relative = run["images"] != "rendered", run["relative_features"]
        loss = DistillationLoss(teacher, student.train(), names, denoise, relative)
    # after the student has taken its weights from it; what is saved with the student stays as it is
    teacher.denoiser.to(DTYPES[recipe.mixed_precision])
    if recipe.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    return loss


def trajectories(
    settings: dict[str, Any] | None, teacher: Teacher, pool: Sequence[str], recipe: SimpleNamespace, seed: int
) -> tuple[Trajectories | None, float]:
    """The bank of the teacher's trajectories that a run asks for, where it does, and its guidance."""
    if settings is None:
        return None, 1.0
    take = round(settings["share"] * recipe.batch)
    bank = Trajectories(
        *(pool, teacher.latent_shape, teacher.solver(), take, settings["bank"], settings["stride"]),
        *(recipe.null_text, seed),
    )
    return bank, settings["guidance"]


def save(teacher: Teacher, student: ModelMixin, fitted: Fitted, weights: str, folder: Path, history: Path) -> None:
    """Write the history, and the pipeline with the student's averaged (``weights`` is ``"ema"``) or raw weights."""
    if weights == "ema" and fitted.ema is not None:
        fitted.ema.copy_to(student.parameters())
    write_json(history, fitted.record())
    save_pipeline(teacher.pipeline, student, folder)


def save_pipeline(teacher: DiffusionPipeline, student: ModelMixin, folder: Path) -> None:
    """Write the teacher's pipeline with the student's denoiser in its place, atomically."""
    pipeline = with_denoiser(teacher, student.eval())
    with atomic_path(folder) as partial:
        pipeline.save_pretrained(partial, safe_serialization=True)


def fingerprint(teacher: Path, data: list[Path], settings: dict[str, Any], module: str) -> dict[str, str]:
    """What a checkpoint depends on: settings, data, teacher and the code of a module."""
    return {
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "data": sha256_of(data),
        "teacher": sha256_of(files_below(teacher)),
        "code": sha256_of([Path(file) for file in code_of(_PACKAGE, module)]),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON: run, recipe, steps, count, seed, keep")
    parser.add_argument("--held", required=True, help="JSON: micro_batch, gradient_checkpointing, checkpoint_minutes")
    parser.add_argument("--name", required=True, help="shown in progress lines")
    parser.add_argument("--latents", type=Path, nargs="*", required=True)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--sensitivity", type=Path, help="the curve that a measured p(t) comes from")
    parser.add_argument("--unets", type=Path, help="folder for the UNets that are kept along the training")
    parser.add_argument("--threads", type=int, default=1)
    for option in ("--teacher", "--prompts", "--output", "--history", "--checkpoint"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(distil, parser)
