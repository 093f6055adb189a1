"""The shipped configurations pass, and what contradicts the experiments is refused."""

import csv
from pathlib import Path

import pytest
import yaml
from layered import merge, one_line

from randcond.jobs.errors import UserError
from randcond.settings.claims import load_claims
from randcond.settings.config import check_config, read_config
from randcond.settings.experiments import Experiments, load_experiments
from randcond.settings.stages import Distillation
from randcond.settings.workflow import drawing

CONFIG = Path(__file__).parents[2] / "config"


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


def test_what_a_student_is_compared_by_unless_it_is_said() -> None:
    runs = load_experiments("config/experiments.yaml").runs
    named = {"c-base-rc": "authors-effective", "c-base-rc-blocks": "blocks", "c-base-rc-authors": "authors"}
    named |= {"c-micro-rc": "authors-effective", "b-tiny-rc": "blocks", "copied-rc": "blocks"}
    assert {run: runs[run].features for run in named} == named


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
