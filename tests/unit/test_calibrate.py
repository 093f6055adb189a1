"""The gate before the students: it opens for a teacher that scores as it should, or for a name."""

from pathlib import Path

import pytest

from randcond.jobs.errors import UserError
from randcond.scores.calibrate import verdict

BOUNDS = {"fid": {"value": 13.05, "tolerance": 0.5}, "clip": {"value": 0.2958, "tolerance": 0.003}}


def check(fid: float, clip: float, by: str | None = None) -> dict:
    scores = {"splits": {"coco30k": {"metrics": {"fid": {"value": fid}, "clip": {"value": clip}}}}}
    return verdict({"split": "coco30k", "scores": BOUNDS, "overridden_by": by}, scores, Path("teacher.json"))


@pytest.mark.parametrize(("fid", "clip"), [(13.05, 0.2958), (13.549, 0.293), (12.56, 0.2987)])
def test_near_enough(fid: float, clip: float) -> None:
    result = check(fid, clip)
    assert result["passed"]
    assert result["scores"]["fid"] == {"expected": 13.05, "tolerance": 0.5, "found": fid}


@pytest.mark.parametrize(
    ("fid", "clip", "named"),
    [
        (13.6, 0.2958, "fid 13.6"),
        (12.5, 0.2958, "fid 12.5"),
        (13.0, 0.25, "clip 0.25"),
        (float("nan"), 0.2958, "fid nan"),
    ],
)
def test_off(fid: float, clip: float, named: str) -> None:
    with pytest.raises(UserError, match=named) as caught:
        check(fid, clip)
    assert "overridden_by" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_overridden_by_name() -> None:
    result = check(20.0, 0.2958, "A. Person")
    assert not result["passed"]
    assert result["overridden_by"] == "A. Person"
    # a name that was not needed is not blamed
    assert check(13.0, 0.2958, "A. Person")["overridden_by"] is None


def test_missing_scores() -> None:
    settings = {"split": "coco30k", "scores": BOUNDS, "overridden_by": "A"}
    with pytest.raises(UserError, match=r"teacher\.json: lacks a score"):
        verdict(settings, {"splits": {"all": {}}}, Path("teacher.json"))
