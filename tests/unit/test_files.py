"""Counting a model's parameters by its files."""

from pathlib import Path

import pytest

from conftest import tiny_unet
from randcond.jobs.errors import UserError
from randcond.jobs.tensors import tensor_elements
from randcond.method.student import count_parameters


def test_parameters_are_counted_from_headers(tmp_path: Path) -> None:
    unet = tiny_unet()
    unet.save_pretrained(tmp_path / "one")
    unet.save_pretrained(tmp_path / "several", max_shard_size="100KB")
    for folder in ("one", "several"):
        files = sorted((tmp_path / folder).glob("*.safetensors"))
        assert (len(files) > 1) == (folder == "several")
        assert tensor_elements(files) == count_parameters(unet)


def test_what_is_no_safetensors_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="weights.safetensors: not a whole safetensors file"):
        tensor_elements([tmp_path / "weights.safetensors"])
