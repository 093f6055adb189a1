"""Checkpoints: whole or not at all, and only where they belong."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from randcond.checkpoint import Checkpoint
from randcond.errors import UserError
from randcond.files import atomic_path, write_tensors

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=10,
)


@given(state=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_round_trip(state: dict) -> None:
    tensor = torch.arange(6.0).view(2, 3)
    state = {"values": state, "nested": [{0: tensor, 1: [tensor.half(), torch.tensor(7)]}]}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), {})
        checkpoint.save(state)
        loaded = checkpoint.load()
    assert loaded is not None
    assert loaded["values"] == state["values"]
    assert torch.equal(loaded["nested"][0][0], tensor)
    assert loaded["nested"][0][1][0].dtype == torch.float16
    assert int(loaded["nested"][0][1][1]) == 7


def test_other_fingerprint_says_what_changed(tmp_path: Path) -> None:
    Checkpoint(tmp_path, {"settings": "1", "code": "1", "data": "1"}).save({})
    with pytest.raises(UserError, match=r"other code, data;"):
        Checkpoint(tmp_path, {"settings": "1", "code": "2", "data": "2"}).load()


def test_truncated_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.save({"tensor": torch.zeros(100)})
    checkpoint.file.write_bytes(checkpoint.file.read_bytes()[:-10])
    with pytest.raises(UserError, match="state.safetensors"):
        checkpoint.load()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from randcond.checkpoint import Checkpoint\n"
        "with Checkpoint(pathlib.Path(sys.argv[1]), {}).lock(): pass"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with Checkpoint(tmp_path, {}).lock():
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode != 0
        assert "another process trains here" in done.stderr
    assert subprocess.run(command).returncode == 0


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"a": torch.ones(1)})
    before = file.read_bytes()

    def fail() -> None:
        with atomic_path(file) as partial:
            partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
