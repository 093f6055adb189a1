"""A copy of the checkout in which the smoke world is run once for all tests of the workflow."""

import os
from collections.abc import Iterator

import pytest

from checkout import COLD, SMOKE, Checkout
from warm_python import warm_python


@pytest.fixture(scope="session", autouse=True)
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Commands that start warm, unless ``COLD_PYTHON=1`` asks for all to be started anew."""
    if os.environ.get("COLD_PYTHON"):
        yield
        return
    with warm_python(tmp_path_factory.mktemp("warm")) as folder:
        os.environ["PATH"] = os.pathsep.join([str(folder), COLD["PATH"]])
        yield
    os.environ["PATH"] = COLD["PATH"]


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The smoke world, run from nothing to its report."""
    checkout = Checkout(tmp_path_factory.mktemp("smoke"))
    checkout.snakemake(*SMOKE)
    return checkout


@pytest.fixture
def edited(smoke: Checkout) -> Checkout:
    """The finished smoke world with config files put back after the test."""
    kept = {file: file.read_bytes() for file in (smoke.folder / "config").iterdir()}
    yield smoke
    for file, content in kept.items():
        file.write_bytes(content)
