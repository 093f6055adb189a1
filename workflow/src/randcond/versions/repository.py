"""DVC's repository in the current folder, and what a DVC that was killed leaves behind in it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.lock import make_lock
from dvc.repo import Repo, lock_repo
from dvc.rwlock import RWLOCK_FILE, RWLOCK_LOCK

from randcond.jobs.errors import UserError
from randcond.versions.lock import insist_whole
from randcond.versions.pipeline import pipeline_file


@contextmanager
def opened() -> Iterator[Any]:
    """DVC's repository in the current folder, locked.

    Raises:
        UserError: If there is none, somebody else uses it, or DVC fails.
    """
    try:
        with Repo(".") as repo, lock_repo(repo):
            _mend_rwlock(Path(repo.tmp_dir), repo.config["core"].get("hardlink_lock", False))
            yield repo
    except DvcException as error:
        raise UserError(f"dvc: {said(error)}") from None


def stages_of(worlds: set[str], repo: Any) -> dict[tuple[str, str], Any]:
    """DVC's stages, by world and name.

    Raises:
        UserError: If a dvc.lock is broken.
        DvcException: If a dvc.yaml is.
    """
    known: dict[tuple[str, str], Any] = {}
    for world in worlds:
        file = pipeline_file(world)
        try:
            known |= {(world, one.name): one for one in repo.stage.load_all(str(file))}
        except DvcException:
            insist_whole(file.with_suffix(".lock"))
            raise
    return known


def said(error: Exception) -> str:
    """What DVC says went wrong, in one line, with the first of several things that it names below."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2] if lines[0].endswith(":") else lines[:1])


def _mend_rwlock(folder: Path, hardlink: bool) -> None:
    """Delete DVC's list of files in use if it is cut short: DVC writes it in place, and refuses all commands then."""
    path = folder / RWLOCK_FILE
    if not path.exists():
        return
    with make_lock(str(folder / RWLOCK_LOCK), tmp_dir=str(folder), hardlink_lock=hardlink):
        try:
            json.loads(path.read_bytes())
        except ValueError:
            path.unlink()
