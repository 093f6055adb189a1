"""Figure 2, diffusion: students that never saw a "3", without and with random conditioning, are asked to draw one.

A teacher learns to draw MNIST's digits, halved to 14 x 14 pixels, from their names. Students learn from the teacher
alone, on images that it drew of the nine other digits. With random conditioning the texts come from all ten names, by
the code that distils the large students. A classifier trained on the real digits says what was drawn.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import DDIMScheduler
from diffusers.models.embeddings import get_timestep_embedding
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from randcond.figures.digits import (
    LEFT_OUT,
    NAMES,
    accuracies,
    confusion,
    load,
    one_hot,
    plain_recipe,
    seeded,
    train_classifier,
)
from randcond.figures.output import FigureScore, bars, write_figure
from randcond.jobs.seeding import generator, normal
from randcond.jobs.stage import run_stage, set_threads
from randcond.method.conditioning import TRAIN_TIMESTEPS, Exponential, Probability, recondition
from randcond.teachers.noise import NOISE_SCHEDULE
from randcond.training.loop import fit

TEACHER_WIDTH, STUDENT_WIDTH, BLOCKS = 320, 224, 3  # narrower than 196 pixels, none predicts all noise
BATCH = 128
RECIPE = {"batch": BATCH, "learning_rate": 1e-3}
RATE = 5.0  # of p(t)
JUDGE_WIDTH, JUDGE_RECIPE = 128, {"steps": 1200, "batch": 64, "learning_rate": 2e-3}
SHOWN = 16
SIDE = 14
PIXELS = SIDE * SIDE
LABELS = {
    "teacher": "teacher",
    "without": 'student without "3"s',
    "with": 'student without "3"s,\nrandom conditioning',
}
_TEXT_WIDTH, _TIME_WIDTH = 32, 64


class TextEncoder(nn.Module):
    """One learned vector for each digit's name and one for the empty text; students share the teacher's, frozen."""

    def __init__(self) -> None:
        super().__init__()
        self._rows = {name: row for row, name in enumerate((*NAMES, ""))}
        self.table = nn.Embedding(len(self._rows), _TEXT_WIDTH)

    def forward(self, texts: Sequence[str]) -> torch.Tensor:
        """Vectors of the texts, (n, 32)."""
        vectors: torch.Tensor = self.table(torch.tensor([self._rows[text] for text in texts]))
        return vectors


class Denoiser(nn.Module):
    """Predicts the noise in x_t, (n, 196), from it, the timestep and the text: residual, without convolutions."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(PIXELS, width)
        self.condition = nn.Sequential(nn.Linear(_TIME_WIDTH + _TEXT_WIDTH, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, PIXELS))

    def forward(self, noised: torch.Tensor, timesteps: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """Predicted noise, (n, 196)."""
        condition = self.condition(torch.cat([get_timestep_embedding(timesteps, _TIME_WIDTH), texts], 1))
        hidden = self.first(noised)
        for block in self.blocks:
            hidden = block(hidden, condition)
        noise: torch.Tensor = self.last(hidden)
        return noise


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.condition = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, hidden: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        scale, shift = self.condition(F.silu(condition)).chunk(2, 1)
        return hidden + self.layers(self.norm(hidden) * (1 + scale) + shift)


class Denoising(nn.Module):
    """Training problem of the teacher (``teacher`` None: predict the noise) and of students (predict as it does).

    Args:
        denoiser: What is trained.
        encoder: The text encoder; trained with the teacher.
        images: D's images, (n, 196).
        texts: D's texts, one an image.
        p: p(t) of random conditioning, or None for none; its texts are the ten names.
        teacher: The teacher's denoiser.
        batch: Images a step.
        seed: Seed of the training.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        encoder: TextEncoder,
        images: torch.Tensor,
        texts: list[str],
        p: Probability | None,
        teacher: Denoiser | None,
        batch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.denoiser, self.encoder, self.teacher = denoiser, encoder, teacher
        self._images, self._texts, self._p, self._batch, self._seed = images, texts, p, batch, seed
        self._scheduler = DDIMScheduler(**NOISE_SCHEDULE, clip_sample=False)

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """Loss of the given rows of step ``step``'s batch."""
        chance = generator(self._seed, step)
        chosen = torch.randint(len(self._images), (self._batch,), generator=chance)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (self._batch,), generator=chance)
        own = [self._texts[i] for i in chosen.tolist()]
        texts, _ = recondition(own, timesteps, NAMES, self._p, chance)
        noise = torch.randn(self._batch, PIXELS, generator=chance)[rows]
        noised = self._scheduler.add_noise(self._images[chosen[rows]], noise, timesteps[rows])
        arguments = (noised, timesteps[rows], self.encoder(texts[rows]))
        with torch.no_grad():
            target = noise if self.teacher is None else self.teacher(*arguments)
        return {"loss": F.mse_loss(self.denoiser(*arguments), target)}


@torch.no_grad()
def draw_digits(
    denoiser: Denoiser, encoder: TextEncoder, texts: list[str], seed: int, stream: int, steps: int, guidance: float
) -> torch.Tensor:
    """Draw one image a text with DDIM and classifier-free guidance; image i starts from the noise of (seed, stream, i).

    Returns:
        Images in [-1, 1], (len(texts), 196).
    """
    scheduler = DDIMScheduler(**NOISE_SCHEDULE, clip_sample=True)  # these are pixels, of which [-1, 1] is known
    scheduler.set_timesteps(steps)
    images = torch.stack([normal((PIXELS,), seed, stream, i) for i in range(len(texts))])
    named, empty = encoder(texts), encoder([""] * len(texts))
    for timestep in scheduler.timesteps:
        timesteps = timestep.expand(len(texts))
        with_text, without = denoiser(images, timesteps, named), denoiser(images, timesteps, empty)
        images = scheduler.step(without + guidance * (with_text - without), timestep, images).prev_sample
    return images.clamp(-1, 1)


def train_models(seed: int, settings: dict[str, Any]) -> tuple[TextEncoder, dict[str, Denoiser]]:
    """The teacher of one seed, and its students without and with random conditioning, alike but for that."""
    digits = load().halved()
    with seeded(seed):
        encoder = TextEncoder()
        teacher = Denoiser(TEACHER_WIDTH, BLOCKS)
    texts = [NAMES[label] for label in digits.labels.tolist()]
    problem = Denoising(teacher, encoder, digits.images, texts, None, None, BATCH, seed)
    fit(problem, plain_recipe(RECIPE | {"steps": settings["teacher_steps"]}), f"digits diffusion teacher {seed}")
    for model in (teacher, encoder):
        model.eval().requires_grad_(False)
    texts = [name for name in NAMES if name != NAMES[LEFT_OUT] for _ in range(settings["images"])]
    sampling = settings["sampling_steps"], settings["guidance_scale"]
    images = draw_digits(teacher, encoder, texts, seed, 0, *sampling)
    models = {"teacher": teacher}
    for name, p in (("without", None), ("with", Exponential(RATE))):
        with seeded(seed + 1):
            student = Denoiser(STUDENT_WIDTH, BLOCKS)
        problem = Denoising(student, encoder, images, texts, p, teacher, BATCH, seed)
        fit(problem, plain_recipe(RECIPE | {"steps": settings["student_steps"]}), f"digits diffusion {name} {seed}")
        models[name] = student.eval().requires_grad_(False)
    return encoder, models


def measure(seed: int, settings: dict[str, Any]) -> tuple[list[FigureScore], pd.DataFrame, dict[str, torch.Tensor]]:
    """Train the models of one seed, let them draw all digits, and have the pictures named.

    Returns:
        Scores; how often which digit was called which; each model's first pictures of "three", (16, 14, 14).
    """
    real, held_out = load().halved().split(0.25, seed)
    judge = train_classifier(real.images, one_hot(real.labels), JUDGE_WIDTH, JUDGE_RECIPE, seed, f"digits judge {seed}")
    right = (judge(held_out.images).argmax(1) == held_out.labels).double().mean()
    scores = [FigureScore(seed=seed, model="judge", metric="real", value=float(right), count=len(held_out))]
    encoder, models = train_models(seed, settings)
    labels = torch.arange(len(NAMES)).repeat_interleave(settings["samples"])
    texts = [NAMES[label] for label in labels.tolist()]
    frames, threes = [], {}
    for model, denoiser in models.items():
        images = draw_digits(denoiser, encoder, texts, seed, 1, settings["sampling_steps"], settings["guidance_scale"])
        called = judge(images).argmax(1)
        scores += accuracies(seed, model, called, labels)
        frames.append(confusion(seed, model, called, labels))
        threes[model] = images[labels == LEFT_OUT][:SHOWN].reshape(-1, SIDE, SIDE)
    return scores, pd.concat(frames), threes


def draw_shares(scores: list[FigureScore]) -> Figure:
    """What became of the ten names: a bar for the mean share that the judge names right, a dot a seed."""
    figure = Figure(figsize=(8.5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    bars(axes, scores, LABELS, {"threes": 'asked for a "3"', "rest": "asked for another digit"})
    axes.set_ylabel("drawn as asked, %")
    return figure


def draw_samples(threes: dict[str, torch.Tensor]) -> Figure:
    """Each model's pictures of "three", a column for each starting noise."""
    figure = Figure(figsize=(9.5, 1.9), layout="constrained")
    axes = figure.subplots(len(threes), SHOWN, squeeze=False)
    for row, (model, images) in zip(axes, threes.items(), strict=True):
        for place in row:
            place.set_axis_off()
        for place, image in zip(row, images, strict=False):
            place.imshow(-image, cmap="gray", vmin=-1, vmax=1)
        row[0].text(-0.25, 0.5, LABELS[model], transform=row[0].transAxes, ha="right", va="center", fontsize=9)
    return figure


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    measured = [measure(seed, settings) for seed in settings["seeds"]]
    scores = [score for several, _, _ in measured for score in several]
    data = pd.concat([frame for _, frame, _ in measured])
    pictures = {"figure.svg": draw_shares(scores), "samples.png": draw_samples(measured[0][2])}
    write_figure(arguments.output, pictures, {"data.csv": data}, scores, settings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    run_stage(_main, parser)
