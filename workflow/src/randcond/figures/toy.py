"""Figure 5: two conditional densities in the plane melt into one Gaussian as noise is added.

p(x_0 | c) and p(x_0 | c~) are mixtures of narrow Gaussians on two shapes. Under Stable Diffusion's noise schedule
p(x_t | c) is such a mixture again, so that its density is known exactly at every t, and so is the total variation
between the two, up to the grid it is summed on.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from diffusers import DDPMScheduler
from matplotlib.figure import Figure

from randcond.figures.output import FigureScore, write_figure
from randcond.jobs.seeding import numpy_generator
from randcond.jobs.stage import run_stage, set_threads
from randcond.method.conditioning import TRAIN_TIMESTEPS
from randcond.teachers.noise import NOISE_SCHEDULE

SHOWN = (0, 200, 400, 600, 999)  # timesteps whose points are drawn


@dataclass(frozen=True)
class Mixture:
    """Equally likely round Gaussians: ``means`` (k, 2), one standard ``deviation``."""

    means: np.ndarray
    deviation: float

    def noised(self, kept: float) -> "Mixture":
        """The density of sqrt(kept) x_0 + sqrt(1 - kept) noise; ``kept`` is the schedule's alpha-bar."""
        return Mixture(self.means * kept**0.5, (kept * self.deviation**2 + 1 - kept) ** 0.5)

    def density(self, points: np.ndarray) -> np.ndarray:
        """Density at ``points`` (n, 2): (n,)."""
        total = np.zeros(len(points))
        for mean in self.means:
            total += np.exp(-((points - mean) ** 2).sum(1) / (2 * self.deviation**2))
        return total / (len(self.means) * 2 * np.pi * self.deviation**2)

    def sample(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """``count`` points, (count, 2)."""
        return self.means[rng.integers(len(self.means), size=count)] + self.deviation * rng.normal(size=(count, 2))


def total_variation(one: Mixture, other: Mixture, cells: int) -> float:
    """Half the integral of the absolute difference, summed on ``cells`` x ``cells`` points.

    0: the same. 1: nothing in common. Who guesses from a point which of the two it came from is right with
    probability (1 + this) / 2 at best.
    """
    means = np.concatenate([one.means, other.means])
    margin = 6 * max(one.deviation, other.deviation)
    axes, cell = [], 1.0
    for low, high in zip(means.min(0) - margin, means.max(0) + margin, strict=True):
        width = (high - low) / cells
        axes.append(low + width * (np.arange(cells) + 0.5))
        cell *= width
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)
    return float(0.5 * np.abs(one.density(points) - other.density(points)).sum() * cell)


def shapes() -> dict[str, Mixture]:
    """The two conditions: a ring on the left and a cross on the right."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = 0.8 * np.stack([np.cos(angles), np.sin(angles)], 1) + [-1, 0]
    along = np.linspace(-0.8, 0.8, 9)
    cross = np.array([(1 + x, sign * x) for x in along for sign in (-1, 1)])
    return {"c": Mixture(ring, 0.08), "c~": Mixture(cross, 0.08)}


def kept_at() -> np.ndarray:
    """alpha-bar of every timestep under Stable Diffusion's schedule, float64 (1000,)."""
    return DDPMScheduler(**NOISE_SCHEDULE).alphas_cumprod.double().numpy()


def distances(step: int, cells: int) -> dict[int, float]:
    """Total variation of p(x_t | c) and p(x_t | c~) at every ``step``-th timestep, and at the last."""
    one, other = shapes().values()
    kept = kept_at()
    timesteps = sorted({*range(0, TRAIN_TIMESTEPS, step), TRAIN_TIMESTEPS - 1})
    return {t: total_variation(one.noised(kept[t]), other.noised(kept[t]), cells) for t in timesteps}


def scatter(settings: dict[str, Any]) -> pd.DataFrame:
    """Points of both conditions at the timesteps to show: columns condition, t, x, y. A point keeps its noise."""
    kept, frames = kept_at(), []
    for number, (name, mixture) in enumerate(shapes().items()):
        rng = numpy_generator(settings["seeds"][0], number)
        clean, noise = mixture.sample(settings["points"], rng), rng.normal(size=(settings["points"], 2))
        for t in SHOWN:
            points = kept[t] ** 0.5 * clean + (1 - kept[t]) ** 0.5 * noise
            frames.append(pd.DataFrame({"condition": name, "t": t, "x": points[:, 0], "y": points[:, 1]}))
    return pd.concat(frames)


def draw(points: pd.DataFrame, variation: dict[int, float]) -> Figure:
    """Above: the points at some timesteps. Below: how far the two densities are apart, against t."""
    figure = Figure(figsize=(9.5, 5.4), layout="constrained")
    grid = figure.add_gridspec(2, len(SHOWN), height_ratios=[1, 1.3])
    for place, t in enumerate(SHOWN):
        axes = figure.add_subplot(grid[0, place])
        for colour, (_, group) in zip(("C0", "C1"), points[points["t"] == t].groupby("condition"), strict=True):
            axes.scatter(group["x"], group["y"], s=4, alpha=0.5, color=colour, linewidths=0, rasterized=True)
        axes.set(title=f"t = {t}", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5), xticks=[], yticks=[], aspect="equal")
    axes = figure.add_subplot(grid[1, :])
    axes.plot(
        list(variation), list(variation.values()), color="C2", label="distance of $p(x_t|c)$ and $p(x_t|\\tilde{c})$"
    )
    for t in SHOWN:
        axes.axvline(t, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlabel="timestep t (0: clean, 999: noise)", ylabel="total variation", xlim=(-10, 1009), ylim=(0, 1.03))
    axes.spines[["top", "right"]].set_visible(False)
    axes.scatter([], [], color="C0", s=12, label="above: $x_t$ drawn under $c$")
    axes.scatter([], [], color="C1", s=12, label="above: $x_t$ drawn under $\\tilde{c}$")
    axes.legend(frameon=False)
    return figure


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    variation = distances(settings["step"], settings["cells"])
    points = scatter(settings)
    lines = pd.DataFrame({"t": variation.keys(), "total_variation": variation.values()})
    scores = [
        FigureScore(seed=settings["seeds"][0], t=t, metric="total_variation", value=value, count=settings["cells"] ** 2)
        for t, value in variation.items()
    ]
    pictures, tables = {"figure.svg": draw(points, variation)}, {"data.csv": lines, "points.csv": points}
    write_figure(arguments.output, pictures, tables, scores, settings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    run_stage(_main, parser)
