"""Shared by all tests."""

import os

import pytest
import torch
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
torch.set_num_threads(1)
# the same examples every time, and none too slow on a busy machine
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


def pytest_itemcollected(item: pytest.Item) -> None:
    """With several workers, one of them runs the smoke world and all tests of it."""
    if "smoke" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.xdist_group("smoke"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """It begins at once."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)
