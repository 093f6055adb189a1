"""Errors for the user: one line whatever they quote, and "delete it" for broken files alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from randcond.assets.listing import read_assets
from randcond.jobs.errors import UserError, reading
from randcond.jobs.files import read_json
from randcond.jobs.tensors import read_tensors, tensor_elements
from randcond.prompts.pool import ArrowTexts
from randcond.prompts.table import read_prompts
from randcond.report import grids, inputs, machine
from randcond.report.paper import Paper
from randcond.settings.experiments import load_experiments
from randcond.worlds.archives import Archive, numbered_images
from randcond.worlds.texts import sample_texts

READERS: dict[str, Callable[[Path], object]] = {
    "JSON": read_json,
    "tensors": read_tensors,
    "size of tensors": lambda path: tensor_elements([path]),
    "prompts": read_prompts,
    "the report's prompts": inputs.read_prompts,
    "text pool": ArrowTexts,
    "texts": lambda path: list(sample_texts([path], 1, 0, 10)),
    "archive": Archive,
    "images": lambda path: numbered_images([path]),
    "samples": lambda path: grids.read_samples([path], [0]),
    "benchmark": lambda path: machine.costs([path]),
    "the paper's numbers": Paper,
    "experiments": load_experiments,
    "assets": read_assets,
}


@given(st.text())
def test_an_error_is_one_printable_line(quoted: str) -> None:
    line = str(UserError(f"file: {quoted}\n; delete it"))
    assert line.isprintable() and line.startswith("file:") and line.endswith("; delete it")
    line.encode()


@pytest.mark.parametrize("name", READERS)
def test_what_the_system_does_not_let_us_read_is_not_to_be_deleted(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to(path)  # stands for a missing permission, which root does not know
    with pytest.raises(UserError, match="file: cannot be read") as caught:
        READERS[name](path)
    assert "cannot be read (Too many levels of symbolic links); look at its permissions" in str(caught.value)
    assert "delete" not in str(caught.value)


def test_an_unreadable_file_in_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights").symlink_to(tmp_path / "weights")
    with (
        pytest.raises(UserError, match=r"weights: cannot be read"),
        reading(tmp_path, "a model", broken="delete it"),
    ):
        raise ValueError
