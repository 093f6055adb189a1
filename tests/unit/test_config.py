"""Bad configurations end in one line that names the setting; the shipped ones pass."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from randcond.jobs.errors import UserError
from randcond.settings import describe
from randcond.settings.claims import load_claims
from randcond.settings.config import Config, check_config, read_config
from randcond.settings.experiments import Experiments, Grid, Line, Row, Series, Table, load_experiments
from randcond.settings.stages import Distillation
from randcond.settings.workflow import drawing

FASTER = "runs: {a: {}, full: {grid: full}}\ntables: {}\nfaster: {"
CONFIG = Path(__file__).parents[2] / "config"


def merge(below: dict, above: dict) -> dict:
    """As Snakemake lays one configfile over another."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = merge(below[key], value) if both else value
    return merged


@pytest.mark.parametrize("on_top", [None, "smoke", "artists-teacher", "headline", "random", "full", "along"])
def test_shipped_configs_pass(on_top: str | None) -> None:
    values = yaml.safe_load((CONFIG / "config.yaml").read_text())
    if on_top:
        values = merge(values, yaml.safe_load((CONFIG / f"{on_top}.yaml").read_text()))
    config = check_config(values)
    experiments = load_experiments(CONFIG / "experiments.yaml").of_grid(config.grid)
    config.check_experiments(experiments)
    assert config.name == (on_top if on_top in ("smoke", "artists-teacher", "along") else "artists")
    assert {"table1", "table2", "table3"} <= set(experiments.tables)
    # no figure shows what only the full grid has where that is not asked for
    assert {run for figure in experiments.grids for run in figure.runs} <= {"teacher", *experiments.runs}
    assert config.distillation.learning_rate.copied == 3e-3  # what lies below stays


@pytest.mark.parametrize("name", ["emoji", "own", "own_sd", "paper", "artists-flow"])
def test_other_worlds_students_are_trained_as_the_authors_are(name: str) -> None:
    values = merge(*(yaml.safe_load((CONFIG / f"{file}.yaml").read_text()) for file in ("config", name)))
    recipe = check_config(values).distillation
    assert set(recipe.optimizer.model_dump().values()) == {"adamw"}
    if name in ("emoji", "own", "artists-flow"):  # the rates that were measured with it, of UNets
        assert recipe.learning_rate == Distillation().learning_rate
        assert (recipe.steps.random, recipe.steps.inherited) == (1400, 1400)


def test_the_papers_world() -> None:
    values = merge(*(yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in ("config", "paper")))
    config = check_config(values)
    experiments = load_experiments(Path(__file__).parents[2] / config.experiments).of_grid(config.grid)
    assert set(experiments.tables) == {"table1", "table2", "table3", "table4", "faster"}
    assert len(experiments.runs) == 18
    shown = {row.run for table in experiments.tables.values() for row in table.rows}
    assert shown - {None} == {*experiments.runs, *experiments.more, "teacher"}
    assert experiments.more == ["copied-rc-faster"]
    recipe = config.distillation
    assert (recipe.batch, recipe.schedule, recipe.weight_decay) == (256, "constant", 1e-2)
    assert (recipe.learning_rate.copied, recipe.learning_rate.random) == (5e-5, 5e-5)
    assert config.calibration is not None
    assert {name: bounds.value for name, bounds in config.calibration.scores.items()} == {
        "fid": 13.05, "is": 36.76, "clip": 0.2958,
    }  # fmt: skip
    with pytest.raises(UserError, match=r"prompts\.benchmark"):
        check_config(merge(values, {"prompts": {"benchmark": 40_505}}))
    with pytest.raises(UserError, match="writer"):
        check_config(merge(values, {"prompts": {"llm": {"writer": {"model": None}}}}))


@pytest.mark.parametrize("file", ["experiments", "paper_experiments"])
def test_every_row_of_the_paper_is_in_its_results(file: str) -> None:
    experiments = load_experiments(CONFIG / f"{file}.yaml")
    with (CONFIG / "paper_results.csv").open(newline="") as file:
        reported = {(line["table"], line["row"]) for line in csv.DictReader(file)}
    for name, table in experiments.tables.items():
        for row in table.rows:
            assert row.paper is None or (name, row.paper) in reported, (name, row)
        ours = ("probability", "shares", "features", "faster", "fewer", "transfer", "beyond")
        assert name in ours or all(row.paper for row in table.rows if row.run != "real")


@pytest.mark.parametrize("given", [[0, 1], ["0", "1"]], ids=["numbers", "as Snakemake's --config gives them"])
def test_seeds_by_hand(given: list) -> None:
    assert check_config({"seeds": given}).seeds == [0, 1]
    for wrong in ("-1", "1.5", "x", "²", str(2**32)):
        with pytest.raises(UserError, match="seeds"):
            check_config({"seeds": [wrong]})


@pytest.mark.parametrize("file", ["experiments", "paper_experiments"])
def test_no_claim_is_left_without_its_runs(file: str) -> None:
    runs = load_experiments(CONFIG / f"{file}.yaml").of_grid("full").runs.keys() | {"teacher"}
    claims = load_claims(CONFIG / "claims.yaml").claims
    assert len(claims) > 20
    assert {claim.text: set(claim.runs) - runs for claim in claims if not set(claim.runs) <= runs} == {}


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
    "seed that numpy does not take": ({"scoring": {"seed": 2**32}}, "scoring.seed"),
    "name that leaves the folder": ({"name": "../x"}, "name"),
    "unknown world": ({"world": "mars"}, "world"),
    "NaN learning rate": ({"distillation": {"learning_rate": {"random": float("nan")}}}, "learning_rate.random"),
    "infinite weight decay": ({"distillation": {"weight_decay": float("inf")}}, "distillation.weight_decay"),
    "ema of one": ({"distillation": {"ema": 1.0}}, "distillation.ema"),
    "ema wanted but off": ({"distillation": {"ema": 0.0}}, "ema"),
    "null text above one": ({"distillation": {"null_text": 1.2}}, "distillation.null_text"),
    "unknown schedule": ({"distillation": {"schedule": "linear"}}, "distillation.schedule"),
    "unknown weights": ({"distillation": {"weights": "best"}}, "distillation.weights"),
    "guidance below one": ({"sampling": {"guidance_scale": 0.5}}, "sampling.guidance_scale"),
    "top_p of zero": ({"prompts": {"llm": {"top_p": 0.0}}}, "prompts.llm.top_p"),
    "truth for a number": ({"distillation": {"batch": True}}, "distillation.batch"),
    "truth for a seed": ({"seeds": [True]}, "seeds"),
    "number for a truth": ({"distillation": {"gradient_checkpointing": 1}}, "distillation.gradient_checkpointing"),
    "number of YAML 1.2": ({"distillation": {"learning_rate": {"copied": "1e-4"}}}, "learning_rate.copied"),
    "no learning": ({"distillation": {"learning_rate": {"copied": 0.0}}}, "learning_rate.copied"),
    "negative clip": ({"distillation": {"gradient_clip": -1.0}}, "distillation.gradient_clip"),
    "section left empty": ({"sampling": None}, "sampling"),
    "steps as one number": ({"distillation": {"steps": 800}}, "distillation.steps"),
    "unknown precision": ({"distillation": {"mixed_precision": "fp8"}}, "distillation.mixed_precision"),
    "one seed": ({"seeds": 0}, "seeds"),
    "half a recipe of the teacher": ({"make_teacher": {"denoiser": {"steps": 10}}}, "make_teacher.denoiser"),
    "longer decay than training": (
        {
            "make_teacher": {
                "denoiser": {"steps": 9, "batch": 1, "learning_rate": 1e-3, "seed": 0, "warmup": 2, "decay": 8}
            }
        },
        "decay: 2 steps of warmup and 8 of decay are more than 9",
    ),
    "no teacher for a world of one's own": ({"world": "own"}, "teacher: name one; none is shipped with the world own"),
    "the emoji world's teacher for six artists": (
        {"world": "artists", "teacher": "workflow/assets/emoji/teacher"},
        "teacher: workflow/assets/emoji/teacher knows another world than artists",
    ),
    "the emoji world's evaluator": (
        {"world": "artists", "teacher": "t", "evaluator": "workflow/assets/emoji/evaluator"},
        "evaluator: workflow/assets/emoji/evaluator",
    ),
    "name with a space": ({"name": "my world"}, "name"),
    "name of the assets' folder": ({"name": "assets"}, "name"),
    "kept backwards": ({"distillation": {"keep_every": -1}}, "distillation.keep_every"),
    "scored along a training that keeps nothing": ({"along": ["copied-rc"]}, "distillation.keep_every"),
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
    "p(t) of no known type": ({"random_conditioning": {"kind": ["linear"]}}, "kind"),
    "infinite rate": ({"random_conditioning": {"kind": "exponential", "rate": float("inf")}}, "rate"),
    "texts as a word": ({"texts": "pool", "random_conditioning": {"kind": "linear"}}, "texts"),
    "the LLM's texts beside captions": ({"texts": ["llm"], "random_conditioning": {"kind": "linear"}}, "texts"),
    "nothing": (None, "mine"),
    "channels of a student that has them all": ({"init": "inherited"}, "b-base has the teacher's channels"),
    "layers of a narrower student": ({"student": "c-base"}, "use inherited or random"),
    "more than all trajectories": ({"trajectories": {"share": 1.5}}, "share"),
    "trajectories of length 0": ({"trajectories": {"stride": 0}}, "stride"),
    "nothing to swap": ({"trajectories": {"share": 1.0}, "random_conditioning": {"kind": "linear"}}, "could swap"),
    "images beside none": ({"trajectories": {"share": 1.0}, "images": "real"}, "no images at all"),
    "importance without images": (
        {"trajectories": {"share": 1.0}, "student": "c-base", "init": "inherited"},
        "importance",
    ),
    "unknown parameter of p(t)": ({"random_conditioning": {"kind": "linear", "rate": 1.0}}, "rate"),
}


@pytest.mark.parametrize("world", ["own", "paper"])
def test_real_images_where_a_world_draws_them(world: str, tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("runs: {}\ntables: {t: {title: T, splits: [all], rows: [{run: real, label: Real}]}}")
    experiments = load_experiments(path)
    assert experiments.shows_real
    check_config({"world": "emoji"}).check_experiments(experiments)
    values = {"world": world, "teacher": "t", "evaluator": "e"}
    with pytest.raises(UserError, match=f"run: real: the world {world} has no real images beside"):
        check_config(values).check_experiments(experiments)


def one_line(error: UserError, named: str) -> None:
    assert "\n" not in str(error)
    assert named in str(error)


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_config(case: str) -> None:
    values, named = BAD_CONFIGS[case]
    with pytest.raises(UserError) as caught:
        check_config(values)
    one_line(caught.value, named)


def test_what_a_student_is_compared_by_unless_it_is_said() -> None:
    runs = load_experiments("config/experiments.yaml").runs
    named = {"c-base-rc": "authors-effective", "c-base-rc-blocks": "blocks", "c-base-rc-authors": "authors"}
    named |= {"c-micro-rc": "authors-effective", "b-tiny-rc": "blocks", "copied-rc": "blocks"}
    assert {run: runs[run].features for run in named} == named


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
        ("", "runs and tables"),
        ("runs: {}", "tables"),
        ("tables: {}", "runs"),
        ("runs: {}\ntables: {}\nfigures: []", "figures"),
        ("runs: {a: {}, b: {},\n  a: {rows: seen}}\ntables: {}", "line 2: 'a' stands there twice"),
        ("runs: {a: {rows: seen, rows: all}}\ntables: {}", "'rows' stands there twice"),
        ('{"runs": {"a": {}, "a": {}}, "tables": {}}', "'a' stands there twice"),
        ("runs: {a: !!bool maybe}\ntables: {}", "not valid YAML"),
        ("runs: {a: !!timestamp soon}\ntables: {}", "not valid YAML"),
        ("runs: {}\ntables: {t: {title: T, splits: [all], rows: [], note: x}}", "tables.t.note"),
        ("runs: {a: {}}\ntables: {t: {title: T, splits: [all], rows: [{run: a, paper: 1, label: B}]}}", "paper"),
        ("runs: {}\ntables: {}\ngrids: [{title: T, split: all, runs: [], count: 0}]", "grids.0.count"),
        ("runs: {1: {}}\ntables: {}", "runs.1"),
        ("runs: {My Run: {}}\ntables: {}", "My Run"),
        ("runs: {a_b: {}}\ntables: {}", "a_b"),
        ("runs: {--help: {}}\ntables: {}", "--help"),
        ("runs: {'-': {}}\ntables: {}", "runs.-"),
        ("runs: {teacher: {}}\ntables: {}", "teacher"),
        ("runs: {real: {}}\ntables: {}", "a run cannot be called real"),
        ("runs: {}\ntables: {t: {title: T, splits: [all], rows: [{run: real, step: 5, label: B}]}}", "step"),
        ("runs: {}\ntables: {along-table1: {title: T, splits: [all], rows: []}}", "along"),
        ("runs: {}\ntables: {t: {title: T, splits: [all], rows: [{run: teacher, step: 5, label: B}]}}", "step"),
        ("runs: {a: {}}\ntables: {t: {title: T, splits: [all], rows: [{run: a, weights: best, label: B}]}}", "weights"),
        ("runs: {a: {random_conditioning: {kind: sigmoid, centre: .nan}}}\ntables: {}", "centre"),
        (f"{FASTER}b: {{student: c}}}}", "faster.b: there is no run 'c' to start from"),
        (f"{FASTER}b: {{student: teacher}}}}", "no run 'teacher' to start from"),
        (f"{FASTER}b: {{student: a, phases: 5}}}}", "times: 32 cannot be cut into 5 phases"),
        (f"{FASTER}b: {{student: a, phases: 1}}}}", "times: of one phase a divisor of 1000"),
        (f"{FASTER}b: {{student: a, phases: 1, times: 4, steps: 8}}}}", "steps: of one phase at most its 4 times"),
        (f"{FASTER}b: {{student: a, phases: 2, steps: 6}}}}", "steps: the last of 6 would end just above no noise"),
        (f"{FASTER}b: {{student: a}}}}\ndrawn: {{d: {{run: b, steps: 7}}}}", "drawn.d: steps: the last of 7"),
        (f"{FASTER}a: {{student: a}}}}", "a: a name for two"),
        (f"{FASTER}b: {{student: a}}}}\ndrawn: {{b: {{run: a, steps: 4}}}}", "b: a name for two"),
        (f"{FASTER}b: {{student: a}}}}\ndrawn: {{d: {{run: d, steps: 4}}}}", "drawn.d: there is no run 'd'"),
        (f"{FASTER}b: {{student: full}}}}", "faster.b: full is of the full grid only"),
        (f"{FASTER}teacher: {{student: a}}}}", "teacher"),
        (f"{FASTER}}}\ndrawn: {{d: {{run: a, steps: 0}}}}", "drawn.d.steps"),
        (
            "runs: {a: {}}\nfaster: {b: {student: a}}\n"
            "tables: {t: {title: T, splits: [all], rows: [{run: b, step: 5, label: B}]}}",
            "tables.t: b has no steps",
        ),
    ],
)
def test_bad_experiments(text: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        load_experiments(file)
    one_line(caught.value, named)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("fault", ["missing", "folder", "latin-1"])
def test_unreadable_experiments(fault: str, tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    if fault == "folder":
        file.mkdir()
    elif fault == "latin-1":
        file.write_bytes("runs: {}\ntables: {} # é".encode("latin-1"))
    with pytest.raises(UserError) as caught:
        load_experiments(file)
    one_line(caught.value, str(file))


@pytest.mark.parametrize("where", ["only", "along"])
def test_runs_that_are_named_are_there(where: str) -> None:
    experiments = load_experiments(CONFIG / "experiments.yaml")
    values = {where: ["copied-rc", "copied-cr"], "distillation": {"keep_every": 100}}
    with pytest.raises(UserError) as caught:
        check_config(values).check_experiments(experiments)
    one_line(caught.value, "'copied-cr'")
    assert f" {where}: " in str(caught.value)


def test_what_is_scored_beside_the_runs() -> None:
    made = {"runs": {"a": {}, "b": {"grid": "full"}}, "tables": {}}
    made["faster"] = {"fast": {"student": "a"}, "later": {"student": "b", "grid": "full"}}
    made["drawn"] = {"once": {"run": "fast", "steps": 1}, "teacher-4": {"run": "teacher", "steps": 4}}
    everything = Experiments.model_validate(made | {"drawn": made["drawn"] | {"a-8": {"run": "a", "steps": 8}}})
    assert everything.more == ["fast", "later", "once", "teacher-4", "a-8"]
    assert everything.of_grid("default").more == ["fast", "once", "teacher-4", "a-8"]
    assert [everything.pipeline(name) for name in ("a", "fast", "once", "teacher-4")] == [
        "a",
        "fast",
        "fast",
        "teacher",
    ]
    assert [everything.student(name) for name in ("a", "fast", "once", "teacher-4")] == ["a", "a", "a", "teacher"]
    check_config({"only": ["once", "a"]}).check_experiments(everything)
    with pytest.raises(UserError, match="config: along: there is no run 'fast'; there are a, b$"):
        check_config({"along": ["fast"], "distillation": {"keep_every": 100}}).check_experiments(everything)
    # what is made of a student has the seeds that it is given, of those that the student has
    more = check_config({"more_seeds": {"a": [1, 2], "once": [2]}})
    more.check_experiments(everything)
    assert [more.seeds_of(name) for name in ("a", "fast", "once")] == [[0, 1, 2], [0], [0, 2]]
    for given, fault in (
        ({"once": [1]}, "more_seeds.once: its student 'a' has no seed 1; give it to more_seeds.a too"),
        ({"teacher-4": [1]}, "more_seeds.teacher-4: is drawn by the teacher, who has no seeds; leave it out"),
        ({"nobody": [1]}, "more_seeds: there is no run 'nobody'; there are a, b, fast, later, once, teacher-4, a-8"),
    ):
        with pytest.raises(UserError, match=f"config: {fault}$"):
            check_config({"more_seeds": given}).check_experiments(everything)
    # how they are drawn: a run as the configuration says, one made faster by its own scheduler without guidance
    plain = everything.model_dump()
    own = {"guidance_scale": 1.0, "scheduler": "DDIM"}
    expected = {"a": {}, "fast": {"steps": 4, **own}, "once": {"steps": 1, **own}, "teacher": {}}
    expected["a-8"] = {"steps": 8, "guidance_scale": 2.0}
    assert {name: drawing(plain, name, 2.0) for name in expected} == expected
    plain["faster"]["fast"] |= {"phases": 1, "times": 50}
    assert drawing(plain, "once", 2.0)["scheduler"] == "LCM"


@pytest.mark.parametrize(
    ("row", "along", "fault"),
    [
        ({"step": 400}, [], "a: step 400, ema, is not scored; name the run in config: along"),
        ({"step": 500}, ["a"], "a: step 500, ema, is not kept; there are 400 raw, 400 ema, 800 raw"),
        ({"step": 400, "weights": "raw"}, ["a"], None),
        ({"weights": "raw"}, ["a"], None),
        ({"weights": "ema"}, [], None),  # the finished student
        ({"step": 800}, [], None),
    ],
)
def test_a_row_shows_a_step_that_is_scored(row: dict, along: list[str], fault: str | None) -> None:
    table = {"title": "T", "splits": ["all"], "rows": [{"run": "a", "label": "A", **row}]}
    experiments = Experiments.model_validate({"runs": {"a": {}}, "tables": {"t": table}})
    config = check_config({"along": along, "distillation": {"keep_every": 400, "steps": {"copied": 800}}})
    if fault is None:
        config.check_experiments(experiments)
        return
    with pytest.raises(UserError) as caught:
        config.check_experiments(experiments)
    one_line(caught.value, f"tables.t: {fault}")


@pytest.mark.parametrize(("share", "batch"), [(0.5, 32), (1.0, 1), (0.01, 32), (0.99, 32)])
def test_trajectories_leave_pairs_of_both_kinds(share: float, batch: int, tmp_path: Path) -> None:
    file = tmp_path / "experiments.yaml"
    file.write_text(yaml.safe_dump({"runs": {"mine": {"trajectories": {"share": share}}}, "tables": {}}))
    config = check_config({"experiments": str(file), "distillation": {"batch": batch}})
    if share in (0.5, 1.0):
        config.check_experiments(load_experiments(file))
        return
    with pytest.raises(UserError) as caught:
        config.check_experiments(load_experiments(file))
    one_line(caught.value, f"runs.mine.trajectories.share: {share} of distillation.batch, 32, leaves one")


def test_d_cannot_be_larger_than_the_prompts() -> None:
    experiments = load_experiments(CONFIG / "experiments.yaml")
    with pytest.raises(UserError) as caught:
        check_config({"grid": "full", "prompts": {"count": 300}}).check_experiments(experiments)
    one_line(caught.value, "runs.plain-d2.size")


@pytest.mark.parametrize("name", ["smoke", "headline", "random", "full", "along", "choosing", "converged", "faster"])
def test_every_experiment_can_be_made_in_the_smaller_world(name: str) -> None:
    config = read_config([CONFIG / f"{file}.yaml" for file in ("config", "emoji", name)])
    assert (config.world, config.make_teacher.world) == ("emoji", "emoji")
    assert {config.teacher, config.evaluator} == {f"workflow/assets/emoji/{part}" for part in ("teacher", "evaluator")}
    guided = (config.rendering, config.sampling, config.figures.swapped)
    assert {section.guidance_scale for section in guided} == {2.0}  # as all that docs/ keeps


def leaves(values: dict, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all settings."""
    return [
        path
        for key, value in values.items()
        for path in (leaves(value, (*above, key)) if isinstance(value, dict) else [(*above, key)])
    ]


def nested(path: tuple[str, ...], value: object) -> dict:
    return {path[0]: nested(path[1:], value) if len(path) > 1 else value}


SETTINGS = leaves(Config().model_dump())


PATHS = {"teacher", "evaluator", "experiments", "claims"}
FILES = {".".join(path) for path in SETTINGS if path[0] in ("sources", "inception", "teacher_layout")}
FILES.add("make_teacher.autoencoder_of")
ABSENT = {"prompts.benchmark", "prompts.llm.writer", "prompts.pool", "calibration", "sampling.resize"}
ABSENT |= {"model_card.license", "model_card.license_name", "model_card.license_link", "model_card.base_model"}
ABSENT.add("prompts.description")

JUNK = {
    "null": None, "empty text": "", "two lines": "a\nb", "list of null": [None], "empty section": {},
    "section": {"a": 1}, "negative": -1, "NaN": float("nan"), "minus infinity": float("-inf"),
}  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
def test_junk_in_any_setting_is_one_line(junk: str) -> None:
    accepted = set()
    for path in SETTINGS:
        try:
            check_config(merge(Config().model_dump(), nested(path, JUNK[junk])))
        except UserError as error:
            one_line(error, ".".join(path))
        else:
            accepted.add(".".join(path))
    # a path may be any string, or missing where a world can do without: it is looked at when it is used
    kind = {str: PATHS | FILES, type(None): FILES | ABSENT}.get(type(JUNK[junk]), set())
    assert accepted == kind


def test_defaults_are_valid_and_other_numbers_are_kept() -> None:
    assert check_config({}) == Config()
    for path in SETTINGS:
        default = Config().model_dump()
        for key in path:
            default = default[key]
        if isinstance(default, int) and not isinstance(default, bool) and path != ("prompts", "count"):
            found = check_config(merge(Config().model_dump(), nested(path, default + 1))).model_dump()
            for key in path:
                found = found[key]
            assert found == default + 1


def test_what_is_written_of_the_settings_is_what_they_are() -> None:
    assert (CONFIG / "README.md").read_text() == describe.readme(), "run `make schema`"
    for name, text in describe.schemas().items():
        assert (CONFIG.parent / "workflow/schemas" / name).read_text() == text, "run `make schema`"


def test_every_file_of_the_folder_is_named() -> None:
    text = describe.readme()
    named = set(re.findall(r"`([\w.-]+\.(?:yaml|csv|txt|json))`", text.partition("## Settings")[0]))
    there = {file.name for file in CONFIG.iterdir() if file.name != "README.md"}
    assert named == there | {"assets.lock.json"}  # which the first fetch writes


def test_settings_of_what_is_shown_are_told() -> None:
    shown = describe.readme().partition("## Settings of tables")[2]
    for where, model in {
        "tables": Table,
        "tables.<name>.rows": Row,
        "series": Series,
        "series.<name>.lines": Line,
        "grids": Grid,
    }.items():
        section = shown.partition(f"### `{where}`")[2].partition("\n##")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(model.model_fields)
    assert "| `weights` | none | Weights that are shown, " in shown and "(`raw` or `ema`) |" in shown


def test_every_setting_says_what_it_means() -> None:
    def undescribed(model: type[BaseModel], prefix: str) -> list[str]:
        found = [prefix + name for name, field in model.model_fields.items() if not field.description]
        for name, field in model.model_fields.items():
            if section := describe._section(field):
                found += undescribed(section, f"{prefix}{name}.")
        return found

    assert undescribed(Config, "") + undescribed(Experiments, "") == []
    # and every leaf stands in the table, with the default that it really has
    text = describe.readme()
    for path, value in leaves(
        Config.model_construct().model_dump()
    ):  # before teacher and evaluator come from the world
        assert f"| `{path}` | {'none' if value is None else f'`{json.dumps(value)}`'} |" in text, path


def leaves(values: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@pytest.mark.parametrize(
    "name",
    [
        "config",
        "smoke",
        "headline",
        "random",
        "full",
        "along",
        "emoji",
        "artists-teacher",
        "artists-flow",
        "paper",
        "sd21",
    ],
)
def test_files_fit_the_schema_that_editors_check_them_by(name: str) -> None:
    schema = json.loads((CONFIG.parent / "workflow/schemas/config.schema.json").read_text())
    values = yaml.safe_load((CONFIG / f"{name}.yaml").read_text())
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values | {"nonsense": 1}, schema)
