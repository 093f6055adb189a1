"""Write a finished student as a folder to hand on: its pipeline in float32 and float16, and a model card."""

import argparse
import copy
import json
import shutil
from pathlib import Path

import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from torch import nn

from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path, read_json, write_text
from randcond.jobs.stage import run_stage
from randcond.models import card
from randcond.models.finished import load
from randcond.report.checking import parse
from randcond.report.grids import fill, shards
from randcond.report.inputs import StudentCost, read_prompts
from randcond.report.score_files import Score
from randcond.report.shown import Grid
from randcond.teachers.families import family_of
from randcond.teachers.pipelines import image_size, teacher_type
from randcond.teachers.processes import process_of
from randcond.teachers.teacher import denoiser_of

_PROMPTS = 6  # on the card's picture


def main(arguments: argparse.Namespace) -> None:
    """Write the model of ``arguments``, whole or not at all.

    Raises:
        UserError: If an input is broken, the licence is not known, or a weight is too large for float16.
    """
    settings = json.loads(arguments.settings)
    run, seed = settings["name"], settings["seed"]
    scores: list[Score] = [parse(Score, read_json(path), path) for path in arguments.scores]
    costs: list[StudentCost] = [parse(StudentCost, read_json(path), path) for path in arguments.costs]
    measured = card.Measured(scores[0], scores[1], costs[0], costs[1])
    made = card.Made(
        *(run, settings["run"], seed, settings["teacher"], *card.trained(arguments.student_log)),
        *(settings.get("faster"), settings["described"]),
    )
    tags = ["stable-diffusion", "knowledge-distillation", "random-conditioning", settings["run"]["student"]]
    head = card.front_matter(arguments.teacher, settings["card"], tags)
    pipeline = load(arguments.pipeline, arguments.teacher)
    teacher = teacher_type(family_of(arguments.pipeline))
    prompts = read_prompts(arguments.prompts)
    grid = Grid(title="", split="all", runs=["teacher", run], count=_PROMPTS)
    if settings["count"] < len(prompts):  # drawn on the benchmark's prompts alone
        grid = grid.model_copy(update={"split": "coco30k", "benchmark": settings["count"]})
    with atomic_path(arguments.output) as folder:
        write_weights(pipeline, folder)
        for file in (along := card.notices(arguments.teacher, head)):
            shutil.copyfile(file, folder / file.name)
        picture = fill(1, grid, prompts, shards(arguments.samples), [seed], folder)
        (folder / picture.file).rename(folder / "samples.png")
        text = card.render(
            arguments.template,
            front_matter=head,
            made=made,
            along=[file.name for file in along],
            held_out=settings["held_out"],
            measured=measured,
            prompt=picture.captions[0],
            kind=type(pipeline).__name__,
            denoiser=family_of(arguments.pipeline).denoiser,
            absent="".join(f", {part}=None" for part in teacher.optional if getattr(pipeline, part) is None),
            more=teacher.drawing(pipeline),
            flow=bool(process_of(pipeline.scheduler).drawing(1)),
            middle_block=getattr(denoiser_of(pipeline), "mid_block", None) is not None,
            paints=inpaints(pipeline),
            factor=pipeline.vae_scale_factor,
            size=image_size(pipeline),
            **{name: settings[name] for name in ("steps", "guidance_scale", "precision")},
        )
        write_text(folder / "README.md", text)


def inpaints(pipeline: DiffusionPipeline) -> bool:
    """Whether diffusers' inpainting takes its latents: it knows Stable Diffusion's 4 channels and SD3's 16 alone."""
    denoiser = denoiser_of(pipeline)
    return denoiser.config["in_channels"] == (4 if isinstance(denoiser, UNet2DConditionModel) else 16)


def write_weights(pipeline: DiffusionPipeline, folder: Path) -> None:
    """Write the pipeline as it is, in float32, and as ``variant="fp16"`` beside it.

    Raises:
        UserError: If a weight is too large for float16.
    """
    half = copy.deepcopy(pipeline).to(torch.float16)
    for part, model in half.components.items():
        for name, weight in model.named_parameters() if isinstance(model, nn.Module) else ():
            if not torch.isfinite(weight).all():
                raise UserError(f"{pipeline.name_or_path}/{part}: {name} is too large for float16")
    half.save_pretrained(folder, safe_serialization=True, variant="fp16")
    # last: transformers loads a text encoder in the precision that its config.json names, and both share that file
    pipeline.save_pretrained(folder, safe_serialization=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--settings", required=True, help="JSON: name, seed, run, card, count, steps, guidance_scale, ..."
    )
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="the teacher's and the student's")
    for option in ("--scores", "--costs"):
        parser.add_argument(option, type=Path, nargs=2, required=True, help="the teacher's, then the student's")
    for option in ("--teacher", "--pipeline", "--prompts", "--student-log", "--template", "--output"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(main, parser)
