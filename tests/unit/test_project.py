"""One set of pins, what rules and profiles are told, and what is counted of a workflow."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Template
from pip._internal.network.session import PipSession
from pip._internal.req.req_file import parse_requirements

from randcond.jobs.code import code_of
from randcond.settings.workflow import kept_points, shards, shown_point, step_count

ROOT = Path(__file__).parents[2]


def pins(lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = re.fullmatch(r"([\w.-]+)==([\w.+]+)", line.strip())
        assert match, f"{line!r} is not pinned"
        found[re.sub(r"[-_.]+", "-", match[1]).lower()] = match[2]
    return found


def test_pins_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = pins((ROOT / "requirements.lock").read_text().splitlines())
    wanted = pins(project["dependencies"] + project["optional-dependencies"]["dev"])
    assert {name: lock.get(name) for name in wanted} == wanted
    # where a slurm.conf is but no controller answers, the plugin costs every start 9 s: executors stay extras
    for extra in ("slurm", "generic"):
        assert not lock.keys() & pins(project["optional-dependencies"][extra]).keys()


def test_conda_installs_the_lock(tmp_path: Path) -> None:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    assert "python=3.11" in dependencies
    (tmp_path / "requirements.lock").touch()
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "pip.txt").write_text("\n".join(pip))  # as conda hands it over: an option a line
    read = parse_requirements(str(tmp_path / "pip.txt"), session=PipSession())
    assert [(line.is_editable, line.requirement) for line in read] == [(True, ".")]


def test_what_lands_in_results_is_told() -> None:
    told = (ROOT / "results/README.md").read_text()
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").rglob("*.smk"))
    folders = set(re.findall(r"\{OUT\}/(\w+)[/\"]", rules)) | {"scores/along", "samples/along"}
    assert {"converted", "faster", "students"} < folders
    assert {folder for folder in folders if f"`<world>/{folder}/" not in told} == set()
    names = {yaml.safe_load(file.read_text()).get("name", "artists") for file in _configurations()}
    assert names > {"artists", "own-sd"} and {name for name in names if f"`{name}`" not in told} == set()


def _configurations() -> list[Path]:
    """Files that Snakemake takes as configuration, by the schema that they name."""
    return [file for file in (ROOT / "config").glob("*.yaml") if "/config.schema.json" in file.read_text()[:200]]


@pytest.mark.parametrize("name", ["slurm", "generic"])
def test_cluster_profiles_name_rules_that_exist(name: str) -> None:
    profile = yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    resources = profile.get("set-resources", {})
    known = set(re.findall(r"^(?:use rule \w+ as|rule) (\w+)\b", rules, re.MULTILINE))
    assert resources.keys() | profile["set-threads"].keys() <= known
    # the number of GPUs is the configuration's
    assert not any("gpu" in key or "gres" in key for one in resources.values() for key in one)
    if resources:  # or it would be killed after the default's hour
        on_gpus = set(re.findall(r"^rule (\w+):(?:\n(?!rule ).*)*?\n        gpu=", rules, re.MULTILINE))
        assert {"faster", "student", "score"} <= on_gpus <= resources.keys()
        # two pipelines at once are more than the default's memory
        usual = profile["default-resources"]["mem_mb"]
        assert all(resources[rule]["mem_mb"] > usual for rule in ("converted", "model"))
    assert profile["cores"] == "all"  # which rules ask for while they are read, if profiles/default is left out


@pytest.mark.parametrize(
    ("state", "about", "answer"),
    [
        ("queued", "", "running"),
        ("running", "", "running"),
        ("finished", "Exit status: died with exit code 0", "success"),
        ("finished", "Exit status: died with exit code 1", "failed"),
        ("finished", "Exit status: killed by signal 9", "failed"),
        ("", "", "failed"),  # forgotten
    ],
)
def test_status_of_a_job_is_one_word(tmp_path: Path, state: str, about: str, answer: str) -> None:
    queue = tmp_path / "tsp"
    queue.write_text(f'#!/bin/sh\n[ "$2" = 7 ] && case $1 in -s) echo "{state}" ;; -i) echo "{about}" ;; esac\n')
    queue.chmod(0o755)
    profile = yaml.safe_load((ROOT / "profiles/generic/config.yaml").read_text())
    command = f"{profile['cluster-generic-status-cmd']} '7'"  # as the executor does
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{answer}\n"


@pytest.mark.parametrize(
    ("asked", "folder"),
    [
        (["RUN=a"], "artists/models/a/0"),
        (["RUN=a/3"], "artists/models/a/3"),
        (["RUN=a", "SEED=2", "CONFIG=config/full.yaml"], "artists/models/a/2"),
        (["RUN=a", "CONFIG=config/emoji.yaml config/own_sd.yaml"], "own-sd/models/a/0"),
        (["RUN=a", "CONFIG=config/own_sd.yaml", "NAME=mine"], "mine/models/a/0"),
    ],
)
def test_make_model_knows_where(asked: list[str], folder: str) -> None:
    said = subprocess.run(["make", "-n", "model", *asked], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"results/{folder}" in said.split()


SHELL = re.compile(r"^    shell:\n((?: {8}.+\n)+)", re.MULTILINE)
FIELD = r"(?:input|output|params|wildcards|log|benchmark|threads|resources)\b(?:[^{}]|\{[^{}]*\})*\}"


def test_whatever_reaches_the_shell_is_quoted() -> None:
    found = 0
    for file in (ROOT / "workflow/rules").rglob("*.smk"):
        text = file.read_text()
        fields = [field for block in SHELL.findall(text) for field in re.findall(r"\{" + FIELD, block)]
        fields += re.findall(r"\{\{" + FIELD, text)  # in functions that write commands
        assert all(field.endswith(":q}") for field in fields), f"{file.name}: {fields}; write {{...:q}}"
        found += len(fields)
    assert found > 100


def test_steps_by_init() -> None:
    assert step_count({"copied": 8, "random": 15}, {"init": "random"}) == 15
    assert step_count({"copied": 8, "random": 15}, {"init": "copied"}) == 8


@given(st.integers(1, 3000), st.integers(1, 1000), st.sampled_from([0.0, 0.9]), st.sampled_from(["raw", "ema"]))
def test_kept_points(steps: int, every: int, ema: float, weights: str) -> None:
    recipe = {"keep_every": every, "ema": ema, "weights": weights if ema else "raw"}
    recipe["steps"], run = {"copied": steps, "random": 1}, {"init": "copied"}
    points = kept_points(recipe, run)
    assert points == sorted(set(points), key=lambda point: (point[0], point[1] == "ema"))
    # with the pipeline's own: every so many steps and the last one, each kind of weights
    whole = {*points, (steps, recipe["weights"])}
    assert len(whole) == len(points) + 1
    assert whole == {(s, k) for s in {*range(every, steps, every), steps} for k in (["raw", "ema"] if ema else ["raw"])}
    assert kept_points(recipe | {"keep_every": 0}, run) == []
    # a row shows the point that it names, and the pipeline where it names none
    shown = {point: shown_point(recipe, run, {"step": point[0], "weights": point[1]}) for point in whole}
    assert shown == {point: point for point in points} | {(steps, recipe["weights"]): None}
    assert shown_point(recipe, run, {"step": None, "weights": None}) is None


@given(count=st.integers(1, 10_000), size=st.integers(1, 500))
def test_shards_hold_everything(count: int, size: int) -> None:
    assert (shards(count, size) - 1) * size < count <= shards(count, size) * size


@pytest.mark.parametrize(("count", "size", "expected"), [(10, 5, 2), (11, 5, 3), (1, 5, 1)])
def test_shards(count: int, size: int, expected: int) -> None:
    assert shards(count, size) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("samples-2-unseen", "Figure 1"),
        ("samples-3-seen", "Beside figure 1"),
        ("samples-3-unseen-pair", "Samples of known things"),
        ("samples-5-all", "Figure 6"),
        ("table1", "Table 1"),
        ("other", "other."),
    ],
)
def test_what_snakemakes_report_says_of_a_file(name: str, said: str) -> None:
    template = Template((ROOT / "workflow/report/caption.rst").read_text())
    assert template.render(snakemake={"wildcards": {"name": name}}).startswith(said)


def test_what_computes_on_a_gpu_is_launched_with_those_of_its_job() -> None:
    package = ROOT / "workflow/src/randcond"
    rules = "".join(file.read_text() for file in (ROOT / "workflow/rules").rglob("*.smk"))
    alone = {*re.findall(r"python -m randcond\.([\w.]+)", rules)} - {
        "jobs.launch",
        "make_teacher",
        "make_teacher.check",
    }
    launched = re.findall(r"jobs\.launch --gpus \S+ randcond\.([\w.]+)", rules)
    assert len(alone) > 8 and len(launched) > 8

    def on_gpus(module: str) -> bool:
        file = package / f"{module.replace('.', '/')}.py"
        found = code_of(package, module if file.exists() else f"{module}.__main__")
        if module == "scores.check":  # which loads its world's by name
            found += code_of(package, "scores.own")
        return any("device()" in Path(one).read_text() for one in found if not one.endswith("jobs/stage.py"))

    assert not [module for module in alone if on_gpus(module)]
    assert on_gpus("students.distil") and on_gpus("figures.swapped_condition") and on_gpus("scores.check")
