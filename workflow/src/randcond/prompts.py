"""D's prompts, the text pool and the evaluation prompts of a world.

Files: prompts are Parquet (id, text, split, source); the pool is one Arrow file with the column ``text``.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from randcond.errors import UserError
from randcond.files import atomic_path
from randcond.progress import log
from randcond.seeding import numpy_generator
from randcond.stage import run_stage
from randcond.worlds import emoji

COLUMNS = ["id", "text", "split", "source"]


def write_prompts(path: Path, frame: pd.DataFrame) -> None:
    """Write prompts (text, split, source) with ids 0.. to Parquet, atomically."""
    frame = frame.reset_index(drop=True).assign(id=lambda f: np.arange(len(f), dtype=np.int64))
    with atomic_path(path) as partial:
        frame[COLUMNS].to_parquet(partial, index=False)


def read_prompts(path: Path) -> pd.DataFrame:
    """Read prompts.

    Raises:
        UserError: If the file is missing, broken, lacks a column or is empty.
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
    return frame


def write_pool(path: Path, texts: list[str]) -> None:
    """Write a text pool: an Arrow IPC file to be memory-mapped."""
    table = pa.table({"text": pa.array(texts, pa.large_string())})
    with (
        atomic_path(path) as partial,
        pa.OSFile(str(partial), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)


def choose(settings: dict) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Draw (D's prompts, evaluation prompts, pool) from the emoji world's captions.

    The evaluation prompts are in neither D nor the pool, as COCO's captions are not in LAION; concepts take
    turns in them, so that each is asked for equally often.

    Args:
        settings: ``count`` (D), ``evaluation`` and ``seed``.

    Raises:
        UserError: If the world has too few captions.
    """
    captions = emoji.captions()
    wanted, held_out = settings["count"], settings["evaluation"]
    if 10 * wanted > len(captions) - held_out:
        raise UserError(
            f"prompts.count: {wanted} prompts need a pool of {10 * wanted} texts; the emoji world has"
            f" {len(captions)}, of which prompts.evaluation keeps {held_out}"
        )
    rng = numpy_generator(settings["seed"])
    order = rng.permutation(len(captions))
    by_concept: dict[str, list[int]] = {}
    for i in order:
        by_concept.setdefault(captions[i].concept, []).append(int(i))
    names = [str(name) for name in rng.permutation(list(by_concept))]
    evaluation = [by_concept[names[k % len(names)]][k // len(names)] for k in range(held_out)]
    held = set(evaluation)
    rest = [int(i) for i in order if int(i) not in held]
    return _frame(rest[:wanted]), _frame(evaluation), [captions[i].text for i in sorted(rest)]


def _frame(indices: list[int]) -> pd.DataFrame:
    captions = emoji.captions()
    animal = emoji.concepts()
    return pd.DataFrame(
        {
            "text": [captions[i].text for i in indices],
            "split": ["unseen" if animal[captions[i].concept] else "seen" for i in indices],
            "source": "emoji",
        }
    )


def _main(arguments: argparse.Namespace) -> None:
    captions, evaluation, pool = choose(json.loads(arguments.settings))
    for name, frame in (("captions", captions), ("evaluation", evaluation)):
        counts = frame["split"].value_counts().to_dict()
        if len(counts) < 2:
            raise UserError(f"prompts.{name}: too few prompts; they hold {counts}, but both splits are needed")
        log.info("%s: %s", name, counts)
    log.info("pool: %d texts, %.1f times D", len(pool), len(pool) / len(captions))
    write_prompts(arguments.captions, captions)
    write_prompts(arguments.evaluation, evaluation)
    write_pool(arguments.pool, pool)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    for option in ("--captions", "--evaluation", "--pool"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
