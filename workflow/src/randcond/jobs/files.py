"""Writing files whole or not at all, and telling by their bytes whether they are what they should be."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from randcond.jobs.errors import UserError, reading

_TOKEN = 4  # bytes that tell one writer from another
# what filesystems answer that know nothing of the kind; anything else, EIO say, is a failure
_REFUSED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary file or folder name; on success it takes ``path``'s place, on failure it goes.

    Each writer has a name of its own. What others left behind, or still write because they outlived the Snakemake that
    started them, goes: they fail then, and no two of them ever mix in one file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # not `*` for the token: report.pdf's partial files are not report's
    for others in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 2 * _TOKEN}.partial"):
        _remove(others)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(_TOKEN)}.partial")
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
    """Wait for a file, or for a folder where its filesystem can do so."""
    folder = path.is_dir()
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if not (folder and error.errno in _REFUSED):
            raise OSError(error.errno, error.strerror, str(path)) from None  # fsync's own names no file


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def take_lock(file: IO[Any] | int, path: Path, wait: bool = False) -> bool:
    """Take the lock of an open file or folder, which ends with it; False if another process has it.

    Args:
        file: What is open.
        path: Its name, for the error.
        wait: Until the other has let go.

    Raises:
        UserError: If its filesystem has no such locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        raise UserError(
            f"{path}: this filesystem locks no files ({error.strerror}); mount it with its option for locks"
            " (Lustre: flock, NFS: local_lock=flock), or move the checkout to another"
        ) from None
    return True


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


def files_below(path: Path, pattern: str = "*", above: frozenset[Path] = frozenset()) -> list[Path]:
    """The files of a folder and of all folders below it, sorted; of a file, itself; of nothing, nothing.

    Links are followed, as by the programs that open the files, but none in a circle; folders that nobody may read are
    left out, as of a disk's lost+found.

    Args:
        path: Folder or file.
        pattern: Of the names of files.
        above: For its own use: the folders that it came through.
    """
    if not path.is_dir():
        return [path] if path.is_file() and path.match(pattern) else []
    real = path.resolve()
    if real in above or not os.access(path, os.R_OK | os.X_OK):
        return []
    return sorted(file for one in path.iterdir() for file in files_below(one, pattern, above | {real}))


def sha256_of(paths: list[Path]) -> str:
    """SHA-256 of several files: of one its own, of more that of their hashes in a row."""
    sums = [sha256(path) for path in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
