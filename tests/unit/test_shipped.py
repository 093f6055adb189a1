"""The small worlds' teachers and evaluators as they are shipped: whole, of their recipes, and knowing their world."""

import json
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
WORLDS = list(MATERIAL)


@pytest.mark.parametrize("world", WORLDS)
def test_weights_are_those_that_were_scored(world: str) -> None:
    teacher = ASSETS / world / "teacher"
    found = {str(path.relative_to(teacher)): sha256(path) for path in sorted(teacher.rglob("*.safetensors"))}
    assert json.loads((teacher / "sha256.json").read_text()) == found
    assert len(found) == 3
    assert not list((ASSETS / world).rglob("*.bin")) + list((ASSETS / world).rglob("*.pt"))


@pytest.mark.parametrize("world", WORLDS)
def test_the_recipe_beside_the_weights_is_the_one_in_the_project(world: str) -> None:
    file = "emoji" if world == "emoji" else f"{world}-teacher"
    recipe = check_config(yaml.safe_load((ROOT / f"config/{file}.yaml").read_text())).make_teacher.model_dump()
    kept = json.loads((ASSETS / world / "teacher/training.json").read_text())
    parts = ("autoencoder", "text_encoder", "denoiser")
    assert {part: {k: v for k, v in recipe[part].items() if k in kept["recipe"][part]} for part in parts} == {
        part: kept["recipe"][part] for part in parts
    }
    for part in parts:
        assert kept["history"][part][-1]["step"] == recipe[part]["steps"]


@pytest.mark.parametrize("world", WORLDS)
def test_everything_of_a_world_is_small(world: str) -> None:
    weights = [path.stat().st_size for kind in ("teacher", "evaluator") for path in (ASSETS / world / kind).rglob("*")]
    assert sum(weights) < 30e6  # bytes; every clone has them


# of artists, the smoke world draws with that teacher
@pytest.mark.parametrize("world", [pytest.param(one, marks=[pytest.mark.slow] * (one == "artists")) for one in WORLDS])
def test_the_teacher_draws_what_the_evaluator_names(world: str) -> None:
    material, pipeline = MATERIAL[world](), load_pipeline(ASSETS / world / "teacher")
    picks = choose(material, 1, 3)[::7]
    texts, asked = [material.texts[i] for i in picks], [material.meanings[i] for i in picks]
    scores = json.loads((ASSETS / world / "scores.json").read_text())
    with torch.no_grad():
        latents = draw_latents(pipeline, texts, 0, 3, 10, scores["settings"]["guidance_scale"])
        found = shares(asked, load_naming(world)(Evaluator(ASSETS / world / "evaluator"))(decode(pipeline, latents)))
    assert min(found["animals"], found["rest"]) >= 0.6  # 16 pictures; of noise one in a hundred is named right
