"""Plots, as SVG beside a CSV of what they show. The same data give the same bytes."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from randcond.jobs.plots import save
from randcond.method.conditioning import TRAIN_TIMESTEPS, probability
from randcond.method.curve import Sensitivity
from randcond.method.measured import Measured
from randcond.report.inputs import Histories
from randcond.report.score_files import Score
from randcond.report.shown import Series
from randcond.report.tables import WEIGHTS, Metric, Points, estimate, shown_metrics
from randcond.sensitivity.figure import draw, table

LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curve:
    """A p(t) that runs use: its name, the share of texts it replaces on average, and those runs."""

    name: str
    share: float
    runs: list[str]


def loss_curves(histories: Histories, groups: dict[str, list[str]], folder: Path) -> str:
    """Draw the training losses into ``folder``/loss.svg, with loss.csv (run, seed, step and every loss).

    A run has one line: the mean over its seeds. A legend is in the order in which its lines end.

    Args:
        histories: By run and seed.
        groups: Panels, by title, and their runs; those without history are left out, others have a panel.
        folder: Where to write.

    Returns:
        The SVG.
    """
    rows = [{"run": run, "seed": seed, **entry} for (run, seed), entries in histories.items() for entry in entries]
    frame = pd.DataFrame(rows).sort_values(["run", "seed", "step"]).astype({"step": int})
    frame.to_csv(folder / "loss.csv", index=False, lineterminator="\n")
    means = {str(run): group.groupby("step")["loss"].mean() for run, group in frame.groupby("run")}
    grouped = {run for runs in groups.values() for run in runs}
    trained = {title: [run for run in dict.fromkeys(runs) if run in means] for title, runs in groups.items()}
    trained["other runs"] = [run for run in means if run not in grouped]
    panels = {title: runs for title, runs in trained.items() if runs}
    figure, places = _panels(len(panels), 2, 4.6)
    for axes, (title, runs) in zip(places, panels.items(), strict=False):
        for number, run in enumerate(sorted(runs, key=lambda run: (-float(means[run].iloc[-1]), run))):
            axes.plot(means[run].index, means[run], label=run, **_look(number))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("training step")
        axes.set_ylabel("loss (log scale)")
        axes.set_yscale("log")
        _plain_numbers(axes.yaxis)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(which="both", alpha=0.25)
        axes.legend(loc="upper right", frameon=False, fontsize=7)
    return _write(figure, folder / "loss.svg")


def probability_curves(
    runs: dict[str, dict[str, Any]], folder: Path, curve: Sensitivity | None = None
) -> tuple[str, list[Curve]]:
    """Draw every p(t) of ``runs`` into ``folder``/probability.svg, with probability.csv (setting, t, probability).

    Args:
        runs: By name.
        folder: Where to write.
        curve: What a measured p(t) comes from.

    Returns:
        The SVG and what it shows; an empty string and list if no run uses random conditioning.

    Raises:
        UserError: If a setting is not one that training knows.
    """
    users: dict[str, list[str]] = {}
    for run, settings in runs.items():
        if settings.get("random_conditioning"):
            users.setdefault(json.dumps(settings["random_conditioning"], sort_keys=True), []).append(run)
    if not users:
        return "", []
    timesteps = torch.arange(TRAIN_TIMESTEPS)
    figure, axes = _axes("timestep t (0: clean, 999: noise)", "p(t)", len(users))
    frames, curves = [], []
    for number, (key, names) in enumerate(users.items()):
        values = probability(json.loads(key), curve)(timesteps).double()
        shown = Curve(conditioning_name(json.loads(key)), float(values.mean()), names)
        curves.append(shown)
        frames.append(pd.DataFrame({"setting": shown.name, "t": timesteps.numpy(), "probability": values.numpy()}))
        axes.plot(timesteps.numpy(), values.numpy(), label=shown.name, **_look(number))
    pd.concat(frames).to_csv(folder / "probability.csv", index=False, float_format="%.6g", lineterminator="\n")
    axes.set_ylim(-0.02, 1.02)
    axes.grid(alpha=0.25)
    return _save(figure, axes, folder / "probability.svg"), curves


def measured_probability(runs: dict[str, dict[str, Any]], folder: Path, curve: Sensitivity) -> str:
    """Draw the teacher's curve and the p(t) that ``runs`` take from it into ``folder``/measured.svg, with measured.csv.

    Returns:
        The SVG; empty if no run has a measured p(t).
    """
    asked = [made["random_conditioning"] for made in runs.values() if made.get("random_conditioning")]
    if not (shares := sorted({one["share"] for one in asked if one["kind"] == Measured.kind})):
        return ""
    table(curve, shares).to_csv(folder / "measured.csv", index=False, float_format="%.6g", lineterminator="\n")
    return _write(draw(curve, shares), folder / "measured.svg")


def size_curves(name: str, series: Series, sizes: dict[str, int], scores: dict[str, list[Score]], folder: Path) -> str:
    """Draw every metric against the size of D into ``folder``/<name>.svg, with <name>.csv.

    Args:
        name: Of the files.
        series: The lines and their runs.
        sizes: Pairs in D of each run.
        scores: Scores by run; runs without any are left out.
        folder: Where to write.

    Filled points with a solid bar are means over seeds, hollow ones with a dotted bar single trainings.

    Returns:
        The SVG; empty if none of the runs was scored.
    """
    rows = [
        {"line": line.label, "run": run, "size": sizes[run], "metric": metric, "seeds": len(scores[run])}
        | {"value": found.value, "error95": found.error95, "error_kind": found.kind}
        for line in series.lines
        for run in line.runs
        if scores.get(run)
        for metric in shown_metrics(scores)
        if (found := estimate([score.splits[series.split] for score in scores[run]], metric.key))
    ]
    if not rows:
        return ""
    frame = pd.DataFrame(rows)
    looks = {line.label: _look(number) for number, line in enumerate(series.lines)}
    figure, panels = _metric_panels(frame, folder / f"{name}.csv")
    for axes, metric in panels:
        for number, (label, look) in enumerate(looks.items()):
            part = frame[(frame["line"] == label) & (frame["metric"] == metric)].sort_values("size")
            _points(axes, part["size"] * 1.04**number, part, metric.scale, label, look)
        axes.set_xscale("log")
        axes.set_xticks(sorted(set(frame["size"])), [str(size) for size in sorted(set(frame["size"]))])
        axes.minorticks_off()
        axes.set_xlabel("pairs in D")
    return _with_legend(figure, folder / f"{name}.svg")


def step_curves(name: str, points: Points, split: str, folder: Path) -> str:
    """Draw every metric against the step of the training into ``folder``/<name>.svg, with <name>.csv.

    A colour is a run, a solid line its moving average, a dashed one its raw weights.

    Args:
        name: Of the files.
        points: Scores by run, step and kind of weights; at least one.
        split: Of the evaluation prompts.
        folder: Where to write.

    Returns:
        The SVG.
    """
    metrics = shown_metrics({run: several for (run, _, _), several in points.items()})
    rows = [
        {"run": run, "step": step, "weights": weights, "metric": metric, "seeds": len(several)}
        | {"value": found.value, "error95": found.error95, "error_kind": found.kind}
        for (run, step, weights), several in points.items()
        for metric in metrics
        if (found := estimate([score.splits[split] for score in several], metric.key))
    ]
    frame = pd.DataFrame(rows)
    colours = {run: number for number, run in enumerate(dict.fromkeys(frame["run"]))}
    figure, panels = _metric_panels(frame, folder / f"{name}.csv")
    for axes, metric in panels:
        for (run, weights), part in frame[frame["metric"] == metric].groupby(["run", "weights"]):
            look = _look(colours[run]) | {"linestyle": "-" if weights == "ema" else "--"}
            part = part.sort_values("step")
            _points(axes, part["step"], part, metric.scale, f"{run}, {WEIGHTS.get(weights, weights)}", look)
        axes.set_xlim(left=0)
        axes.set_xlabel("training step")
    return _with_legend(figure, folder / f"{name}.svg")


def second_curves(name: str, frame: pd.DataFrame, folder: Path) -> str:
    """Draw every metric against the seconds of an image into ``folder``/<name>.svg, with <name>.csv.

    Args:
        name: Of the files.
        frame: A row for each point, with its line, seconds, metric, value, error95 and seeds.
        folder: Where to write.

    Returns:
        The SVG.
    """
    looks = {line: _look(number) for number, line in enumerate(dict.fromkeys(frame["line"]))}
    figure, panels = _metric_panels(frame, folder / f"{name}.csv")
    for axes, metric in panels:
        for line, look in looks.items():
            part = frame[(frame["line"] == line) & (frame["metric"] == metric)].sort_values("seconds")
            _points(axes, part["seconds"], part, metric.scale, line, look)
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
        axes.set_xlabel("seconds of an image")
    return _with_legend(figure, folder / f"{name}.svg")


def _plain_numbers(axis: Axis) -> None:
    """No powers of ten on a log scale."""
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "235" else "")


def _metric_panels(frame: pd.DataFrame, path: Path) -> tuple[Figure, list[tuple[Axes, Metric]]]:
    """A panel for each metric of ``frame``, which is written to ``path``."""
    frame.assign(metric=frame["metric"].map(lambda m: m.key)).to_csv(path, index=False, lineterminator="\n")
    metrics = list(dict.fromkeys(frame["metric"]))
    figure, places = _panels(len(metrics), 3, 3.2)
    panels = list(zip(places, metrics, strict=False))
    for axes, metric in panels:
        axes.set_title(f"{metric.name} {metric.arrow}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure, panels


def _with_legend(figure: Figure, path: Path) -> str:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=9)
    return _write(figure, path)


def _points(axes: Axes, x: pd.Series, part: pd.DataFrame, scale: float, label: str, look: dict[str, Any]) -> None:
    axes.plot(x, part["value"] * scale, label=label, **look)
    for place, (_, one) in zip(x, part.iterrows(), strict=True):
        single = one["seeds"] == 1
        style: dict[str, Any] = {"color": look["color"], "markerfacecolor": "white" if single else look["color"]}
        value, error = one["value"] * scale, one["error95"] * scale
        drawn = axes.errorbar(place, value, error, marker="o", capsize=3, **style)
        if single:
            drawn.lines[2][0].set_linestyle(":")


def conditioning_name(settings: dict[str, Any] | None) -> str:
    """``exponential, rate 5.0`` for ``{"kind": "exponential", "rate": 5.0}``; ``none`` for nothing."""
    if not settings:
        return "none"
    others = [f"{key} {value}" for key, value in settings.items() if key != "kind"]
    return ", ".join([str(settings.get("kind", "?")), *others])


def _axes(x: str, y: str, entries: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.5, max(3.8, 1.0 + 0.24 * entries)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _panels(number: int, most: int, width: float) -> tuple[Figure, list[Axes]]:
    """Room for a number of panels, at most ``most`` beside each other, each ``width`` inches wide."""
    columns = min(most, number)
    rows = math.ceil(number / columns)
    figure = Figure(figsize=(width * columns, 0.91 * width * rows + 0.5), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for empty in places[number:]:
        empty.set_axis_off()
    return figure, places


def _look(number: int) -> dict[str, Any]:
    """Ten colours, then the same ten with another line style."""
    return {"color": f"C{number % 10}", "linestyle": LINES[number // 10 % len(LINES)], "linewidth": 1.6}


def _save(figure: Figure, axes: Axes, path: Path) -> str:
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    return _write(figure, path)


def _write(figure: Figure, path: Path) -> str:
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a title is a title, whatever it has between dollars
    save(figure, path)
    return path.read_text(encoding="utf-8")
