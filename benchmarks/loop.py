"""What the project's training loop adds to the bare step: teacher (text encoder and UNet) forward, student forward and
backward, AdamW.

python benchmarks/loop.py    (the emoji world's teacher, B-Base, the default batch; one thread)
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.nn import functional as F

from randcond.jobs.tensors import write_tensors
from randcond.method.conditioning import Exponential
from randcond.method.losses import DistillationLoss, captured
from randcond.method.student import build_student, feature_pairs
from randcond.method.trajectories import Trajectories
from randcond.prompts.pool import ArrowTexts, TextPool, write_pool
from randcond.settings.config import Config
from randcond.students.data import LatentShards, Pairs
from randcond.students.problem import Distillation
from randcond.teachers.pipelines import load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import fit
from randcond.worlds import emoji

TEACHER = Path(__file__).parents[1] / "workflow/assets/emoji/teacher"


def problem(
    folder: Path, pool_size: int, batch: int, share: float = 0.0, guidance: float = 1.0
) -> tuple[Distillation, Teacher]:
    """The training problem of a run with random conditioning, a pool of so many texts and a share of trajectories."""
    teacher = teacher_of(load_pipeline(TEACHER))
    torch.manual_seed(0)
    student = build_student(teacher.denoiser, "b-base", "copied").train()
    loss = DistillationLoss(teacher, student, feature_pairs(teacher.denoiser, student, "b-base"), False)
    texts = [caption.text for caption in emoji.captions()[:960]]
    latents = torch.randn(960, *teacher.latent_shape)
    write_tensors(folder / "0.safetensors", {"latents": latents, "rows": torch.arange(960)})
    pool = folder / f"{pool_size}.arrow"
    if not pool.exists():
        write_pool(pool, (f"{texts[i % 960]} {i}" for i in range(pool_size)))
    pairs = Pairs(LatentShards([folder / "0.safetensors"]), texts, list(range(960)), 0)
    everything = TextPool(texts, ArrowTexts(pool))
    bank = Trajectories(everything, teacher.latent_shape, teacher.solver(), round(share * batch)) if share else None
    return Distillation(loss, teacher, pairs, everything, Exponential(), 0.1, batch, 0, bank, guidance), teacher


class Bare:
    """The step on tensors that are there already, written out without the project's loop."""

    def __init__(self, made: Distillation, teacher: Teacher, batch: int) -> None:
        self._teacher, self._student, self._pairs = teacher, made.loss.student, made.loss.features.pairs
        self._optimizer = torch.optim.AdamW(made.loss.parameters(), lr=1e-5, fused=True)
        latents, noise = torch.randn(2, batch, *teacher.latent_shape).unbind()
        self._timesteps = torch.randint(1000, (batch,))
        texts = ["a tiger on red"] * batch
        self._tokens = teacher.pipeline.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        self._noised = teacher.add_noise(latents, noise, self._timesteps)

    def step(self) -> None:
        """Teacher forward, student forward and backward, AdamW."""
        unet, pairs = self._teacher.denoiser, self._pairs
        with torch.no_grad(), captured(unet, [pair[0] for pair in pairs]) as expected:
            states = self._teacher.pipeline.text_encoder(self._tokens)[0]
            target = unet(self._noised, self._timesteps, states).sample
        with captured(self._student, [pair[1] for pair in pairs]) as found:
            output = self._student(self._noised, self._timesteps, states).sample
        loss = F.mse_loss(output, target) + sum(F.mse_loss(found[b], expected[a]) for a, b in pairs)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def loop_over_bare(made: Distillation, bare: Bare, batch: int, steps: int, folder: Path) -> list[float]:
    """Seconds of each step of the project's loop, with its clipping, average, texts, pool and noise, over those of the
    bare step right after it: the machine is as fast for the one as for the other."""
    values = Config().distillation.recipe("copied") | {
        "steps": steps,
        "batch": batch,
        "micro_batch": batch,
        "cycles": 1,
    }
    ratios: list[float] = []
    original, since = made.forward, None

    def between(step: int, rows: slice) -> dict[str, torch.Tensor]:
        nonlocal since
        ended = time.perf_counter()
        bare.step()
        resumed = time.perf_counter()
        if since is not None:
            ratios.append((ended - since) / (resumed - ended))
        since = resumed
        return original(step, rows)

    made.forward = between
    fit(
        *(made, SimpleNamespace(**values), "benchmark", made.loss.student, Checkpoint(folder / "checkpoint", {})),
        after_step=lambda step, _: made.after_step(step - 1),
    )
    made.forward = original
    return ratios[1:]  # the first step makes the optimiser's state


def main() -> None:
    """Compare the loop with the bare step, step by step; and a large pool, or trajectories, with a small one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batch", type=int, default=Config().distillation.batch)
    parser.add_argument("--pools", type=int, nargs=2, default=[20_000, 20_000_000])
    parser.add_argument("--trajectories", type=float, help="compare this share of trajectories in place of large pools")
    parser.add_argument("--guidance", type=float, default=1.0, help="that the trajectories are moved on with")
    arguments = parser.parse_args()
    if arguments.trajectories:
        arguments.pools = arguments.pools[:1] * 2
    torch.set_num_threads(1)
    ratios: tuple[list[float], list[float]] = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = [
            problem(folder, size, arguments.batch, share or 0.0, arguments.guidance)
            for size, share in zip(arguments.pools, (0.0, arguments.trajectories), strict=True)
        ]
        bare = [Bare(*one, arguments.batch) for one in made]
        for _ in range(arguments.rounds):
            for i in range(2):
                ratios[i].extend(loop_over_bare(made[i][0], bare[i], arguments.batch, arguments.steps, folder))
            print("loop over bare step: " + ", ".join(f"{statistics.median(all_):.3f}" for all_ in ratios), flush=True)
    small, large = map(statistics.median, ratios)
    quartiles = [statistics.quantiles(all_, n=4) for all_ in ratios]
    print(
        f"{len(ratios[0])} steps each; middle half of the steps: "
        + ", ".join(f"{q[0]:.3f}-{q[2]:.3f}" for q in quartiles)
    )
    second = "trajectories over none" if arguments.trajectories else "large pool over small"
    print(f"loop over bare step: {small:.3f}; {second}: {large / small:.3f}")


if __name__ == "__main__":
    main()
