"""Bad configurations end in one line that names the setting; the shipped ones pass."""

from pathlib import Path

import pytest
import yaml

from randcond.config import check_config, load_experiments
from randcond.errors import UserError

CONFIG = Path(__file__).parents[2] / "config"


def merge(below: dict, above: dict) -> dict:
    """As Snakemake lays one configfile over another."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = merge(below[key], value) if both else value
    return merged


@pytest.mark.parametrize("on_top", [None, "smoke", "teacher", "headline"])
def test_shipped_configs_pass(on_top: str | None) -> None:
    values = yaml.safe_load((CONFIG / "config.yaml").read_text())
    if on_top:
        values = merge(values, yaml.safe_load((CONFIG / f"{on_top}.yaml").read_text()))
    config = check_config(values)
    experiments = load_experiments(CONFIG / "experiments.yaml")
    experiments.check_names(config.only, "only")
    assert config.name == (on_top or "emoji")
    assert set(experiments.tables) == {"table1", "table2", "table3"}


BAD_CONFIGS = {
    "unknown key": ({"sede": [0]}, "sede"),
    "unknown nested key": ({"distillation": {"learning_rat": 1e-4}}, "distillation.learning_rat"),
    "unknown key two levels down": ({"prompts": {"llm": {"model": "x"}}}, "prompts.llm.model"),
    "string for a number": ({"distillation": {"learning_rate": "fast"}}, "distillation.learning_rate"),
    "number as string": ({"prompts": {"count": "960"}}, "prompts.count"),
    "number for a section": ({"prompts": 3}, "prompts"),
    "fraction of a step": ({"distillation": {"steps": {"copied": 1.5}}}, "distillation.steps.copied"),
    "negative steps": ({"distillation": {"steps": {"random": -1}}}, "distillation.steps.random"),
    "no prompts": ({"prompts": {"count": 0}}, "prompts.count"),
    "no batch": ({"sampling": {"batch": 0}}, "sampling.batch"),
    "no seeds": ({"seeds": []}, "seeds"),
    "seed twice": ({"seeds": [1, 1]}, "seeds"),
    "negative seed": ({"seeds": [-1]}, "seeds"),
    "N above the LLM's prompts": ({"prompts": {"count": 30, "llm": {"count": 20}}}, "prompts.llm.count"),
    "name that leaves the folder": ({"name": "../x"}, "name"),
    "unknown world": ({"world": "mars"}, "world"),
    "NaN learning rate": ({"distillation": {"learning_rate": float("nan")}}, "distillation.learning_rate"),
    "infinite weight decay": ({"distillation": {"weight_decay": float("inf")}}, "distillation.weight_decay"),
    "ema of one": ({"distillation": {"ema": 1.0}}, "distillation.ema"),
    "ema wanted but off": ({"distillation": {"ema": 0.0}}, "ema"),
    "null text above one": ({"distillation": {"null_text": 1.2}}, "distillation.null_text"),
    "unknown schedule": ({"distillation": {"schedule": "linear"}}, "distillation.schedule"),
    "unknown weights": ({"distillation": {"weights": "best"}}, "distillation.weights"),
    "guidance below one": ({"sampling": {"guidance_scale": 0.5}}, "sampling.guidance_scale"),
    "top_p of zero": ({"prompts": {"llm": {"top_p": 0.0}}}, "prompts.llm.top_p"),
    "one bootstrap sample": ({"scoring": {"bootstrap": 1}}, "scoring.bootstrap"),
}

BAD_RUNS = {
    "unknown student": ({"student": "b-huge"}, "b-huge"),
    "unknown setting": ({"studnet": "b-base"}, "studnet"),
    "unknown init": ({"init": "pretrained"}, "init"),
    "copied for narrowed channels": ({"student": "c-base"}, "c-base"),
    "real images of LLM prompts": ({"prompts": "llm", "images": "real"}, "images"),
    "pool without random conditioning": ({"texts": ["pool"]}, "texts"),
    "unknown texts": ({"texts": ["internet"], "random_conditioning": {"kind": "linear"}}, "texts"),
    "unknown p(t)": ({"random_conditioning": {"kind": "cosine"}}, "cosine"),
    "p above one": ({"random_conditioning": {"kind": "constant", "p": 2.0}}, r"[0, 1]"),
    "p(t) as a name": ({"random_conditioning": "linear"}, "random_conditioning"),
    "unknown parameter of p(t)": ({"random_conditioning": {"kind": "linear", "rate": 1.0}}, "rate"),
}


def one_line(error: UserError, named: str) -> None:
    assert "\n" not in str(error)
    assert named in str(error)


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_config(case: str) -> None:
    values, named = BAD_CONFIGS[case]
    with pytest.raises(UserError) as caught:
        check_config(values)
    one_line(caught.value, named)


@pytest.mark.parametrize("case", BAD_RUNS)
def test_bad_run(case: str, tmp_path: Path) -> None:
    values, named = BAD_RUNS[case]
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump({"runs": {"mine": values}, "tables": {}}))
    with pytest.raises(UserError) as caught:
        load_experiments(file)
    one_line(caught.value, named)
    assert "runs.mine" in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("runs: {a: [", "not valid YAML"),
        ("- a", "runs and tables"),
        ("runs: {}\ntables: {t: {title: T, splits: [all], rows: [{run: b, paper: '1', label: B}]}}", "'b'"),
        ("runs: {}\ntables: {}\ngrids: [{title: T, split: all, runs: [c]}]", "'c'"),
        ("runs: {}\ntables: {t: {title: T, splits: [some], rows: []}}", "splits"),
    ],
)
def test_bad_experiments(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_experiments(file)
    one_line(caught.value, named)


def test_missing_experiments(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml"):
        load_experiments(tmp_path / "none.yaml")
