"""A copy of the checkout in which the smoke world is run once for all tests of the workflow."""

import pytest

from checkout import SMOKE, Checkout


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
