"""The list of assets (config/assets.yaml) and the lock file in which the fetch records what it found."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import take_lock, write_json
from randcond.jobs.yaml_file import read_yaml
from randcond.settings.fields import Above0, NoLogin, Section

FIRST_FETCH = "recorded at first fetch"
FAR_OFF = 1.5  # times the size in the list, which is a rough one
Sha256 = Annotated[str, Field(pattern=rf"^([0-9a-f]{{64}}|{FIRST_FETCH})$")]


class File(Section):
    """A file of an asset.

    Attributes:
        path: Its name in the asset's folder and, for a hub repository, in the repository.
        url: Where it comes from, if the asset is no hub repository.
        sha256: Of what is downloaded.
    """

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
    url: Annotated[str, Field(pattern=r"^(https?|file)://"), NoLogin] | None = None
    sha256: Sha256 = FIRST_FETCH

    @model_validator(mode="after")
    def _stays_inside(self) -> "File":
        if ".." in self.path.split("/"):
            raise ValueError(f"path: {self.path} leaves the asset's folder")
        return self


class Asset(Section):
    """Weights or data that are not part of the project.

    Attributes:
        repository: Of the Hugging Face hub; without it every file has a URL.
        kind: Of the repository.
        revision: Commit of the repository; ``main`` is resolved at the first fetch and stays as locked.
        files: What is needed of it.
        gigabytes: About how much is downloaded.
        licence: Under which it comes.
        repack: ``zip`` turns a downloaded .tar.gz into a zip of the same name, to be read without unpacking.
    """

    repository: str | None = None
    kind: Literal["model", "dataset"] = "model"
    revision: str = "main"
    files: Annotated[list[File], Field(min_length=1)]
    gigabytes: Above0
    licence: str
    repack: Literal["zip"] | None = None

    @property
    def most_bytes(self) -> int:
        """More than this cannot be what the list means."""
        return int(FAR_OFF * 1e9 * self.gigabytes)

    @property
    def least_bytes(self) -> int:
        """Nor can less than this."""
        return int(1e9 * self.gigabytes / FAR_OFF)

    @model_validator(mode="after")
    def _has_a_place(self) -> "Asset":
        for file in self.files:
            if (file.url is None) == (self.repository is None):
                raise ValueError(f"{file.path}: needs either a url or the asset's repository")
        if len({file.path for file in self.files}) < len(self.files):
            raise ValueError("files: a path stands there twice")
        return self


def read_assets(path: Path) -> dict[str, Asset]:
    """The list of assets.

    Raises:
        UserError: If it is missing or wrong.
    """
    try:
        return TypeAdapter(dict[str, Asset]).validate_python(read_yaml(path, "assets"))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def locked(lock: Path, name: str) -> dict[str, Any]:
    """What earlier fetches recorded of an asset: ``revision`` and ``files`` (path -> ``sha256`` and ``bytes``)."""
    entry: dict[str, Any] = _recorded(lock).get(name, {"revision": None, "files": {}})
    return entry


def _recorded(lock: Path) -> dict[str, Any]:
    """All that the lock holds. Most hashes are known by it alone, so that nobody should delete it for a merge."""
    mend = f"correct it, or take git's: git checkout -- {lock}"
    with reading(lock, "valid JSON", broken=mend):
        content: Any = json.loads(lock.read_text(encoding="utf-8")) if lock.exists() else {}
    if not isinstance(content, dict):
        raise UserError(f"{lock}: not a lock file; {mend}")
    return content


def record(lock: Path, name: str, entry: dict[str, Any]) -> None:
    """Write an asset's entry; other fetches may write theirs at the same time."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(lock.parent, os.O_RDONLY)
    try:
        take_lock(folder, lock.parent, wait=True)
        content = _recorded(lock)
        if content.get(name) != entry:
            write_json(lock, dict(sorted({**content, name: entry}.items())))
    finally:
        os.close(folder)


def needed(names: Iterable[str], config: dict[str, Any]) -> list[str]:
    """Those of the assets' names whose folder ``results/assets/<name>`` a configuration's values name, in order."""
    texts = set(_texts(config))
    return [name for name in names if f"results/assets/{name}" in texts]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
