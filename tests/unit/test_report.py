"""The report: right numbers, none where there is none, and a page that holds together."""

import copy
import html.parser
import io
import json
import math
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from randcond.claims import Claim, Finding, Verdict
from randcond.errors import UserError
from randcond.figures.output import FigureScore, FigureScores
from randcond.report import (
    PAPER_RESULTS,
    Files,
    build,
    grids,
    inputs,
    latex,
    ledger,
    machine,
    page,
    tables,
)
from randcond.report.__main__ import parser

NASTY = '<script>alert("x")</script> & \u202eleft\u202c "שלום" \'s'
RUNS = {
    "base-plain": {"student": "b-base", "init": "copied", "prompts": "captions", "rows": "all", "images": "rendered"},
    "seen-plain": {"student": "b-base", "init": "copied", "prompts": "captions", "rows": "seen", "images": "rendered"},
    "seen-rc": {
        "student": "b-base",
        "init": "copied",
        "prompts": "captions",
        "rows": "seen",
        "images": "rendered",
        "random_conditioning": {"kind": "exponential", "rate": 5.0},
        "texts": ["unseen", "pool"],
    },
    "missing": {"student": "c-base", "random_conditioning": {"kind": "constant", "p": 0.5}},
    "untabled": {"student": "b-base", "size": 60},
}


def settings_dict(seeds: list[int]) -> dict:
    def row(run: str | None, paper_row: str | None, label: str, table: str) -> dict:
        return {"run": run, "label": label, "paper": {"table": table, "row": paper_row} if paper_row else None}

    return {
        "title": "Emoji report",
        "world": "emoji",
        "name": "emoji",
        "seeds": seeds,
        "runs": RUNS,
        "tables": {
            "table1": {
                "title": "Table 1: ablation",
                "rows": [
                    row("base-plain", "2", "plain, 50% & more_", "table1"),
                    row("seen-rc", "5", "with random conditioning", "table1"),
                    row("missing", "4", "random weights", "table1"),
                    row(None, "6", "with real images", "table1"),
                ],
                "splits": ["all"],
            },
            "table2": {
                "title": "Table 2: unseen concepts",
                "rows": [
                    row("teacher", "teacher", "teacher", "table2"),
                    row("seen-plain", "1", "plain", "table2"),
                    row("seen-rc", "3", "texts of animals and the pool", "table2"),
                    row("base-plain", None, "not in the paper", "table2"),
                ],
                "splits": ["seen", "unseen", "all"],
            },
        },
        "grids": [{"title": "Animals", "split": "unseen", "runs": ["teacher", "seen-rc", "missing"], "count": 4}],
        "series": {
            "figure7": {
                "title": "Size of D",
                "split": "all",
                "lines": [
                    {"label": "without", "runs": ["missing", "base-plain"]},
                    {"label": "with", "runs": ["seen-rc"]},
                ],
            }
        },
        "claims": [
            {
                "text": "Swapping <b>helps</b>",
                "source": "table 1",
                "better": "seen-rc",
                "than": "base-plain",
                "metrics": ["fid", "named"],
            },
            {"text": "Missing", "source": "table 9", "better": "missing", "than": "base-plain", "metrics": ["is"]},
            {
                "text": "A figure that was not made",
                "source": "figure 3",
                "better": "condition",
                "than": "image",
                "metrics": ["share"],
                "figure": "swapped-condition",
                "near_t": 50,
            },
        ],
        "count": 960,
        "settings": {"teacher": {"path": "<b>weights</b>", "steps": 25}},
    }


def score_dict(run: str, seed: int) -> dict:
    random = np.random.default_rng([len(run), seed, *run.encode()])
    splits = {}
    for split, count in {"all": 90, "seen": 60, "unseen": 30}.items():
        values = {"fid": 5 + 20 * random.random(), "kid": 0.002 * random.random(), "is": 10 + random.random()}
        values |= {"clip": 0.2 + 0.1 * random.random(), "named": random.random()}
        metrics = {key: {"value": value, "error95": 0.1 * value} for key, value in values.items()}
        splits[split] = {"count": count, "reference_count": 300, "metrics": metrics}
    return {
        "run": run,
        "seed": seed,
        "world": "emoji",
        "name": "emoji",
        "unet_parameters": 1_234_567,
        "unet_sha256": "0" * 64,
        "protocol": {"steps": 25, "guidance_scale": 4.0, "weights": "teacher" if run == "teacher" else "ema"},
        "splits": splits,
    }


class World:
    """A finished small pipeline in a folder."""

    def __init__(self, folder: Path, seeds: list[int]) -> None:
        self.folder, self.settings = folder, settings_dict(seeds)
        self.scores = {(run, seed): score_dict(run, seed) for run in (*RUNS, "teacher") for seed in seeds}
        self.scores = {key: score for key, score in self.scores.items() if key[0] != "missing"}
        self.histories: list[Path] = []
        self.samples: list[Path] = []
        self.benchmarks: list[Path] = []
        texts = [f"a tiger {i} on a blue background" for i in range(11)] + [NASTY]
        frame = {"id": range(12), "text": texts, "split": ["seen", "unseen"] * 6, "source": ["captions"] * 12}
        self.prompts = folder / "prompts.parquet"
        pd.DataFrame(frame).to_parquet(self.prompts)
        for run, seed in self.scores:
            self._history(run, seed)
            self._samples(run, seed)
        for rule, name, text in (
            ("train", "a", "s\th:m:s\tmax_rss\n100.5\t0:01:40\t2000.25\n"),
            ("train", "b/0", "s\th:m:s\tmax_rss\n50\t0:00:50\t900\n"),
            ("score", "a", "s\th:m:s\tmax_rss\n0.1\t0:00:00\t-\n"),
        ):
            self.benchmarks.append(folder / f"results/emoji/benchmarks/{rule}/{name}.tsv")
            self.benchmarks[-1].parent.mkdir(parents=True, exist_ok=True)
            self.benchmarks[-1].write_text(text)
        self.llm = folder / "llm.json"
        summary = {"model": "SmolLM2", "asked": 200, "accepted": 90, "duplicates": 40, "filtered": 70, "pool": 5000}
        self.llm.write_text(json.dumps({**summary, "acceptance_rate": 0.45, "examples": [NASTY, "a sword"]}))

    def _history(self, run: str, seed: int) -> None:
        path = self.folder / f"students/{run}/{seed}/history.json"
        path.parent.mkdir(parents=True)
        entries = [{"step": i, "loss": 9 / i, "out": 5 / i, "feat": 4 / i} for i in range(20, 201, 20)]
        path.write_text(json.dumps(entries))
        self.histories.append(path)

    def _samples(self, run: str, seed: int) -> None:
        for shard in range(2):
            path = self.folder / f"samples/{run}/{seed}/{shard:03d}.zip"
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(path, "w") as file:
                for row in range(shard * 6, shard * 6 + 6):
                    buffer = io.BytesIO()
                    Image.new("RGB", (32, 32), (row * 20, 10, 10 * seed)).save(buffer, "PNG")
                    file.writestr(f"{row:05d}.png", buffer.getvalue())
            self.samples.append(path)

    def score_files(self) -> list[Path]:
        paths = []
        for (run, seed), score in self.scores.items():
            path = self.folder / f"scores/{run}/{seed}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(score))
            paths.append(path)
        return paths

    def build(self) -> Path:
        files = Files(self.score_files(), self.histories, self.samples, self.prompts, self.llm, self.benchmarks)
        output = self.folder / "report"
        build(inputs.read_settings(json.dumps(self.settings)), files, output)
        return output


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, [0])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A report that tests may read but not change."""
    world = World(tmp_path_factory.mktemp("report"), [0])
    world.build()
    return world


def cell(frame: pd.DataFrame, **where: str) -> pd.Series:
    for column, value in where.items():
        frame = frame[frame[column].astype(str) == value]
    assert len(frame) == 1
    return frame.iloc[0]


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


def test_every_measured_number_leads_to_its_score_file(finished: World) -> None:
    page_text = (finished.folder / "report/index.html").read_text()
    linked = set(re.findall(r'href="(scores/[^"]+)"', page_text))
    assert linked == {f"scores/{run}/{seed}.json" for run, seed in finished.scores}
    for name in linked:
        copied = json.loads((finished.folder / "report" / name).read_text())
        assert copied == finished.scores[copied["run"], copied["seed"]]


def test_claims_have_verdicts_from_the_scores(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    for (run, seed), score in world.scores.items():
        values = {"fid": 5.0, "named": 0.9} if run == "seen-rc" else {"fid": 9.0, "named": 0.4}
        for metric, value in values.items():
            score["splits"]["all"]["metrics"][metric]["value"] = value + seed / 1000
    report = world.build()
    frame = pd.read_csv(report / "tables/claims.csv")
    assert frame["verdict"].tolist() == ["reproduced", "reproduced", "not run", "not run"]
    assert frame["claim_verdict"].tolist() == ["reproduced", "reproduced", "not run", "not run"]
    assert frame["gain"].tolist()[:2] == pytest.approx([4.0, 0.5])
    assert frame["needed"].tolist()[:2] == [0, 0] and math.isnan(frame["needed"][2])
    text = (report / "index.html").read_text()
    assert "Of 3 claims: 1 reproduced, 2 not run. Of their 4 comparisons: 2 reproduced, 2 not run." in text
    assert "Swapping &lt;b&gt;helps&lt;/b&gt;" in text


def test_a_claim_by_several_metrics_has_one_verdict() -> None:
    claim = Claim(text="x", source="y", better="a", than="b", metrics=["fid", "is", "clip"])

    def tested(*verdicts: Verdict) -> Verdict:
        found = [Finding("fid", 1.0, 0.0, None, None, [0], verdict) for verdict in verdicts]
        return ledger.Tested(claim, [ledger.Entry(claim, tables.METRICS[0], one) for one in found]).verdict

    assert tested("reproduced", "reproduced") == "reproduced"
    assert tested("reproduced", "undecided") == "undecided"
    assert tested("reproduced", "undecided", "not reproduced") == "not reproduced"
    assert tested("not run", "not run") == "not run"
    assert tested("reproduced", "not run") == "undecided"


def test_who_has_hardly_learned_decides_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, [0, 1, 2])
    for (run, seed), score in world.scores.items():
        metrics = score["splits"]["all"]["metrics"]
        metrics["fid"]["value"] = (5.0 if run == "seen-rc" else 9.0) + seed / 1000
        metrics["named"]["value"] = {"teacher": 0.9, "seen-rc": 0.22}.get(run, 0.5)
    report = world.build()
    frame = pd.read_csv(report / "tables/claims.csv", keep_default_na=False)
    assert frame["verdict"].tolist() == ["undecided", "undecided", "not run", "not run"]
    assert frame["hardly_learned"].tolist() == ["seen-rc", "seen-rc", "", ""]
    assert "hardly learned: seen-rc" in (report / "index.html").read_text()
    for (run, _), score in world.scores.items():
        score["splits"]["all"]["metrics"]["named"]["value"] = {"teacher": 0.9, "base-plain": 0.1}.get(run, 0.5)
    # that the other has not learned may be what the claim says
    assert pd.read_csv(world.build() / "tables/claims.csv")["verdict"][0] == "reproduced"
    # but to be as good as a student that has not learned says nothing
    world.settings["claims"][0]["as_good"] = True
    assert pd.read_csv(world.build() / "tables/claims.csv")["hardly_learned"][0] == "base-plain"


def test_a_claim_compares_the_same_prompts(world: World) -> None:
    splits, plain = (world.scores[run, 0]["splits"] for run in ("seen-rc", "base-plain"))
    splits["coco30k"] = copy.deepcopy(splits["all"])
    plain["coco30k"] = plain.pop("all")  # as where no table shows more than the benchmark
    splits["coco30k"]["metrics"]["fid"]["value"] = plain["coco30k"]["metrics"]["fid"]["value"] - 1.5
    world.settings["tables"] = {"table2": world.settings["tables"]["table2"] | {"splits": ["unseen"]}}
    world.settings["series"] = {}
    frame = pd.read_csv(world.build() / "tables/claims.csv")
    assert frame["split"][0] == "coco30k"
    assert frame["gain"][0] == pytest.approx(1.5)
    splits["coco30k"]["count"] -= 1
    with pytest.raises(UserError, match=r"coco30k: not as many samples .* seen-rc on \[\(89, 300\)\]"):
        world.build()


def test_claims_on_figures_are_judged_from_their_shares() -> None:
    shares = {("condition", 51): 0.1, ("image", 51): 0.3, ("condition", 951): 0.9, ("image", 951): 0.0}
    measured = FigureScores(
        settings={},
        scores=[
            FigureScore(seed=seed, t=t, metric=metric, value=value + seed / 100, count=32)
            for (metric, t), value in shares.items()
            for seed in range(3)
        ],
    )
    threes = [FigureScore(seed=s, model="with", metric="threes", value=0.5, count=9) for s in range(3)]
    figures = {"swapped-condition": measured, "digits-diffusion": FigureScores(settings={}, scores=threes)}
    base = {"text": "x", "source": "y", "figure": "swapped-condition", "metrics": ["share"]}
    late = Claim.model_validate(base | {"better": "condition", "than": "image", "near_t": 999})
    early = Claim.model_validate(base | {"better": "condition", "than": "image", "near_t": 0})
    names = {"figure": "digits-diffusion", "better": "threes, with", "than": "threes, with"}
    model = Claim.model_validate(base | names)
    found = [one.entries[0] for one in ledger.judged([late, early, model], {}, figures)]
    assert [entry.finding.verdict for entry in found] == ["reproduced", "not reproduced", "undecided"]
    assert [entry.where for entry in found] == ["t = 951", "t = 51", "–"]
    assert found[0].finding.effect == pytest.approx(0.9)
    assert ledger.judged([late], {}, {})[0].verdict == "not run"
    for wrong, said in (
        (late.model_copy(update={"near_t": None}), "has timesteps"),
        (model.model_copy(update={"near_t": 5}), "has no timesteps"),
        (model.model_copy(update={"than": "threes, wth"}), "measures no 'threes, wth'; it has threes, with"),
    ):
        with pytest.raises(UserError, match=said):
            ledger.judged([wrong], {}, figures)


def test_the_benchmarks_captions_stand_for_all(finished: World) -> None:
    scores = inputs.read_scores(finished.score_files(), inputs.Settings.model_validate(finished.settings))
    score = scores["seen-rc"][0]
    expected = score.splits["all"].metrics.fid.value
    score.splits["coco30k"] = score.splits.pop("all")
    assert ledger.values([score], "all", "fid") == {0: expected}
    assert ledger.values([score], "unseen", "fid") == {0: score.splits["unseen"].metrics.fid.value}


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


def test_the_papers_30k_captions_stand_for_all(finished: World) -> None:
    frame = pd.read_csv(finished.folder / "report/tables/table1.csv")
    assert cell(frame, run="base-plain", metric="fid")["paper"] == 18.15
    assert cell(frame, row="6", metric="is")["paper"] == 36.14


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


def test_nothing_run_at_all_still_makes_a_report(tmp_path: Path) -> None:
    settings = inputs.Settings.model_validate({**settings_dict([0]), "grids": []})
    build(settings, Files(), tmp_path / "report")
    text = (tmp_path / "report/index.html").read_text()
    assert "Nothing of this table was run." in text
    assert "No run was trained." in text


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "12", None, True])
def test_what_is_no_finite_number_is_refused(world: World, bad: object) -> None:
    world.scores["seen-rc", 0]["splits"]["seen"]["metrics"]["clip"]["value"] = bad
    with pytest.raises(UserError, match=r"scores/seen-rc/0\.json: splits\.seen\.metrics\.clip\.value"):
        world.build()
    assert not (world.folder / "report").exists()


def test_nan_in_the_protocol_is_refused(world: World) -> None:
    world.scores["seen-rc", 0]["protocol"]["scheduler"] = {"eta": float("nan")}
    with pytest.raises(UserError, match=r"seen-rc/0\.json.*not finite"):
        world.build()


@pytest.mark.parametrize("path", ["kid", "named", "fid.error95"])
def test_missing_keys_are_refused(world: World, path: str) -> None:
    metrics = world.scores["seen-rc", 0]["splits"]["all"]["metrics"]
    *parents, last = path.split(".")
    for key in parents:
        metrics = metrics[key]
    del metrics[last]
    with pytest.raises(UserError, match=r"scores/seen-rc/0\.json"):
        world.build()


@pytest.mark.parametrize("key", ["count", "reference_count"])
def test_differing_counts_are_refused(world: World, key: str) -> None:
    world.scores["seen-rc", 0]["splits"]["unseen"][key] += 1
    with pytest.raises(UserError, match=rf"seen-rc/0\.json: splits\.unseen\.{key} is .* table2"):
        world.build()


def test_scores_of_another_world_are_refused(world: World) -> None:
    world.scores["seen-rc", 0]["name"] = "smoke"
    with pytest.raises(UserError, match=r"seen-rc/0\.json: scores of emoji/smoke"):
        world.build()


def test_scores_given_twice_are_refused(world: World) -> None:
    world.scores["copy", 0] = copy.deepcopy(world.scores["seen-rc", 0])
    with pytest.raises(UserError, match="seed 0 is also in"):
        world.build()


def test_a_row_that_the_paper_does_not_have_is_refused(world: World) -> None:
    world.settings["tables"]["table1"]["rows"][0]["paper"]["row"] = "9"
    with pytest.raises(UserError, match="table1 row 9 is not in"):
        world.build()


def test_a_split_without_scores_is_refused(world: World) -> None:
    del world.scores["teacher", 0]["splits"]["unseen"]
    with pytest.raises(UserError, match=r"teacher/0\.json: splits\.unseen is missing, which table2 shows"):
        world.build()


def test_a_world_that_names_nothing_has_no_such_column(world: World) -> None:
    for score in world.scores.values():
        for split in score["splits"].values():
            del split["metrics"]["named"]
    text = (world.build() / "index.html").read_text()
    assert "named right" not in text and "Named right" not in text


def test_order_of_rows_is_compared_with_the_papers() -> None:
    def line(run: str, paper: float, value: float) -> tables.Line:
        measured = {"fid": tables.Measured(value, 1.0, tables.OVER_IMAGES)}
        return tables.Line("1", run, run, {"fid": paper}, measured, 1)

    lines = [line("a", 10, 1), line("b", 20, 5), line("c", 30, 5.5), line("d", 40, 0.5), line("a", 50, 1)]
    (found,) = tables.agreements(lines)
    # a-b and a-c agree; b-d, c-d, and both against the second a are reversed; the rest differ by less than the interval
    assert (found.pairs, found.same, found.reversed, found.undecided) == (9, 2, 4, 3)


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


def test_a_missing_sample_is_refused(world: World) -> None:
    world.samples = [path for path in world.samples if path.name != "001.zip"]
    with pytest.raises(UserError, match="samples/teacher/0: the sample of prompt 7 is missing"):
        world.build()


def test_captions_are_escaped(finished: World) -> None:
    text = (finished.folder / "report/index.html").read_text()
    assert "<script" not in text
    assert "<b>weights" not in text
    assert text.count("&lt;script&gt;") >= 3  # caption, its alternative texts, example of the language model


class Loads(html.parser.HTMLParser):
    """Collects what a page would fetch, its ids and the ids it links to; checks that tags are closed in order."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value or "" for key, value in attrs}
        self.loads += [values[key] for key in ("src", "srcset", "data", "action") if key in values]
        self.loads += [values["href"]] if tag == "link" else []
        self.ids += [values["id"]] if "id" in values else []
        self.targets += [values["href"][1:]] if values.get("href", "").startswith("#") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_is_self_contained_and_whole(finished: World) -> None:
    text = (finished.folder / "report/index.html").read_text()
    page_loads = Loads()
    page_loads.feed(text)
    assert page_loads.open == []
    assert len(page_loads.loads) >= 2 + 2 * 4
    assert all(load.startswith("data:image/") for load in page_loads.loads)
    assert not re.search(r"@import|url\(", text)
    assert len(set(page_loads.ids)) == len(page_loads.ids)
    assert set(page_loads.targets) <= set(page_loads.ids)
    shown = re.sub(r"<pre>.*?</pre>|<style>.*?</style>", "", text, flags=re.DOTALL)
    assert not re.search(r"\{\{|\{%|\bNone\b|\bnan\b|\binf\b|TODO|Undefined", re.sub(r'src="[^"]*"', "", shown))
    assert text.startswith("<!DOCTYPE html>") and '<html lang="en">' in text and 'name="viewport"' in text


def test_same_inputs_give_the_same_bytes(world: World) -> None:
    def contents() -> dict[str, bytes]:
        output = world.build()
        found = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*") if path.is_file()}
        found["index.html"] = re.sub(rb"\d{4}-\d\d-\d\d \d\d:\d\d UTC", b"", found["index.html"])
        return found

    first = contents()
    assert contents() == first
    assert {"figures/loss.csv", "figures/loss.svg", "figures/probability.csv", "tables/table1.tex"} <= set(first)


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


def test_histories_with_numbers_that_are_none_are_refused(world: World) -> None:
    world.histories[0].write_text('[{"step": 20, "loss": NaN}]')
    with pytest.raises(UserError, match=r"history\.json: 0\.loss"):
        world.build()


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


def test_costs_are_added_by_rule(finished: World) -> None:
    train, score, total = machine.costs(finished.benchmarks)
    assert (train.rule, train.jobs, train.seconds, train.memory, train.time) == ("train", 2, 150.5, 2000.25, "0:02:30")
    assert (score.jobs, score.memory) == (1, None)
    assert (total.jobs, total.seconds, total.memory) == (3, pytest.approx(150.6), 2000.25)


def test_protocols_tell_what_differs(finished: World) -> None:
    scores = inputs.read_scores(finished.score_files(), inputs.Settings.model_validate(finished.settings))
    common, different = page.protocols(scores)
    assert common == {"steps": "25", "guidance_scale": "4.0"}
    assert ("weights", "teacher", ["teacher"]) in different and len(different) == 2


def test_measured_and_paper_numbers_have_columns_of_their_own(finished: World) -> None:
    text = (finished.folder / "report/index.html").read_text()
    head = (
        'from-paper" colspan="3">paper (SD v1.4, COCO)</th>\n<th scope="colgroup" class="head from-here" colspan="5">'
    )
    assert text.count(head + "measured (emoji world)") == 4
    assert "different scales: never compare a number across them" in text


def test_command_line(world: World, tmp_path: Path) -> None:
    arguments = ["--settings", json.dumps(world.settings), "--scores", *map(str, world.score_files())]
    parsed = parser().parse_args([*arguments, "--prompts", "p.parquet", "--output", str(tmp_path / "out")])
    assert len(parsed.scores) == 5 and parsed.paper_results == PAPER_RESULTS
    assert inputs.read_settings(parsed.settings).title == "Emoji report"
    with pytest.raises(UserError, match="tables: Field required"):
        inputs.read_settings(json.dumps({k: v for k, v in world.settings.items() if k != "tables"}))
