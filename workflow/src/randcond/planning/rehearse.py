"""Rehearse the paper's world at true sizes with random weights, on a CPU: does it fit together, and into memory?

``python -m randcond.planning.rehearse`` runs the seven students one at a time, each in a process of its own: parameter
counts, one optimiser step with feature losses and projections. The first one also saves its checkpoint, resumes from
it with the same losses, renders a latent, and sends its image through the evaluation's transforms. Peak memory and
seconds are printed. The moving average, a second copy of the student, is left out: on a GPU it is in the plan's memory.
"""

import argparse
import io
import json
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
from randcond.method.catalogue import BLOCK_STUDENTS, STUDENTS
from randcond.method.conditioning import Exponential
from randcond.method.losses import DistillationLoss
from randcond.method.student import build_student, count_parameters, feature_pairs
from randcond.planning import sd14
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
    log.info("%-8s %-40s %7.1f s %6.1f GB at most", *line.values())


def build(student: str, folder: Path) -> tuple[Distillation, Teacher]:
    """The training problem of one student at true size, with two latents of its own.

    Raises:
        UserError: If a parameter count is not the paper's.
    """
    tokenizer = build_tokenizer(TEXTS, 600)
    tokenizer.model_max_length = sd14.TOKENS
    torch.manual_seed(0)
    teacher = teacher_of(sd14.pipeline(tokenizer))
    init = "copied" if student in BLOCK_STUDENTS else "random"
    smaller = build_student(teacher.denoiser, student, init)
    for what, found, expected in (
        ("teacher", count_parameters(teacher.denoiser), sd14.PARAMETERS),
        (student, count_parameters(smaller), sd14.STUDENT_PARAMETERS[student]),
    ):
        if found != expected:
            raise UserError(f"{what}: {found:,} parameters instead of {expected:,}")
    smaller.train().enable_gradient_checkpointing()
    loss = DistillationLoss(teacher, smaller, feature_pairs(teacher.denoiser, smaller, student), denoise=False)
    shard = folder / "latents.safetensors"
    latents = torch.stack([normal(sd14.LATENT, 0, i) for i in range(2)]).half()
    write_tensors(shard, {"latents": latents, "rows": torch.arange(2)})
    pairs = Pairs(LatentShards([shard]), TEXTS[:2], [0, 1], seed=0)
    return Distillation(loss, teacher, pairs, TEXTS, Exponential(), 0.1, batch=1, seed=0), teacher


def train(problem: Distillation, steps: int, checkpoint: Checkpoint | None) -> list[dict[str, float]]:
    """Train with the paper's recipe, a pair a step; the losses.

    In float32: a CPU without the instructions for half precision does not get through a step of it in minutes.
    """
    recipe = SimpleNamespace(**PAPER, steps=steps, batch=1, micro_batch=1)
    accelerator = Accelerator(cpu=True)
    return fit(problem, recipe, "rehearsal", checkpoint=checkpoint, accelerator=accelerator, log_every=1).history


def rehearse(student: str, folder: Path, whole: bool, resume: bool) -> list[dict[str, object]]:
    """One student's part: ``resume`` goes on from the checkpoint that an earlier process left in ``folder``."""
    lines: list[dict[str, object]] = []
    with timed(student, "resumed: build" if resume else "build teacher and student", lines):
        problem, teacher = build(student, folder)
    checkpoint = Checkpoint(folder / "checkpoint", {"rehearsal": student}, minutes=0.0) if whole or resume else None
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
        with timed(student, "one latent, one denoising step", lines):
            latents = draw_latents(teacher.pipeline, TEXTS[:1], 0, 0, 1, 7.5)
        if tuple(latents.shape) != (1, *sd14.LATENT) or latents.half().nbytes != 32_768:
            raise UserError(f"teacher: a latent of shape {tuple(latents.shape)}")
        with timed(student, "decoded and through the transforms", lines):
            image = Image.fromarray(decode(teacher.pipeline, latents)[0].permute(1, 2, 0).numpy())
            final = Image.open(io.BytesIO(stored(image, "jpeg", 256)))
        if image.size != (512, 512) or final.size != (256, 256):
            raise UserError(f"teacher: an image of {image.size}, stored as {final.size}")
    return lines


def _one(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.folder)
    lines = rehearse(arguments.student, folder, arguments.whole, arguments.resume)
    (folder / f"{arguments.student}-{int(arguments.resume)}.json").write_text(json.dumps(lines))


def _all(arguments: argparse.Namespace) -> None:
    parts = [(student, option) for student in arguments.students for option in ("", "--resume")]
    first, lines = arguments.students[0], []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for student, resume in parts:
            if resume and student != first:
                continue
            options = ["--whole"] if student == first and not resume else [resume] if resume else []
            command = [
                sys.executable,
                "-m",
                "randcond.planning.rehearse",
                "--student",
                student,
                "--folder",
                folder,
                *options,
            ]
            command += ["--threads", str(arguments.threads), "--log", str(arguments.log)]
            if subprocess.run(command).returncode:
                raise UserError(f"{student}: the rehearsal failed; see the lines above, or {arguments.log}")
            lines += json.loads(Path(folder, f"{student}-{int(bool(resume))}.json").read_text())
    total, peak = sum(line["seconds"] for line in lines), max(line["gigabytes"] for line in lines)
    log.info("rehearsal of %s: passed in %.0f s, %.1f GB at most", ", ".join(arguments.students), total, peak)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", nargs="+", choices=STUDENTS, default=list(STUDENTS))
    parser.add_argument("--student", choices=STUDENTS, help="this one only, in this process")
    parser.add_argument("--whole", action="store_true", help="with checkpoint, latent and image")
    parser.add_argument("--resume", action="store_true", help="from the checkpoint in the folder")
    parser.add_argument("--folder", help="for the checkpoint, 7 GB; a temporary one by default")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())

    def _main(arguments: argparse.Namespace) -> None:
        set_threads(arguments.threads)
        _one(arguments) if arguments.student else _all(arguments)

    run_stage(_main, parser)
