"""Make one finished student faster: from its pipeline, D and C to a pipeline of few steps without guidance."""

import argparse
import copy
import json
import logging
from contextlib import nullcontext
from pathlib import Path

from randcond.faster.problem import Consistency
from randcond.jobs.progress import log
from randcond.jobs.stage import run_stage, set_threads
from randcond.method.conditioning import probability
from randcond.method.consistency import Phases
from randcond.method.curve import Sensitivity
from randcond.method.student import count_parameters
from randcond.students.data import load_data
from randcond.students.distil import check_latents, fingerprint, load_teacher, recipe_of, save
from randcond.teachers.pipelines import DTYPES
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import fit
from randcond.training.processes import accelerator_for

SIZES = "%s: %s parameters, D has %d pairs, C %d texts, %d steps"  # which a model card reads


def distil(arguments: argparse.Namespace) -> None:
    """Train from the student of ``arguments.student``, its own teacher; write the faster one's pipeline and history."""
    settings = json.loads(arguments.settings)
    run, recipe = settings["run"], recipe_of(arguments, settings)
    set_threads(arguments.threads)
    accelerator = accelerator_for(recipe.mixed_precision)
    if not accelerator.is_main_process:
        log.setLevel(logging.WARNING)  # one voice is enough
    teacher = load_teacher(arguments.student, accelerator.device)
    pairs, pool = load_data(
        arguments.prompts, arguments.latents, arguments.pool, run, settings["count"], settings["seed"]
    )
    check_latents(arguments.latents, pairs, teacher)
    student = copy.deepcopy(teacher.denoiser).requires_grad_(True).train()
    teacher.denoiser.to(DTYPES[recipe.mixed_precision])
    if recipe.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    curve = Sensitivity.read(arguments.sensitivity) if arguments.sensitivity else None
    p = probability(run["random_conditioning"], curve) if run["random_conditioning"] else None
    times, phases = settings["times"], settings["phases"]
    problem = Consistency(
        *(student, teacher, pairs, pool, p, Phases(times, phases)),
        *(settings["guidance_scale"], recipe.batch, settings["seed"]),
    )
    log.info(
        SIZES,
        *(arguments.name, f"{count_parameters(student):,}", len(pairs), len(pool), recipe.steps),
    )
    data = [arguments.prompts, *arguments.latents, *filter(None, (arguments.pool, arguments.sensitivity))]
    checkpoint = Checkpoint(
        arguments.checkpoint,
        fingerprint(arguments.student, data, settings, "faster.distil"),
        recipe.checkpoint_minutes,
    )
    with checkpoint.lock() if accelerator.is_main_process else nullcontext():
        fitted = fit(problem, recipe, arguments.name, student, checkpoint, accelerator)
        if accelerator.is_main_process:
            teacher.pipeline.scheduler = teacher.few_steps(times, phases)
            save(teacher, student, fitted, recipe.weights, arguments.output, arguments.history)
    if accelerator.is_main_process:
        checkpoint.remove()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings", required=True, help="JSON: run, recipe, steps, times, phases, guidance_scale, count, seed"
    )
    parser.add_argument("--held", required=True, help="JSON: micro_batch, gradient_checkpointing, checkpoint_minutes")
    parser.add_argument("--name", required=True, help="shown in progress lines")
    parser.add_argument("--latents", type=Path, nargs="+", required=True)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--sensitivity", type=Path, help="the curve that a measured p(t) comes from")
    parser.add_argument("--threads", type=int, default=1)
    for option in ("--student", "--prompts", "--output", "--history", "--checkpoint"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(distil, parser)
