"""The paper's world as Snakemake plans it: all resolves without network, and the jobs are as many as they should be."""

import hashlib
import json
import re
import shlex

import pytest
import yaml

from conftest import Checkout

# shards of D, of all prompts of the evaluation and of the benchmark's alone
D, PROMPTS, BENCHMARK = 213, 41, 30
# other shards, of which there are fewer: planning takes as long as there are jobs
COARSE = {"rendering": {"shard": 50_000}, "sampling": {"shard": 6_000}}
COARSE_D, COARSE_PROMPTS, COARSE_BENCHMARK = 5, 7, 5


def expected(d: int, prompts: int, benchmark: int) -> dict[str, int]:
    """Jobs by rule of the paper's world, by the number of shards; what is scored along the trainings is not in it.

    9 assets; 4 sets of D's shards (captions rendered, real and augmented, LLM prompts); 18 students; the teacher and
    three students of table 2 are sampled on all prompts, the other fifteen and the one that is made faster on the
    benchmark's; table 4 is eleven pipelines, and the last costs too.
    """
    return {
        "cost": 12, "faster": 1, "digits_classifier": 1, "digits_diffusion": 1, "toy": 1,
        "all": 1, "calibrate": 1, "check_evaluators": 1, "fetch_asset": 9, "llm_prompts": 1, "prompts": 1,
        "evaluation_prompts": 1,
        "real_images": 1, "reference": 1,
        "render": 4 * d, "report": 1, "sample": 4 * prompts + 16 * benchmark, "score": 20, "student": 18,
    }  # fmt: skip


JOBS, COARSE_JOBS = expected(D, PROMPTS, BENCHMARK), expected(COARSE_D, COARSE_PROMPTS, COARSE_BENCHMARK)
# along each training three points are scored: 25,000 steps by both weights, 50,000 by their average
ALONG = {"sample_along": 3 * (3 * PROMPTS + 15 * BENCHMARK), "score_along": 3 * 18}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    checkout = Checkout(tmp_path_factory.mktemp("paper"))
    (checkout.folder / "coarse.yaml").write_text(yaml.safe_dump(COARSE))
    return checkout


def dry_run(checkout: Checkout, *arguments: str) -> str:
    """What would be done, with commands."""
    return checkout.snakemake("--dry-run", "--printshellcmds", *arguments).stdout


@pytest.fixture(scope="module")
def paper(checkout: Checkout) -> str:
    """The dry run of the paper's world."""
    return dry_run(checkout, "--configfile", "config/paper.yaml")


@pytest.fixture(scope="module")
def smoke(checkout: Checkout) -> str:
    """The dry run of a small world, with other GPUs than its configuration's."""
    return dry_run(checkout, "--configfile", "config/smoke.yaml", "--set-resources", "student:gpu=2")


def paper_and(*files: str) -> tuple[str, ...]:
    """The paper's configuration with others over it."""
    return "--configfile", "config/paper.yaml", *files


def jobs(output: str) -> dict[str, int]:
    """Job counts by rule of a dry run."""
    lines = output.split("-----------  -------\n", 1)[-1].splitlines() if "-----------" in output else []
    counts = {}
    for line in lines:
        if len(parts := line.split()) != 2 or parts[0] == "total":
            break
        counts[parts[0]] = int(parts[1])
    return counts


@pytest.fixture(scope="module")
def commands(paper: str) -> dict[str, list[list[str]]]:
    """The words of the paper's commands, by module."""
    return commands_of(paper)


def commands_of(output: str) -> dict[str, list[list[str]]]:
    """The words of a dry run's commands, by module."""
    found: dict[str, list[list[str]]] = {}
    for line in output.splitlines():
        if line.startswith("Shell command: python -m randcond."):
            words = shlex.split(line)
            module = words[4] if words[4] != "randcond.jobs.launch" else words[7]
            found.setdefault(module.removeprefix("randcond."), []).append(words)
    return found


def option(words: list[str], name: str) -> str:
    return words[words.index(f"--{name}") + 1]


def run_of(words: list[str]) -> str:
    return option(words, "name").split("/")[0]


def test_all_of_it(paper: str) -> None:
    assert jobs(paper) == JOBS | ALONG


def test_the_two_snakefiles_are_one_workflow(checkout: Checkout, smoke: str) -> None:
    assert jobs(dry_run(checkout, "-s", "workflow/Snakefile", "--configfile", "config/smoke.yaml")) == jobs(smoke)


@pytest.mark.parametrize("rule", ["render", "sample", "llm_prompts"])
def test_what_scoring_needs_is_read_before_anything_is_made_at_length(paper: str, rule: str) -> None:
    jobs = re.findall(rf"^rule {rule}:\n    input: (.+)$", paper, re.MULTILINE)
    assert len(jobs) == JOBS[rule]
    for inputs in jobs:
        assert {"results/paper/scores/evaluators.json", "results/paper/samples/real.zip"} <= set(inputs.split(", "))


def test_the_full_grid(checkout: Checkout) -> None:
    # 9 choices of p(t), random conditioning without unseen texts (all drawn on all prompts), 8 students of figure 7
    # one more is made faster, and four are drawn in other steps; all five are costed
    drawn = 10 * COARSE_PROMPTS + (8 + 5) * COARSE_BENCHMARK
    more = {"student": 18, "score": 18 + 5, "sample": drawn, "faster": 1, "cost": 5}
    planned = jobs(dry_run(checkout, *paper_and("coarse.yaml"), "--config", "grid=full", "along=[]"))
    assert planned == {rule: count + more.get(rule, 0) for rule, count in COARSE_JOBS.items()}


def one_teachers(students: int) -> dict[str, int]:
    """Jobs of a world with one set of D's shards, two runs scored along the way, three and the teacher drawn on all."""
    drawn = 4 * COARSE_PROMPTS + (students - 3) * COARSE_BENCHMARK
    found = {"fetch_asset": 8, "student": students, "score": 1 + students, "render": COARSE_D, "sample": drawn}
    found |= {"sample_along": 2 * 3 * COARSE_BENCHMARK, "score_along": 2 * 3}
    return {rule: n for rule, n in (COARSE_JOBS | found).items() if rule not in {"calibrate", "llm_prompts", "faster"}}


def test_stable_diffusion_2(checkout: Checkout) -> None:
    # no calibration, no written prompts and so no writer
    planned = jobs(dry_run(checkout, *paper_and("config/sd21.yaml", "coarse.yaml")))
    assert planned == one_teachers(8) | {"cost": 6}


@pytest.mark.parametrize(("family", "others"), [("sdxl", 5), ("sd3", 3)])
def test_newer_families(checkout: Checkout, family: str, others: int) -> None:
    # as Stable Diffusion 2.1: two runs, three of the unseen ones, and the students of other sizes
    configuration = paper_and(f"config/{family}.yaml", "coarse.yaml")
    assert jobs(dry_run(checkout, *configuration)) == one_teachers(5 + others) | {"cost": 3 + others}
    # what is fetched beforehand is what the jobs take
    assert jobs(dry_run(checkout, *configuration, "--", "fetch")) == {"fetch": 1, "fetch_asset": 8}


def test_fetching_is_apart(checkout: Checkout) -> None:
    assert jobs(dry_run(checkout, *paper_and("coarse.yaml"), "--", "fetch")) == {"fetch": 1, "fetch_asset": 9}
    # once everything is there, nothing else asks for the network
    for line in (checkout.folder / "config/assets.yaml").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            (checkout.folder / "results/assets" / line.split(":")[0]).mkdir(parents=True)
    planned = jobs(dry_run(checkout, *paper_and("coarse.yaml"), "--config", "along=[]"))
    assert planned == {rule: count for rule, count in COARSE_JOBS.items() if rule != "fetch_asset"}


def test_students_wait_for_the_teacher(paper: str) -> None:
    waiting = {}
    for block in paper.split("\nrule ")[1:]:
        if block.startswith("score:"):
            wildcards = block.split("wildcards: run=")[1]
            waiting[wildcards.split(",")[0]] = "calibration.json" in block.split("output:")[0]
    assert len(waiting) == 20
    assert [run for run, waits in waiting.items() if not waits] == ["teacher"]


def test_bk_sdms_rows_have_its_recipe(commands: dict[str, list[list[str]]]) -> None:
    students = {run_of(words): words for words in commands["students.distil"]}
    null_text = {run: json.loads(option(words, "settings"))["recipe"]["null_text"] for run, words in students.items()}
    own = {run for run, share in null_text.items() if share == 0.0}
    assert own == {"copied-plain-real", "b-small-plain-real", "b-tiny-plain-real"}
    assert own == {run for run, words in students.items() if "captions-real-augmented/" in " ".join(words)}
    assert {share for run, share in null_text.items() if run not in own} == {0.1}


def test_every_training_keeps_what_is_scored_along_it(commands: dict[str, list[list[str]]]) -> None:
    points = {(25_000, "raw"), (25_000, "ema"), (50_000, "ema")}
    for words in commands["students.distil"]:
        assert option(words, "unets") == f"results/paper/students/{run_of(words)}/1234/unets"
        settings = json.loads(option(words, "settings"))
        assert {(step, weights) for step, weights in settings["keep"]} == points and settings["steps"] == 50_000
        assert "keep_every" not in settings["recipe"]
    folders = {f"{step}-{weights}" for step, weights in points}
    drawn = [words for words in commands["samples.draw"] if "--unet" in words]
    assert len(drawn) == ALONG["sample_along"] and len(commands["samples.draw"]) == len(drawn) + JOBS["sample"]
    for words in drawn:
        run, folder = option(words, "name").split("/")[1], option(words, "unet").rpartition("/")[2]
        assert folder in folders and option(words, "unet") == f"results/paper/students/{run}/1234/unets/{folder}"
        assert option(words, "output").startswith(f"results/paper/samples/along/{run}/1234/{folder}/")
    scored = [words for words in commands["scores.score"] if "--unet" in words]
    assert len(scored) == ALONG["score_along"]
    for words in scored:
        run, folder = option(words, "run"), option(words, "unet").rpartition("/")[2]
        assert option(words, "unet") == f"results/paper/students/{run}/1234/unets/{folder}"
        assert option(words, "images").startswith(f"results/paper/samples/along/{run}/1234/{folder}/")
        assert option(words, "output") == f"results/paper/scores/along/{run}/1234/{folder}.json"
        settings = json.loads(option(words, "settings"))
        assert f"{settings['step']}-{settings['protocol']['weights']}" == folder
    (report,) = commands["report"]
    assert {option(words, "output") for words in scored} <= {*report[report.index("--along") :]}


def test_gpus_belong_to_the_job(commands: dict[str, list[list[str]]], smoke: str) -> None:
    assert {option(words, "gpus") for words in commands["students.distil"]} == {"4"}
    assert {option(words, "gpus") for words in commands["renders.render"] + commands["samples.draw"]} == {"1"}
    assert smoke.count("randcond.jobs.launch --gpus 2 randcond.students.distil") == 5


def test_a_miniature_needs_none_of_it(smoke: str) -> None:
    counts = jobs(smoke)
    assert not {"fetch_asset", "calibrate"} & counts.keys()
    assert counts["student"] == 5


def test_the_smaller_world_is_made_by_its_own_teacher(checkout: Checkout, smoke: str) -> None:
    planned = dry_run(checkout, "--configfile", "config/emoji.yaml", "config/smoke.yaml")
    assert jobs(planned) == jobs(smoke)
    for made, others in (("emoji", "artists"), ("artists", "emoji")):
        commands = commands_of(planned if made == "emoji" else smoke)
        words = " ".join(word for lines in commands.values() for line in lines for word in line)
        assert f"workflow/assets/{made}/teacher" in words and f"workflow/assets/{made}/evaluator" in words
        assert f"workflow/assets/{others}/" not in words


def test_an_asset_is_fetched(checkout: Checkout) -> None:
    source = checkout.folder / "published.txt"
    source.write_text("weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assets = checkout.folder / "config/assets.yaml"
    files = [{"path": "a.txt", "url": source.as_uri(), "sha256": digest}]
    listed = yaml.safe_dump({"tiny": {"gigabytes": 0.001, "licence": "none", "files": files}})
    assets.write_text(assets.read_text() + "\n" + listed)
    checkout.snakemake("--cores", "1", "--configfile", "config/paper.yaml", "--", "results/assets/tiny")
    assert (checkout.folder / "results/assets/tiny/a.txt").read_text() == "weights"
    assert digest in (checkout.folder / "config/assets.lock.json").read_text()


def test_a_long_training_is_scored_along_the_way(checkout: Checkout) -> None:
    # of 800 or 1400 steps every 100 are kept, twice; two students have random weights
    planned = dry_run(checkout, "--configfile", "config/along.yaml")
    counts = jobs(planned)
    settings = [json.loads(option(words, "settings")) for words in commands_of(planned)["students.distil"]]
    assert sorted(made["steps"] for made in settings) == [800] * 4 + [1400] * 2
    points = 4 * (2 * 800 // 100 - 1) + 2 * (2 * 1400 // 100 - 1)
    assert (counts["student"], counts["score"], counts["score_along"]) == (6, 8, points)
    assert counts["sample_along"] == 2 * points
    # they can be asked for without the report
    asked = jobs(dry_run(checkout, "--configfile", "config/along.yaml", "--", "along"))
    assert asked["score_along"] == points and "report" not in asked


def test_students_are_made_faster_and_drawn_in_few_steps(checkout: Checkout) -> None:
    planned = dry_run(checkout, "--configfile", "config/faster.yaml")
    counts, commands = jobs(planned), commands_of(planned)
    # three seeds of a student and of one made faster, one of another and of five in other steps; the teacher twice
    scored = 3 * (1 + 1) + 1 + 5 + 2
    assert [counts[rule] for rule in ("student", "faster", "score", "sample", "cost")] == [3, 4, scored, 2 * scored, 10]
    made = {option(words, "name"): words for words in commands["faster.distil"]}
    for seeds, name, swaps in (((0, 1, 2), "four-steps", True), ((0,), "four-steps-plain", False)):
        for seed in seeds:
            words = made[f"{name}/{seed}"]
            assert option(words, "student") == f"results/faster/students/student/{seed}/pipeline"
            assert option(words, "output") == f"results/faster/faster/{name}/{seed}/pipeline"
            assert f"results/faster/renders/{seed}/captions-rendered/00000.safetensors" in words
            settings = json.loads(option(words, "settings"))
            assert settings["run"]["random_conditioning"] == ({"kind": "linear"} if swaps else None)
            assert ("--pool" in words) == swaps == bool(settings["run"]["texts"])
            assert (settings["guidance_scale"], settings["recipe"]["learning_rate"]) == (2.5, 1e-4)
    drawn = {option(words, "name").split("/")[1]: words for words in commands["samples.draw"]}
    scores = {option(words, "run"): words for words in commands["scores.score"] if "run" in words}
    own = {"guidance_scale": 1.0, "scheduler": "DDIM"}
    pndm = {"guidance_scale": 2.5, "scheduler": "PNDM"}
    for name, stage, pipeline, how in (
        ("four-steps", "faster", "four-steps", {"steps": 4, **own}),
        ("one-step", "faster", "four-steps", {"steps": 1, **own}),
        ("student", "students", "student", {"steps": 25, **pndm}),
        ("student-4", "students", "student", {"steps": 4, **pndm}),
    ):
        assert option(drawn[name], "pipeline").startswith(f"results/faster/{stage}/{pipeline}/")
        sampling, protocol = (json.loads(option(words[name], "settings")) for words in (drawn, scores))
        assert {key: protocol["protocol"][key] for key in how} == how
        assert {key: sampling.get(key, "PNDM") for key in how} == how
    assert option(drawn["teacher-4"], "pipeline") == "workflow/assets/artists/teacher"
    (report,) = commands["report"]
    assert "results/faster/faster/four-steps/2/history.json" in report
    assert not any("/one-step/" in word and word.endswith("history.json") for word in report)
    # a model of one is drawn, scored and costed as it is
    model = dry_run(checkout, "--configfile", "config/faster.yaml", "--", "results/faster/models/four-steps/1")
    (written,) = commands_of(model)["models.write"]
    assert option(written, "pipeline") == "results/faster/faster/four-steps/1/pipeline"
    assert json.loads(option(written, "settings"))["faster"]["student"] == "student"


def test_a_flow_teacher_takes_the_parts_of_the_one_that_is_shipped(checkout: Checkout) -> None:
    planned = dry_run(checkout, "--configfile", "config/artists-flow-teacher.yaml", "--", "teacher")
    assert jobs(planned) == {"denoiser": 1, "assemble_teacher": 1, "teacher_scores": 1, "teacher": 1}
    made, other = commands_of(planned), "workflow/assets/artists/teacher"
    for words in made["make_teacher"]:
        assert (option(words, "autoencoder"), option(words, "text-encoder")) == (f"{other}/vae", other)
        assert option(words, "family") == "sd3"
    (checked,) = made["make_teacher.check"]
    assert option(checked, "evaluator") == "workflow/assets/artists/evaluator"


def test_students_of_a_flow(checkout: Checkout) -> None:
    teacher = "workflow/assets/artists/flow-teacher"
    planned = dry_run(checkout, "--configfile", "config/artists-flow.yaml")
    counts, commands = jobs(planned), commands_of(planned)
    # seven students of three seeds, the teacher and real images
    assert (counts["student"], counts["score"], counts["swapped_condition"]) == (7 * 3, 7 * 3 + 2, 1)
    for module in ("renders.render", "students.distil", "figures.swapped_condition"):
        assert {option(words, "teacher") for words in commands[module]} == {teacher}
    for words in commands["students.distil"]:
        settings = json.loads(option(words, "settings"))
        copied = settings["run"]["init"] == "copied"
        assert (settings["run"]["student"], settings["recipe"]["optimizer"]) == ("half-depth", "adamw")
        assert (settings["steps"], settings["recipe"]["learning_rate"]) == ((800, 1e-3) if copied else (1400, 3e-3))
    assert {option(words, "pipeline") for words in commands["samples.draw"] if "teacher" in option(words, "name")} == {
        teacher
    }
