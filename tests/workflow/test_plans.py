"""What single commands would do, and what they are refused for, as Snakemake plans it."""

import json
import re
import shlex

import pytest

from conftest import Checkout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("plans"))


@pytest.mark.parametrize(("world", "more"), [("own", {"pooled": True}), ("artists", {})])
def test_prompts_know_in_ones_own_world_that_a_pool_is_wanted(
    checkout: Checkout, world: str, more: dict[str, bool]
) -> None:
    file = "config/own.yaml" if world == "own" else "config/config.yaml"
    target = f"results/{world}/prompts/0/captions.parquet"
    plan = checkout.snakemake("--dry-run", "--printshellcmds", "--configfile", file, "--", target).stdout
    (command,) = re.findall("^Shell command: (.*randcond.prompts.choose training.*)$", plan, re.MULTILINE)
    words = shlex.split(command)
    settings = json.loads(words[words.index("--settings") + 1])
    asked = {"world", "draw", "count", "pool", "max_characters", "expected", "held_out", "seed"}
    assert settings.keys() == asked | more.keys()
    assert settings | more == settings
