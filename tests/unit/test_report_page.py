"""A page that holds together."""

import html.parser
import json
import re
from pathlib import Path

import pytest
from report_world import World, settings_dict

from randcond.jobs.errors import UserError
from randcond.report import PAPER_RESULTS, Files, build, machine, page, score_files, shown
from randcond.report.__main__ import parser


def test_nothing_run_at_all_still_makes_a_report(tmp_path: Path) -> None:
    settings = shown.Settings.model_validate({**settings_dict([0]), "grids": []})
    build(settings, Files(), tmp_path / "report")
    text = (tmp_path / "report/index.html").read_text()
    assert "Nothing of this table was run." in text
    assert "No run was trained." in text


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


def test_costs_are_added_by_rule(finished: World) -> None:
    train, score, total = machine.costs(finished.benchmarks)
    assert (train.rule, train.jobs, train.seconds, train.memory, train.time) == ("train", 2, 150.5, 2000.25, "0:02:30")
    assert (score.jobs, score.memory) == (1, None)
    assert (total.jobs, total.seconds, total.memory) == (3, pytest.approx(150.6), 2000.25)


def test_protocols_tell_what_differs(finished: World) -> None:
    scores = score_files.read_scores(finished.score_files(), shown.Settings.model_validate(finished.settings))
    common, different = page.protocols(scores)
    assert common == {"steps": "25", "guidance_scale": "4.0"}
    assert ("weights", "teacher", ["teacher"]) in different and len(different) == 2
    real = scores["teacher"][0].model_copy(update={"protocol": {}})
    assert page.protocols(scores | {"real": [real]}) == (common, different)  # which is drawn by nothing


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
    assert shown.read_settings(parsed.settings).title == "Emoji report"
    with pytest.raises(UserError, match="tables: Field required"):
        shown.read_settings(json.dumps({k: v for k, v in world.settings.items() if k != "tables"}))


def test_a_training_too_short_to_tell_is_called_so() -> None:
    runs = {
        "copied": {"init": "copied", "student": "b-base"},
        "random": {"init": "random", "student": "b-base"},
        "flow": {"init": "copied", "student": "half-depth"},
    }
    given = {**settings_dict([0]), "grids": [], "tables": {}, "claims": [], "series": {}, "runs": runs}
    artists = shown.Settings.model_validate({**given, "world": "artists"})
    assert page.too_short(artists, {"copied": 400, "random": 700}) == page.FLATTENED == 2400
    assert page.too_short(artists, {"copied": 2400, "random": 700, "flow": 800}) == 0
    assert page.too_short(artists, {}) == 0
    assert page.too_short(shown.Settings.model_validate({**given, "world": "emoji"}), {"copied": 400}) == 0
