"""Rehearse the paper's world, or another family, at true sizes with random weights, on a CPU: does it fit together,
and into memory?

``python -m randcond.planning.rehearse --family sdxl --memory 24`` counts what a training step of each student takes
(:mod:`randcond.planning.memory`) and goes as far as so many GB are enough for, the students one at a time, each in a
process of its own: parameter counts, one optimiser step with feature losses and projections, or its losses alone. Where
it fits the first one also saves its checkpoint, resumes from it with the same losses, renders a latent, and sends its
image through the evaluation's transforms. Peak memory and seconds are printed. The moving average, a second copy of the
student, is left out: on a GPU it is in the plan's memory.
"""

import argparse
import io
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import torch
from accelerate import Accelerator
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.files import write_json
from randcond.jobs.progress import log
from randcond.jobs.seeding import normal
from randcond.jobs.stage import run_stage, set_threads
from randcond.jobs.tensors import write_tensors
from randcond.make_teacher.clip import build_tokenizer
from randcond.method.catalogue import KNOWN_STUDENTS, NARROW_STUDENTS
from randcond.method.conditioning import Exponential
from randcond.method.losses import DistillationLoss
from randcond.method.student import build_student, count_parameters, feature_pairs
from randcond.planning import memory
from randcond.planning.sd14 import TOKENS
from randcond.planning.true_sizes import FAMILIES, TrueSize
from randcond.samples.images import stored
from randcond.students.data import LatentShards, Pairs
from randcond.students.problem import Distillation
from randcond.teachers.pipelines import decode, draw_latents, teacher_of
from randcond.teachers.teacher import Teacher
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import fit

TEXTS = ["a tiger in the snow", "a red bus", "an old house by the sea", "two cups of tea"]
PAPER = {
    "learning_rate": 5e-5,
    "schedule": "constant",
    "weight_decay": 1e-2,
    "gradient_clip": 1.0,
    "optimizer": "adamw",
    "cycles": 1,
    "ema": 0.0,
}


def peak_gigabytes() -> float:
    """The largest memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@contextmanager
def timed(student: str, what: str, lines: list[dict[str, object]]) -> Iterator[None]:
    """Add a line with the seconds of what is done inside and the peak memory so far."""
    start = time.monotonic()
    yield
    line = {"student": student, "what": what, "seconds": time.monotonic() - start, "gigabytes": peak_gigabytes()}
    lines.append(line)
    log.info("%-16s %-40s %7.1f s %6.1f GB at most", *line.values())


@contextmanager
def made_in(dtype: torch.dtype) -> Iterator[None]:
    """Make models in this precision from the start, so that they never take more."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def make_teacher(family: TrueSize, light: bool) -> Teacher:
    """The teacher with random weights, kept in 16 bits if it is to be light."""
    tokenizer = build_tokenizer(TEXTS, 600)
    tokenizer.model_max_length = TOKENS
    torch.manual_seed(0)
    with made_in(torch.float16 if light else torch.float32):
        teacher = teacher_of(family.pipeline(tokenizer))
    for part in teacher.pipeline.components.values():
        if light and isinstance(part, torch.nn.Module):
            memory.keep_in_16_bits(part)
    return teacher


def build(family: TrueSize, student: str, way: str, folder: Path) -> tuple[Distillation, Teacher]:
    """The training problem of one student at true size, with two latents of its own.

    Raises:
        UserError: If a parameter count is not the expected one.
    """
    teacher = make_teacher(family, light=way in ("half-step", "prediction"))
    init = "random" if student in NARROW_STUDENTS else "copied"
    with made_in(torch.float16 if way == "prediction" else torch.float32):
        smaller = build_student(teacher.denoiser, student, init)
    for what, model in (("teacher", teacher.denoiser), (student, smaller)):
        if (found := count_parameters(model)) != (expected := family.parameters[what]):
            raise UserError(f"{what}: {found:,} parameters instead of {expected:,}")
    smaller.train().enable_gradient_checkpointing()
    if way == "prediction":
        memory.keep_in_16_bits(smaller)
    pairs = feature_pairs(teacher.denoiser, smaller, student, family.features)
    loss = DistillationLoss(teacher, smaller, pairs, denoise=False, relative=family.relative)
    shard = folder / "latents.safetensors"
    latents = torch.stack([normal(family.latent, 0, i) for i in range(2)]).half()
    write_tensors(shard, {"latents": latents, "rows": torch.arange(2)})
    data = Pairs(LatentShards([shard]), TEXTS[:2], [0, 1], seed=0)
    return Distillation(loss, teacher, data, TEXTS, Exponential(), 0.1, batch=1, seed=0), teacher


def train(problem: Distillation, steps: int, checkpoint: Checkpoint | None) -> list[dict[str, float]]:
    """Train with the paper's recipe, a pair a step; the losses.

    In float32: a CPU without the instructions for half precision does not get through a step of it in minutes.
    """
    recipe = SimpleNamespace(**PAPER, steps=steps, batch=1, micro_batch=1)
    accelerator = Accelerator(cpu=True)
    return fit(problem, recipe, "rehearsal", checkpoint=checkpoint, accelerator=accelerator, log_every=1).history


def predict(problem: Distillation) -> dict[str, float]:
    """The losses of a pair by a prediction of the teacher and one of the student.

    Raises:
        UserError: If they are no finite numbers.
    """
    with torch.no_grad():
        losses = {name: float(value) for name, value in problem(0, slice(0, 1)).items()}
    if not all(map(math.isfinite, losses.values())):
        raise UserError(f"rehearsal: losses that are not finite numbers: {losses}")
    return losses


def rehearse(family: TrueSize, student: str, folder: Path, way: str, resume: bool) -> list[dict[str, object]]:
    """One student's part: ``resume`` goes on from the checkpoint that an earlier process left in ``folder``."""
    lines: list[dict[str, object]] = []
    whole = way == "whole"
    with timed(student, "resumed: build" if resume else "build teacher and student", lines):
        problem, teacher = build(family, student, way, folder)
    if way == "prediction":
        with timed(student, "one prediction of each", lines):
            losses = predict(problem)
        log.info("%s: losses %s", student, losses)
        return lines
    checkpoint = Checkpoint(folder / "checkpoint", {"rehearsal": student}, minutes=0.0) if whole else None
    uninterrupted = folder / "history.json"
    if resume:
        with timed(student, "load the checkpoint, the other step again", lines):
            history = train(problem, 2, checkpoint)
        if history != (expected := json.loads(uninterrupted.read_text())):
            raise UserError(f"{student}: resumed with losses {history} instead of {expected}")
        return lines
    with timed(student, "one optimiser step" + (", saved, and another" if whole else ""), lines):
        history = train(problem, 2 if whole else 1, checkpoint)
    log.info("%s: losses %s", student, history)
    if whole:
        write_json(uninterrupted, history)
        lines += draw(family, student, teacher)
    return lines


def draw(family: TrueSize, student: str, teacher: Teacher) -> list[dict[str, object]]:
    """The teacher's image, as it is rendered and evaluated.

    Raises:
        UserError: If it has another shape than it should.
    """
    lines: list[dict[str, object]] = []
    with timed(student, "one latent, one denoising step", lines):
        latents = draw_latents(teacher.pipeline, TEXTS[:1], 0, 0, 1, 7.5)
    if tuple(latents.shape) != (1, *family.latent):
        raise UserError(f"teacher: a latent of shape {tuple(latents.shape)}")
    with timed(student, "decoded and through the transforms", lines):
        image = Image.fromarray(decode(teacher.pipeline, latents)[0].permute(1, 2, 0).numpy())
        final = Image.open(io.BytesIO(stored(image, "jpeg", 256)))
    if image.size != (family.pixels, family.pixels) or final.size != (256, 256):
        raise UserError(f"teacher: an image of {image.size}, stored as {final.size}")
    return lines


def _one(arguments: argparse.Namespace) -> None:
    family, folder = FAMILIES[arguments.family], Path(arguments.folder)
    lines = rehearse(family, arguments.student, folder, arguments.way, arguments.resume)
    (folder / f"{arguments.student}-{int(arguments.resume)}.json").write_text(json.dumps(lines))


def ways_of(arguments: argparse.Namespace) -> dict[str, str]:
    """How far each student is rehearsed, of those of which anything fits; all of them are shown in a table.

    Raises:
        UserError: If a student is none of the family's, or nothing fits.
    """
    family = FAMILIES[arguments.family]
    models, known = family.models(), family.students
    asked = arguments.students or known
    for student in asked:
        if student not in known:
            raise UserError(f"rehearse: {arguments.family} has no student {student}; there are {', '.join(known)}")
    found = {one: memory.choose(models, one, arguments.memory, one == asked[0]) for one in asked}
    for line in memory.table(models, found, arguments.memory):
        log.info(line)
    memory.check_any(models, found, arguments.family, arguments.memory)
    return {student: way for student, way in found.items() if way}


def _all(arguments: argparse.Namespace) -> None:
    ways, lines = ways_of(arguments), []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for student, resume in ((one, resume) for one in ways for resume in (False, True)):
            if resume and ways[student] != "whole":
                continue
            options = {"family": arguments.family, "student": student, "way": ways[student], "folder": folder}
            options |= {"threads": str(arguments.threads), "log": str(arguments.log)}
            command = [sys.executable, "-m", "randcond.planning.rehearse", *["--resume"] * resume]
            command += [word for name, value in options.items() for word in (f"--{name}", value)]
            if subprocess.run(command).returncode:
                raise UserError(f"{student}: the rehearsal failed; see the lines above, or {arguments.log}")
            lines += json.loads(Path(folder, f"{student}-{int(resume)}.json").read_text())
    total, peak = sum(line["seconds"] for line in lines), max(line["gigabytes"] for line in lines)
    log.info("rehearsal of %s: passed in %.0f s, %.1f GB at most", ", ".join(ways), total, peak)


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", choices=FAMILIES, default="sd14")
    parser.add_argument("--memory", type=float, default=24, help="GB that there are; what takes more is not run")
    parser.add_argument("--students", nargs="+", choices=KNOWN_STUDENTS, help="all of the family's runs by default")
    parser.add_argument("--student", choices=KNOWN_STUDENTS, help="this one only, in this process")
    parser.add_argument("--way", choices=memory.WAYS, default="step", help="how far that one goes")
    parser.add_argument("--resume", action="store_true", help="from the checkpoint in the folder")
    parser.add_argument("--folder", help="for the checkpoint, 7 GB of B-Base's; a temporary one by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())

    def run(arguments: argparse.Namespace) -> None:
        if arguments.student and not arguments.folder:
            raise UserError("rehearse: --student needs a --folder; for all of them, one after another, give --students")
        set_threads(arguments.threads)
        _one(arguments) if arguments.student else _all(arguments)

    run_stage(run, parser, argv)


if __name__ == "__main__":
    main()
