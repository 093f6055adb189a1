"""Figure 3's pictures: verdicts against t, with each guidance, and the first pairs' own pictures."""

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from randcond.method.conditioning import Exponential

VERDICTS = ("image", "condition", "neither")
COLOURS = {"image": "C0", "condition": "C1", "neither": "0.55"}
STRIP_ROWS, STRIP_COLUMNS = 4, 9
_RATE = 5.0  # of the p(t) drawn beside the verdicts


def draw_shares(found: pd.DataFrame, differing: pd.DataFrame, count: int, asked: torch.Tensor) -> Figure:
    """The verdicts' shares against t, with their intervals, and p(t) beside them; below, |e_c - e_c~|^2.

    Args:
        found: As of ``swapped_condition.shares``; a panel for each guidance.
        differing: As of ``swapped_condition.differences``.
        count: Pictures that a share is of.
        asked: The timesteps that p(t) is asked at in the place of the teacher's, (timesteps,).
    """
    guidances = sorted(found["guidance"].unique(), reverse=True)
    figure = Figure(figsize=(8.5, 2.9 * (len(guidances) + 1)), layout="constrained")
    panels = figure.subplots(len(guidances) + 1, 1, sharex=True)
    for axes, guidance in zip(panels, guidances, strict=False):
        _verdicts(axes, found[found["guidance"] == guidance], asked)
        named = "no guidance" if guidance == 1 else f"guidance {guidance:g}"
        axes.set(title=named, ylabel=f"share of {count} pictures, %", ylim=(-2, 102), xlim=(-15, 1000))
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    by_t = differing.groupby("t")["difference"]
    middle, low, high = by_t.median(), by_t.quantile(0.25), by_t.quantile(0.75)
    panels[-1].semilogy(middle.index, middle, color="black", marker="o", markersize=3, label="median of pairs")
    panels[-1].fill_between(middle.index, low, high, color="black", alpha=0.15, linewidth=0, label="half of the pairs")
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    panels[-1].set(
        title="how far the two texts' predictions differ at x_t",
        xlabel="t up to which noise was added",
        ylabel="|e_c − e_c~|², a mean over elements",
    )
    for axes in panels:
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _verdicts(axes: Axes, found: pd.DataFrame, asked: torch.Tensor) -> None:
    for verdict in VERDICTS:
        group, colour = found[found["verdict"] == verdict], COLOURS[verdict]
        label = "neither" if verdict == "neither" else f"the {verdict}'s concept"
        axes.plot(group["t"], 100 * group["share"], color=colour, marker="o", markersize=3, label=f"named: {label}")
        axes.fill_between(group["t"], 100 * group["low"], 100 * group["high"], color=colour, alpha=0.18, linewidth=0)
    curve = 100 * Exponential(_RATE)(asked)
    axes.plot(range(len(asked)), curve, color="black", linestyle="--", linewidth=1.2, label="the paper's p(t)")


def draw_strip(verdicts: pd.DataFrame, pictures: dict[int, torch.Tensor]) -> Figure:
    """The first pairs' pictures, a row each, evenly spread over the timesteps; the frame shows the verdict.

    Args:
        verdicts: As of ``swapped_condition.measure``; those with the most guidance are shown.
        pictures: Pictures by timestep, uint8 (n, 3, h, w).
    """
    timesteps = sorted(pictures)
    shown = [
        timesteps[i] for i in np.linspace(0, len(timesteps) - 1, min(STRIP_COLUMNS, len(timesteps))).round().astype(int)
    ]
    rows, guided = len(pictures[0]), verdicts[verdicts["guidance"] == verdicts["guidance"].max()]
    figure = Figure(figsize=(9.5, 0.25 + 0.8 * rows), layout="constrained")
    grid = figure.subplots(rows, len(shown), squeeze=False)
    for number, row in enumerate(grid):
        pair = guided[guided["pair"] == number].set_index("t")
        for axes, t in zip(row, shown, strict=True):
            axes.imshow(pictures[t][number].permute(1, 2, 0).numpy())
            axes.set(xticks=[], yticks=[])
            if number == 0:
                axes.set_title(f"t = {t}", fontsize=8)
            axes.spines[:].set(color=COLOURS[pair.loc[t, "verdict"]], linewidth=3)
        label = f"image: {pair['image'].iloc[0]}\ncondition: {pair['condition'].iloc[0]}"
        row[0].text(-0.15, 0.5, label, transform=row[0].transAxes, ha="right", va="center", fontsize=7)
    return figure
