"""The paper's world as Snakemake plans it: all resolves without network, and the jobs are as many as they should be."""

import hashlib

import pytest
import yaml

from conftest import Checkout

# per rule: 9 assets; 4 sets of 213 shards (captions rendered, real and augmented, LLM prompts); 18 students; the
# teacher and three students of table 2 are sampled on 41 shards of prompts, the other fifteen on 30; table 4 is eleven
# pipelines
JOBS = {
    "cost": 11, "digits_classifier": 1, "digits_diffusion": 1, "toy": 1,
    "all": 1, "calibrate": 1, "check_evaluators": 1, "fetch_asset": 9, "llm_prompts": 1, "prompts": 1,
    "real_images": 1, "reference": 1,
    "render": 4 * 213, "report": 1, "sample": 4 * 41 + 15 * 30, "score": 19, "student": 18,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("paper"))


def dry_run(checkout: Checkout, *arguments: str) -> str:
    """What would be done, with commands."""
    return checkout.snakemake("--dry-run", "--printshellcmds", *arguments).stdout


@pytest.fixture(scope="module")
def paper(checkout: Checkout) -> str:
    """The dry run of the paper's world."""
    return dry_run(checkout, "--configfile", "config/paper.yaml")


@pytest.fixture(scope="module")
def emoji(checkout: Checkout) -> str:
    """The dry run of a small world, with other GPUs than its configuration's."""
    return dry_run(checkout, "--configfile", "config/smoke.yaml", "--set-resources", "student:gpu=2")


def jobs(output: str) -> dict[str, int]:
    """Job counts by rule of a dry run."""
    lines = output.split("-----------  -------\n", 1)[-1].splitlines() if "-----------" in output else []
    counts = {}
    for line in lines:
        if len(parts := line.split()) != 2 or parts[0] == "total":
            break
        counts[parts[0]] = int(parts[1])
    return counts


def test_all_of_it(paper: str) -> None:
    assert jobs(paper) == JOBS


def test_the_full_grid(checkout: Checkout) -> None:
    # 9 choices of p(t), random conditioning without unseen texts (all drawn on 41 shards), 8 students of figure 7
    more = {"student": 18, "score": 18, "sample": 10 * 41 + 8 * 30}
    expected = {rule: count + more.get(rule, 0) for rule, count in JOBS.items()}
    assert jobs(dry_run(checkout, "--configfile", "config/paper.yaml", "--config", "grid=full")) == expected


def test_stable_diffusion_2(checkout: Checkout) -> None:
    # no calibration; D rendered alone; 8 students, of which three and the teacher are drawn on 41 shards
    planned = jobs(dry_run(checkout, "--configfile", "config/paper.yaml", "config/sd21.yaml"))
    expected = {"student": 8, "score": 9, "render": 213, "sample": 4 * 41 + 5 * 30, "cost": 6}
    assert planned == {rule: n for rule, n in {**JOBS, **expected}.items() if rule != "calibrate"}


def test_fetching_is_apart(checkout: Checkout) -> None:
    fetched = dry_run(checkout, "--configfile", "config/paper.yaml", "--", "fetch")
    assert jobs(fetched) == {"fetch": 1, "fetch_asset": 9}
    # once everything is there, nothing else asks for the network
    for line in (checkout.folder / "config/assets.yaml").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            (checkout.folder / "results/assets" / line.split(":")[0]).mkdir(parents=True)
    planned = jobs(dry_run(checkout, "--configfile", "config/paper.yaml"))
    assert planned == {rule: n for rule, n in JOBS.items() if rule != "fetch_asset"}


def test_students_wait_for_the_teacher(paper: str) -> None:
    waiting = {}
    for block in paper.split("\nrule ")[1:]:
        if block.startswith("score:"):
            wildcards = block.split("wildcards: run=")[1]
            waiting[wildcards.split(",")[0]] = "calibration.json" in block.split("output:")[0]
    assert len(waiting) == 19
    assert [run for run, waits in waiting.items() if not waits] == ["teacher"]


def test_bk_sdms_rows_have_its_recipe(paper: str) -> None:
    commands = [line for line in paper.splitlines() if "randcond.students.distil" in line]
    own = {line.split("--name ")[1].split("/")[0] for line in commands if '"null_text": 0.0' in line}
    assert own == {"copied-plain-real", "b-small-plain-real", "b-tiny-plain-real"}
    assert own == {line.split("--name ")[1].split("/")[0] for line in commands if "captions-real-augmented/" in line}
    assert all('"null_text": 0.1' in line for line in commands if line.split("--name ")[1].split("/")[0] not in own)


def test_gpus_belong_to_the_job(paper: str, emoji: str) -> None:
    assert paper.count("randcond.jobs.launch --gpus 4 randcond.students.distil") == JOBS["student"]
    assert paper.count("randcond.jobs.launch --gpus 1 randcond.renders.render") == JOBS["render"]
    assert emoji.count("randcond.jobs.launch --gpus 2 randcond.students.distil") == 5


def test_the_emoji_world_needs_none_of_it(emoji: str) -> None:
    counts = jobs(emoji)
    assert not {"fetch_asset", "calibrate"} & counts.keys()
    assert counts["student"] == 5


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
