"""dvc.lock: written whole or not at all, and one line where it is broken."""

import shutil
from pathlib import Path
from typing import Any

import yaml
from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.utils.strictyaml import validate

from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path


def write_lock(path: Path, entries: list[Any], repo: Any) -> None:
    """Put DVC's stages into a dvc.lock. DVC itself would empty it first, and then write for seconds."""
    with atomic_path(path) as partial:
        if path.exists():
            shutil.copyfile(path, partial)
        Lockfile(repo, str(partial)).dump_stages(entries)


def locked_stages(path: Path, content: str | bytes) -> dict[str, Any]:
    """The stages in a dvc.lock's content.

    Raises:
        UserError: If it is broken.
    """
    try:
        stages: dict[str, Any] = validate(yaml.safe_load(content), Lockfile.SCHEMA).get("stages", {})
    except (yaml.YAMLError, DvcException):
        raise UserError(
            f"{path}: broken, as a crash or a merge leaves it; `git checkout -- {path}`, or delete it if it was never"
            " committed; then `make record`"
        ) from None
    return stages


def insist_whole(path: Path) -> None:
    """Raise what :func:`locked_stages` does if a dvc.lock is there and broken: after DVC has failed, to say why."""
    if path.is_file():
        locked_stages(path, path.read_bytes())
