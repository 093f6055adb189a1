"""Files: counted by their headers, written whole or not at all, locked, and what filesystems refuse."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from tiny_pipelines import tiny_unet

from randcond.jobs import files
from randcond.jobs.errors import UserError
from randcond.jobs.tensors import tensor_elements
from randcond.method.student import count_parameters
from randcond.prompts.rounds import Rounds
from randcond.training.checkpoint import Checkpoint


def test_parameters_are_counted_from_headers(tmp_path: Path) -> None:
    unet = tiny_unet()
    unet.save_pretrained(tmp_path / "one")
    unet.save_pretrained(tmp_path / "several", max_shard_size="100KB")
    for folder in ("one", "several"):
        weights = sorted((tmp_path / folder).glob("*.safetensors"))
        assert (len(weights) > 1) == (folder == "several")
        assert tensor_elements(weights) == count_parameters(unet)


def test_what_is_no_safetensors_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="weights.safetensors: not a whole safetensors file"):
        tensor_elements([tmp_path / "weights.safetensors"])


@pytest.mark.parametrize("name", ["report", "rep[o]rt"])
def test_a_siblings_partial_file_stays(tmp_path: Path, name: str) -> None:
    with files.atomic_path(tmp_path / f"{name}.pdf") as sibling:
        sibling.touch()
        left = tmp_path / f".{name}.0123abcd.partial"  # by a killed writer
        left.touch()
        files.write_text(tmp_path / name, "whole")
        assert sibling.exists()
        assert not left.exists()


def refusing(monkeypatch: pytest.MonkeyPatch, number: int, folders: bool) -> None:
    """Let the filesystem refuse to sync folders, or files."""
    fsync = os.fsync

    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode) == folders:
            raise OSError(number, os.strerror(number))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.EACCES])
def test_a_folder_that_cannot_be_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refusing(monkeypatch, number, folders=True)
    with files.atomic_path(tmp_path / "folder") as partial:
        partial.mkdir()
        (partial / "file").touch()
    assert (tmp_path / "folder/file").exists()


@pytest.mark.parametrize(("number", "folders"), [(errno.EINVAL, False), (errno.EIO, False), (errno.EIO, True)])
def test_what_cannot_be_kept_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, folders: bool
) -> None:
    refusing(monkeypatch, number, folders)
    with pytest.raises(OSError, match=str(tmp_path)):
        files.write_text(tmp_path / "a.json", "whole")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
@pytest.mark.parametrize(
    "locked", [lambda folder: Checkpoint(folder, {}).lock(), lambda folder: Rounds(folder, {}).lock()]
)
def test_a_filesystem_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, locked: Callable[[Path], AbstractContextManager[None]]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(UserError, match=rf"{tmp_path}/lock: this filesystem locks no files .*mount it"),
        locked(tmp_path),
    ):
        pass
