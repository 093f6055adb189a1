"""The template for a model of one's own, from texts to its report, and that training is worth its while."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from checkout import Checkout

SCORES = {"fid": -1, "kid": -1, "clip": 1, "agreement": 1}  # what each gets better by
CHANGED = """name: {name}
only: [base]
prompts: {{count: 64, evaluation: 24, held_out: [fox]}}
rendering: {{shard: 64, batch: 32, steps: 8, guidance_scale: 2.0, seed: 1000}}
distillation: {{steps: {{copied: {steps}}}, batch: 16, micro_batch: 16}}
sampling: {{shard: 24, batch: 24, steps: 8, guidance_scale: 2.0, seed: 3000}}
scoring: {{bootstrap: 5}}
"""


def run(checkout: Checkout, name: str, steps: int, *target: str) -> Path:
    """Results of the template at a smaller size, with one student."""
    changed = checkout.folder / f"{name}.yaml"
    changed.write_text(CHANGED.format(name=name, steps=steps))
    checkout.snakemake("--cores", "2", "--configfile", "config/own.yaml", changed.name, *target)
    return checkout.folder / "results" / name


def scores(results: Path, name: str) -> dict[str, float]:
    found = json.loads((results / f"scores/{name}/0.json").read_text())["splits"]["all"]["metrics"]
    return {metric: sign * found[metric]["value"] for metric, sign in SCORES.items()}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("own"))


def test_a_trained_student_beats_a_copy_and_falls_short_of_the_teacher(checkout: Checkout) -> None:
    trained = run(checkout, "trained", 60)
    untrained = run(checkout, "untrained", 1, "--", "results/untrained/scores/base/0.json")
    better, worse, teacher = scores(trained, "base"), scores(untrained, "base"), scores(trained, "teacher")
    for metric in SCORES:
        assert teacher[metric] > better[metric] > worse[metric], (metric, teacher, better, worse)
    page = (trained / "report/index.html").read_text()
    assert "against 24 by the teacher, from other noise" in page
    assert "agreement" in page
    for foreign in ("Stable Diffusion v1.4", "MS-COCO", "figures 2, 3 and 5", "not made"):
        assert foreign not in page, foreign


def test_a_stable_diffusion_of_ones_own_is_planned(checkout: Checkout) -> None:
    parts = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    save_file({f"{part}weight": torch.zeros(1) for part in parts}, checkout.folder / "teacher.safetensors")
    (checkout.folder / "texts.txt").write_text("\n".join(f"photograph number {i} of a cup" for i in range(5000)))
    plan = checkout.snakemake("-n", "--configfile", "config/own_sd.yaml").stdout
    counts = dict(re.findall(r"^(\w+) +(\d+)$", plan, re.MULTILINE))
    # 4,000 pairs and 500 evaluation prompts in files of 1,000 and 500; the evaluator and the layout are fetched
    expected = {"converted": 1, "fetch_asset": 2, "render": 4, "student": 2, "sample": 4, "score": 3, "cost": 3}
    assert {rule: int(counts.get(rule, 0)) for rule in expected} == expected
    assert (
        "--layout results/assets/stable-diffusion-v1-4-layout"
        in checkout.snakemake(
            "-n", "-p", "--configfile", "config/own_sd.yaml", "--", "results/own-sd/converted/teacher"
        ).stdout
    )


def test_bad_input_stops_it_before_anything_is_made(checkout: Checkout) -> None:
    changed = checkout.folder / "bad.yaml"
    changed.write_text("name: bad\nteacher: config\n")
    done = checkout.snakemake("-n", "--configfile", "config/own.yaml", changed.name, check=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode != 0
    assert "config: teacher: config: no model_index.json" in line
    assert not (checkout.folder / "results/bad").exists()
