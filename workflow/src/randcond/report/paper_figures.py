"""The paper's figures 2, 3 and 5 on the page: pictures and captions with the numbers that were measured."""

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from randcond.figures.output import FigureScores
from randcond.jobs.errors import UserError
from randcond.jobs.files import read_json
from randcond.method.conditioning import Exponential
from randcond.report.checking import parse

PAPER = Exponential(5.0)
KINDS = {".svg": "svg+xml", ".png": "png"}


@dataclass(frozen=True)
class PaperFigure:
    """A figure as the page shows it.

    Attributes:
        name: Name of its folder.
        title: Heading.
        pictures: ``data:`` addresses.
        caption: Sentences, with the measured numbers.
        folder: Where its files are.
        measured: Its numbers.
    """

    name: str
    title: str
    pictures: list[str]
    caption: list[str]
    folder: Path
    measured: FigureScores


def read(folders: Iterable[Path]) -> list[PaperFigure]:
    """The figures of ``folders``, in the paper's order.

    Raises:
        UserError: If a folder is no figure's, or lacks its pictures or numbers.
    """
    found: dict[str, PaperFigure] = {}
    for folder in folders:
        if folder.name not in FIGURES:
            raise UserError(f"{folder}: no figure of the paper; known are {', '.join(FIGURES)}")
        title, caption = FIGURES[folder.name]
        file = folder / "scores.json"
        measured: FigureScores = parse(FigureScores, read_json(file), file)
        pictures = [_uri(path) for path in sorted(folder.iterdir()) if path.suffix in KINDS]
        if not pictures:
            raise UserError(f"{folder}: holds no picture; delete it and run again")
        try:
            found[folder.name] = PaperFigure(folder.name, title, pictures, caption(Numbers(measured)), folder, measured)
        except KeyError as error:
            raise UserError(f"{file}: holds no score of {error.args[0]}; delete {folder} and run again") from None
    return [found[name] for name in FIGURES if name in found]


class Numbers:
    """What was measured, as phrases for a caption."""

    def __init__(self, measured: FigureScores) -> None:
        self.settings = measured.settings
        self.frame = measured.frame()

    def of(self, metric: str, model: str = "") -> pd.Series:
        """One value a seed (a row a timestep too, if the metric has timesteps).

        Raises:
            KeyError: If there is none.
        """
        chosen = self.frame[(self.frame["metric"] == metric) & (self.frame["model"] == model)]
        if chosen.empty:
            raise KeyError(f"{model} {metric}".strip())
        return chosen["value"]

    def share(self, metric: str, model: str) -> str:
        """``93% (91 to 96)``: the mean over seeds, the smallest and the largest."""
        values = 100 * self.of(metric, model)
        if len(values) == 1:
            return f"{values.mean():.0f}%"
        return f"{values.mean():.0f}% ({values.min():.0f} to {values.max():.0f})"

    def by_t(self, metric: str, model: str = "") -> pd.Series:
        """Mean over seeds at every t, by t."""
        rows = self.frame.loc[self.of(metric, model).index]
        means: pd.Series = rows.groupby("t")["value"].mean()
        return means

    @property
    def seeds(self) -> str:
        """What stands in brackets."""
        count = self.frame["seed"].nunique()
        return f"Means over {count} seeds, in brackets the smallest and the largest." if count > 1 else "One seed."


def _classifier(numbers: Numbers) -> list[str]:
    soft, hard = "soft targets", "hard labels"
    added = numbers.of("bias_added", soft).mean()

    def before_and_after(metric: str, model: str) -> str:
        return f"{numbers.share(metric, model)} before and {numbers.share(metric, f'{model}, bias adjusted')} after"

    return [
        'The teacher knows all ten digits; the students were trained on the same images without any "3". As in Hinton '
        'et al. (2015), the bias of the class they never saw is then adjusted. Of held-out "3"s the teacher recognises '
        f"{numbers.share('threes', 'teacher')}, the student of its soft targets (temperature "
        f"{numbers.settings['temperature']:g}) {before_and_after('threes', soft)} ({added:+.1f} on average), the "
        f"student of hard labels {before_and_after('threes', hard)}. Of the other digits the first recognises "
        f"{before_and_after('rest', soft)}, the second {before_and_after('rest', hard)}.",
        'The bias is set so that all ten digits together are recognised best, which takes images of "3"s: validation '
        'images, apart from the held-out ones. Without any bias, the area under the ROC curve of telling "3"s from the '
        f"rest is {numbers.of('area', soft).mean():.3f} for soft targets and {numbers.of('area', hard).mean():.3f} for "
        "hard labels: 1 is perfect, 0.5 is chance.",
        numbers.seeds,
    ]


def _diffusion(numbers: Numbers) -> list[str]:
    return [
        'Both students learned from the same pictures, which the teacher drew of all digits but "3". Asked for a "3", '
        f"the teacher draws one in {numbers.share('threes', 'teacher')} of cases, the student without random "
        f"conditioning in {numbers.share('threes', 'without')}, with it in {numbers.share('threes', 'with')}. Of the "
        f"other digits they draw {numbers.share('rest', 'teacher')}, {numbers.share('rest', 'without')} and "
        f"{numbers.share('rest', 'with')} as asked.",
        "A classifier trained on the real digits, which names "
        f"{numbers.share('real', 'judge')} of held-out real ones right, says what was drawn. The students share the "
        "teacher's text encoder, as in the paper. In the pictures a column starts from the same noise in all rows; "
        "they are the first ones, not chosen.",
        numbers.seeds,
    ]


def _swapped(numbers: Numbers) -> list[str]:
    image, condition = (numbers.by_t(verdict) for verdict in ("image", "condition"))
    difference, last = numbers.by_t("difference"), image.index[-1]
    found = [
        "The teacher draws an image, noise is added up to t, and the teacher denoises it from there under the text of "
        f"another image. Untouched (t = 0), {100 * image.iloc[0]:.0f}% of the images are named as what they were drawn "
        f"for; from t = {last}, {100 * image.iloc[-1]:.0f}% are named as that and {100 * condition.iloc[-1]:.0f}% as "
        f"what the condition asks for. With the samples' guidance, {_who_prevails(numbers, '')}.",
        "How far the teacher's predictions under the two texts differ, |e_c − e_c~|², a mean over elements and images, "
        f"is {difference.iloc[0]:.2g} at t = {difference.index[0]}, most at t = {difference.idxmax()} "
        f"({difference.max():.2g}), and {difference.iloc[-1]:.2g} at t = {difference.index[-1]}.",
        f"The dashed line is the paper's p(t), of share {PAPER.share:.2f} on Stable Diffusion v1.4's schedule, at "
        "the same noise levels here. "
        "Bands are 95% intervals over pairs (Wilson), and half of the pairs where differences are shown. In the strip "
        "of pictures the frame shows the verdict in the plot's colours.",
    ]
    plain = "no guidance"
    if (numbers.frame["model"] == plain).any():
        prevails = _who_prevails(numbers, plain)
        found.insert(1, f"Without guidance, as the loss of distillation sees the teacher: {prevails}.")
    return found


def _who_prevails(numbers: Numbers, model: str) -> str:
    image, condition, neither = (numbers.by_t(verdict, model) for verdict in ("image", "condition", "neither"))
    image_prevails = image.index[image >= condition]
    after = image.index[image.index > image_prevails.max()] if len(image_prevails) else image.index
    crossing = (
        f"from t = {after[0]} on the condition prevails more often than the image"
        if len(after)
        else "even at the last t the condition does not prevail more often than the image"
    )
    return f"{crossing}; neither is named most often at t = {neither.idxmax()} ({100 * neither.max():.0f}%)"


def _toy(numbers: Numbers) -> list[str]:
    variation = numbers.by_t("total_variation")
    below = variation.index[variation < 0.5]
    half = f"falls below a half at t = {below[0]}" if len(below) else "stays above a half"
    return [
        "Two densities in the plane, a ring and a cross, under Stable Diffusion's noise schedule. Their distance "
        f"(total variation: 1 if they share nothing, 0 if they are the same) is {variation.iloc[0]:.2f} at t = "
        f"{variation.index[0]}, {half}, and is {variation.iloc[-1]:.2f} at t = {variation.index[-1]}: the schedule "
        "does not quite end in pure noise.",
        "Where the two have become one, x_t made from one condition's image may be paired with the other condition.",
    ]


FIGURES: dict[str, tuple[str, Callable[[Numbers], list[str]]]] = {
    "digits-classifier": ('Figure 2, classifiers: recognising a "3" that was never seen', _classifier),
    "digits-diffusion": ('Figure 2, diffusion: drawing a "3" that was never seen', _diffusion),
    "swapped-condition": ("Figure 3: one image under another image's condition", _swapped),
    "toy": ("Figure 5: two conditional densities melt into one", _toy),
}


def _uri(path: Path) -> str:
    return f"data:image/{KINDS[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
