"""What the folder of each of the paper's figures holds: pictures, their data, and the measured numbers."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from randcond.jobs.files import atomic_path, write_json
from randcond.jobs.plots import save


class FigureScore(BaseModel):
    """One measured number of a figure.

    Attributes:
        seed: The seed it belongs to: numbers of one seed can be compared in pairs.
        model: What was measured, if the figure compares models.
        t: The timestep, if the number belongs to one.
        metric: What the value says, e.g. ``threes``, a share between 0 and 1.
        value: The number.
        count: Images or pairs it was measured on.
    """

    model_config = ConfigDict(extra="forbid")

    seed: Annotated[int, Field(ge=0)]
    model: str = ""
    t: int | None = None
    metric: str
    value: FiniteFloat
    count: Annotated[int, Field(gt=0)]


class FigureScores(BaseModel):
    """``scores.json``: the settings of the figure and everything that was measured."""

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, Any]
    scores: Annotated[list[FigureScore], Field(min_length=1)]

    def frame(self) -> pd.DataFrame:
        """The scores as a table, one row each."""
        return pd.DataFrame([score.model_dump() for score in self.scores])


def write_figure(
    folder: Path,
    pictures: dict[str, Figure],
    data: dict[str, pd.DataFrame],
    scores: Iterable[FigureScore],
    settings: dict[str, Any],
) -> None:
    """Write a figure's folder, whole or not at all: pictures and tables (CSV) by file name, ``scores.json``."""
    measured = FigureScores(settings=settings, scores=list(scores))
    with atomic_path(folder) as partial:
        partial.mkdir(parents=True)
        for name, figure in pictures.items():
            save(figure, partial / name)
        for name, frame in data.items():
            frame.to_csv(partial / name, index=False, float_format="%.6g", lineterminator="\n")
        write_json(partial / "scores.json", measured.model_dump())


def bars(axes: Axes, scores: list[FigureScore], models: dict[str, str], metrics: dict[str, str]) -> None:
    """Draw shares in percent: a bar for the mean over seeds with a dot for each seed, side by side for each model.

    Args:
        axes: Where to draw.
        scores: What was measured.
        models: Models to show, and what to call them.
        metrics: Two metrics to show, and what to call them.
    """
    for offset, colour, (metric, label) in zip((-0.18, 0.18), ("C0", "0.75"), metrics.items(), strict=True):
        for place, model in enumerate(models):
            values = [100 * score.value for score in scores if (score.model, score.metric) == (model, metric)]
            x, mean = place + offset, float(np.mean(values))
            axes.bar(x, mean, 0.34, color=colour, label=label if place == 0 else None)
            axes.scatter(
                x + 0.08 * (np.arange(len(values)) - (len(values) - 1) / 2), values, s=9, color="black", zorder=3
            )
            axes.annotate(f"{mean:.0f}", (x, 0), (0, 3), textcoords="offset points", ha="center", fontsize=9)
    axes.set_xticks(range(len(models)), list(models.values()))
    axes.set_ylim(0, 105)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
