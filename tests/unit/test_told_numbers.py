"""Every number of the pages that say what came out is that of the score files which its link names."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from randcond.report.tables import METRICS
from randcond.settings.config import check_config
from randcond.worlds import emoji

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ADVICE = DOCS / "advice.md"
PAGES = (ADVICE, DOCS / "results.md", ROOT / "README.md")
# [2.05 ± 0.24](file "report: run, split, metric")
LINK = re.compile(r'\[([^\]]+)\]\((\S+)\s+"(\w+): ([\w-]+), ([\w ]+), (\w+)"\)')


def measured(report: str, run: str, split: str, metric: str) -> tuple[float, float]:
    """Mean over a run's seeds and the half width of its 95% interval: Student's t, or over images for one seed."""
    files = sorted((DOCS / report / "scores" / run).glob("*.json"))
    found = [json.loads(file.read_text())["splits"][split]["metrics"][metric] for file in files]
    values = [one["value"] for one in found]
    if len(values) == 1:
        return values[0], found[0]["error95"]
    return float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_numbers_are_those_of_their_rows(page: Path) -> None:
    found = LINK.findall(page.read_text())
    assert len(found) > 10
    for text, file, report, run, split, metric in found:
        check(text, (page.parent / file).resolve(), report, run, split, metric)


def check(text: str, file: Path, report: str, run: str, split: str, metric: str) -> None:
    where, (scale,) = f"{report}: {run}, {split}, {metric}", [one.scale for one in METRICS if one.key == metric]
    parts = re.fullmatch(r"([\d.]+) ± ([\d.]+)%?", text)
    assert parts, f"{where}: what is linked is a number with its interval"
    for said, found in zip(parts.groups(), measured(report, run, split, metric), strict=True):
        digits = len(said.partition(".")[2])
        assert said == f"{found * scale:.{digits}f}", where
    if file.suffix == ".csv":
        table = pd.read_csv(file)
        row = table[(table["run"] == run) & (table["split"] == split) & (table["metric"] == metric)].iloc[0]
        assert (row["measured"], row["error95"]) == pytest.approx(measured(report, run, split, metric)), where
    elif file.suffix == ".txt":
        assert file == DOCS / f"runs/{report}.txt" and text.rstrip("%") in file.read_text(), where
    else:
        assert file == DOCS / f"{report}/scores/{run}", where


def test_figure_3_is_that_of_its_data() -> None:
    """[77%](file "figure 3: guidance, t, verdict")."""
    told = re.findall(r'\[(\d+)%\]\((\S+) "figure 3: ([\d.]+), (\d+), (\w+)"\)', (DOCS / "results.md").read_text())
    assert len(told) == 24
    for said, file, guidance, t, verdict in told:
        data = pd.read_csv(DOCS / file).set_index(["guidance", "t", "verdict"])
        assert said == f"{100 * data.loc[(float(guidance), int(t), verdict), 'share']:.0f}"


def test_the_passes_over_d_are_those_of_the_settings() -> None:
    template = (DOCS.parent / "config/own_sd.yaml").read_text()
    settings, runs = yaml.safe_load(template), yaml.safe_load((DOCS.parent / "config/own_experiments.yaml").read_text())
    recipe, of_d = settings["distillation"], 1 - runs["runs"]["base"]["trajectories"]["share"]
    passes = recipe["steps"]["copied"] * recipe["batch"] * of_d / settings["prompts"]["count"]
    for text in (template, ADVICE.read_text()):
        assert f" {passes:g} passes over " in text
    # of 960 pairs those that show what is seen, in 3,000 steps of 32
    prompts = check_config({"world": "emoji"}).prompts.model_dump() | {"draw": 0}
    captions, _ = emoji.choose(prompts, emoji.evaluation(prompts), {})
    assert 3000 * 32 * of_d / (captions["split"] == "seen").sum() == pytest.approx(75, abs=2)


def test_no_result_stands_without_its_rows() -> None:
    linked = re.findall(r"\[([^\]]*\d[^\]]*)\]\(", ADVICE.read_text())
    assert linked == [text for text, *_ in LINK.findall(ADVICE.read_text())] and len(linked) > 25
    bare = re.sub(r"\[[^\]]+\]\([^)]*\)", "", ADVICE.read_text()).replace("95% interval", "")
    assert not re.findall(r"\d%|± \d|\d\.\d\d", bare)
