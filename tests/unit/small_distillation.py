"""The arguments of a distillation of a tiny pipeline, and its parts put together by hand."""

import argparse
import json
from pathlib import Path

import torch
from tiny_pipelines import student_of

from randcond.jobs.tensors import write_tensors
from randcond.method.conditioning import probability
from randcond.method.losses import DistillationLoss
from randcond.method.student import build_student, feature_pairs
from randcond.prompts.pool import TextPool, write_pool
from randcond.prompts.table import write_prompts
from randcond.settings.config import Config
from randcond.students.data import Pairs, load_data
from randcond.students.problem import Distillation
from randcond.teachers.teacher import Teacher
from randcond.worlds.emoji import choose, evaluation

N = 12


def write_data(folder: Path) -> None:
    """Captions, a pool and latents of the first :data:`N` captions."""
    captions, pool = choose({"count": 20, "seed": 0, "draw": 0}, evaluation({"evaluation": 10, "seed": 0}))
    write_prompts(folder / "captions.parquet", captions)
    write_pool(folder / "pool.arrow", pool)
    latents = torch.randn(N, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    write_tensors(folder / "0.safetensors", {"latents": latents, "rows": torch.arange(N)})


def small_distillation(folder: Path, pipeline_folder: Path) -> argparse.Namespace:
    """Of 7 steps on 12 pairs, half of a batch a micro-batch; what it reads is written into the folder."""
    write_data(folder)
    recipe = Config().distillation.recipe("copied") | {"batch": 4}
    run = {"student": student_of(pipeline_folder), "init": "copied", "features": "blocks", "relative_features": False}
    run |= {"prompts": "captions", "rows": "all", "size": None, "images": "real", "texts": ["pool"]}
    run |= {"random_conditioning": {"kind": "exponential", "rate": 5.0}, "trajectories": None, "importance": "norm"}
    return argparse.Namespace(
        settings=json.dumps({"run": run, "recipe": recipe, "steps": 7, "count": N, "seed": 3}),
        name="tiny/3", threads=1, teacher=pipeline_folder, prompts=folder / "captions.parquet",
        latents=[folder / "0.safetensors"], pool=folder / "pool.arrow", output=folder / "student",
        history=folder / "history.json", checkpoint=folder / "checkpoint", unets=folder / "unets",
        sensitivity=None, held=json.dumps(Config().distillation.held() | {"micro_batch": 2}),
    )  # fmt: skip


def data_of(arguments: argparse.Namespace, run: dict, count: int, seed: int) -> tuple[Pairs, TextPool]:
    """D and C of the arguments' files."""
    return load_data(arguments.prompts, arguments.latents, arguments.pool, run, count, seed)


def run_of(arguments: argparse.Namespace, **changes: object) -> dict:
    """The arguments' run, changed."""
    return json.loads(arguments.settings)["run"] | changes


def problem(
    arguments: argparse.Namespace, teacher: Teacher, seed: int = 3, student: str | None = None, **changes: object
) -> Distillation:
    """What is trained, in batches of 8, of a student with random weights."""
    run = run_of(arguments, **changes)
    student = student or run["student"]
    torch.manual_seed(0)
    built = build_student(teacher.denoiser, student, "random")
    loss = DistillationLoss(teacher, built, feature_pairs(teacher.denoiser, built, student), run["images"] == "real")
    pairs, pool = data_of(arguments, run, N, seed)
    p = probability(run["random_conditioning"]) if run["random_conditioning"] else None
    return Distillation(loss, teacher, pairs, pool, p, 0.1, 8, seed)
