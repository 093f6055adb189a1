"""What single commands would do, and what they are refused for, as Snakemake plans it."""

import re

import pytest

from conftest import Checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("plans"))


def test_a_model_of_a_seed_that_nobody_trains_is_no_new_training(checkout: Checkout) -> None:
    (checkout.folder / "seed.yaml").write_text("seeds: [1234]\n")
    for seed in (0, 1234):  # as if made of another configuration, and of this one
        (checkout.folder / f"results/smoke/models/seen-rc-animals/{seed}").mkdir(parents=True)
    files = ("--configfile", "config/smoke.yaml", "seed.yaml")
    done = checkout.snakemake("--dry-run", *files, "--", "results/smoke/models/seen-rc-animals/0", check=False)
    told = "results/smoke/models/seen-rc-animals/0: seed 0 is none of seen-rc-animals's seeds: 1234; add SEED=1234"
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"error: {told}"
    assert "Traceback" not in done.stderr and not list(checkout.folder.glob(".snakemake/locks/*"))
    for run in ("typo", "teacher"):
        done = checkout.snakemake("--dry-run", *files, "--", f"results/smoke/models/{run}/1234", check=False)
        told = f"error: results/smoke/models/{run}/1234: there is no run '{run}'; there are "
        assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith(told)
        assert "seen-rc-animals" in done.stderr and "Traceback" not in done.stderr
    # and that of another configuration is none of this one's models
    plan = checkout.snakemake("--dry-run", "--forcerun", "model", *files, "--", "models").stdout
    assert re.findall("^    output: (results/smoke/models/.*)$", plan, re.MULTILINE) == [
        "results/smoke/models/seen-rc-animals/1234"
    ]
