"""Rounds of writing: appended, resumed, and cut where a crash cut them."""

from pathlib import Path

import pytest

from randcond.jobs.errors import UserError
from randcond.prompts.rounds import Rounds


def test_appended_rounds_come_back(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path / "work", {"settings": "1"})
    with rounds.lock():
        assert rounds.load() == []
        rounds.append(["a\nb", "é"])
        rounds.append([])
        assert Rounds(tmp_path / "work", {"settings": "1"}).load() == [["a\nb", "é"], []]
    rounds.remove()
    assert not (tmp_path / "work").exists()


def test_a_cut_line_is_written_again(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, {})
    rounds.load()
    rounds.append(["first"])
    rounds.append(["second"])
    rounds.file.write_bytes(rounds.file.read_bytes()[:-5])
    assert rounds.load() == [["first"]]
    rounds.append(["again"])
    assert rounds.load() == [["first"], ["again"]]


def test_other_conditions_and_foreign_files(tmp_path: Path) -> None:
    Rounds(tmp_path, {"settings": "1", "code": "x"}).load()
    with pytest.raises(UserError, match="other settings;"):
        Rounds(tmp_path, {"settings": "2", "code": "x"}).load()
    (tmp_path / "rounds.jsonl").write_text("hello\n")
    with pytest.raises(UserError, match="not the rounds"):
        Rounds(tmp_path, {"settings": "1", "code": "x"}).load()


def test_one_writer(tmp_path: Path) -> None:
    with (
        Rounds(tmp_path, {}).lock(),
        pytest.raises(UserError, match="another process writes here"),
        Rounds(tmp_path, {}).lock(),
    ):
        pass
