"""Figure 3: start from x_t of one image and go on under another image's condition.

The teacher draws an image from text A, noise is added up to t, and the teacher denoises it from there under text B,
which names another thing on another background. The evaluator says what came out: A's thing (the image prevailed),
B's (the condition did), or neither. Where the condition prevails a random text does no harm: that is p(t)'s shape.
It is done with the guidance that samples are drawn with, and without any, as the loss of distillation sees the teacher;
beside it stands how far the teacher's two predictions of the noise differ at x_t.
"""

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from diffusers import DDIMScheduler, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from diffusers.utils.torch_utils import randn_tensor
from scipy.stats import binomtest

from randcond.figures.output import FigureScore, write_figure
from randcond.figures.swapped_pictures import STRIP_ROWS, VERDICTS, draw_shares, draw_strip
from randcond.jobs.progress import Progress
from randcond.jobs.seeding import generator, numpy_generator
from randcond.jobs.stage import run_stage, set_threads
from randcond.scores.evaluator import Evaluator
from randcond.scores.names import Naming, load_naming
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline, teacher_of
from randcond.worlds import Caption, load_captions

BATCH = 64


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


class _FromLatents(StableDiffusionImg2ImgPipeline):
    """diffusers' pipeline, which knows latents by their four channels, on latents of any number of channels."""

    def prepare_latents(
        self,
        image: torch.Tensor,
        timestep: torch.Tensor,
        batch_size: int,
        num_images_per_prompt: int,
        dtype: torch.dtype,
        device: torch.device,
        generator: list[torch.Generator],
    ) -> torch.Tensor:
        """Noise latents up to a timestep; diffusers' signature."""
        noise = randn_tensor(image.shape, generator=generator, device=device, dtype=dtype)
        return self.scheduler.add_noise(image, noise, timestep)


def image_to_image(pipeline: StableDiffusionPipeline) -> StableDiffusionImg2ImgPipeline:
    """diffusers' pipeline that noises latents up to a timestep and denoises them from there."""
    changed = _FromLatents(**pipeline.components, requires_safety_checker=False)
    changed.image_processor.register_to_config(vae_latent_channels=pipeline.vae.config.latent_channels)
    changed.set_progress_bar_config(disable=True)
    return changed


def denoise_from(
    pipeline: StableDiffusionImg2ImgPipeline,
    latents: torch.Tensor,
    texts: list[str],
    level: int,
    steps: int,
    guidance_scale: float,
    seed: int,
    first: int,
) -> torch.Tensor:
    """Noise latents to the ``level``-th of the scheduler's timesteps and denoise them from there under ``texts``.

    Args:
        pipeline: From :func:`image_to_image`.
        latents: Scaled latents, (n, channels, h, w).
        texts: Conditions, one a latent.
        level: Denoising steps to go, 1 to ``steps``.
        steps: Of the whole way.
        guidance_scale: Weight of the guidance; 1 is none.
        seed: Seed of the noise; latent i has the noise of (seed, 1, first + i) at every level.
        first: Number of the first latent.

    Returns:
        Scaled latents of the same shape.
    """
    return pipeline(
        prompt=texts,
        image=latents,
        strength=min(1.0, (level + 0.5) / steps),  # rounded down to ``level`` steps
        num_inference_steps=steps,
        guidance_scale=guidance_scale,
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


def guidances(settings: dict[str, Any]) -> list[float]:
    """Weights of the guidance: that of the samples, and 1, which is none."""
    return sorted({settings["guidance_scale"], 1.0}, reverse=True)


def measure(
    pipeline: StableDiffusionPipeline,
    naming: Naming,
    captions: Sequence[Caption],
    seed: int,
    settings: dict[str, Any],
) -> tuple[pd.DataFrame, dict[int, torch.Tensor]]:
    """Verdicts on all pairs of one seed at every timestep, with each of the :func:`guidances`.

    Returns:
        Columns seed, guidance, pair, image, condition, t, verdict; the first pairs' pictures by timestep, drawn with
        the samples' guidance, uint8 (n, 3, h, w).
    """
    pairs, changed = draw_pairs(captions, settings["pairs"], seed), image_to_image(pipeline)
    steps, scales, batch = settings["steps"], guidances(settings), BATCH
    timesteps = timesteps_of(changed, steps)
    progress, done = Progress(f"figure 3, seed {seed}", len(pairs) * len(timesteps) * len(scales), "pictures"), 0
    frames, pictures = [], {}
    for first in range(0, len(pairs), batch):
        part = pairs[first : first + batch]
        texts = [[caption.text for caption in side] for side in zip(*part, strict=True)]
        clean = draw_latents(pipeline, texts[0], first, seed, steps, scales[0])
        columns = {"pair": range(first, first + len(part)), "image": texts[0], "condition": texts[1]}
        for (level, t), scale in itertools.product(enumerate(timesteps), scales):
            latents = denoise_from(changed, clean, texts[1], level, steps, scale, seed, first) if level else clean
            images = decode(pipeline, latents)
            found = {"seed": seed, "guidance": scale, **columns, "t": t}
            frames.append(pd.DataFrame(found | {"verdict": verdicts_on(naming, images, part)}))
            if first == 0 and scale == scales[0]:
                pictures[t] = images[:STRIP_ROWS]
            done += len(part)
            progress.at(done)
    return pd.concat(frames), pictures


@torch.no_grad()
def differences(
    pipeline: StableDiffusionPipeline, captions: Sequence[Caption], seed: int, settings: dict[str, Any]
) -> pd.DataFrame:
    """How far the teacher's predictions of the noise at x_t differ, under the image's own text and the other's.

    Images, noise and pairs are those of :func:`measure`.

    Returns:
        Columns seed, pair, t, difference: |e_c - e_c~|^2, a mean over the elements of a latent.
    """
    pairs, teacher, frames = draw_pairs(captions, settings["pairs"], seed), teacher_of(pipeline), []
    timesteps = timesteps_of(image_to_image(pipeline), settings["steps"])[1:]
    for first in range(0, len(pairs), BATCH):
        part = pairs[first : first + BATCH]
        own, other = ([caption.text for caption in side] for side in zip(*part, strict=True))
        clean = draw_latents(pipeline, own, first, seed, settings["steps"], settings["guidance_scale"])
        noise = torch.stack(
            [torch.randn(clean.shape[1:], generator=generator(seed, 1, first + i)) for i in range(len(part))]
        )
        conditions = [teacher.encode(texts) for texts in (own, other)]
        for t in timesteps:
            at = torch.full((len(part),), t)
            noised = teacher.add_noise(clean, noise, at)
            one, another = (teacher.predict_noise(noised, at, condition) for condition in conditions)
            found = (one - another).square().flatten(1).mean(1).numpy()
            columns = {"seed": seed, "pair": range(first, first + len(part)), "t": t}
            frames.append(pd.DataFrame(columns | {"difference": found}))
    return pd.concat(frames)


def shares(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Share of each verdict by guidance and t over all seeds, with its 95% interval (Wilson).

    Returns:
        Columns guidance, t, verdict, share, low, high.
    """
    rows = []
    for (guidance, t), group in verdicts.groupby(["guidance", "t"]):
        for verdict in VERDICTS:
            found = binomtest(int((group["verdict"] == verdict).sum()), len(group))
            low, high = found.proportion_ci(method="wilson")
            interval = {"share": found.statistic, "low": low, "high": high}
            rows.append({"guidance": guidance, "t": t, "verdict": verdict, **interval})
    return pd.DataFrame(rows)


def score(verdicts: pd.DataFrame, differing: pd.DataFrame) -> list[FigureScore]:
    """Share of each verdict by seed and t, of ``model`` "no guidance" where there was none; the mean difference."""
    most = verdicts["guidance"].max()
    return [
        *(
            FigureScore(
                seed=seed,
                model="" if guidance == most else "no guidance",
                t=t,
                metric=verdict,
                value=float((found == verdict).mean()),
                count=len(found),
            )
            for (guidance, seed, t), found in verdicts.groupby(["guidance", "seed", "t"])["verdict"]
            for verdict in VERDICTS
        ),
        *(
            FigureScore(seed=seed, t=t, metric="difference", value=float(found.mean()), count=len(found))
            for (seed, t), found in differing.groupby(["seed", "t"])["difference"]
        ),
    ]


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    load = load_naming(arguments.world)
    pipeline, captions = load_teacher(arguments.teacher), load_captions(arguments.world)
    naming = load(Evaluator(arguments.evaluator))
    measured = [measure(pipeline, naming, captions, seed, settings) for seed in settings["seeds"]]
    verdicts = pd.concat([frame for frame, _ in measured])
    differing = pd.concat([differences(pipeline, captions, seed, settings) for seed in settings["seeds"]])
    found, count = shares(verdicts), settings["pairs"] * len(settings["seeds"])
    pictures = {"figure.svg": draw_shares(found, differing, count), "strip.png": draw_strip(*measured[0])}
    tables = {"data.csv": found, "verdicts.csv": verdicts, "differences.csv": differing}
    write_figure(arguments.output, pictures, tables, score(verdicts, differing), settings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", required=True)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--threads", type=int, default=1)
    for option in ("--teacher", "--evaluator", "--output"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
