"""The figures' folders, and what the report makes of them."""

import json
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError

from randcond.figures.output import FigureScore, write_figure
from randcond.jobs.errors import UserError
from randcond.report import Files, build, paper_figures, shown
from randcond.report.__main__ import parser

SETTINGS = shown.Settings(title="T", world="emoji", name="emoji", seeds=[0], runs={}, tables={})


def scores(*rows: tuple[str, str, float], seeds: int = 1, t: int | None = None) -> list[FigureScore]:
    return [
        FigureScore(seed=seed, model=model, metric=metric, value=value + 0.1 * seed, count=10, t=t)
        for seed in range(seeds)
        for model, metric, value in rows
    ]


def write(folder: Path, measured: list[FigureScore]) -> Path:
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    data = pd.DataFrame({"a": [1.5]})
    write_figure(folder, {"figure.svg": figure, "more.png": figure}, {"data.csv": data}, measured, {"temperature": 4.0})
    return folder


DIFFUSION = [
    *((model, metric, 0.5) for model in ("teacher", "without") for metric in ("threes", "rest")),
    *(("with", "threes", 0.7), ("with", "rest", 0.6), ("judge", "real", 0.4)),
]
SWAPPED = [
    one
    for t, image, condition in ((0, 0.9, 0.0), (501, 0.3, 0.2), (601, 0.2, 0.4), (951, 0.0, 0.8))
    for one in scores(
        *(("", "image", image), ("", "condition", condition), ("", "neither", 1 - image - condition)),
        *(("no guidance", "image", image), ("no guidance", "condition", condition / 2)),
        *(("no guidance", "neither", 1 - image - condition / 2), ("", "difference", (1 + t) / 100)),
        t=t,
    )
]
TOY = [one for t, value in ((0, 1.0), (500, 0.6), (900, 0.25), (999, 0.05))
       for one in scores(("", "total_variation", value), t=t)]  # fmt: skip
STUDENTS = ("soft targets", "soft targets, bias adjusted", "hard labels", "hard labels, bias adjusted")
CLASSIFIER = [
    *(("teacher", "threes", 0.96), ("soft targets", "bias_added", 3.5)),
    *((model, "threes", 0.1 + 0.2 * i) for i, model in enumerate(STUDENTS)),
    *((model, "rest", 0.9 + 0.02 * i) for i, model in enumerate(STUDENTS)),
    *(("soft targets", "area", 0.987), ("hard labels", "area", 0.834)),
]


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [
        write(tmp_path / "toy", TOY),
        write(tmp_path / "swapped-condition", SWAPPED),
        write(tmp_path / "digits-diffusion", scores(*DIFFUSION, seeds=3)),
        write(tmp_path / "digits-classifier", scores(*CLASSIFIER)),
    ]


def test_folder_holds_pictures_data_and_numbers(folders: list[Path]) -> None:
    assert {path.name for path in folders[0].iterdir()} == {"figure.svg", "more.png", "data.csv", "scores.json"}
    assert (folders[0] / "data.csv").read_text() == "a\n1.5\n"
    first = {path.name: path.read_bytes() for path in folders[0].iterdir()}
    write(folders[0], TOY)
    assert {path.name: path.read_bytes() for path in folders[0].iterdir()} == first


@pytest.mark.parametrize("bad", [{"value": float("nan")}, {"count": 0}, {"seed": -1}, {"share": 1.0}])
def test_scores_that_mean_nothing_are_refused(bad: dict) -> None:
    with pytest.raises(ValidationError):
        FigureScore(**{"seed": 0, "metric": "threes", "value": 0.5, "count": 3} | bad)


def test_figures_come_in_the_papers_order_with_their_pictures(folders: list[Path]) -> None:
    found = paper_figures.read(folders)
    assert [figure.name for figure in found] == ["digits-classifier", "digits-diffusion", "swapped-condition", "toy"]
    for figure in found:
        assert [picture.split(";")[0] for picture in figure.pictures] == ["data:image/svg+xml", "data:image/png"]
    assert paper_figures.read(folders[:1])[0].name == "toy"
    assert paper_figures.read([]) == []


def test_captions_say_what_was_measured(folders: list[Path]) -> None:
    classifier, diffusion, swapped, toy = (" ".join(figure.caption) for figure in paper_figures.read(folders))
    assert "conditioning in 60% (50 to 70), with it in 80% (70 to 90)" in diffusion
    assert "Means over 3 seeds, in brackets the smallest and the largest." in diffusion
    assert "(temperature 4) 10% before and 30% after (+3.5 on average)" in classifier
    assert "recognises 90% before and 92% after" in classifier and "One seed." in classifier
    assert "is 0.987 for soft targets and 0.834 for hard labels" in classifier
    assert "90% of the images are named" in swapped and "from t = 951, 0% are named as that and 80%" in swapped
    with_guidance, without = swapped.split("Without guidance")
    assert "With the samples' guidance, from t = 601 on the condition prevails" in with_guidance
    assert "named most often at t = 501 (50%)" in with_guidance
    assert "from t = 951 on the condition prevails" in without and "most often at t = 601 (60%)" in without
    assert "is 0.01 at t = 0, most at t = 951 (9.5), and 9.5 at t = 951" in without
    assert "falls below a half at t = 900" in toy and "is 0.05 at t = 999" in toy


def test_condition_that_never_prevails(tmp_path: Path) -> None:
    only = [one for one in SWAPPED if one.t in (0, 501)]
    (figure,) = paper_figures.read([write(tmp_path / "swapped-condition", only)])
    assert "even at the last t the condition does not prevail" in " ".join(figure.caption)


def test_page_shows_them(folders: list[Path], tmp_path: Path) -> None:
    build(SETTINGS, Files(figures=folders), tmp_path / "report")
    text = (tmp_path / "report/index.html").read_text()
    for figure in paper_figures.read(folders):
        assert all(picture in text for picture in figure.pictures)
        assert f'id="figure-{figure.name}"' in text
    assert "These figures were not made." not in text


def test_page_without_them_says_so(tmp_path: Path) -> None:
    build(SETTINGS, Files(), tmp_path / "report")
    assert "These figures were not made." in (tmp_path / "report/index.html").read_text()


def spoil(folder: Path, how: str) -> None:
    file = folder / "scores.json"
    if how == "no scores":
        file.unlink()
    elif how == "broken":
        file.write_text("{")
    elif how == "no number":
        file.write_text(file.read_text().replace('"value": 0.05', '"value": NaN'))
    elif how == "lacks one":
        kept = json.loads(file.read_text())
        kept["scores"] = [score | {"metric": "other"} for score in kept["scores"]]
        file.write_text(json.dumps(kept))
    elif how == "no picture":
        for name in ("figure.svg", "more.png"):
            (folder / name).unlink()


@pytest.mark.parametrize("how", ["no scores", "broken", "no number", "lacks one", "no picture"])
def test_what_is_broken_is_one_line_that_names_it(folders: list[Path], how: str) -> None:
    spoil(folders[0], how)
    with pytest.raises(UserError, match="toy") as caught:
        paper_figures.read(folders)
    assert "\n" not in str(caught.value)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sketches: no figure of the paper; known are digits-classifier"):
        paper_figures.read([tmp_path / "sketches"])


def test_command_line() -> None:
    arguments = parser().parse_args(["--settings", "{}", "--output", "o", "--figures", "a", "b"])
    assert arguments.figures == [Path("a"), Path("b")]
