"""D's prompts, the text pool and the evaluation prompts of a world.

Files: prompts are Parquet (id, text, split, source); the pool is one Arrow file with the column ``text``.
"""

import argparse
import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from randcond.errors import UserError
from randcond.files import atomic_path, write_json
from randcond.progress import log
from randcond.stage import named_paths, run_stage
from randcond.worlds import load_world

COLUMNS = ["id", "text", "split", "source"]
_BATCH = 65_536  # texts of a record batch


def write_prompts(path: Path, frame: pd.DataFrame) -> None:
    """Write prompts (text, split, source) with ids 0.. to Parquet, atomically."""
    frame = frame.reset_index(drop=True).assign(id=lambda f: np.arange(len(f), dtype=np.int64))
    with atomic_path(path) as partial:
        frame[COLUMNS].to_parquet(partial, index=False)


def read_prompts(path: Path) -> pd.DataFrame:
    """Read prompts.

    Raises:
        UserError: If the file is missing, broken, lacks a column or is empty, or a text or split is no text.
    """
    try:
        frame = pd.read_parquet(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the prompts stage") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a whole Parquet file ({error}); delete it and run again") from None
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise UserError(f"{path}: lacks the column {', '.join(missing)}")
    if frame.empty:
        raise UserError(f"{path}: holds no prompts")
    for column in ("text", "split"):
        for row, value in enumerate(frame[column]):
            if not isinstance(value, str):
                raise UserError(f"{path}: row {row} of its column {column} is no text but {value!r}")
    return frame


def write_pool(path: Path, texts: Iterable[str]) -> int:
    """Write a text pool, an Arrow IPC file to be memory-mapped, as the texts come; their number."""
    schema, texts, count = pa.schema([("text", pa.large_string())]), iter(texts), 0
    with atomic_path(path) as partial, pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        while batch := list(islice(texts, _BATCH)):
            writer.write_batch(pa.record_batch([pa.array(batch, pa.large_string())], schema))
            count += len(batch)
    return count


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    captions, evaluation, pool = load_world(settings["world"]).choose(settings, named_paths(arguments.sources))
    summary = {"expected": settings["expected"]}
    for name, frame in (("captions", captions), ("evaluation", evaluation)):
        counts = summary[name] = frame["split"].value_counts().to_dict()
        if len(counts) < 2:
            raise UserError(f"prompts.{name}: too few prompts; they hold {counts}, but both splits are needed")
        log.info("%s: %s", name, counts)
    for split, expected in settings["expected"].items():
        found = summary["captions"][split]
        log.info("%s captions: %d, the paper has %d (%+.1f%%)", split, found, expected, 100 * (found / expected - 1))
    summary["pool"] = write_pool(arguments.pool, pool)
    log.info("pool: %d texts, %.1f times D", summary["pool"], summary["pool"] / len(captions))
    write_prompts(arguments.captions, captions)
    write_prompts(arguments.evaluation, evaluation)
    write_json(arguments.summary, summary)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--sources", nargs="*", default=[], metavar="NAME=PATH", help="the world's files")
    for option in ("--captions", "--evaluation", "--pool", "--summary"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
