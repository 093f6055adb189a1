"""Weights behind links to folders are watched like all others: by rules, by checkpoints, by DVC."""

import argparse
import json
from pathlib import Path

import pytest

from randcond.jobs.errors import UserError
from randcond.jobs.files import files_below
from randcond.prompts import llm
from randcond.students import distil
from randcond.versions.plan import Job, stages
from randcond.worlds.archives import only_file


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A folder whose ``unet`` is a link to another disk's, with a circle in it."""
    teacher, disk = tmp_path / "teacher", tmp_path / "disk"
    (teacher / "vae").mkdir(parents=True)
    disk.mkdir()
    (teacher / "vae/weights").write_text("1")
    (disk / "weights").write_text("1")
    (teacher / "unet").symlink_to(disk)
    (disk / "back").symlink_to(teacher)
    return teacher


def test_files_are_listed_by_the_names_they_are_opened_by(teacher: Path) -> None:
    (teacher / "nowhere").symlink_to(teacher / "missing")
    (teacher / "itself").symlink_to(teacher / "itself")
    assert files_below(teacher) == [teacher / "unet/weights", teacher / "vae/weights"]
    assert files_below(teacher / "vae/weights") == [teacher / "vae/weights"]
    assert files_below(teacher / "none") == []
    assert files_below(teacher, "w*") == files_below(teacher)
    assert files_below(teacher, "*.zip") == []


def test_an_archive_behind_a_link_is_found(teacher: Path) -> None:
    (teacher / "unet/one.zip").touch()
    assert only_file(teacher, "*.zip") == teacher / "unet/one.zip"
    (teacher / "vae/two.zip").touch()
    with pytest.raises(UserError, match="holds 2 files"):
        only_file(teacher, "*.zip")


def test_a_checkpoint_knows_weights_behind_a_link(teacher: Path) -> None:
    run = {"recipe": {}}
    before = distil.fingerprint(teacher, [teacher / "vae/weights"], run, "students.distil")
    (teacher / "unet/weights").write_text("2")
    after = distil.fingerprint(teacher, [teacher / "vae/weights"], run, "students.distil")
    assert {name for name in before if before[name] != after[name]} == {"teacher"}


def test_written_rounds_know_weights_behind_a_link(teacher: Path) -> None:
    arguments = argparse.Namespace(captions=teacher / "vae/weights", model=teacher, settings=json.dumps({}))
    before = llm._fingerprint(arguments)
    (teacher / "unet/weights").write_text("2")
    after = llm._fingerprint(arguments)
    assert {name for name in before if before[name] != after[name]} == {"model"}


def test_dvc_is_told_of_weights_behind_a_link(teacher: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # it hashes a folder without what lies behind links to folders
    monkeypatch.chdir(teacher.parent)
    inputs = ["code.py", "teacher", *(str(path.relative_to(teacher.parent)) for path in files_below(teacher))]
    (student,) = stages([Job("student", {}, inputs, ["results/smoke/student"], None, None, None, "", True)])
    assert student.deps == ["code.py", "teacher", "teacher/unet/weights"]
