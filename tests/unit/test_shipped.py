"""The small worlds' teachers and evaluators as they are shipped: whole, of their recipes, and knowing their world."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from randcond.jobs.files import sha256
from randcond.make_teacher.check import choose, shares
from randcond.make_teacher.material import MATERIAL
from randcond.scores.evaluator import Evaluator
from randcond.scores.names import load_naming
from randcond.settings.config import check_config
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "workflow/assets"


@dataclass(frozen=True)
class Shipped:
    """A teacher that comes with the project."""

    world: str
    folder: Path
    scores: Path
    config: str
    parts: tuple[str, ...]  # that were trained for it
    megabytes: int
    named: float = 0.6  # of 16 pictures, of which one in a hundred of noise would be


ALL = ("autoencoder", "text_encoder", "denoiser")
ARTISTS = ASSETS / "artists"
TEACHERS = {
    "emoji": Shipped("emoji", ASSETS / "emoji/teacher", ASSETS / "emoji/scores.json", "emoji", ALL, 30),
    "artists": Shipped("artists", ARTISTS / "teacher", ARTISTS / "scores.json", "artists-teacher", ALL, 30),
    "flow": Shipped(
        *("artists", ARTISTS / "flow-teacher", ARTISTS / "flow-teacher/scores.json", "artists-flow-teacher"),
        *(("denoiser",), 20, 0.3),  # not trained to its end
    ),
}
every_teacher = pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS)


@every_teacher
def test_weights_are_those_that_were_scored(teacher: Shipped) -> None:
    files = sorted(teacher.folder.rglob("*.safetensors"))
    found = {str(file.relative_to(teacher.folder)): sha256(file) for file in files}
    assert json.loads((teacher.folder / "sha256.json").read_text()) == found
    assert len(found) == 3 + (teacher.folder / "text_encoder_2").exists()
    assert not list((ASSETS / teacher.world).rglob("*.bin")) + list((ASSETS / teacher.world).rglob("*.pt"))


@every_teacher
def test_the_recipe_beside_the_weights_is_the_one_in_the_project(teacher: Shipped) -> None:
    config = yaml.safe_load((ROOT / f"config/{teacher.config}.yaml").read_text())
    recipe = check_config(config).make_teacher.model_dump()
    kept = json.loads((teacher.folder / "training.json").read_text())
    assert {part: {k: v for k, v in recipe[part].items() if k in kept["recipe"][part]} for part in teacher.parts} == {
        part: kept["recipe"][part] for part in teacher.parts
    }
    assert set(kept["history"]) == set(teacher.parts)
    for part in teacher.parts:
        assert kept["history"][part][-1]["step"] == recipe[part]["steps"]


@every_teacher
def test_what_is_shipped_is_small(teacher: Shipped) -> None:
    """In bytes, with the evaluator where it came with the teacher: every clone has them."""
    folders = [teacher.folder, *([ASSETS / teacher.world / "evaluator"] if teacher.parts == ALL else [])]
    assert sum(file.stat().st_size for folder in folders for file in folder.rglob("*")) < teacher.megabytes * 1e6


def test_parts_that_were_not_trained_for_it_are_the_other_teachers() -> None:
    flow, other = (json.loads((TEACHERS[name].folder / "sha256.json").read_text()) for name in ("flow", "artists"))
    of_vae = "vae/diffusion_pytorch_model.safetensors"
    assert flow[of_vae] == other[of_vae]
    assert flow["text_encoder/model.safetensors"] == flow["text_encoder_2/model.safetensors"]


# of artists, the smoke world draws with that teacher
@pytest.mark.parametrize(
    "teacher",
    [pytest.param(one, marks=[pytest.mark.slow] * (name == "artists"), id=name) for name, one in TEACHERS.items()],
)
def test_the_teacher_draws_what_the_evaluator_names(teacher: Shipped) -> None:
    material, pipeline = MATERIAL[teacher.world](), load_pipeline(teacher.folder)
    picks = choose(material, 1, 3)[::7]
    texts, asked = [material.texts[i] for i in picks], [material.meanings[i] for i in picks]
    scores = json.loads(teacher.scores.read_text())
    evaluator = Evaluator(ASSETS / teacher.world / "evaluator")
    with torch.no_grad():
        latents = draw_latents(pipeline, texts, 0, 3, 10, scores["settings"]["guidance_scale"])
        found = shares(asked, load_naming(teacher.world)(evaluator)(decode(pipeline, latents)))
    assert min(found["animals"], found["rest"]) >= teacher.named
