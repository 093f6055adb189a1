"""Is the sum of feature terms ruled by one or two of them? Each pair's share of the sum, as it is and relative to the
teacher's mean square, before a training and after it.

python benchmarks/feature_terms.py    (the emoji world's teacher on renders of its own; one thread, minutes)
"""

import argparse
import tempfile
from pathlib import Path
from types import SimpleNamespace

import torch

from randcond.jobs.seeding import generator
from randcond.jobs.tensors import write_tensors
from randcond.method.conditioning import Exponential
from randcond.method.losses import DistillationLoss, captured
from randcond.method.student import build_student, feature_pairs
from randcond.settings.config import Config
from randcond.settings.fields import Init
from randcond.students.data import LatentShards, Pairs
from randcond.students.problem import Distillation
from randcond.teachers.pipelines import draw_latents, load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher
from randcond.training.loop import fit
from randcond.worlds import emoji

CASES: list[tuple[str, Init]] = [
    ("b-base", "copied"),
    ("b-tiny", "copied"),
    ("c-base", "inherited"),
    ("c-base", "random"),
]


@torch.no_grad()
def errors(loss: DistillationLoss, teacher: Teacher, latents: torch.Tensor, texts: list[str]) -> torch.Tensor:
    """Each pair's error (first row) and the teacher's mean square (second), on latents noised to timesteps of all."""
    pairs = loss.features.pairs
    timesteps = torch.linspace(1, 998, len(latents)).long()
    noise = torch.randn(latents.shape, generator=generator(1, 0))
    noised, conditions = teacher.add_noise(latents, noise, timesteps), teacher.encode(texts)
    with captured(teacher.denoiser, [name for name, _ in pairs]) as of_teacher:
        teacher.predict(teacher.denoiser, noised, timesteps, conditions)
    with captured(loss.student, [name for _, name in pairs]) as of_student:
        teacher.predict(loss.student, noised, timesteps, conditions)
    found = list(loss.features.errors(of_teacher, of_student))
    return torch.stack([torch.stack(found), torch.stack([of_teacher[name].square().mean() for name, _ in pairs])])


def show(title: str, loss: DistillationLoss, measured: torch.Tensor) -> None:
    """Print a line for each pair, the largest first."""
    raw, relative = measured[0], measured[0] / measured[1]
    print(f"{title}: share of the sum as it is / of the sum of relative errors / relative error")
    for i in raw.argsort(descending=True).tolist():
        name = loss.features.pairs[i][0]
        print(f"  {name:<28} {raw[i] / raw.sum():6.1%} {relative[i] / relative.sum():6.1%} {relative[i]:8.4f}")


def main() -> None:
    """Look, train, look again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200, help="steps of the training between the two looks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = Config(world="emoji")
    pipeline = load_pipeline(config.teacher)
    teacher = teacher_of(pipeline)
    texts = [caption.text for caption in emoji.captions()[::41]][:96]
    latents = draw_latents(pipeline, texts, 0, 0, 25, config.rendering.guidance_scale)
    with tempfile.TemporaryDirectory() as folder:
        shard = Path(folder) / "0.safetensors"
        write_tensors(shard, {"latents": latents, "rows": torch.arange(len(texts))})
        shards = LatentShards([shard])
    for student_name, init in CASES:
        torch.manual_seed(0)
        student = build_student(teacher.denoiser, student_name, init).train()
        loss = DistillationLoss(teacher, student, feature_pairs(teacher.denoiser, student, student_name), False)
        show(f"{student_name}, {init}, before", loss, errors(loss, teacher, latents, texts))
        recipe = config.distillation.recipe(init)
        pairs = Pairs(shards, texts, list(range(len(texts))), 0)
        problem = Distillation(loss, teacher, pairs, texts, Exponential(), recipe["null_text"], recipe["batch"], 0)
        fit(problem, SimpleNamespace(**recipe, steps=arguments.steps, cycles=1), student_name)
        show(f"{student_name}, {init}, after {arguments.steps} steps", loss, errors(loss, teacher, latents, texts))


if __name__ == "__main__":
    main()
