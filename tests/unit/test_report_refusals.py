"""Bad input never becomes a number in the report."""

import copy

import pandas as pd
import pytest
from report_world import World

from randcond.jobs.errors import UserError
from randcond.report import score_files, shown


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "12", None, True])
def test_what_is_no_finite_number_is_refused(world: World, bad: object) -> None:
    world.scores["seen-rc", 0]["splits"]["seen"]["metrics"]["clip"]["value"] = bad
    with pytest.raises(UserError, match=r"scores/seen-rc/0\.json: splits\.seen\.metrics\.clip\.value"):
        world.build()
    assert not (world.folder / "report").exists()


IMPOSSIBLE = {"fid": -0.1, "is": 0.9, "clip": 1.1, "named": 1.1}


@pytest.mark.parametrize("metric", IMPOSSIBLE)
def test_impossible_values_are_refused(world: World, metric: str) -> None:
    world.scores["seen-rc", 0]["splits"]["seen"]["metrics"][metric]["value"] = IMPOSSIBLE[metric]
    with pytest.raises(UserError, match=rf"scores/seen-rc/0\.json: splits\.seen\.metrics\.{metric}\.value"):
        world.build()


def test_values_at_the_bounds_pass(world: World) -> None:
    metrics = world.scores["seen-rc", 0]["splits"]["seen"]["metrics"]
    for metric, value in {"fid": -1e-3, "is": 1 - 1e-9, "clip": 1 + 1e-9, "named": 1.0, "kid": -0.01}.items():
        metrics[metric]["value"] = value
    settings = shown.Settings.model_validate(world.settings)
    found = score_files.read_scores(world.score_files(), settings)["seen-rc"][0]
    assert found.splits["seen"].metrics.fid.value == -1e-3


def test_one_student_under_two_runs_is_refused(world: World) -> None:
    copied = copy.deepcopy(world.scores["seen-rc", 0])
    world.scores["seen-plain", 0] = {**copied, "run": "seen-plain"}
    with pytest.raises(UserError, match=r"seen-rc/0\.json: scores the same student as .*seen-plain/0\.json"):
        world.build()


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


def test_a_score_cannot_be_copied_out_of_the_report(world: World) -> None:
    world.scores["copy", 0] = {**copy.deepcopy(world.scores["seen-rc", 0]), "run": "../../elsewhere"}
    with pytest.raises(UserError, match=r"copy/0\.json: run: "):
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


def test_a_split_of_some_worlds_is_shown_where_a_score_has_it(world: World) -> None:
    world.settings["tables"]["table2"]["splits"].append("unseen pair")
    grid = {"title": "Pairs", "split": "unseen pair", "runs": ["teacher"], "count": 2}
    world.settings["grids"].append(grid)
    assert "unseen pair" not in (world.build() / "tables/table2.csv").read_text()
    splits = world.scores["teacher", 0]["splits"]
    splits["unseen pair"] = copy.deepcopy(splits["unseen"])
    with pytest.raises(UserError, match=r"splits\.unseen pair is missing, which table2 shows"):
        world.build()


def test_real_images_have_a_row_and_no_student(world: World) -> None:
    rows = world.settings["tables"]["table2"]["rows"]
    rows.insert(0, {"run": "real", "label": "Real images"})
    real = copy.deepcopy(world.scores["teacher", 0]) | {"run": "real", "protocol": {}}
    world.scores["real", 0] = {key: value for key, value in real.items() if not key.startswith("unet_")}
    frame = pd.read_csv(world.build() / "tables/table2.csv")
    found = frame[(frame["run"] == "real") & (frame["split"] == "seen")]
    expected = real["splits"]["seen"]["metrics"]["fid"]["value"]
    assert found[found["metric"] == "fid"]["measured"].item() == pytest.approx(expected)
    assert set(found["row"]) == {"real"} and {"1", "3", "teacher"} <= set(frame["row"].astype(str))
    page = (world.folder / "report/index.html").read_text()
    assert ">Real images<" in page and "real, 0" not in page


def test_a_missing_sample_is_refused(world: World) -> None:
    world.samples = [path for path in world.samples if path.name != "001.zip"]
    with pytest.raises(UserError, match="samples/teacher/0: the sample of prompt 7 is missing"):
        world.build()


def test_histories_with_numbers_that_are_none_are_refused(world: World) -> None:
    world.histories[0].write_text('[{"step": 20, "loss": NaN}]')
    with pytest.raises(UserError, match=r"history\.json: 0\.loss"):
        world.build()
