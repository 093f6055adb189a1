"""Images and tables out of the zips that assets come in; never one file an image on disk."""

import csv
import io
import json
import zipfile
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from randcond.jobs.errors import UserError


class Archive:
    """A zip whose members are found by their base name.

    Args:
        path: The zip.

    Raises:
        UserError: If it is missing or broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; run snakemake fetch") from None
        except zipfile.BadZipFile:
            raise UserError(f"{path}: not a whole zip; delete it and run snakemake fetch") from None
        self._members = {PurePosixPath(name).name: name for name in self._zip.namelist() if not name.endswith("/")}

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """The member of this base name.

        Raises:
            UserError: If there is none, or it is broken.
        """
        if name not in self._members:
            raise UserError(f"{self.path}: holds no {name}; check the configuration's sources")
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, OSError, EOFError) as error:
            raise UserError(f"{self.path}: {name} is broken ({error}); delete it and run snakemake fetch") from None

    def image(self, name: str) -> Image.Image:
        """The image of this base name, in RGB.

        Raises:
            UserError: If there is none, or it is broken.
        """
        try:
            return Image.open(io.BytesIO(self.read(name))).convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise UserError(f"{self.path}: {name} is no whole image ({error})") from None

    def captions(self) -> list[tuple[str, str]]:
        """(file name, text) of its metadata.csv."""
        return parse_captions(self.read("metadata.csv"), f"{self.path}: metadata.csv")

    def json(self, name: str) -> Any:
        """The JSON member of this base name."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise UserError(f"{self.path}: {name} is not valid JSON ({error})") from None


@cache
def open_archive(path: Path) -> Archive:
    """The archive (the one in a folder), opened once a process: a directory of 200,000 names takes a second."""
    return Archive(only_file(path, "*.zip"))


def only_file(path: Path, pattern: str) -> Path:
    """The path itself, or the one file in that folder that fits the pattern.

    Raises:
        UserError: If the folder holds none or several.
    """
    if not path.is_dir():
        return path
    found = sorted(path.rglob(pattern))
    if len(found) != 1:
        raise UserError(f"{path}: holds {len(found)} files {pattern} instead of one; run snakemake fetch")
    return found[0]


def parse_captions(content: bytes, where: str) -> list[tuple[str, str]]:
    """(file name, text) of a CSV with these columns (file_name, text), rows without a text left out.

    Raises:
        UserError: If a column is missing, or a file name stands there twice.
    """
    reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig", "replace"), newline=""))
    if missing := {"file_name", "text"} - set(reader.fieldnames or ()):
        raise UserError(f"{where}: lacks the column {', '.join(sorted(missing))}")
    pairs = [(row["file_name"], " ".join((row["text"] or "").split())) for row in reader]
    if len({name for name, _ in pairs}) < len(pairs):
        raise UserError(f"{where}: a file name stands there twice")
    return [(name, text) for name, text in pairs if text]
