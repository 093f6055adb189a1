"""A large sample of distinct texts from Parquet files of any size, in little memory.

Every text has a keyed 64-bit hash; the sample is the texts with the smallest hashes. So it is uniform over distinct
texts, holds none twice, and depends on the seed alone: not on the order of files or on how they are read. The files are
read twice: for the hash below which a text is in, and for those texts.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from randcond.jobs.errors import UserError, reading
from randcond.jobs.progress import Progress
from randcond.jobs.seeding import numpy_generator

log = logging.getLogger("randcond")

_ROWS = 32_768  # of a batch
_BUFFER = 2**20  # bytes of a column that are read ahead
_TEXTS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary),
)
# control, format, surrogate, private and unassigned characters, line and paragraph separators, other white space
_STRANGE = r"[\p{C}\p{Z}\s]+"


def cleaned(column: pa.Array, max_characters: int) -> pa.Array:
    """Texts without control characters and outer spaces, single-spaced and cut; missing and empty ones left out.

    Args:
        column: Strings or bytes, of any of Arrow's types for them, maybe with nulls and with bytes that are no UTF-8
            (those become U+FFFD).
        max_characters: Longer texts are cut there; a text encoder reads far fewer.
    """
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        # the functions below know no views and no dictionaries; that bytes are UTF-8 is looked at in the next step
        column = pc.cast(column, pa.large_string(), safe=False)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        values = column.cast(pa.large_binary()).to_pylist()
        column = pa.array([None if v is None else v.decode("utf-8", "replace") for v in values], pa.large_string())
    texts = pc.replace_substring_regex(column.drop_null(), _STRANGE, " ")
    texts = pc.utf8_trim(pc.utf8_slice_codeunits(pc.utf8_trim(texts, " "), 0, max_characters), " ")
    return texts.filter(pc.greater(pc.binary_length(texts), 0))


def sample_texts(
    files: Sequence[Path], count: int, seed: int, max_characters: int, column: str = "TEXT"
) -> Iterator[str]:
    """``count`` distinct cleaned texts, uniformly drawn, in the files' order.

    Args:
        files: Parquet files.
        count: Texts wanted.
        seed: Seed of the draw.
        max_characters: See :func:`cleaned`.
        column: Their column.

    Raises:
        UserError: If a file is broken or lacks the column, or there are fewer distinct texts.
    """
    key = "".join(f"{byte:02x}" for byte in numpy_generator(seed).bytes(8))
    chosen = _smallest_hashes(files, count, key, max_characters, column)
    if len(chosen) < count:
        raise UserError(
            f"prompts.pool: {count} texts wanted, but the {len(files)} files in {files[0].parent} hold {len(chosen)}"
            " distinct ones; lower it or add files"
        )
    waiting = np.ones(count, bool)
    for texts in _batches(files, max_characters, column, "text pool, second reading"):
        hashes = _hashes(texts, key)
        places = np.searchsorted(chosen, hashes).clip(max=count - 1)
        hits = np.flatnonzero((chosen[places] == hashes) & waiting[places])
        _, first = np.unique(places[hits], return_index=True)  # a text may stand in a batch twice
        hits = np.sort(hits[first])
        waiting[places[hits]] = False
        yield from texts.take(pa.array(hits)).to_pylist()


def _smallest_hashes(files: Sequence[Path], count: int, key: str, max_characters: int, column: str) -> np.ndarray:
    """The ``count`` smallest distinct hashes, sorted; fewer if there are fewer. Merging holds four times as many."""
    kept, waiting, size, limit = np.empty(0, np.uint64), list[np.ndarray](), 0, np.uint64(2**64 - 1)
    for texts in _batches(files, max_characters, column, "text pool, first reading"):
        hashes = _hashes(texts, key)
        waiting.append(hashes[hashes <= limit])
        size += len(waiting[-1])
        if size > max(count // 8, _ROWS):
            kept, waiting, size = _merged(kept, waiting, count), [], 0
            if len(kept) == count:
                limit = kept[-1]
    return _merged(kept, waiting, count)


def _merged(kept: np.ndarray, waiting: list[np.ndarray], count: int) -> np.ndarray:
    hashes = np.concatenate([kept, *waiting])
    hashes.sort()  # in place, which np.unique does in a copy
    new = np.append(True, hashes[1:] != hashes[:-1])
    return hashes[new[: len(hashes)]][:count].copy()


def _hashes(texts: pa.Array, key: str) -> np.ndarray:
    objects = texts.to_numpy(zero_copy_only=False)
    return pd.util.hash_array(objects, hash_key=key, categorize=False)


def _check_column(path: Path, schema: pa.Schema, column: str) -> None:
    if schema.names.count(column) != 1:
        raise UserError(f"{path}: lacks the column {column}, or has it twice; it has {', '.join(schema.names)}")
    kind = schema.field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not any(is_text(kind) for is_text in _TEXTS):
        raise UserError(f"{path}: its column {column} holds {kind}, not texts; name other files")


def _batches(files: Sequence[Path], max_characters: int, column: str, what: str) -> Iterator[pa.Array]:
    progress, rows, used = Progress(what, len(files), "files"), 0, 0
    for number, path in enumerate(files, 1):
        with (
            reading(path, "a whole Parquet file", missing="run snakemake fetch", broken="delete it and fetch it again"),
            pq.ParquetFile(path, buffer_size=_BUFFER) as file,
        ):
            _check_column(path, file.schema_arrow, column)
            for batch in file.iter_batches(_ROWS, columns=[column]):
                texts = cleaned(batch.column(0), max_characters)
                rows, used = rows + len(batch), used + len(texts)
                yield texts
        progress.at(number)
    log.info("%s: %d rows, %d of them without a text", what, rows, rows - used)
