"""The report's plots and sample grids."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_world import RUNS, World, cell, score_dict

from randcond.jobs.errors import UserError
from randcond.method.curve import Sensitivity
from randcond.report import checking, figures, grids, inputs, score_files


def test_single_trainings_are_drawn_hollow(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    del world.scores["base-plain", 1], world.scores["base-plain", 2]
    svg = (world.build() / "figures/figure7.svg").read_text()
    assert svg.count("fill: #ffffff; stroke: #1f77b4") >= 5  # one in each panel
    assert "fill: #ffffff; stroke: #ff7f0e" not in svg


def test_size_curves_hold_the_scores(finished: World) -> None:
    frame = pd.read_csv(finished.folder / "report/figures/figure7.csv")
    assert set(frame["run"]) == {"base-plain", "seen-rc"}
    assert set(frame["size"]) == {960}
    row = frame[(frame["run"] == "seen-rc") & (frame["metric"] == "kid")].iloc[0]
    assert row["value"] == finished.scores["seen-rc", 0]["splits"]["all"]["metrics"]["kid"]["value"]


def test_raw_weights_are_dashed(tmp_path: Path) -> None:
    def dashes(*kinds: str) -> int:
        scores = {weights: checking.parse(score_files.Score, score_dict(weights, 0), weights) for weights in kinds}
        points = {("a", step, weights): [score] for weights, score in scores.items() for step in (100, 200)}
        svg = figures.step_curves("along", points, "all", tmp_path)
        assert ("a, raw weights" in svg) == ("raw" in kinds) and "a, moving average" in svg
        return len(re.findall(r"stroke-dasharray: 5\.92", svg))

    assert dashes("ema") == 0
    assert dashes("ema", "raw") == 5 + 1  # a line in each panel, and in the legend


def test_the_papers_30k_captions_stand_for_all(finished: World) -> None:
    frame = pd.read_csv(finished.folder / "report/tables/table1.csv")
    assert cell(frame, run="base-plain", metric="fid")["paper"] == 18.15
    assert cell(frame, row="6", metric="is")["paper"] == 36.14


def test_grid_rows_are_evenly_spread_and_come_from_the_right_shard(finished: World) -> None:
    prompts = inputs.read_prompts(finished.prompts)
    rows = grids.chosen_rows(prompts, "unseen", 4)
    assert rows == [1, 5, 7, 11]
    assert grids.chosen_rows(prompts, "all", 100) == list(range(12))
    samples = grids.shards(finished.samples)
    assert [image.getpixel((0, 0)) for image in grids.read_samples(samples["teacher", 0], rows)] == [
        (row * 20, 10, 0) for row in rows
    ]
    with Image.open(finished.folder / "report/figures/samples-1-unseen.png") as picture:
        assert picture.getpixel((grids.LABEL + 3, 3)) == (20, 10, 0)


def test_probability_data_is_the_papers_exponential(finished: World) -> None:
    frame = pd.read_csv(finished.folder / "report/figures/probability.csv")
    curve = frame[frame["setting"] == "exponential, rate 5.0"]
    np.testing.assert_allclose(curve["probability"], np.exp(-5 * (1 - np.arange(1000) / 1000)), rtol=1e-5)
    assert set(frame["setting"]) == {"exponential, rate 5.0", "constant, p 0.5"}


def test_a_training_loss_stands_in_the_panel_of_its_table(finished: World) -> None:
    svg = (finished.folder / "report/figures/loss.svg").read_text()
    panels = [re.findall(r"<!-- (.*?) -->", panel) for panel in re.split(r'<g id="axes_\d+">', svg)[1:]]
    runs = [{text for text in texts if text in RUNS} for texts in panels]
    titles = [next(t for t in texts if t in ("Table 1", "Table 2", "Size of D", "other runs")) for texts in panels]
    found = dict(zip(titles, runs, strict=True))
    assert found["Table 1"] == {"base-plain", "seen-rc"} == found["Size of D"]
    assert found["Table 2"] == {"base-plain", "seen-plain", "seen-rc"}
    assert found["other runs"] == {"untabled"} and len(found) == 4


def test_titles_and_labels_are_texts_and_nothing_else(world: World) -> None:
    world.settings["tables"]["table1"]["title"] = "$\\foo$ and \x00\u202emore"
    world.settings["tables"]["table1"]["rows"][0]["label"] = "5 $\\bar\x07 \u2067$\u200f of\ud800 it"
    world.settings["series"]["figure7"]["lines"][0]["label"] = "$\\frac$\x00"
    world.settings["claims"][0]["text"] = "It \u202ehelps"
    world.scores["seen-rc", 0]["protocol"]["scheduler"] = "PNDM\u202e\x1b"
    output = world.build()
    files = [path for path in output.rglob("*") if path.suffix in (".html", ".tex", ".csv", ".svg")]
    texts = {path.name: path.read_text() for path in files}
    assert {"index.html", "table1.tex", "table1.csv", "claims.csv", "loss.svg", "figure7.svg"} <= texts.keys()
    assert "$\\foo$ and" in texts["index.html"] and r"5 \$\textbackslash{}bar" in texts["table1.tex"]
    for name, text in texts.items():
        assert not re.search("[\x00-\x08\x1b\u200f\u202e\u2067]", text), name


def test_a_measured_p_is_shown_beside_the_exponential(tmp_path: Path) -> None:
    world = World(tmp_path, [0])
    measured = RUNS["seen-rc"] | {"random_conditioning": {"kind": "measured", "share": 0.35}}
    world.settings["runs"] = RUNS | {"seen-rc": measured}
    with pytest.raises(UserError, match="measured needs the curve"):
        world.build()
    curve = Sensitivity(np.array([-5.0, 0.0, 5.0]), np.array([[[1.0, 9.0, 90.0]], [[2.0, 12.0, 80.0]]]))
    world.curve = tmp_path / "curve.json"
    world.curve.write_text(json.dumps(curve.record()))
    report = world.build()
    rows = pd.read_csv(report / "figures/measured.csv")
    assert len(rows) == 1000
    assert rows[["probability", "exponential"]].mean().tolist() == pytest.approx([0.35, 0.35], abs=1e-5)
    drawn = pd.read_csv(report / "figures/probability.csv").groupby("setting")["probability"]
    assert drawn.get_group("measured, share 0.35").tolist() == pytest.approx(rows["probability"].tolist(), abs=2e-6)
    page = (report / "index.html").read_text()
    assert "Measured from the teacher" in page and (report / "figures/measured.svg").exists()


def test_a_run_that_was_not_made_needs_no_curve(tmp_path: Path) -> None:
    world = World(tmp_path, [0])
    measured = RUNS["seen-rc"] | {"random_conditioning": {"kind": "measured", "share": 0.35}}
    world.settings["runs"] = RUNS | {"missing": measured}  # of a grid of which only a part is made
    drawn = pd.read_csv(world.build() / "figures/probability.csv")
    assert set(drawn["setting"]) == {"exponential, rate 5.0"}


def test_tables_whose_titles_begin_alike_have_a_panel_each(tmp_path: Path) -> None:
    world = World(tmp_path, [0])
    for name in ("table1", "table2"):
        world.settings["tables"][name]["title"] = f"Beyond: {name}"
    svg = (world.build() / "figures/loss.svg").read_text()
    assert {"Beyond: table1", "Beyond: table2"} <= set(re.findall(r"<!-- (.*?) -->", svg))


def test_without_a_measured_p_nothing_of_it_is_shown(finished: World) -> None:
    assert "Measured from the teacher" not in (finished.folder / "report/index.html").read_text()
    assert not list((finished.folder / "report/figures").glob("measured.*"))


@pytest.mark.parametrize("size", [28, 32, 64, 96, 256])
def test_a_picture_is_as_wide_as_a_captions_words(size: int) -> None:
    row = grids.GridRow("teacher", 0, [Image.new("RGB", (size, size))])
    picture = grids.draw(grids.FilledGrid("Animals", "all", "samples.png", ["backgrounds"], [row]))
    assert picture.width - grids.LABEL - 6 >= grids.CELL
