"""Two runs side by side."""

import json
from pathlib import Path

import pytest
from PIL import Image
from report_world import World

from randcond.report import compare


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    world = World(tmp_path, [0, 1, 2])
    world.score_files()
    (tmp_path / "prompts").mkdir()
    world.prompts.rename(tmp_path / "prompts/evaluation.parquet")
    return tmp_path


def test_compare_prints_scores_and_writes_pictures(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        for run, value in (("seen-plain", 0.25), ("seen-rc", 0.75)):
            path = finished / f"scores/{run}/{seed}.json"
            score = json.loads(path.read_text())
            score["splits"]["unseen"]["metrics"]["named"]["value"] = value + seed / 100
            path.write_text(json.dumps(score))
    compare.main([str(finished), "seen-plain", "seen-rc", "--count", "4"])
    printed = capsys.readouterr().out
    assert "+50.0" in printed
    pictures = sorted((finished / "compare/seen-plain-and-seen-rc").glob("*.png"))
    assert [picture.name for picture in pictures] == ["samples-1-seen.png", "samples-2-unseen.png"]
    assert all(str(picture) in printed for picture in pictures)
    assert Image.open(pictures[0]).width > 400


def test_seeds_of_other_settings_are_left_out(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    named = [str(finished), "seen-plain", "seen-rc", "--count", "4", "--configfile", "config/config.yaml", str(file)]
    file.write_text("more_seeds: {seen-plain: [2], seen-rc: [2]}\n")  # and the default's seed 0
    compare.main(named)
    found = capsys.readouterr()
    assert "0, 2" in found.out and "0, 1, 2" not in found.out
    assert found.err.splitlines()[0].startswith("seen-plain: seeds 1 are left out, the configuration has 0, 2; CONFIG")
    file.write_text("seeds: [7]\n")
    with pytest.raises(SystemExit, match="seeds 0, 1, 2 are left out, .* has 7; name one that has them, CONFIG"):
        compare.main(named)


@pytest.mark.parametrize(("runs", "said"), [(["seen-plain", "nothing"], "nothing"), (["a", "a"], "itself")])
def test_what_cannot_be_compared_says_so(finished: Path, runs: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said) as caught:
        compare.main([str(finished), *runs])
    assert "\n" not in str(caught.value)


def test_no_prompts_are_no_picture(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        compare.main([str(finished), "seen-plain", "seen-rc", "--count", "0"])
    assert "--count: '0' is no number above 0" in capsys.readouterr().err


def test_runs_of_the_papers_world_can_be_compared(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # scored on the benchmark's captions alone, by Inception, without an evaluator that names things
    for path in (finished / "scores").glob("*/*.json"):
        score = json.loads(path.read_text())
        part = score["splits"]["all"]
        del part["metrics"]["named"]
        part["metrics"]["fid_clean"] = part["metrics"]["fid"]
        score["splits"] = {"coco30k": {**part, "count": 8}}
        path.write_text(json.dumps(score))
    compare.main([str(finished), "seen-plain", "seen-rc", "--count", "4"])
    printed = capsys.readouterr().out
    assert "FID (clean)" in printed and "coco30k" in printed and "unseen" not in printed
    assert [path.name for path in (finished / "compare/seen-plain-and-seen-rc").glob("*.png")] == [
        "samples-1-coco30k.png"
    ]


def test_runs_scored_on_nothing_in_common_say_so(finished: Path) -> None:
    for run, kept in (("seen-plain", "seen"), ("seen-rc", "unseen")):
        for path in (finished / f"scores/{run}").glob("*.json"):
            score = json.loads(path.read_text())
            path.write_text(json.dumps({**score, "splits": {kept: score["splits"][kept]}}))
    with pytest.raises(SystemExit, match="no split in common"):
        compare.main([str(finished), "seen-plain", "seen-rc"])


def test_one_student_under_two_names_is_not_compared_with_itself(finished: Path) -> None:
    copied = json.loads((finished / "scores/seen-rc/1.json").read_text())
    (finished / "scores/seen-plain/1.json").write_text(json.dumps({**copied, "run": "seen-plain"}))
    with pytest.raises(SystemExit, match=r"seen-rc/1\.json: scores the same student as .*seen-plain/1\.json"):
        compare.main([str(finished), "seen-plain", "seen-rc"])


def test_runs_of_a_world_of_ones_own_can_be_compared(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # held against the teacher's own samples
    for path in (finished / "scores").glob("*/*.json"):
        score = json.loads(path.read_text())
        for part in score["splits"].values():
            part["metrics"] = {key: part["metrics"][key] for key in ("fid", "kid", "clip")}
            part["metrics"] |= {key: {"value": 0.5, "error95": 0.01} for key in ("agreement", "latents")}
        path.write_text(json.dumps(score))
    compare.main([str(finished), "seen-plain", "seen-rc", "--count", "4"])
    printed = capsys.readouterr().out.lower()
    assert "agreement" in printed and "latents" in printed
