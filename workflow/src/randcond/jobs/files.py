"""Writing files whole or not at all, and telling by their bytes whether they are what they should be."""

import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from randcond.jobs.errors import reading


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file or folder name; on success it takes ``path``'s place, on failure it goes.

    Each writer has a name of its own. What others left behind, or still write because they outlived the Snakemake that
    started them, goes: they fail then, and no two of them ever mix in one file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for others in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        _remove(others)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        _flush(partial)
        partial.lstat()  # before what is there goes: another writer may have taken this one away
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
        _sync(path.parent)
    finally:
        _remove(partial)


def _flush(path: Path) -> None:
    """Wait until a file, or a folder's files, are on the disk: after a power cut a name must not stand for nothing."""
    for one in [path, *(path.rglob("*") if path.is_dir() else [])]:
        _sync(one)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically. NaN and infinity are refused with ``ValueError``."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; a missing or broken one is a :class:`UserError` that names it."""
    with reading(path, "valid JSON"):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def sha256_of(paths: list[Path]) -> str:
    """SHA-256 of several files: of one its own, of more that of their hashes in a row."""
    sums = [sha256(path) for path in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
