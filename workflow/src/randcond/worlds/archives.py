"""Images and tables out of the zips that assets come in; never one file an image on disk."""

import csv
import io
import json
import re
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import files_below

_AGAIN = "delete it and run snakemake fetch"


class Archive:
    """A zip whose members are found by their base name.

    Args:
        path: The zip.

    Raises:
        UserError: If it is missing or broken; when a member is asked for, if there is none or several of its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, "a whole zip", missing="run snakemake fetch", broken=_AGAIN):
            self._zip = zipfile.ZipFile(path)
        self._members: dict[str, list[str]] = {}
        for name in self._zip.namelist():
            if not name.endswith("/"):
                self._members.setdefault(PurePosixPath(name).name, []).append(name)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The member of this base name.

        Raises:
            UserError: If there is none, or it is broken.
        """
        member = self._member(name)
        with reading(self.path, f"whole: {name} is broken", broken=_AGAIN):
            return self._zip.read(member)

    def _member(self, name: str) -> str:
        found = self._members.get(name, [])
        if not found:
            raise UserError(f"{self.path}: holds no {name}; check the configuration's sources")
        if len(found) > 1:
            raise UserError(f"{self.path}: {found[0]} and {found[1]} are both called {name}; give each its own name")
        return found[0]

    def image(self, name: str) -> Image.Image:
        """The image of this base name, in RGB.

        Raises:
            UserError: If there is none, or it is broken.
        """
        with reading(self.path, f"whole: {name} is no whole image", broken=_AGAIN):
            return Image.open(io.BytesIO(self.read(name))).convert("RGB")

    def captions(self) -> list[tuple[str, str]]:
        """(file name, text) of its metadata.csv.

        Raises:
            UserError: See :func:`parse_captions`; and if two captions' images have the same base name.
        """
        captions = parse_captions(self.read("metadata.csv"), f"{self.path}: metadata.csv")
        for name in (PurePosixPath(name).name for name, _ in captions):
            if name in self:
                self._member(name)
        return captions

    def json(self, name: str) -> Any:
        """The JSON member of this base name."""
        with reading(self.path, f"whole: {name} is not valid JSON", broken=_AGAIN):
            return json.loads(self.read(name))


@cache
def open_archive(path: Path) -> Archive:
    """The archive (the one in a folder), opened once a process: a directory of 200,000 names takes a second."""
    return Archive(only_file(path, "*.zip"))


def numbered_images(archives: Sequence[Path]) -> list[tuple[Path, list[str]]]:
    """The archives with their images' names, both in the order of the numbers that are the images' names.

    Raises:
        UserError: If an archive is missing, broken or empty, or the numbers of all are not 0, 1, 2, ...
    """
    found = []
    for path in archives:
        with reading(path, "a whole zip of images"), zipfile.ZipFile(path) as file:
            names = [name for name in file.namelist() if not name.endswith("/")]
        if not names:
            raise UserError(f"{path}: holds no images; delete it and run again")
        if strange := [name for name in names if not re.fullmatch(r"\d{1,18}", _stem(name))]:
            raise UserError(f"{path}: {strange[0]} is no image's number; delete it and run again")
        found.append((path, sorted(names, key=_number)))
    found.sort(key=lambda one: _number(one[1][0]))
    for place, (path, name) in enumerate((path, name) for path, names in found for name in names):
        if _number(name) != place:
            raise UserError(f"{path}: {name} stands where image {place} should; delete the images and run again")
    return found


def _stem(name: str) -> str:
    return PurePosixPath(name).stem


def _number(name: str) -> int:
    return int(_stem(name))


def only_file(path: Path, pattern: str) -> Path:
    """The path itself, or the one file in that folder that fits the pattern.

    Raises:
        UserError: If the folder holds none or several.
    """
    if not path.is_dir():
        return path
    found = files_below(path, pattern)
    if len(found) != 1:
        raise UserError(f"{path}: holds {len(found)} files {pattern} instead of one; run snakemake fetch")
    return found[0]


def parse_captions(content: bytes, where: str) -> list[tuple[str, str]]:
    """(file name, text) of a CSV with these columns (file_name, text), rows without a text left out.

    Raises:
        UserError: If a column is missing, a row has more or fewer than the others, or a file name stands there twice;
            and for quotes of which one is missing, as rows that they swallow would be gone unnoticed.
    """
    lines = io.StringIO(content.decode("utf-8-sig", "replace"), newline="")
    reader = csv.DictReader(lines, restkey="", restval=None, strict=True)
    try:
        if missing := {"file_name", "text"} - set(reader.fieldnames or ()):
            raise UserError(f"{where}: lacks the column {', '.join(sorted(missing))}")
        pairs = [_caption(row, f"{where}: line {reader.line_num}") for row in reader]
    except csv.Error as error:
        raise UserError(f"{where}: line {reader.reader.line_num}: {error}; correct its quotes") from None
    if len({name for name, _ in pairs}) < len(pairs):
        raise UserError(f"{where}: a file name stands there twice")
    return [(name, text) for name, text in pairs if text]


def _caption(row: dict[str, Any], where: str) -> tuple[str, str]:
    """(file name, text) of a row."""
    if "" in row or None in row.values():
        raise UserError(f"{where}: has {'more' if '' in row else 'fewer'} columns than the first line; correct it")
    name, text = row["file_name"], row["text"]
    suffix = re.escape(PurePosixPath(name).suffix)
    if suffix and re.search(rf"[\r\n][^\r\n,]*{suffix}\"?,", text):
        raise UserError(f"{where}: the text of {name} holds the row of another file; correct the quotes there")
    return name, " ".join(text.split())
