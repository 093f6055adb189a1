"""The large pool: what is cleaned away, what is drawn, and how little memory it takes to draw from it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from randcond.jobs.errors import UserError
from randcond.prompts.pool import ArrowTexts, write_pool
from randcond.worlds import texts
from randcond.worlds.texts import cleaned, sample_texts


def write(path: Path, values: list[str | None], column: str = "TEXT", rows: int = 7) -> Path:
    table = pa.table({column: pa.array(values, pa.string()), "URL": ["u"] * len(values)})
    pq.write_table(table, path, row_group_size=rows)
    return path


def sample(files: list[Path], count: int, seed: int = 0, **more: object) -> list[str]:
    return list(sample_texts(files, count, seed, 1000, **more))


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("  a\x00b\tc \u200b d\r\n", ["a b c d"]),
        (None, []),
        ("", []),
        (" \n\u2028\u00a0", []),
        ("caf\u00e9 \u202etest", ["caf\u00e9 test"]),
        ("x" * 5000, ["x" * 1000]),
        ("a" * 999 + " b", ["a" * 999]),
    ],
)
def test_cleaned(dirty: str | None, clean: list[str]) -> None:
    assert cleaned(pa.array([dirty], pa.string()), 1000).to_pylist() == clean


@given(st.lists(st.none() | st.text(max_size=30)))
def test_nothing_strange_is_left(values: list[str | None]) -> None:
    for text in cleaned(pa.array(values, pa.string()), 20).to_pylist():
        assert text == " ".join(text.split())
        assert 0 < len(text) <= 20
        assert not any(ord(character) < 32 or character in "\u200b\u202e\ufeff" for character in text)


def test_bytes_that_are_no_text() -> None:
    offsets, data = np.array([0, 3, 5], np.int32), b"a\xffbcd"
    broken = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(offsets), pa.py_buffer(data)])
    assert cleaned(broken, 100).to_pylist() == ["a\ufffdb", "cd"]


KINDS = {
    "bytes": pa.binary(), "large bytes": pa.large_binary(), "views of bytes": pa.binary_view(),
    "large": pa.large_string(), "views": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()), "dictionary of bytes": pa.dictionary(pa.int8(), pa.binary()),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_any_type_are_the_same_texts(kind: str, tmp_path: Path) -> None:
    values = ["a  tiger", None, "caf\u00e9", "a tiger", "\u202e"]
    whole = KINDS[kind]
    column = pa.array(values, pa.string())
    if pa.types.is_dictionary(whole):
        column = column.cast(whole.value_type).dictionary_encode()
    pq.write_table(pa.table({"TEXT": column.cast(whole)}), tmp_path / "a.parquet")
    assert sample([tmp_path / "a.parquet"], 2) == sample([write(tmp_path / "b.parquet", values)], 2)


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.string())])
def test_what_is_no_text_is_named(kind: pa.DataType, tmp_path: Path) -> None:
    pq.write_table(pa.table({"TEXT": pa.array([None], kind)}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: its column TEXT holds .*, not texts") as caught:
        sample([tmp_path / "a.parquet"], 1)
    assert "delete" not in str(caught.value)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    first = [f"text {i}" for i in range(60)] + [None, "", "text 3", " text  4 "]
    second = [f"text {i}" for i in range(40, 100)]
    return [write(tmp_path / "a.parquet", first), write(tmp_path / "b.parquet", second)]


def test_distinct_and_of_the_seed_alone(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    everything = {f"text {i}" for i in range(100)}
    assert set(sample(files, 100)) == everything
    drawn = sample(files, 30)
    assert len(drawn) == len(set(drawn)) == 30
    assert set(drawn) <= everything
    assert drawn == sample(files, 30)
    assert set(drawn) == set(sample(files[::-1], 30))  # the order of the files decides nothing but the order
    assert set(drawn) != set(sample(files, 30, seed=1))
    assert set(drawn) < set(sample(files, 31))
    monkeypatch.setattr(texts, "_ROWS", 3)  # nor how they are read
    assert drawn == sample(files, 30)


def test_drawn_evenly(tmp_path: Path) -> None:
    # a text that stands there a thousand times is no likelier than one that stands there once
    file = write(tmp_path / "a.parquet", ["often"] * 1000 + [f"once {i}" for i in range(9)], rows=100)
    drawn = sum("often" in sample([file], 3, seed) for seed in range(300))
    assert 60 < drawn < 120  # 90 on average, with a standard deviation of 8


@pytest.mark.parametrize("fault", ["too few", "no column", "cut", "no parquet", "missing"])
def test_faults_are_one_line(files: list[Path], fault: str) -> None:
    count, named = 30, "b.parquet"
    if fault == "too few":
        count, named = 101, "prompts.pool: 101 texts wanted"
    elif fault == "no column":
        write(files[1], ["x"], column="CAPTION")
    elif fault == "cut":
        files[1].write_bytes(files[1].read_bytes()[:-20])
    elif fault == "no parquet":
        files[1].write_text("<html>not found</html>" * 10)
    else:
        files[1].unlink()
    with pytest.raises(UserError, match=named) as caught:
        sample(files, count)
    assert "\n" not in str(caught.value)


def test_batches_of_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from randcond.prompts import pool as module

    monkeypatch.setattr(module, "_BATCH", 4)
    values = [f"text {i}" for i in range(11)]
    assert write_pool(tmp_path / "pool", iter(values)) == 11
    pool = ArrowTexts(tmp_path / "pool")
    assert [pool[i] for i in range(11)] == pool[:] == values


def test_drawing_stays_small(tmp_path: Path) -> None:
    # far more is drawn than may stay in memory
    write_pool(tmp_path / "pool", (f"{i:010d}" * 30 for i in range(400_000)))
    assert (tmp_path / "pool").stat().st_size > 100e6
    program = (
        "import random, resource, sys\n"
        "from randcond.prompts.pool import ArrowTexts\n"
        "def held():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()\n"
        "before = held()\n"
        "pool, rng = ArrowTexts(sys.argv[1]), random.Random(0)\n"
        "for _ in range(30_000):\n"
        "    i = rng.randrange(len(pool))\n"
        "    assert pool[i] == f'{i:010d}' * 30\n"
        "print(held() - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "pool")], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 90e6, "touched pages are not given back"
