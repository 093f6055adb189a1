"""The world's second teacher: SD3's transformer, trained by rectified flow."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch import nn

from randcond.make_teacher import clip, flow
from randcond.make_teacher.__main__ import _load_text_encoder
from randcond.make_teacher.autoencoder import build_autoencoder
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline
from randcond.teachers.teacher import Conditions

TEXTS = ("a tiger on a red background", "a car on a blue background", "a snail on a green background")


@pytest.fixture
def pipeline() -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    tokenizer = clip.build_tokenizer(TEXTS, vocabulary=560, context=12)
    return flow.flow_pipeline(build_autoencoder(32, (8, 16), 6), clip.build_text_encoder(tokenizer).eval(), tokenizer)


def test_the_transformer_fits_the_worlds_latents_and_texts(pipeline: StableDiffusion3Pipeline) -> None:
    config = pipeline.transformer.config
    assert (config["sample_size"], config["in_channels"], config["patch_size"]) == (16, 6, 1)
    assert (config["joint_attention_dim"], config["pooled_projection_dim"]) == (256, 256)
    conditions = flow.encoding(pipeline)(TEXTS)
    # without T5 its tokens are zeros, as many as the tokenizers' own
    assert conditions["encoder_hidden_states"].shape == (3, 24, 256)
    assert conditions["encoder_hidden_states"][:, :12].abs().sum(-1).gt(0).all()
    assert not conditions["encoder_hidden_states"][:, 12:].any()
    assert conditions["pooled_projections"].shape == (3, 256)
    assert all(parameter.requires_grad for parameter in pipeline.transformer.parameters())
    assert pipeline.transformer.training


class KnowsTheImage(nn.Module):
    """Predicts as one who knows the only image there is: x_s = (1 - s) x_0 + s e, so that e - x_0 = (x_s - x_0) / s."""

    def __init__(self, image: torch.Tensor) -> None:
        super().__init__()
        self.image, self.asked = image, list[dict[str, torch.Tensor]]()

    def forward(self, noised: torch.Tensor, **asked: torch.Tensor) -> SimpleNamespace:
        self.asked.append(asked)
        amount = asked["timestep"].view(-1, 1, 1, 1) / 1000
        return SimpleNamespace(sample=(noised - self.image) / amount)


def test_the_velocity_is_from_the_image_to_the_noise() -> None:
    image, scheduler = torch.randn(3, 4, 4), FlowMatchEulerDiscreteScheduler(shift=1.0)
    captions, choices, knows = ["a tiger", "tiger", "a car"], torch.tensor([[0, 1], [2, 2]]), KnowsTheImage(image)

    def encode(texts: Sequence[str]) -> Conditions:
        return {"pooled_projections": torch.eye(4)[[[*captions, ""].index(text) for text in texts]]}

    problem = flow.FlowProblem(knows, torch.stack([image, image]), choices, captions, encode, scheduler, 64, 3)
    assert float(problem(0, slice(0, 64))["loss"]) < 1e-6
    parts = [problem(1, slice(0, 24))["loss"], problem(1, slice(24, 64))["loss"]]
    problem.transformer = nn.Module()  # from here on nothing is predicted: the target's own mean square, in parts
    problem.transformer.forward = lambda noised, **asked: SimpleNamespace(sample=torch.zeros_like(noised))
    assert max(map(float, parts)) < 1e-6
    whole, first, rest = (problem(1, rows)["loss"] for rows in (slice(0, 64), slice(0, 24), slice(24, 64)))
    torch.testing.assert_close(whole, (24 * first + 40 * rest) / 64)
    assert float(whole) == pytest.approx(1 + float(image.square().mean()), rel=0.1)

    times = torch.cat([asked["timestep"] for asked in knows.asked]) / 1000
    for step in range(2, 40):
        problem.transformer = knows
        problem(step, slice(0, 64))
    times = torch.cat([asked["timestep"] for asked in knows.asked]) / 1000
    assert float(times.median()) == pytest.approx(0.5, abs=0.03)
    assert float((times < 0.2689).double().mean()) == pytest.approx(0.1587, abs=0.02)  # sigmoid(-1), a normal below -1
    said = torch.cat([asked["pooled_projections"] for asked in knows.asked]).mean(0)
    torch.testing.assert_close(said, torch.tensor([0.225, 0.225, 0.45, 0.1]), atol=0.03, rtol=0)


@pytest.mark.slow  # test_golden: its training; every_family: its pipeline
def test_a_teacher_of_flow_is_trained_put_together_and_draws(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = clip.build_tokenizer(TEXTS, vocabulary=560, context=12)
    clip.build_text_encoder(tokenizer).half().save_pretrained(tmp_path / "texts/text_encoder")
    tokenizer.save_pretrained(tmp_path / "texts/tokenizer")
    build_autoencoder(32, (8, 16, 16), 4).half().save_pretrained(tmp_path / "vae")
    common = [
        "--world",
        "emoji",
        "--family",
        "sd3",
        "--autoencoder",
        tmp_path / "vae",
        "--text-encoder",
        tmp_path / "texts",
    ]
    recipe = {"steps": 2, "batch": 4, "learning_rate": 1e-3, "cycles": 1, "scenes": 1, "ema": 0.9, "seed": 0}
    run("denoiser", *common, "--checkpoint", tmp_path / "state", "--output", tmp_path / "denoiser", recipe=recipe)
    assert not (tmp_path / "state").exists()  # or another training would go on from it
    run("assemble", *common, "--denoiser", tmp_path / "denoiser", "--output", tmp_path / "teacher", recipe=recipe)
    known = json.loads((tmp_path / "teacher/training.json").read_text())
    assert known["recipe"] == recipe
    assert set(known["history"]) == {"denoiser"}  # the other parts were trained elsewhere
    sums = json.loads((tmp_path / "teacher/sha256.json").read_text())
    assert {name.split("/")[0] for name in sums} == {"transformer", "vae", "text_encoder", "text_encoder_2"}
    teacher = load_pipeline(tmp_path / "teacher")
    assert isinstance(teacher, StableDiffusion3Pipeline)
    images = decode(teacher, draw_latents(teacher, TEXTS[:2], 0, 1, 3, 2.0))
    assert images.shape == (2, 3, 32, 32)
    assert teacher(TEXTS[0], num_inference_steps=2, output_type="np").images.shape == (1, 32, 32, 3)


def run(part: str, *options: str | Path, recipe: dict[str, float]) -> None:
    log = Path(options[-1]).with_suffix(".log")
    command = [
        sys.executable,
        "-m",
        "randcond.make_teacher",
        part,
        *map(str, options),
        "--settings",
        json.dumps(recipe),
    ]
    done = subprocess.run([*command, "--log", str(log)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@torch.no_grad()
def test_a_text_encoder_without_projection_gives_its_last_state_as_pooled_text() -> None:
    teacher = Path("workflow/assets/artists/teacher")
    projected, tokenizer = _load_text_encoder(teacher, projected=True)
    bare, _ = _load_text_encoder(teacher)
    ids = tokenizer(["a red tiger", "a bus, 3D"], padding="max_length", return_tensors="pt").input_ids
    given = projected(ids)
    states = bare(ids).last_hidden_state
    torch.testing.assert_close(given.last_hidden_state, states)
    ends = (ids == tokenizer.eos_token_id).int().argmax(1)
    torch.testing.assert_close(given.text_embeds, states[torch.arange(2), ends])
    assert float((given.text_embeds[0] - given.text_embeds[1]).square().mean()) > 0.1
