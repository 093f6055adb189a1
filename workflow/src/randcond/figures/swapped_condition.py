"""Figure 3: start from x_t of one image and go on under another image's condition.

The teacher draws an image from text A, noise is added up to t, and the teacher denoises it from there under text B,
which names another thing on another background. The evaluator says what came out: A's thing (the image prevailed),
B's (the condition did), or neither. Where the condition prevails a random text does no harm: that is p(t)'s shape.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from matplotlib.figure import Figure
from scipy.stats import binomtest

from randcond.figures.output import FigureScore, write_figure
from randcond.jobs.progress import Progress
from randcond.jobs.seeding import generator, numpy_generator
from randcond.jobs.stage import run_stage, set_threads
from randcond.method.conditioning import TRAIN_TIMESTEPS, Exponential
from randcond.scores.evaluator import Evaluator
from randcond.scores.names import Naming, load_naming
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline
from randcond.worlds import Caption, load_captions

VERDICTS = ("image", "condition", "neither")
COLOURS = {"image": "C0", "condition": "C1", "neither": "0.55"}
BATCH = 64
RATE = 5.0  # of the p(t) drawn beside the verdicts
STRIP_ROWS, STRIP_COLUMNS = 4, 9


class Pair(NamedTuple):
    """The text the image is drawn from and the text it is denoised under; they share neither thing nor colour."""

    image: Caption
    condition: Caption


def draw_pairs(captions: Sequence[Caption], count: int, seed: int) -> list[Pair]:
    """``count`` pairs of captions; pair i depends on (seed, i) only."""
    pairs = []
    for i in range(count):
        rng = numpy_generator(seed, i)
        one = captions[int(rng.integers(len(captions)))]
        other = one
        while other.concept == one.concept or other.colour == one.colour:
            other = captions[int(rng.integers(len(captions)))]
        pairs.append(Pair(one, other))
    return pairs


def load_teacher(folder: Path) -> StableDiffusionPipeline:
    """The teacher with DDIM, for the multistep PNDM of the other stages cannot start in the middle.

    Raises:
        UserError: If the folder holds no whole pipeline.
    """
    pipeline = load_pipeline(folder)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    return pipeline


def image_to_image(pipeline: StableDiffusionPipeline) -> StableDiffusionImg2ImgPipeline:
    """diffusers' pipeline that noises latents up to a timestep and denoises them from there."""
    changed = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    changed.set_progress_bar_config(disable=True)
    return changed


def denoise_from(
    pipeline: StableDiffusionImg2ImgPipeline,
    latents: torch.Tensor,
    texts: list[str],
    level: int,
    settings: dict[str, Any],
    seed: int,
    first: int,
) -> torch.Tensor:
    """Noise latents to the ``level``-th of the scheduler's timesteps and denoise them from there under ``texts``.

    Args:
        pipeline: From :func:`image_to_image`.
        latents: Scaled latents, (n, channels, h, w).
        texts: Conditions, one a latent.
        level: Denoising steps to go, 1 to ``settings["steps"]``.
        settings: ``steps`` of the whole way and ``guidance_scale``.
        seed: Seed of the noise; latent i has the noise of (seed, 1, first + i) at every level.
        first: Number of the first latent.

    Returns:
        Scaled latents of the same shape.
    """
    return pipeline(
        prompt=texts,
        image=latents,
        strength=min(1.0, (level + 0.5) / settings["steps"]),  # rounded down to ``level`` steps
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance_scale"],
        generator=[generator(seed, 1, first + i) for i in range(len(texts))],
        output_type="latent",
    ).images


def timesteps_of(pipeline: StableDiffusionImg2ImgPipeline, steps: int) -> list[int]:
    """The timestep from which 0, 1, 2, ... ``steps`` denoising steps start; 0 where there is no noise at all."""
    pipeline.scheduler.set_timesteps(steps)
    return [0, *reversed(pipeline.scheduler.timesteps.tolist())]


def verdicts_on(naming: Naming, images: torch.Tensor, pairs: list[Pair]) -> np.ndarray:
    """One of ``VERDICTS`` for each uint8 image (n, 3, h, w) and its pair: (n,)."""
    named = np.array([concept for concept, _ in naming(images)])
    wanted = np.array([(pair.image.concept, pair.condition.concept) for pair in pairs])
    return np.select([named == wanted[:, 0], named == wanted[:, 1]], VERDICTS[:2], VERDICTS[2])


def measure(
    pipeline: StableDiffusionPipeline,
    naming: Naming,
    captions: Sequence[Caption],
    seed: int,
    settings: dict[str, Any],
) -> tuple[pd.DataFrame, dict[int, torch.Tensor]]:
    """Verdicts on all pairs of one seed at every timestep.

    Returns:
        Columns seed, pair, image, condition, t, verdict; the first pairs' pictures by timestep, uint8 (n, 3, h, w).
    """
    pairs, changed = draw_pairs(captions, settings["pairs"], seed), image_to_image(pipeline)
    timesteps, batch = timesteps_of(changed, settings["steps"]), BATCH
    progress = Progress(f"figure 3, seed {seed}", len(pairs) * len(timesteps), "pictures")
    frames, pictures = [], {}
    for first in range(0, len(pairs), batch):
        part = pairs[first : first + batch]
        texts = [[caption.text for caption in side] for side in zip(*part, strict=True)]
        sampling = settings["steps"], settings["guidance_scale"]
        clean = draw_latents(pipeline, texts[0], first, seed, *sampling)
        for level, t in enumerate(timesteps):
            latents = denoise_from(changed, clean, texts[1], level, settings, seed, first) if level else clean
            images = decode(pipeline, latents)
            columns = {"seed": seed, "pair": range(first, first + len(part)), "image": texts[0], "condition": texts[1]}
            frames.append(pd.DataFrame(columns | {"t": t, "verdict": verdicts_on(naming, images, part)}))
            if first == 0:
                pictures[t] = images[:STRIP_ROWS]
            progress.at(first * len(timesteps) + len(part) * (level + 1))
    return pd.concat(frames), pictures


def shares(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Share of each verdict at each t over all seeds, with its 95% interval (Wilson): columns t, verdict, share, ..."""
    rows = []
    for t, group in verdicts.groupby("t"):
        for verdict in VERDICTS:
            found = binomtest(int((group["verdict"] == verdict).sum()), len(group))
            low, high = found.proportion_ci(method="wilson")
            rows.append({"t": t, "verdict": verdict, "share": found.statistic, "low": low, "high": high})
    return pd.DataFrame(rows)


def score(verdicts: pd.DataFrame) -> list[FigureScore]:
    """Share of each verdict by seed and t."""
    return [
        FigureScore(seed=seed, t=t, metric=verdict, value=float((found == verdict).mean()), count=len(found))
        for (seed, t), found in verdicts.groupby(["seed", "t"])["verdict"]
        for verdict in VERDICTS
    ]


def draw_shares(found: pd.DataFrame, count: int) -> Figure:
    """The verdicts' shares against t, with their intervals, and p(t) beside them."""
    figure = Figure(figsize=(8.5, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for verdict in VERDICTS:
        group, colour = found[found["verdict"] == verdict], COLOURS[verdict]
        label = "neither" if verdict == "neither" else f"the {verdict}'s concept"
        axes.plot(group["t"], 100 * group["share"], color=colour, marker="o", markersize=3, label=f"named: {label}")
        axes.fill_between(group["t"], 100 * group["low"], 100 * group["high"], color=colour, alpha=0.18, linewidth=0)
    timesteps = torch.arange(TRAIN_TIMESTEPS)
    axes.plot(
        timesteps,
        100 * Exponential(RATE)(timesteps),
        color="black",
        linestyle="--",
        linewidth=1.2,
        label="p(t) = exp(−5 (1 − t/1000))",
    )
    axes.set(
        xlabel="t up to which noise was added", ylabel=f"share of {count} pictures, %", ylim=(-2, 102), xlim=(-15, 1000)
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def draw_strip(verdicts: pd.DataFrame, pictures: dict[int, torch.Tensor]) -> Figure:
    """The first pairs' pictures, a row each, evenly spread over the timesteps; the frame shows the verdict."""
    timesteps = sorted(pictures)
    shown = [
        timesteps[i] for i in np.linspace(0, len(timesteps) - 1, min(STRIP_COLUMNS, len(timesteps))).round().astype(int)
    ]
    rows = len(pictures[0])
    figure = Figure(figsize=(9.5, 0.25 + 0.8 * rows), layout="constrained")
    grid = figure.subplots(rows, len(shown), squeeze=False)
    for number, row in enumerate(grid):
        pair = verdicts[verdicts["pair"] == number].set_index("t")
        for axes, t in zip(row, shown, strict=True):
            axes.imshow(pictures[t][number].permute(1, 2, 0).numpy())
            axes.set(xticks=[], yticks=[])
            if number == 0:
                axes.set_title(f"t = {t}", fontsize=8)
            axes.spines[:].set(color=COLOURS[pair.loc[t, "verdict"]], linewidth=3)
        label = f"image: {pair['image'].iloc[0]}\ncondition: {pair['condition'].iloc[0]}"
        row[0].text(-0.15, 0.5, label, transform=row[0].transAxes, ha="right", va="center", fontsize=7)
    return figure


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    load = load_naming(arguments.world)
    pipeline, captions = load_teacher(arguments.teacher), load_captions(arguments.world)
    naming = load(Evaluator(arguments.evaluator))
    measured = [measure(pipeline, naming, captions, seed, settings) for seed in settings["seeds"]]
    verdicts = pd.concat([frame for frame, _ in measured])
    found = shares(verdicts)
    count = settings["pairs"] * len(settings["seeds"])
    pictures = {"figure.svg": draw_shares(found, count), "strip.png": draw_strip(*measured[0])}
    tables = {"data.csv": found, "verdicts.csv": verdicts}
    write_figure(arguments.output, pictures, tables, score(verdicts), settings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", required=True)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--threads", type=int, default=1)
    for option in ("--teacher", "--evaluator", "--output"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
