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
from scipy.stats import binomtest

from randcond.figures.output import FigureScore, write_figure
from randcond.figures.swapped_pictures import STRIP_ROWS, VERDICTS, draw_shares, draw_strip
from randcond.jobs.progress import Progress
from randcond.jobs.seeding import normal, numpy_generator
from randcond.jobs.stage import run_stage, set_threads
from randcond.method.conditioning import TRAIN_TIMESTEPS
from randcond.method.consistency import guided
from randcond.method.noise_level import equivalent_timesteps
from randcond.scores.evaluator import Evaluator
from randcond.scores.names import Naming, load_naming
from randcond.teachers.pipelines import decode, load_pipeline, teacher_of
from randcond.teachers.teacher import Conditions, Teacher
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


def timesteps_of(steps: int) -> list[int]:
    """The timesteps, rising, that 0, 1, 2, ... ``steps`` denoising steps start from; the last step ends at the first.

    Images are drawn at the same ones. They are those of Stable Diffusion's samplers (diffusers' "leading", one up),
    which do not end at the clean image either but at t = 0, where next to nothing is noise, whatever the teacher.
    """
    return [0, *(1 + i * (TRAIN_TIMESTEPS // steps) for i in range(steps))]


def noise_of(teacher: Teacher, count: int, first: int, *stream: int) -> torch.Tensor:
    """Noise of ``count`` latents, (count, channels, h, w); latent i has that of (*stream, first + i)."""
    return torch.stack([normal(teacher.latent_shape, *stream, first + i) for i in range(count)])


@torch.no_grad()
def denoise(
    teacher: Teacher, states: torch.Tensor, conditions: Conditions, timesteps: Sequence[int], guidance: float
) -> torch.Tensor:
    """Move states down a row of timesteps, by the steps of the teacher's own process, without new noise.

    Args:
        teacher: Of any family.
        states: x_t, float32 (n, channels, h, w), t being the last of the timesteps.
        conditions: Of n texts.
        timesteps: Rising; the states end at the first of them.
        guidance: Weight of the guidance; 1 is none.

    Returns:
        Scaled latents of the same shape.
    """
    solver = teacher.solver()
    empty = {name: row.expand_as(conditions[name]) for name, row in teacher.encode([""]).items()}
    for t, following in itertools.pairwise(reversed(timesteps)):
        now, then = (torch.full((len(states),), at) for at in (t, following))
        predicted = teacher.predict(teacher.denoiser, states, now, conditions)
        if guidance != 1:
            predicted = guided(predicted, teacher.predict(teacher.denoiser, states, now, empty), guidance)
        states = solver(states, predicted, now, then)
    return states


def draw_clean(
    teacher: Teacher, conditions: Conditions, first: int, seed: int, timesteps: Sequence[int], guidance: float
) -> torch.Tensor:
    """Draw a latent for each condition, latent i from the noise of (seed, first + i): (n, channels, h, w).

    The first timestep is below a sampler's, so that a flow's noise is by a twentieth stronger there than it should be.
    """
    count = len(next(iter(conditions.values())))
    return denoise(teacher, noise_of(teacher, count, first, seed), conditions, timesteps, guidance)


def noised_to(teacher: Teacher, clean: torch.Tensor, t: int, seed: int, first: int) -> torch.Tensor:
    """x_t of latents; latent i has the noise of (seed, 1, first + i) at every t."""
    noise = noise_of(teacher, len(clean), first, seed, 1)
    return teacher.add_noise(clean, noise, torch.full((len(clean),), t))


def verdicts_on(naming: Naming, images: torch.Tensor, pairs: list[Pair]) -> np.ndarray:
    """One of ``VERDICTS`` for each uint8 image (n, 3, h, w) and its pair: (n,)."""
    named = np.array([concept for concept, _ in naming(images)])
    wanted = np.array([(pair.image.concept, pair.condition.concept) for pair in pairs])
    return np.select([named == wanted[:, 0], named == wanted[:, 1]], VERDICTS[:2], VERDICTS[2])


def guidances(settings: dict[str, Any]) -> list[float]:
    """Weights of the guidance: that of the samples, and 1, which is none."""
    return sorted({settings["guidance_scale"], 1.0}, reverse=True)


def measure(
    teacher: Teacher,
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
    pairs, timesteps = draw_pairs(captions, settings["pairs"], seed), timesteps_of(settings["steps"])
    scales = guidances(settings)
    progress, done = Progress(f"figure 3, seed {seed}", len(pairs) * len(timesteps) * len(scales), "pictures"), 0
    frames, pictures = [], {}
    for first in range(0, len(pairs), BATCH):
        part = pairs[first : first + BATCH]
        texts = [[caption.text for caption in side] for side in zip(*part, strict=True)]
        own, other = (teacher.encode(side) for side in texts)
        clean = draw_clean(teacher, own, first, seed, timesteps, scales[0])
        columns = {"pair": range(first, first + len(part)), "image": texts[0], "condition": texts[1]}
        for (level, t), scale in itertools.product(enumerate(timesteps), scales):
            latents = clean
            if level:
                noised = noised_to(teacher, clean, t, seed, first)
                latents = denoise(teacher, noised, other, timesteps[: level + 1], scale)
            images = decode(teacher.pipeline, latents)
            found = {"seed": seed, "guidance": scale, **columns, "t": t}
            frames.append(pd.DataFrame(found | {"verdict": verdicts_on(naming, images, part)}))
            if first == 0 and scale == scales[0]:
                pictures[t] = images[:STRIP_ROWS]
            done += len(part)
            progress.at(done)
    return pd.concat(frames), pictures


@torch.no_grad()
def differences(teacher: Teacher, captions: Sequence[Caption], seed: int, settings: dict[str, Any]) -> pd.DataFrame:
    """How far the teacher's predictions of the noise at x_t differ, under the image's own text and the other's.

    Images, noise and pairs are those of :func:`measure`.

    Returns:
        Columns seed, pair, t, difference: |e_c - e_c~|^2, a mean over the elements of a latent.
    """
    pairs, timesteps, frames = draw_pairs(captions, settings["pairs"], seed), timesteps_of(settings["steps"]), []
    for first in range(0, len(pairs), BATCH):
        part = pairs[first : first + BATCH]
        conditions = [teacher.encode([caption.text for caption in side]) for side in zip(*part, strict=True)]
        clean = draw_clean(teacher, conditions[0], first, seed, timesteps, settings["guidance_scale"])
        for t in timesteps[1:]:
            noised, at = noised_to(teacher, clean, t, seed, first), torch.full((len(part),), t)
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
    teacher, captions = teacher_of(load_pipeline(arguments.teacher)), load_captions(arguments.world)
    naming = load(Evaluator(arguments.evaluator))
    measured = [measure(teacher, naming, captions, seed, settings) for seed in settings["seeds"]]
    verdicts = pd.concat([frame for frame, _ in measured])
    differing = pd.concat([differences(teacher, captions, seed, settings) for seed in settings["seeds"]])
    found, count = shares(verdicts), settings["pairs"] * len(settings["seeds"])
    asked = equivalent_timesteps(teacher.log_snr)
    pictures = {"figure.svg": draw_shares(found, differing, count, asked), "strip.png": draw_strip(*measured[0])}
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
