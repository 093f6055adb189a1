"""Stages of DVC out of Snakemake's jobs, and what may be recorded: in a project of a few tiny files."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest
import yaml
from dvc.repo import Repo
from recorded_project import JOBS, LOCK, NAMES, OUT, SOURCE, job, make, recorded, status

from randcond.jobs.errors import UserError
from randcond.versions.__main__ import main
from randcond.versions.origin import describe
from randcond.versions.pipeline import write_pipelines
from randcond.versions.plan import Stage, behind_link, stages
from randcond.versions.record import record
from randcond.versions.restore import fetch

HOUR = 3600 * 10**9  # in nanoseconds


def test_jobs_become_stages() -> None:
    student, sample, score = stages(JOBS)
    assert [stage.name for stage in (student, sample, score)] == NAMES
    assert {f"{OUT}/samples/a/0", f"{OUT}/logs/sample/a-0", f"{OUT}/benchmarks/sample/a-0"} == set(sample.outs)
    assert sample.deps == [f"{OUT}/students/a/0/pipeline"]
    assert score.deps == [f"{OUT}/samples/a/0"]
    assert len(sample.targets) == 2
    assert student.world == "smoke"


def test_params_name_only_what_the_files_have(project: Path) -> None:
    write_pipelines(stages(JOBS), SOURCE)
    entries = yaml.safe_load(Path("versions/smoke/dvc.yaml").read_text())["stages"]
    assert entries["student-a-0"]["params"] == [
        {"config/experiments.yaml": ["runs.a"]},
        {"config/smoke.yaml": ["distillation"]},
        {"versions/smoke/settings.json": ["student-a-0"]},
    ]
    assert {"config/config.yaml": ["sampling"]} in entries["sample-a-0"]["params"]


def test_what_worlds_share_keeps_its_other_stages(project: Path) -> None:
    for name, world in (("first", "smoke"), ("second", "paper")):
        fetched = job(f"fetch_{name}", [], [f"results/assets/{name}.bin"], out="results/assets")
        write_pipelines(stages([fetched, replace(JOBS[0], outputs=[f"results/{world}/students/a"])]), SOURCE)
    shared = yaml.safe_load(Path("versions/assets/dvc.yaml").read_text())["stages"]
    assert list(shared) == ["fetch-first", "fetch-second"]
    assert set(json.loads(Path("versions/assets/settings.json").read_text())) == {"fetch-first", "fetch-second"}


def test_a_dvc_yaml_with_a_merges_marks_is_one_line(project: Path) -> None:
    fetched = [job("fetch_first", [], ["results/assets/first.bin"], out="results/assets"), JOBS[0]]
    write_pipelines(stages(fetched), SOURCE)
    with Path("versions/assets/dvc.yaml").open("a") as file:
        file.write("<<<<<<< ours\n")
    with pytest.raises(UserError, match=r"versions/assets/dvc\.yaml: not a list .*git checkout -- versions/assets/dvc"):
        write_pipelines(stages(fetched), SOURCE)


def test_recording_twice_writes_once(project: Path) -> None:
    assert recorded(JOBS).new == NAMES
    assert status() == set()
    lock = Path("versions/smoke/dvc.lock").read_bytes()
    assert recorded(JOBS).kept == NAMES
    assert Path("versions/smoke/dvc.lock").read_bytes() == lock


def test_outputs_stay_writable_and_keep_their_times(project: Path) -> None:
    file = Path(f"{OUT}/samples/a/0/0.zip")
    before = file.stat()
    recorded(JOBS)
    after = file.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert after.st_mode & 0o200
    file.write_text("again")


def test_what_snakemake_would_run_is_not_recorded(project: Path) -> None:
    recorded(JOBS)
    make(JOBS[1], "half")  # one shard of two
    half = [JOBS[0], JOBS[1], replace(JOBS[2], done=False), replace(JOBS[3], done=False)]
    found = recorded(half)
    assert (found.new, found.kept, found.unfinished) == ([], NAMES[:1], NAMES[1:])
    assert status() == {"sample-a-0", "score-a-0"}


@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_damage_is_named_and_never_recorded(project: Path, damage: str) -> None:
    recorded(JOBS)
    file = Path(f"{OUT}/samples/a/0/1.zip")
    good = file.read_bytes()
    if damage == "delete":
        file.unlink()
    else:
        file.write_bytes(good[:-3] if damage == "truncate" else bytes([good[0] ^ 1]) + good[1:])
    assert status() == {"sample-a-0", "score-a-0"}
    lock = Path("versions/smoke/dvc.lock").read_bytes()
    refused = recorded(JOBS).refused
    assert str(file) in refused["sample-a-0"]
    assert list(refused) == ["sample-a-0", "score-a-0"]
    assert Path("versions/smoke/dvc.lock").read_bytes() == lock
    with Repo(".") as repo:
        repo.checkout([str(file.parent)], force=True)
    assert file.read_bytes() == good
    assert status() == set()


def test_a_job_that_ran_again_is_recorded(project: Path) -> None:
    recorded(JOBS)
    for one in JOBS[1:]:
        make(one, "second")
    assert recorded(JOBS).new == NAMES[1:]
    assert status() == set()


@pytest.fixture
def made_long_ago(project: Path) -> int:
    """When everything was made that is recorded: two hours ago."""
    then = time.time_ns() - 2 * HOUR
    for path in (path for one in JOBS for path in one.outputs):
        os.utime(path, ns=(then, then))
    os.utime("code.py", ns=(then - HOUR, then - HOUR))
    recorded(JOBS)
    return then


def exchange(path: str, content: str, mtime: int) -> None:
    """Put another file in the place of one, as ``mv`` and ``cp -p`` do."""
    Path("other").write_text(content)
    os.utime("other", ns=(mtime, mtime))
    os.replace("other", path)


def test_an_input_exchanged_for_an_older_file_is_named(made_long_ago: int) -> None:
    before = LOCK.read_bytes()
    exchange("code.py", "older code", made_long_ago - HOUR // 2)
    refused = recorded(JOBS).refused
    assert refused["student-a-0"] == (
        "code.py changed since student-a-0 was made, but is older than it; touch it and run snakemake"
    )
    assert list(refused) == NAMES
    assert LOCK.read_bytes() == before
    exchange("code.py", "code", made_long_ago - HOUR // 2)  # back again
    assert recorded(JOBS).kept == NAMES


def test_a_folder_exchanged_for_an_older_one_is_named(project: Path) -> None:
    for name in ("teacher", "older"):
        Path(name).mkdir()
        Path(name, "weights").write_text(name)
    then = time.time_ns() - 2 * HOUR
    jobs = [replace(JOBS[0], inputs=["teacher", "teacher/weights"]), *JOBS[1:]]
    for path in ("teacher", "teacher/weights", "older", "older/weights"):
        os.utime(path, ns=(then - HOUR, then - HOUR))
    for path in jobs[0].outputs:
        os.utime(path, ns=(then, then))
    assert recorded(jobs).new == NAMES
    Path("teacher").rename("before")
    Path("older").rename("teacher")
    assert "teacher/weights changed since student-a-0 was made" in recorded(jobs).refused["student-a-0"]


@pytest.mark.parametrize("edited", ["before the outputs", "after them"])
def test_outputs_touched_since_an_input_changed_are_recorded(made_long_ago: int, edited: str) -> None:
    """By `snakemake --touch`, as after a change of a comment."""
    exchange("code.py", "code # said", made_long_ago - HOUR if edited == "before the outputs" else made_long_ago + HOUR)
    later = time.time_ns() + HOUR
    for path in JOBS[0].outputs:
        os.utime(path, ns=(later, later))
    assert recorded(JOBS).new == NAMES[:1]


def test_an_input_newer_than_outputs_that_snakemake_calls_up_to_date_is_recorded(made_long_ago: int) -> None:
    """As it does of what is `ancient`."""
    exchange("code.py", "newer code", made_long_ago + HOUR)
    assert recorded(JOBS).new == NAMES[:1]


def test_a_stage_made_again_from_an_older_input_is_recorded(made_long_ago: int) -> None:
    exchange("code.py", "older code", made_long_ago - HOUR)
    make(JOBS[0], "second")
    for path in JOBS[0].outputs:  # by a clock that is behind
        os.utime(path, ns=(made_long_ago, made_long_ago))
    assert "student-a-0" in recorded(JOBS).new


def test_shards_of_other_settings_are_named(project: Path) -> None:
    surplus = Path(f"{OUT}/samples/a/0/7.zip")
    surplus.write_text("left over")
    found = recorded(JOBS)
    assert str(surplus) in found.refused["sample-a-0"]
    assert found.new == NAMES[:1]


def test_changed_settings_are_noticed_in_either_place(project: Path) -> None:
    recorded(JOBS)
    Path("config/experiments.yaml").write_text("runs: {a: {rows: all}, b: {rows: seen}}\n")
    assert status() == set(NAMES)
    Path("config/experiments.yaml").write_text("runs: {a: {rows: seen}, b: {}}\n")
    changed = [replace(JOBS[0], settings={"steps": 4}, done=False), *JOBS[1:]]  # a default in the code
    write_pipelines(stages(changed), SOURCE)
    assert status() == {"student-a-0"}


def test_no_repository_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned: list[Stage] = []
    with pytest.raises(UserError, match="dvc: ") as error:
        record(planned)
    assert "\n" not in str(error.value)


def broken_off(end: Callable[[], None]) -> Callable[..., None]:
    """What DVC writes YAML by, ending after half of it."""

    def dump(_: object, __: object, stream: IO[str]) -> None:
        stream.write("schema: '2.0'\nstages:\n")
        stream.flush()
        end()

    return dump


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_record_survives_its_writer(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(JOBS)
    before = LOCK.read_bytes()
    make(JOBS[-1], "second")
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("ruamel.yaml.YAML.dump", broken_off(interrupt))
        recorded(JOBS)
    assert LOCK.read_bytes() == before
    if (child := os.fork()) == 0:
        try:
            monkeypatch.setattr("ruamel.yaml.YAML.dump", broken_off(lambda: os.kill(os.getpid(), signal.SIGKILL)))
            recorded(JOBS)
        finally:
            os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert LOCK.read_bytes() == before
    assert recorded(JOBS).new == NAMES[-1:]
    assert status() == set()
    assert list(LOCK.parent.glob(".*")) == []


@pytest.mark.parametrize("content", ["", "stages: {student-a-0", "<<<<<<< HEAD\n"])
def test_a_broken_record_names_the_way_out(project: Path, content: str) -> None:
    write_pipelines(stages(JOBS), SOURCE)
    LOCK.write_text(content)
    for use in (lambda: record(stages(JOBS)), lambda: fetch(stages(JOBS)), lambda: describe("smoke", "a")):
        with pytest.raises(UserError, match=rf"^{LOCK}: broken, .* `git checkout -- {LOCK}`") as error:
            use()
        assert "\n" not in str(error.value)


def test_a_list_of_files_in_use_that_was_cut_short_is_begun_anew(project: Path) -> None:
    Path(".dvc/tmp/rwlock").write_text('{"write": {')
    assert recorded(JOBS).new == NAMES


@pytest.mark.parametrize("name", ["results", OUT, f"{OUT}/scores"])
def test_results_behind_a_link_are_not_versioned(project: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert behind_link("smoke") is None
    Path(name).rename(project / "elsewhere")
    Path(name).symlink_to(project / "elsewhere")
    main(["record", "--quietly", "--configfile", "config/smoke.yaml"])
    said = capsys.readouterr().err
    assert said.startswith(f"not versioned: {name} is a symbolic link") and f"mount --bind TARGET {name}" in said
    assert said.count("\n") == 1
