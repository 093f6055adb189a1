"""Students with random weights, and what they draw."""

from pathlib import Path

import numpy as np
import torch
from diffusers import (
    DiffusionPipeline,
)

from randcond.method.student import build_student
from randcond.students.distil import save_pipeline
from randcond.teachers.pipelines import load_pipeline
from randcond.teachers.teacher import denoiser_of

DRAW = {"num_inference_steps": 3, "guidance_scale": 2.0}


def student_of(teacher: Path, name: str, folder: Path) -> Path:
    """A finished student's pipeline, with random weights."""
    pipeline = load_pipeline(teacher)
    torch.manual_seed(1)
    save_pipeline(pipeline, build_student(denoiser_of(pipeline), name, "random"), folder)
    return folder


def picture(pipeline: DiffusionPipeline) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    chance = torch.Generator().manual_seed(0)
    return pipeline("a tiger", generator=chance, output_type="np", **DRAW).images
