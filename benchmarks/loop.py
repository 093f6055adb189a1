"""What the project's training loop adds to the bare step: teacher forward, student forward and backward, AdamW.

python benchmarks/loop.py    (the emoji world's teacher, B-Base, the default batch; one thread)
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from randcond.checkpoint import Checkpoint
from randcond.conditioning import Exponential
from randcond.config import Config
from randcond.distill import Distillation, Pairs
from randcond.files import write_tensors
from randcond.losses import DistillationLoss, captured
from randcond.pool import ArrowTexts, TextPool
from randcond.prompts import write_pool
from randcond.render import LatentShards
from randcond.students import build_student, feature_pairs
from randcond.teacher import Teacher, load_pipeline
from randcond.training import fit
from randcond.worlds import emoji

TEACHER = Path(__file__).parents[1] / "workflow/assets/emoji/teacher"


def problem(folder: Path, pool_size: int, batch: int) -> tuple[Distillation, Teacher]:
    """The training problem of a run with random conditioning and a pool of so many texts."""
    teacher = Teacher(load_pipeline(TEACHER))
    torch.manual_seed(0)
    student = build_student(teacher.unet, "b-base", "copied").train()
    loss = DistillationLoss(teacher, student, feature_pairs(teacher.unet, student, "b-base"), False)
    texts = [caption.text for caption in emoji.captions()[:960]]
    latents = torch.randn(960, *teacher.latent_shape)
    write_tensors(folder / "0.safetensors", {"latents": latents, "rows": torch.arange(960)})
    pool = folder / f"{pool_size}.arrow"
    if not pool.exists():
        write_pool(pool, (f"{texts[i % 960]} {i}" for i in range(pool_size)))
    pairs = Pairs(LatentShards([folder / "0.safetensors"]), texts, list(range(960)), 0)
    everything = TextPool(texts, ArrowTexts(pool))
    return Distillation(loss, teacher, pairs, everything, Exponential(), 0.1, batch, 0), teacher


def bare_steps(made: Distillation, teacher: Teacher, batch: int, steps: int) -> float:
    """Median seconds of a step on tensors that are there already, written out without the project's loop."""
    student, pairs = made.loss.student, made.loss.features.pairs
    optimizer = torch.optim.AdamW(made.loss.parameters(), lr=1e-5)
    latents, noise = torch.randn(2, batch, *teacher.latent_shape).unbind()
    timesteps, conditions = torch.randint(1000, (batch,)), teacher.encode(["a tiger on red"] * batch)
    noised, times = teacher.add_noise(latents, noise, timesteps), []
    for _ in range(steps):
        start = time.perf_counter()
        with torch.no_grad(), captured(teacher.unet, [pair[0] for pair in pairs]) as expected:
            target = teacher.unet(noised, timesteps, **conditions).sample
        with captured(student, [pair[1] for pair in pairs]) as found:
            output = student(noised, timesteps, **conditions).sample
        loss = F.mse_loss(output, target) + sum(F.mse_loss(found[b], expected[a]) for a, b in pairs)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def loop_steps(made: Distillation, batch: int, steps: int, folder: Path) -> float:
    """Median seconds of a step of the project's loop, with its clipping, average, texts, pool and noise."""
    values = Config().distillation.model_dump(exclude={"steps"}) | {
        "steps": steps,
        "batch": batch,
        "micro_batch": batch,
        "cycles": 1,
    }
    times: list[float] = []
    original = made.forward

    def timed(step: int, rows: slice) -> dict[str, torch.Tensor]:
        times.append(time.perf_counter())
        return original(step, rows)

    made.forward = timed
    fit(made, SimpleNamespace(**values), "benchmark", made.loss.student, Checkpoint(folder / "checkpoint", {}))
    made.forward = original
    return statistics.median(b - a for a, b in itertools.pairwise(times[1:]))


def main() -> None:
    """Compare the loop with the bare step, and a large pool with a small one, in turns: all see the same load."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--batch", type=int, default=Config().distillation.batch)
    parser.add_argument("--pools", type=int, nargs=2, default=[20_000, 20_000_000])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ratios, sizes = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, teacher = problem(folder, arguments.pools[0], arguments.batch)
        large, _ = problem(folder, arguments.pools[1], arguments.batch)
        for _ in range(arguments.rounds):
            bare = bare_steps(small, teacher, arguments.batch, arguments.steps)
            loop = loop_steps(small, arguments.batch, arguments.steps, folder)
            big = loop_steps(large, arguments.batch, arguments.steps, folder)
            ratios.append(loop / bare)
            sizes.append(big / loop)
            print(
                f"bare {bare:.3f} s, loop {loop:.3f} s ({loop / bare:.3f}), large pool {big:.3f} s ({big / loop:.3f})"
            )
    print(
        f"loop over bare step: {statistics.median(ratios):.3f}; large pool over small: {statistics.median(sizes):.3f}"
    )


if __name__ == "__main__":
    main()
