"""The tutorial for a model of one's own, from its first command to its last, and that training is worth its while."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import second_teacher
from checkout import ROOT, Checkout

# the stages run in the smoke world too, this world's own parts in tests/unit/test_own.py
pytestmark = pytest.mark.slow
SCORES = {"fid": -1, "kid": -1, "clip": 1, "agreement": 1, "latents": -1}  # what each gets better by
# the template's lines marked "yours", and sizes for a small teacher on a CPU
YOURS = {
    "teacher": "mine/teacher.safetensors", "teacher_layout": "mine/layout", "  own": "mine/texts.txt",
    "evaluator": "workflow/assets/emoji/evaluator", "gpus": "{train: 0, draw: 0}",
    "  count": "96", "  evaluation": "32", "  held_out": "[mushroom]",
    "rendering": "{shard: 96, batch: 32, steps: 8, guidance_scale: 2.0, seed: 1000}",
    "sampling": "{shard: 32, batch: 32, steps: 8, guidance_scale: 2.0, seed: 3000}",
    "  steps": "{copied: 100}", "  learning_rate": "{copied: 1.0e-3}", "  batch": "16", "  micro_batch": "16",
    "  schedule": "cosine", "  ema": "0.95", "  mixed_precision": '"no"', "  gradient_checkpointing": "false",
}  # fmt: skip


def blocks(kind: str) -> list[str]:
    """The tutorial's blocks of code of a kind; commands have none."""
    text = (ROOT / "docs/own_model.md").read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Tutorial(Checkout):
    """A checkout with the second teacher in it, where ``make`` finds the environment that the tests run in."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        (folder / "mine").mkdir()
        second_teacher.make(folder / "mine")
        # its own mark, so that `make` does not set up another
        (folder / ".venv").mkdir()
        for part in Path(sys.prefix).iterdir():
            (folder / ".venv" / part.name).symlink_to(part)
        (folder / ".venv/ready").unlink(missing_ok=True)
        (folder / ".venv/ready").touch()

    def edit(self) -> None:
        """Change the copied template as the tutorial asks for."""
        path = self.folder / "mine.yaml"
        text = path.read_text()
        for key, value in YOURS.items():
            text, count = re.subn(rf"^{key}:.*$", f"{key}: {value}", text, flags=re.MULTILINE)
            assert count == 1, key
        path.write_text(text + "only: [base]\nscoring: {bootstrap: 5}\n")

    def command(self, line: str) -> str:
        """Run a command as somebody types it; what it printed."""
        own = {"PYTHONPATH": str(self.folder / "workflow/src"), "PATH": f"{self.folder}/.venv/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=os.environ | own, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Tutorial:
    """The tutorial, done from its first command to its last."""
    done = Tutorial(tmp_path_factory.mktemp("own"))
    (commands,) = blocks("")
    lines = [line.split("  #")[0].strip() for line in commands.splitlines()]
    assert lines[0] == "cp config/own_sd.yaml mine.yaml"
    for line in lines:
        done.command(line)
        if line == lines[0]:
            done.edit()
    return done


def scores(results: Path, name: str, split: str = "all") -> dict[str, float]:
    found = json.loads((results / f"scores/{name}/0.json").read_text())["splits"][split]["metrics"]
    return {metric: sign * found[metric]["value"] for metric, sign in SCORES.items()}


def test_what_the_tutorial_makes(tutorial: Tutorial) -> None:
    results = tutorial.folder / "results/own-sd"
    page = (results / "report/index.html").read_text()
    assert "against 32 by the teacher, from other noise" in page
    for own in ("agreement", "distance in latents"):
        assert own in page
    for foreign in ("Stable Diffusion v1.4", "MS-COCO", "figures 2, 3 and 5", "not made"):
        assert foreign not in page, foreign
    (picture,) = (results / "drawn").glob("*.png")
    assert Image.open(picture).width > 2 * 256
    card = (results / "models/base/0/README.md").read_text()
    assert "license: creativeml-openrail-m" in card and "base_model" not in card
    assert "| teacher | mine/teacher.safetensors |" in card
    (python,) = blocks("python")
    subprocess.run([sys.executable, "-c", python], cwd=tutorial.folder, check=True, capture_output=True)
    assert Image.open(tutorial.folder / "mushroom.png").size == (32, 32)


def test_a_trained_student_beats_a_copy_and_falls_short_of_the_teacher(tutorial: Tutorial) -> None:
    trained = tutorial.folder / "results/own-sd"
    (tutorial.folder / "copy.yaml").write_text("name: copy\ndistillation: {steps: {copied: 1}}\n")
    renders = tutorial.folder / "results/copy"
    for part in ("converted", "prompts", "renders"):  # the same as before; only the training differs
        shutil.copytree(trained / part, renders / part)
    files = ("--configfile", "mine.yaml", "copy.yaml")
    tutorial.snakemake("--cores", "2", *files, "--", "results/copy/scores/base/0.json")
    untrained = tutorial.folder / "results/copy"
    better, worse, teacher = scores(trained, "base"), scores(untrained, "base"), scores(trained, "teacher")
    for metric in SCORES:
        assert teacher[metric] > better[metric] > worse[metric], (metric, teacher, better, worse)
    assert scores(trained, "base", "unseen").keys() == SCORES.keys()


def test_a_stable_diffusion_of_ones_own_is_planned(tutorial: Tutorial) -> None:
    parts = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.")
    save_file({f"{part}weight": torch.zeros(1) for part in parts}, tutorial.folder / "teacher.safetensors")
    (tutorial.folder / "texts.txt").write_text("\n".join(f"photograph number {i} of a cup" for i in range(5000)))
    (tutorial.folder / "other.yaml").write_text("name: other\n")
    files = ("--configfile", "config/own_sd.yaml", "other.yaml")
    plan = tutorial.snakemake("-n", *files).stdout
    counts = dict(re.findall(r"^(\w+) +(\d+)$", plan, re.MULTILINE))
    # 4,000 pairs and 500 evaluation prompts in files of 1,000 and 500; the evaluator and the layout are fetched
    expected = {"converted": 1, "fetch_asset": 2, "render": 4, "student": 2, "sample": 4, "score": 3, "cost": 3}
    assert {rule: int(counts.get(rule, 0)) for rule in expected} == expected
    converted = tutorial.snakemake("-n", "-p", *files, "--", "results/other/converted/teacher").stdout
    assert "--layout results/assets/stable-diffusion-v1-4-layout" in converted


def test_bad_input_stops_it_before_anything_is_made(tutorial: Tutorial) -> None:
    changed = tutorial.folder / "bad.yaml"
    changed.write_text("name: bad\nteacher: config\n")
    done = tutorial.snakemake("-n", "--configfile", "config/own.yaml", changed.name, check=False)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode != 0
    assert "config: teacher: config: no model_index.json" in line
    assert not (tutorial.folder / "results/bad").exists()
