"""Checkpoints: whole or not at all, and only where they belong."""

import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from randcond.jobs import files
from randcond.jobs import tensors as tensor_files
from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path
from randcond.jobs.tensors import write_tensors
from randcond.training import checkpoint as module
from randcond.training.checkpoint import Checkpoint

dtypes = st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool])
tensors = st.builds(
    lambda shape, dtype, seed: torch.randint(2, shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    dtypes,
    st.integers(0, 99),
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | tensors,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("a/0_", max_size=3) | st.integers(0, 2), inner),
    max_leaves=10,
)


def same(one: Any, other: Any) -> bool:
    """Equal in type, keys, order and every tensor's bits."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@given(state=st.dictionaries(st.text(max_size=5), values, max_size=4))
def test_round_trip(state: dict) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder), {})
        checkpoint.save(state)
        assert same(checkpoint.load(), state)


def test_shared_and_strided_tensors_survive(tmp_path: Path) -> None:
    tensor = torch.arange(6.0).view(2, 3)
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.save({"a": tensor, "b": tensor, "c": tensor.T, "d": (tensor[0], 1)})
    assert same(checkpoint.load(), {"a": tensor, "b": tensor, "c": tensor.T, "d": [tensor[0], 1]})


@pytest.mark.parametrize("keys", [(0, "0"), ("a/b", "a")])
def test_names_that_look_alike_stay_apart(tmp_path: Path, keys: tuple) -> None:
    state = {keys[0]: torch.zeros(1), keys[1]: {"b": torch.ones(1)} if keys[1] == "a" else torch.ones(1)}
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.save(state)
    assert same(checkpoint.load(), state)


def test_state_of_a_real_optimiser_survives(tmp_path: Path) -> None:
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.save({"optimizer": optimizer.state_dict()})
    loaded = checkpoint.load()
    assert loaded is not None
    assert same(loaded["optimizer"]["state"], optimizer.state_dict()["state"])
    assert set(loaded["optimizer"]["state"]) == {0, 1}
    torch.optim.AdamW(torch.nn.Linear(3, 2).parameters()).load_state_dict(loaded["optimizer"])


def test_nothing_there(tmp_path: Path) -> None:
    assert Checkpoint(tmp_path / "none", {}).load() is None


@pytest.mark.parametrize(
    ("now", "named"),
    [
        ({"settings": "1", "code": "2", "data": "2"}, "other code, data;"),
        ({"settings": "1", "code": "1"}, "other data;"),
        ({"settings": "1", "code": "1", "data": "1", "teacher": "1"}, "other teacher;"),
    ],
)
def test_other_fingerprint_says_what_changed(tmp_path: Path, now: dict, named: str) -> None:
    saved = Checkpoint(tmp_path, {"settings": "1", "code": "1", "data": "1"})
    saved.save({"step": 3})
    with pytest.raises(UserError, match=named) as caught:
        Checkpoint(tmp_path, now).load()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert saved.load() == {"step": 3}


@pytest.mark.parametrize("kept", [0, 4, 60, -1])
def test_truncated_is_named(tmp_path: Path, kept: int) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.save({"tensor": torch.zeros(100)})
    checkpoint.file.write_bytes(checkpoint.file.read_bytes()[:kept])
    with pytest.raises(UserError, match="state.safetensors") as caught:
        checkpoint.load()
    assert "\n" not in str(caught.value)


def test_a_safetensors_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    save_file({"weight": torch.zeros(2)}, checkpoint.file)
    with pytest.raises(UserError, match="state.safetensors") as caught:
        checkpoint.load()
    assert "\n" not in str(caught.value)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from randcond.training import checkpoint; checkpoint.PATIENCE = 0.0\n"
        "with checkpoint.Checkpoint(pathlib.Path(sys.argv[1]), {}).lock(): print('mine')"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with Checkpoint(tmp_path, {}).lock():
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode != 0
        assert "another process trains here" in done.stderr
        assert "mine" not in done.stdout


@pytest.mark.parametrize("finished", [False, True])
def test_waits_for_a_writer_that_is_about_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    first, second = Checkpoint(tmp_path / "run", {}), Checkpoint(tmp_path / "run", {})
    with ExitStack() as other:
        other.enter_context(first.lock())
        waited: list[float] = []

        def meanwhile(seconds: float) -> None:
            waited.append(seconds)
            if finished:
                first.remove()  # as a training does when its result is in place
            other.close()

        monkeypatch.setattr(module.time, "sleep", meanwhile)
        with second.lock():
            assert len(waited) == 1
            monkeypatch.setattr(module, "PATIENCE", 0.0)
            with pytest.raises(UserError, match="another process"), Checkpoint(tmp_path / "run", {}).lock():
                pass


@pytest.mark.usefixtures("impatient")
def test_a_failed_training_lets_go_of_the_lock(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    with pytest.raises(RuntimeError), checkpoint.lock():
        raise RuntimeError
    with checkpoint.lock(), pytest.raises(UserError, match="another process"), Checkpoint(tmp_path, {}).lock():
        pass


def test_failed_save_keeps_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path, {})
    checkpoint.save({"step": 1, "weight": torch.ones(3)})

    def disk_full(_tensors: dict, path: Path, _metadata: dict) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", disk_full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.save({"step": 2, "weight": torch.zeros(3)})
    assert same(checkpoint.load(), {"step": 1, "weight": torch.ones(3)})
    assert list(tmp_path.iterdir()) == [checkpoint.file]


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


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    left = [tmp_path / ".a.json.0123abcd.partial", tmp_path / ".b.json.0123abcd.partial"]
    left[0].mkdir()
    (left[0] / "half").touch()
    left[1].touch()
    files.write_text(tmp_path / "a.json", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [left[1].name, "a.json"]


@pytest.mark.parametrize("folder", [False, True])
def test_two_writers_never_mix(tmp_path: Path, folder: bool) -> None:
    def write(partial: Path, text: str) -> None:
        if folder:
            partial.mkdir(exist_ok=True)
        (partial / "text" if folder else partial).write_text(text)

    target = tmp_path / "result"
    with pytest.raises(FileNotFoundError), atomic_path(target) as outlived:
        write(outlived, "half")
        with atomic_path(target) as partial:
            write(partial, "whole")
    assert (target / "text" if folder else target).read_text() == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_folders_are_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    for name in ("old", "new"):
        with atomic_path(folder) as partial:
            partial.mkdir()
            (partial / name).touch()
            assert not (folder / name).exists()
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "pipeline",
        "pipeline/new",
    ]


def test_due_once_the_minutes_have_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    checkpoint = Checkpoint(tmp_path, {}, minutes=2.0)
    due = []
    for now in (1000.0, 1119.0, 1120.0):  # noqa: B007 (read by the clock)
        due.append(checkpoint.due())
    checkpoint.save({})
    assert [*due, checkpoint.due()] == [False, False, True, False]


def test_removed_with_its_folder(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "run", {})
    with checkpoint.lock():
        checkpoint.save({})
    checkpoint.remove()
    assert not checkpoint.folder.exists()
