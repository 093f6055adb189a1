"""Before anything expensive: do the models that will score load and give finite numbers, can the students be made?"""

import argparse
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json, write_json
from randcond.jobs.stage import run_stage, set_threads
from randcond.method.inherit import check_heirs
from randcond.method.student import build_student, check_smaller
from randcond.scores.world import load_scores
from randcond.teachers.families import denoiser_folder, family_of
from randcond.teachers.pipelines import teacher_type

COUNT = 4  # images of noise, and their prompts


def check(world: str, evaluators: list[Path]) -> None:
    """Score a few images of noise with the world's evaluators, as the real ones will be.

    Raises:
        UserError: Naming the folder or file that is missing, broken, or gives no finite numbers.
    """
    prompts = pd.DataFrame({"text": [f"text {i}" for i in range(COUNT)], "split": ["seen", "unseen"] * (COUNT // 2)})
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "noise.zip"
        with zipfile.ZipFile(archive, "w") as opened:
            for i, noise in enumerate(np.random.default_rng(0).integers(0, 256, (COUNT, 64, 64, 3), dtype=np.uint8)):
                with opened.open(f"{i:05d}.png", "w") as file:
                    Image.fromarray(noise).save(file, "PNG")
        settings = {"batch": 2, "real_per_prompt": 1}
        scores = load_scores(world)
        found = scores.reference(evaluators, [archive] * scores.KINDS, prompts, settings) | {
            f"{name} of samples": values for name, values in scores.features(evaluators, [archive], 2).items()
        }
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise UserError(f"{evaluators[0]}: its {name} of noise are not finite numbers; fetch it again")


def check_students(teacher: Path, names: list[str]) -> None:
    """Lay students of the teacher out without a weight.

    Args:
        teacher: Its folder.
        names: Students; ``<student>:inherited`` of those that are to inherit the teacher's channels.

    Raises:
        UserError: Naming the student that cannot be made of it, or is no smaller.
    """
    kind = teacher_type(family_of(teacher))
    config = read_json(denoiser_folder(teacher) / "config.json")
    with torch.device("meta"):
        denoiser = kind.denoiser_type.from_config(config)
        for name, _, init in (name.partition(":") for name in names):
            student = build_student(denoiser, name, "random")
            check_smaller(student, name, denoiser)
            if init == "inherited":
                check_heirs(denoiser, student, name)


def _main(arguments: argparse.Namespace) -> None:
    set_threads(arguments.threads)
    if arguments.students:
        check_students(arguments.evaluator[-1], arguments.students)
    check(arguments.world, arguments.evaluator)
    write_json(arguments.output, {"loads": True})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", required=True)
    parser.add_argument("--evaluator", type=Path, nargs="+", required=True)
    parser.add_argument("--students", nargs="*", default=[], help="of one's own teacher, the last of the evaluators")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    run_stage(_main, parser)
