"""The report's tables: right numbers, and none where there is none."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_world import World, cell
from scipy import stats

from randcond.report import latex, tables


def test_table_cells_are_the_scores_and_the_papers_numbers(finished: World) -> None:
    frame = pd.read_csv(finished.folder / "report/tables/table2.csv")
    columns = "table row label run split metric paper measured error95 error_kind count seeds"
    assert " ".join(frame.columns) == columns
    assert len(frame) == 4 * 3 * 5
    for split in ("seen", "unseen", "all"):
        for metric in ("fid", "kid", "is", "clip", "named"):
            expected = finished.scores["seen-rc", 0]["splits"][split]["metrics"][metric]
            found = cell(frame, run="seen-rc", split=split, metric=metric)
            assert found["measured"] == pytest.approx(expected["value"], rel=1e-12)
            assert found["error95"] == pytest.approx(expected["error95"], rel=1e-12)
            assert found["error_kind"] == tables.OVER_IMAGES
            assert found["count"] == finished.scores["seen-rc", 0]["splits"][split]["count"]
    assert cell(frame, run="seen-rc", split="unseen", metric="fid")["paper"] == 24.71
    assert cell(frame, run="seen-rc", split="unseen", metric="clip")["paper"] == 0.2913
    assert cell(frame, run="seen-rc", split="all", metric="fid")["paper"] == 14.47
    assert math.isnan(cell(frame, run="seen-rc", split="all", metric="is")["paper"])
    assert math.isnan(cell(frame, run="seen-rc", split="unseen", metric="named")["paper"])
    assert math.isnan(cell(frame, run="base-plain", split="unseen", metric="fid")["paper"])


def test_rows_of_unequal_share_say_theirs(finished: World) -> None:
    frames = [pd.read_csv(finished.folder / f"report/tables/table{i}.csv") for i in (1, 2)]
    labels = frames[0].drop_duplicates("row").set_index("run")["label"]
    assert labels["seen-rc"] == "with random conditioning, share 0.20"
    assert labels["missing"] == "random weights, share 0.50"
    assert labels["base-plain"] == "plain, 50% & more_"
    assert not frames[1]["label"].str.contains("share").any()  # of one share alone
    assert "exponential, rate 5.0 (share 0.20)" in (finished.folder / "report/index.html").read_text()


def test_every_measured_number_leads_to_its_score_file(finished: World) -> None:
    page_text = (finished.folder / "report/index.html").read_text()
    linked = set(re.findall(r'href="(scores/[^"]+)"', page_text))
    assert linked == {f"scores/{run}/{seed}.json" for run, seed in finished.scores}
    for name in linked:
        copied = json.loads((finished.folder / "report" / name).read_text())
        assert copied == finished.scores[copied["run"], copied["seed"]]


def test_what_was_not_run_says_so(finished: World) -> None:
    frame = pd.read_csv(finished.folder / "report/tables/table1.csv", keep_default_na=False)
    for row in ("4", "6"):
        found = cell(frame, row=row, metric="fid")
        assert (found["measured"], found["error_kind"], found["count"]) == ("", "not run", "")
    text = (finished.folder / "report/index.html").read_text()
    assert text.count('missing">not run</td>') >= 6
    assert cell(frame, row="6", metric="fid")["run"] == ""  # the paper's alone: a dash, not a run that failed
    assert (
        r" & not run & not run & not run & not run & not run & 0 \\"
        in (finished.folder / "report/tables/table1.tex").read_text()
    )


def test_seeds_give_mean_and_students_interval(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    del world.scores["base-plain", 1], world.scores["base-plain", 2]
    frame = pd.read_csv(world.build() / "tables/table1.csv")
    values = [world.scores["seen-rc", seed]["splits"]["all"]["metrics"]["fid"]["value"] for seed in (0, 1, 2)]
    low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    found = cell(frame, run="seen-rc", metric="fid")
    assert found["measured"] == pytest.approx(np.mean(values))
    assert found["error95"] == pytest.approx((high - low) / 2)
    assert (found["error_kind"], found["seeds"]) == (tables.OVER_SEEDS, 3)
    assert cell(frame, run="base-plain", metric="fid")["error_kind"] == tables.OVER_IMAGES
    text = (tmp_path / "report/index.html").read_text()
    assert "With several seeds: mean ± half width" in text
    assert f"{np.mean(values):.2f} ± {(high - low) / 2:.2f}" in text


def test_a_world_that_names_nothing_has_no_such_column(world: World) -> None:
    for score in world.scores.values():
        for split in score["splits"].values():
            del split["metrics"]["named"]
    text = (world.build() / "index.html").read_text()
    assert "named right" not in text and "Named right" not in text


def test_order_of_rows_is_compared_with_the_papers() -> None:
    def line(run: str, paper: float, value: float) -> tables.Line:
        measured = {"fid": tables.Measured(value, 1.0, tables.OVER_IMAGES)}
        return tables.Line("1", run, run, {"fid": paper}, measured, [], "")

    lines = [line("a", 10, 1), line("b", 20, 5), line("c", 30, 5.5), line("d", 40, 0.5), line("a", 50, 1)]
    (found,) = tables.agreements(lines)
    # a-b and a-c agree; b-d, c-d, and both against the second a are reversed; the rest differ by less than the interval
    assert (found.pairs, found.same, found.reversed, found.undecided) == (9, 2, 4, 3)


def test_latex_is_escaped_and_has_equal_columns(finished: World) -> None:
    assert latex.escape(r"50% & a_b {x} $1 #2 ~^\ <>") == (
        r"50\% \& a\_b \{x\} \$1 \#2 \textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}\textgreater{}"
    )
    text = (finished.folder / "report/tables/table1.tex").read_text()
    assert r"plain, 50\% \& more\_ & 18.15 & 33.81 & 0.2864 & " in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {9}
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 1


def test_a_table_the_paper_says_nothing_of_has_no_paper_columns(world: World) -> None:
    for row in world.settings["tables"]["table1"]["rows"]:
        row["paper"] = None
    output = world.build()
    assert r"\multicolumn{5}{c}{measured (emoji world)}" in (output / "tables/table1.tex").read_text()
    assert "SD v1.4" not in (output / "tables/table1.tex").read_text()
    assert (output / "index.html").read_text().count("paper (SD v1.4, COCO)") == 3
