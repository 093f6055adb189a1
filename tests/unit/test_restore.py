"""What comes from a remote is what was recorded, or is refused; where its address is kept."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.exceptions import CheckoutError
from dvc.repo import Repo
from recorded_project import JOBS, LOCK, NAMES, OUT, PIPELINE, SOURCE, job, make, recorded, status

from randcond.jobs.errors import UserError
from randcond.versions import restore
from randcond.versions.__main__ import main
from randcond.versions.pipeline import Source, write_pipelines
from randcond.versions.plan import Stage, stages

SCORES, SAMPLES = f"{OUT}/scores/a/0.json", f"{OUT}/samples/a/0"
CONFIG, LOCAL = Path(".dvc/config"), Path(".dvc/config.local")
SECRET = "https://user:hunter2@host.invalid/folder"


@pytest.fixture
def remote(project: Path) -> Path:
    """A remote that everything was shared to; neither cache nor results are left here."""
    recorded(JOBS)
    folder = project.with_name(f"{project.name}-remote")
    assert not restore.share(str(folder))
    forget()
    return folder


def forget() -> None:
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("results", ignore_errors=True)


def change(remote: Path, path: str, edit: Callable[[str], str]) -> None:
    """Edit a recorded file, or a folder's listing, on the remote, behind its hash."""
    outs = [out for stage in yaml.safe_load(LOCK.read_text())["stages"].values() for out in stage["outs"]]
    (digest,) = [out["md5"] for out in outs if out["path"] == path]
    stored = remote / "files/md5" / digest[:2] / digest[2:]
    text = stored.read_text()
    stored.chmod(0o600)
    stored.write_text(edit(text))
    assert stored.read_text() != text


def edit_lock(edit: Callable[[dict[str, Any]], object]) -> None:
    lock = yaml.safe_load(LOCK.read_text())
    edit(lock["stages"])
    LOCK.write_text(yaml.safe_dump(lock))


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stages of which Snakemake is told that they are up to date, here where it has no rules."""
    names: list[str] = []
    monkeypatch.setattr("randcond.versions.__main__._plan", lambda _: (SOURCE, stages(JOBS)))
    monkeypatch.setattr(
        "randcond.versions.__main__._touch", lambda stages, _: names.extend(stage.name for stage in stages)
    )
    return names


def present() -> set[str]:
    return {str(path) for path in Path("results").rglob("*") if path.is_file()}


def test_what_was_shared_is_restored(remote: Path) -> None:
    restore.fetch(stages(JOBS))
    assert [stage.name for stage in restore.clean(stages(JOBS))] == NAMES
    assert len(present()) == 13
    assert status() == set()


def test_what_is_not_recorded_is_left_alone(
    remote: Path, touched: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    fetched = job("fetch", [], ["results/assets/first.bin"], out="results/assets")  # of a world without a dvc.lock
    write_pipelines(stages([fetched, *JOBS]), SOURCE)
    edit_lock(lambda known: known.update(gone=known.pop("score-a-0")))
    Path(SCORES).parent.mkdir(parents=True)
    Path(SCORES).write_text("not finished")
    main(["restore"])
    assert capsys.readouterr().err.splitlines() == [
        "not recorded, for snakemake to make: score-a-0",
        "restored: results/smoke",
    ]
    assert touched == NAMES[:2]
    assert Path(SCORES).read_text() == "not finished"
    assert len(present()) == 13 - 2


def test_what_worlds_share_is_fetched_where_it_is_planned(remote: Path) -> None:
    both = [job(name, [], [f"results/assets/{name}.bin"], out="results/assets") for name in ("first", "second")]
    for one in both:
        make(one, "first")
    recorded([*both, *JOBS])
    restore.share(str(remote))
    forget()
    restore.fetch(stages([both[0], *JOBS]))
    assert [path for path in present() if path.startswith("results/assets") and path.endswith(".bin")] == [
        "results/assets/first.bin"
    ]
    assert len(restore.clean(stages([both[0], *JOBS]))) == 4


@pytest.mark.parametrize("lock", ["missing", "of other stages"])
def test_nothing_recorded_is_one_line(
    remote: Path, touched: list[str], capsys: pytest.CaptureFixture[str], lock: str
) -> None:
    if lock == "missing":
        LOCK.unlink()
    else:
        edit_lock(lambda known: [known.update({f"old-{name}": known.pop(name)}) for name in NAMES])
    with pytest.raises(SystemExit):
        main(["restore"])
    assert capsys.readouterr().err == f"error: {LOCK}: nothing of smoke is recorded there; run snakemake first\n"
    assert present() == set()


@pytest.mark.parametrize("end", ["not as recorded", "snakemake --touch"])
def test_a_restore_that_fails_changes_no_file_of_git(
    remote: Path, touched: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], end: str
) -> None:
    def fail(_: list[Stage], __: Source) -> None:
        raise UserError(end)

    if end == "not as recorded":  # other settings than those
        source = Source(["config/smoke.yaml"], {"name": "smoke"})
        planned = stages([replace(one, settings={"steps": 4}) for one in JOBS])
        monkeypatch.setattr("randcond.versions.__main__._plan", lambda _: (source, planned))
    else:
        PIPELINE.write_text(PIPELINE.read_text().replace("# Written", "# Once written"))
        monkeypatch.setattr("randcond.versions.__main__._touch", fail)
    before = {file: file.read_bytes() for file in Path("versions").rglob("*") if file.is_file()}
    with pytest.raises(SystemExit):
        main(["restore"])
    assert end in capsys.readouterr().err
    assert {file: file.read_bytes() for file in Path("versions").rglob("*") if file.is_file()} == before
    assert touched == []


def test_what_an_interrupted_run_left_is_named_with_the_ways_out(remote: Path) -> None:
    restore.fetch(stages(JOBS))
    left = [Path(SAMPLES, "1.zip"), Path(SAMPLES, "7 of 9.zip")]  # half of one that is recorded, and one that is not
    for path in left:
        path.write_text("half")
    said = []
    for path in left:
        with pytest.raises(UserError) as error:
            restore.fetch(stages(JOBS))
        said.append(str(error.value))
        command = re.search("`(dvc checkout --force [^`]*)`", said[-1])
        assert command is not None
        assert said[-1].startswith(f"{path}: not what was recorded")
        if path == left[0]:
            subprocess.run([sys.executable, "-m", *shlex.split(command[1])], check=True)
        else:
            path.rename("moved away")
    assert ["(and 1 more)" in line for line in said] == [True, False]
    assert not any("\n" in line or "remote" in line for line in said)
    restore.fetch(stages(JOBS))
    assert len(restore.clean(stages(JOBS))) == 3


@pytest.mark.parametrize("verify", [True, False], ids=["shared", "another"])
def test_changed_bytes_on_a_remote_are_refused(remote: Path, verify: bool) -> None:
    assert "verify = True" in CONFIG.read_text()
    if not verify:  # set up by hand
        CONFIG.write_text(CONFIG.read_text().replace("verify = True", "verify = False"))
    change(remote, SCORES, lambda text: text.replace("first", "forst"))
    with pytest.raises(UserError, match=rf"dvc pull: .* {SCORES}; .*other bytes") as error:
        restore.fetch(stages(JOBS))
    assert "\n" not in str(error.value)
    assert SCORES not in present()
    if verify:  # DVC's own command too
        with Repo(".") as repo, pytest.raises(CheckoutError):
            repo.pull([str(PIPELINE)])


def test_every_remote_is_checked_whatever_its_settings(remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC checks a folder of this machine by itself, so that only what it is told shows here."""
    told: dict[str, dict] = {}
    monkeypatch.setattr(Repo, "fetch", lambda repo, _: told.update(repo.config["remote"]))
    monkeypatch.setattr(Repo, "checkout", lambda repo, _: None)
    CONFIG.write_text(CONFIG.read_text().replace("verify = True", "verify = False"))
    with CONFIG.open("a") as file:
        file.write("['remote \"theirs\"']\n    url = ssh://host.invalid/folder\n")
    restore.fetch(stages(JOBS))
    assert {name: one["verify"] for name, one in told.items()} == {"shared": True, "theirs": True}


@pytest.mark.parametrize("name", ["2.zip", "../../../../escaped.zip"])
def test_a_changed_listing_leads_nowhere(remote: Path, name: str) -> None:
    change(remote, SAMPLES, lambda text: text.replace("1.zip", name))
    with pytest.raises(UserError, match=f"{SAMPLES}: what is in this folder is not what was recorded"):
        restore.fetch(stages(JOBS))
    assert present() == set()
    assert not list(Path().rglob("escaped.zip"))


def test_credentials_are_not_for_git(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: Repo, remote: str) -> None:
        raise OSError(f"cannot connect to {self.config['remote'][remote]['url']}")

    committed = CONFIG.read_text()
    monkeypatch.setattr("randcond.versions.__main__._record_all", lambda _: (recorded(JOBS), "smoke"))
    monkeypatch.setattr(Repo, "push", lambda self, remote: None)
    main(["share", "--remote", SECRET])
    assert CONFIG.read_text() == committed
    assert SECRET in LOCAL.read_text()
    said = capsys.readouterr().err.splitlines()[-1]
    assert "holds credentials" in said and str(LOCAL) in said and "hunter2" not in said
    monkeypatch.setattr(Repo, "push", refuse)
    with pytest.raises(SystemExit):
        main(["share", "--remote", SECRET])
    assert "hunter2" not in capsys.readouterr().err
    # the next one without is the one that is used
    monkeypatch.setattr(Repo, "push", lambda self, remote: None)
    assert not restore.share("ssh://user@host.invalid/folder")
    with Repo(".") as repo:
        assert repo.config["remote"]["shared"]["url"] == "ssh://user@host.invalid/folder"
    assert "hunter2" not in CONFIG.read_text() + LOCAL.read_text()


@pytest.mark.parametrize(
    "address", ["/mnt/group/a@b:c", "ssh://user@host/folder", "s3://bucket/folder", "../folder", "https://host/folder"]
)
def test_addresses_without_credentials(address: str) -> None:
    assert not restore.has_credentials(address)


@pytest.mark.parametrize(
    "address",
    [
        SECRET,
        "ssh://user:pass@host/folder",
        "s3://key:secret@bucket",
        "https://token@host/folder",
        "https://host/a?sig=b",
    ],
)
def test_addresses_with_credentials(address: str) -> None:
    assert restore.has_credentials(address)
