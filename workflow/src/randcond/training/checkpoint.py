"""Full training state in one safetensors file, for resuming exactly where a job stopped.

The folder is no declared output of any rule (Snakemake deletes those when a job restarts). A lock file lets
one process at a time write there; a fingerprint of settings, data and code keeps a checkpoint from being
continued under other conditions.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import safe_open

from randcond.jobs.errors import UserError
from randcond.jobs.files import take_lock
from randcond.jobs.tensors import read_tensors, write_tensors

PATIENCE = 60.0  # seconds for a process that outlived its Snakemake to notice and to save its state
_TENSOR = "__tensor__"


class Checkpoint:
    """The checkpoint of one training, kept in ``folder``.

    Args:
        folder: Where the state is kept.
        fingerprint: Name -> hash of what the training depends on; compared on loading.
        minutes: Time between two writings by :meth:`due`.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, str], minutes: float = 2.0) -> None:
        self.folder = Path(folder)
        self.file = self.folder / "state.safetensors"
        self.fingerprint = fingerprint
        self.minutes = minutes
        self._last = time.monotonic()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            UserError: If another process holds it, and does not end in :data:`PATIENCE` seconds, or if the filesystem
                locks no files.
        """
        deadline = time.monotonic() + PATIENCE
        while not (file := self._try_lock()):
            if time.monotonic() >= deadline:
                raise UserError(f"{self.folder}: another process trains here; wait for it or stop it")
            time.sleep(1)
        with file:
            yield

    def _try_lock(self) -> IO[str] | None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "lock"
        file = path.open("a")
        held = False
        try:
            with suppress(FileNotFoundError):  # it went with the folder of a finished training
                held = take_lock(file, path) and path.stat().st_ino == os.fstat(file.fileno()).st_ino
        finally:
            if not held:
                file.close()
        return file if held else None

    def due(self) -> bool:
        """True once ``minutes`` have passed since the last writing."""
        return time.monotonic() - self._last >= 60 * self.minutes

    def save(self, state: dict[str, Any]) -> None:
        """Write ``state`` (nested dicts and lists of tensors and JSON values) atomically."""
        self._write(self.file, state)
        self._last = time.monotonic()

    def keep(self, state: dict[str, Any]) -> Path:
        """Write the state in which a training failed beside the one that it goes on from; the file's name."""
        evidence = self.folder / "failed.safetensors"
        self._write(evidence, state)
        return evidence

    def _write(self, file: Path, state: dict[str, Any]) -> None:
        tensors: dict[str, torch.Tensor] = {}
        skeleton = _take_tensors(state, tensors, set())
        metadata = {"fingerprint": json.dumps(self.fingerprint), "skeleton": json.dumps(skeleton)}
        write_tensors(file, tensors, {**metadata, "sha256": _digest(metadata, tensors)})

    def load(self) -> dict[str, Any] | None:
        """The saved state, or None where there is none.

        Raises:
            UserError: If it was made under another fingerprint, or is broken.
        """
        if not self.file.exists():
            return None
        tensors = read_tensors(self.file)
        with safe_open(self.file, "pt") as file:
            metadata = file.metadata() or {}
        if metadata.pop("sha256", "") != _digest(metadata, tensors):
            raise UserError(f"{self.file}: not a whole checkpoint of this program; delete it to start anew")
        saved = json.loads(metadata["fingerprint"])
        changed = sorted(k for k in saved.keys() | self.fingerprint.keys() if saved.get(k) != self.fingerprint.get(k))
        if changed:
            raise UserError(
                f"{self.folder}: its checkpoint was made with other {', '.join(changed)}; delete it to start anew"
            )
        return _put_tensors(json.loads(metadata["skeleton"]), tensors)

    def remove(self) -> None:
        """Delete the folder, once the finished result is in its place."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _digest(metadata: dict[str, str], tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of all but the tensors' numbers, of which there are gigabytes."""
    shapes = {name: [str(tensor.dtype), *tensor.shape] for name, tensor in tensors.items()}
    return hashlib.sha256(json.dumps([metadata, shapes], sort_keys=True).encode()).hexdigest()


def _take_tensors(value: Any, tensors: dict[str, torch.Tensor], storages: set[int]) -> Any:
    """A JSON-able copy of ``value`` in which every tensor is replaced by its name in ``tensors``.

    A tensor is copied only where it shares memory with another, which the format does not allow: at full size a copy
    of everything is gigabytes.
    """
    if isinstance(value, torch.Tensor):
        name, storage = str(len(tensors)), value.untyped_storage().data_ptr()
        tensors[name] = value.clone() if storage in storages else value
        storages.add(storage)
        return {_TENSOR: name}
    if isinstance(value, dict):
        # keys may be integers (the optimiser's parameter numbers): keep them as pairs
        return {"pairs": [[key, _take_tensors(item, tensors, storages)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_tensors(item, tensors, storages) for item in value]
    return value


def _put_tensors(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {key: _put_tensors(item, tensors) for key, item in value["pairs"]}
    if isinstance(value, list):
        return [_put_tensors(item, tensors) for item in value]
    return value
