"""What the report shows beyond scores: the calibration's verdict, counts, grids, FID (clean), a student's costs."""

import copy
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from report_world import World

from randcond.jobs.errors import UserError
from randcond.report import Files, build, grids, shown

PASSED = {"passed": True, "overridden_by": None, "split": "all"}
SCORES = {"fid": {"expected": 13.05, "tolerance": 0.5, "found": 13.2}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, [0])


def page(world: World, calibration: dict | None = None, counts: dict | None = None) -> str:
    written = {}
    for name, content in (("calibration", calibration), ("prompts_summary", counts)):
        if content is not None:
            written[name] = world.folder / f"{name}.json"
            written[name].write_text(json.dumps(content))
    files = Files(
        world.score_files(), world.histories, world.samples, world.prompts, world.llm, world.benchmarks, **written
    )
    build(shown.read_settings(json.dumps(world.settings)), files, world.folder / "report")
    return (world.folder / "report/index.html").read_text()


def test_the_verdict_is_told(world: World) -> None:
    text = page(world, PASSED | {"scores": SCORES})
    assert "fid 13.2, expected 13.05 ± 0.5." in text
    assert "It passed." in text
    assert "The teacher is off" not in text


def test_deviations_from_the_originals_are_linked_where_there_are_originals(world: World) -> None:
    assert ("docs/deviations.md" in page(world)) == (world.settings["world"] != "emoji")
    world.settings["world"] = "emoji" if world.settings["world"] != "emoji" else "paper"
    for score in world.scores.values():
        score["world"] = world.settings["world"]
    assert ("docs/deviations.md" in page(world)) == (world.settings["world"] != "emoji")


def test_an_override_is_told_by_name(world: World) -> None:
    text = page(world, {"passed": False, "overridden_by": "<A> Person", "split": "all", "scores": SCORES})
    assert "The teacher is off." in text
    assert "&lt;A&gt; Person" in text
    assert "It did not pass." in text


def test_counts_stand_beside_the_papers(world: World) -> None:
    counts = {"captions": {"seen": 180_000, "unseen": 32_776}, "evaluation": {"seen": 2}, "pool": 20_000_000}
    text = page(world, counts=counts | {"expected": {"seen": 188_000, "unseen": 24_000}})
    assert "Unseen captions of D: 32,776, in the paper 24,000." in text
    assert "20,000,000 texts" in text
    assert "captions of D" not in page(world, counts=counts | {"expected": {}})


def test_a_column_for_the_other_fid(world: World) -> None:
    for score in world.scores.values():
        for split in score["splits"].values():
            split["metrics"]["fid_clean"] = copy.deepcopy(split["metrics"]["fid"])
    text = page(world)
    assert "FID (clean)" in text
    frame = pd.read_csv(world.folder / "report/tables/table2.csv")
    assert "fid_clean" in set(frame["metric"])


def test_rows_of_the_benchmark() -> None:
    prompts = pd.DataFrame({"text": list("abcdefgh"), "split": ["seen", "unseen"] * 4})
    assert grids.chosen_rows(prompts, "coco30k", 10, 5) == [0, 1, 2, 3, 4]
    assert grids.chosen_rows(prompts, "coco30k", 3, 5) == [0, 2, 4]


@pytest.mark.parametrize(
    ("more", "passes", "memory"),
    [({}, ["–", "–"], "–"), ({"passes": 52, "memory": 1_234_567_890}, ["52", "64.2"], "1,235")],
)
def test_costs_of_a_tables_students(world: World, more: dict, passes: list[str], memory: str) -> None:
    world.settings["tables"]["table1"]["costs"] = True
    cost = {"run": "seen-rc", "unet_parameters": 1_234_567, "macs": 8_900_000, "unet_bytes": 2_469_134}
    path = world.folder / "costs/seen-rc/0.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(cost | more | {"latency": 0.256, "device": "CPU, 1 thread"}))
    files = Files(world.score_files(), world.histories, world.samples, world.prompts, world.llm, costs=[path])
    build(shown.read_settings(json.dumps(world.settings)), files, world.folder / "report")
    text = (world.folder / "report/index.html").read_text()
    row = text.split('<a href="costs/seen-rc.json">')[1].split("</tr>")[0]
    cells = [cell.split("<")[0] for cell in row.split('<td class="number">')[1:]]
    assert cells == ["1.235", "8.9", "2.47", *passes, "0.256", memory]
    assert "(CPU, 1 thread)" in text
    assert json.loads((world.folder / "report/costs/seen-rc.json").read_text())["latency"] == 0.256
    table = pd.read_csv(world.folder / "report/tables/table1-costs.csv")
    assert table["run"].tolist() == ["seen-rc"]


def test_rows_that_are_drawn_otherwise(world: World) -> None:
    # the same student in fewer steps: scored, costed and shown beside it, but trained once
    fewer = copy.deepcopy(world.scores["seen-rc", 0]) | {"run": "seen-rc-4"}
    fewer["protocol"] |= {"steps": 4}
    world.scores["seen-rc-4", 0] = fewer
    teacher = copy.deepcopy(world.scores["teacher", 0]) | {"run": "teacher-4"}
    teacher["protocol"] |= {"steps": 4, "weights": "ema"}  # by the settings that students are drawn by
    world.scores["teacher-4", 0] = teacher
    table = world.settings["tables"]["table1"]
    table |= {"costs": True, "seconds": True}
    table["rows"].append({"run": "seen-rc-4", "label": "in four steps"})
    table["rows"].append({"run": "teacher-4", "label": "teacher in four"})
    cost = {"unet_parameters": 10, "macs": 10, "unet_bytes": 20, "device": "CPU, 1 thread"}
    costs = []
    for run, latency, passes in (("seen-rc", 0.5, 52), ("seen-rc-4", 0.1, 10)):
        costs.append(world.folder / f"costs/{run}/0.json")
        costs[-1].parent.mkdir(parents=True)
        costs[-1].write_text(json.dumps(cost | {"run": run, "latency": latency, "passes": passes}))
    settings = world.settings | {"drawn": {"seen-rc-4": "seen-rc", "teacher-4": "teacher"}}
    files = Files(world.score_files(), world.histories, world.samples, world.prompts, world.llm, costs=costs)
    output = world.folder / "report"
    build(shown.read_settings(json.dumps(settings)), files, output)
    points = pd.read_csv(output / "figures/table1-seconds-all.csv")
    points = points[points["metric"] == "named"]
    assert points[["line", "run", "seconds", "passes"]].to_numpy().tolist() == [
        ["seen-rc", "seen-rc", 0.5, 52],
        ["seen-rc", "seen-rc-4", 0.1, 10],
    ]
    assert points["value"].nunique() == 1
    page = (output / "index.html").read_text()
    assert "figures/table1-seconds-all.csv" in page
    labels = [label for label in re.findall(r"<th scope=\"row\">(.*?)</th>", page, re.DOTALL) if "in four" in label]
    assert any("moving average" in label for label in labels if "teacher" not in label)
    assert not any("moving average" in label for label in labels if "teacher" in label)  # who was not trained here
    jobs = page.split('<section id="provenance">')[1].split('<tr><th scope="row">seen-rc-4</th>')
    assert len(jobs) == 2 and "<td>score</td>" in jobs[1].split("</tr>")[0]
    # under another name it may not stand twice in the same steps
    fewer["protocol"] |= {"steps": 25}
    with pytest.raises(UserError, match="scores the same student as"):
        build(shown.read_settings(json.dumps(settings)), replace(files, scores=world.score_files()), output)
