"""Scores along a training: which step and which weights every number is of."""

import json
import re

import pandas as pd
import pytest
from report_world import World, cell

from randcond.jobs.errors import UserError

POINTS = [(100, "raw"), (100, "ema"), (200, "raw")]  # of 200 steps; the finished student has the average


def scored_along(world: World) -> World:
    """Two runs of both tables and one of neither were scored along their training."""
    world.score_along("seen-rc", *POINTS)
    world.score_along("base-plain", (200, "raw"))
    world.score_along("untabled", (100, "ema"))
    return world


@pytest.fixture
def world(world: World) -> World:
    """Such a world, to be changed."""
    return scored_along(world)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> World:
    """One with its report, to be read."""
    world = scored_along(World(tmp_path_factory.mktemp("along"), [0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("randcond.report.figures.save", lambda _, path: path.write_text("<svg/>"))
        world.build()
    return world


def test_every_point_is_in_plot_and_table(shown: World) -> None:
    world, output = shown, shown.folder / "report"
    names = {"along-table1-all", *(f"along-table2-{split}" for split in ("seen", "unseen", "all"))}
    names |= {f"along-{split}" for split in ("seen", "unseen", "all")}
    for suffix in ("csv", "svg"):
        assert {path.stem for path in output.glob(f"figures/along*.{suffix}")} == names
    of_runs = {"seen-rc": [*POINTS, (200, "ema")], "base-plain": [(200, "raw"), (200, "ema")]}
    for split in ("seen", "unseen", "all"):
        plot = pd.read_csv(output / f"figures/along-table2-{split}.csv")
        table = pd.read_csv(output / "tables/along-table2.csv")
        assert len(plot) == 6 * 5
        for run, points in of_runs.items():
            for step, weights in points:
                # where a line ends stands the student of the other tables
                score = world.along.get((run, 0, step, weights), world.scores[run, 0])
                words = f"{run}, step {step}, {'raw weights' if weights == 'raw' else 'moving average'}"
                for metric, expected in score["splits"][split]["metrics"].items():
                    drawn = cell(plot, run=run, step=str(step), weights=weights, metric=metric)
                    tabled = cell(table, label=words, split=split, metric=metric)
                    assert drawn["value"] == tabled["measured"] == pytest.approx(expected["value"], rel=1e-12)
    others = pd.read_csv(output / "figures/along-all.csv")
    assert set(zip(others["run"], others["step"], others["weights"], strict=True)) == {
        ("untabled", 100, "ema"),
        ("untabled", 200, "ema"),
    }


def test_what_the_second_half_moved_tells_whether_it_was_long_enough(world: World) -> None:
    half, last, teacher = world.along["seen-rc", 0, 100, "ema"], world.scores["seen-rc", 0], world.scores["teacher", 0]
    values = {"fid": (5.0, 3.0, 1.0), "kid": (0.02, 0.019, 0.01), "is": (60.0, 58.0, 80.0), "clip": (0.8, 0.81, 0.9),
              "named": (0.5, 0.54, 0.9)}  # fmt: skip

    def row() -> list[str]:
        for metric, found in values.items():
            for score, value in zip((half, last, teacher), found, strict=True):
                for part in score["splits"].values():
                    part["metrics"][metric]["value"] = value
        text = (world.build() / "index.html").read_text()
        head = r'seen-rc<span class="run">moving average</span></th><td>unseen</td>'
        (cells,) = re.findall(head + r"(.*?)</tr>", text, re.DOTALL)
        return re.findall(r"<td[^>]*>(.*?)</td>", cells)

    assert row() == ["100 to 200", "+50", "+10", "-10", "+10", "+10", "no"]
    values["fid"] = (5.0, 4.6, 1.0)
    assert row() == ["100 to 200", "+10", "+10", "-10", "+10", "+10", "yes"]
    values["is"] = (80.0, 58.0, 80.0)  # stood where the teacher stands: no way to go, and no other column's number
    assert row() == ["100 to 200", "+10", "+10", "–", "+10", "+10", "yes"]


def test_every_number_leads_to_its_score_file(shown: World) -> None:
    world, output = shown, shown.folder / "report"
    linked = set(re.findall(r'href="(scores/along/[^"]+)"', (output / "index.html").read_text()))
    assert linked == {f"scores/along/{run}/{seed}/{step}-{kind}.json" for run, seed, step, kind in world.along}
    for (run, seed, step, kind), score in world.along.items():
        assert json.loads((output / f"scores/along/{run}/{seed}/{step}-{kind}.json").read_text()) == score


def test_a_row_says_which_weights_of_which_step_it_shows(shown: World) -> None:
    text = (shown.folder / "report/index.html").read_text()
    heads = re.findall(r'<th scope="row"><bdi>(.*?)</bdi>(.*?)</th>', text, re.DOTALL)
    plain = [rest for label, rest in heads if label == "texts of animals and the pool"]
    assert plain and all("step 200, moving average" in rest for rest in plain)
    assert not any("step" in rest for label, rest in heads if label in ("teacher", "with real images"))
    assert 'href="#along"' in text and 'id="along"' in text


def test_nothing_is_said_of_what_was_not_scored(finished: World) -> None:
    text = (finished.folder / "report/index.html").read_text()
    assert "step 200, moving average" in text and 'id="along"' not in text and "step 200, raw weights" not in text


def test_a_row_may_show_another_step(world: World) -> None:
    world.settings["tables"]["table2"]["rows"][2] |= {"step": 100, "weights": "raw"}
    output = world.build()
    found = cell(pd.read_csv(output / "tables/table2.csv"), run="seen-rc", split="unseen", metric="fid")
    expected = world.along["seen-rc", 0, 100, "raw"]["splits"]["unseen"]["metrics"]["fid"]["value"]
    assert found["measured"] == pytest.approx(expected, rel=1e-12)
    assert found["label"] == "texts of animals and the pool, step 100, raw weights"
    assert "the pool, step 100, raw weights &" in (output / "tables/table2.tex").read_text()


def test_raw_and_averaged_weights_are_two_students(world: World) -> None:
    world.along["seen-rc", 0, 100, "ema"]["unet_sha256"] = world.along["seen-rc", 0, 100, "raw"]["unet_sha256"]
    with pytest.raises(UserError, match=r"100-raw\.json: scores the same student as .*100-ema\.json"):
        world.build()


def test_the_finished_student_is_no_point_of_another_kind(world: World) -> None:
    world.along["seen-rc", 0, 200, "raw"]["unet_sha256"] = world.scores["seen-rc", 0]["unet_sha256"]
    with pytest.raises(UserError, match=r"200-raw\.json: scores the same student as .*seen-rc/0\.json"):
        world.build()


def test_the_first_steps_average_is_the_step_itself(world: World) -> None:
    world.score_along("seen-rc", (1, "raw"), (1, "ema"))
    world.along["seen-rc", 0, 1, "ema"]["unet_sha256"] = world.along["seen-rc", 0, 1, "raw"]["unet_sha256"]
    world.build()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"step": None}, "says neither step nor weights"),
        ({"protocol": {}}, "says neither step nor weights"),
        ({"step": 0}, "step"),
        ({"name": "smoke"}, "scores of emoji/smoke"),
        ({"step": 100, "protocol": {"weights": "ema"}}, "the same step, weights and seed are also in"),
        ({"step": 200, "protocol": {"weights": "ema"}}, "the same step, weights and seed are also in"),
    ],
)
def test_what_cannot_be_placed_is_refused(world: World, change: dict, named: str) -> None:
    world.along["seen-rc", 0, 200, "raw"] |= change
    with pytest.raises(UserError, match=named):
        world.build()
    assert not (world.folder / "report").exists()


def test_points_lack_no_metric_that_students_have(world: World) -> None:
    del world.along["seen-rc", 0, 100, "ema"]["splits"]["seen"]["metrics"]["named"]
    with pytest.raises(UserError, match=r"100-ema\.json: splits\.seen\.metrics\.named is missing"):
        world.build()
