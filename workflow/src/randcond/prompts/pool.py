"""C, the text pool: one Arrow file of any number of texts, memory-mapped, drawn from in O(1)."""

import mmap
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import overload

import pyarrow as pa

from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import atomic_path

_DRAWS = 64  # between two times that touched pages are given back: about 1 MB each where the system caches large pieces
_BATCH = 65_536  # texts of a record batch


def write_pool(path: Path, texts: Iterable[str]) -> int:
    """Write a text pool, an Arrow IPC file to be memory-mapped, as the texts come; their number."""
    schema, texts, count = pa.schema([("text", pa.large_string())]), iter(texts), 0
    with atomic_path(path) as partial, pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        while batch := list(islice(texts, _BATCH)):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.large_string())], schema))
            count += len(batch)
    return count


class ArrowTexts(Sequence[str]):
    """The column ``text`` of a memory-mapped Arrow file.

    Pages that draws have touched are given back now and then, so that the process stays small however long it draws;
    the system keeps them in its cache as it sees fit.

    Raises:
        UserError: If the file is missing, no Arrow file, or has no such column.
    """

    def __init__(self, path: Path) -> None:
        self._touched = 0
        with reading(path, "a whole text pool", missing="run the prompts stage"):
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            self._column = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(self._map))).read_all().column("text")
        kind = self._column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)) or self._column.null_count:
            raise UserError(
                f"{path}: its column text holds {kind}, {self._column.null_count} of them missing, not just texts"
            )

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return self._column[index].to_pylist()
        text: str = self._column[index].as_py()
        self._touched += 1
        if self._touched % _DRAWS == 0:
            self._map.madvise(mmap.MADV_DONTNEED)
        return text


class TextPool(Sequence[str]):
    """Several texts after one another, without copying them: D's own texts first, then the larger pools."""

    def __init__(self, *parts: Sequence[str]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = bisect_right(self._ends, index)
        return self._parts[part][index - (self._ends[part - 1] if part else 0)]
