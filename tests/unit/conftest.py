"""A tiny pipeline of the real classes, with random weights."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from local_server import Server
from report_world import World
from transformers import CLIPTextConfig, CLIPTextModel

from randcond.make_teacher.clip import build_tokenizer
from randcond.teachers.noise import NOISE_SCHEDULE
from randcond.teachers.stable_diffusion import Teacher, load_pipeline
from randcond.worlds import emoji

torch.set_num_threads(1)
# who looks at plots, and at what reaches the disk; for all others a report is a third of the work without
PLOTS, DISK = ("test_report_figures", "test_report_page", "test_figures"), ("test_files", "test_stage", "test_rounds")


@pytest.fixture(autouse=True)
def light(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests of other things neither draw the report's plots nor wait for the disk."""
    module = request.module.__name__
    if module.startswith("test_report") and not module.startswith(PLOTS):
        monkeypatch.setattr(
            "randcond.report.figures.save", lambda _, path: path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        )
    if not module.startswith(DISK):
        monkeypatch.setattr("randcond.jobs.files._sync", lambda _: None)


def tiny_unet() -> UNet2DConditionModel:
    """SD v1.4's block layout at 1/32 of its widths."""
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(10, 20, 40, 40),
        cross_attention_dim=8,
        attention_head_dim=1,
        norm_num_groups=1,
    )


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    torch.manual_seed(0)
    tokenizer = build_tokenizer([caption.text for caption in emoji.captions()[:200]], vocabulary=600)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=16, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    StableDiffusionPipeline(
        vae=AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(4, 4, 4), latent_channels=4, norm_num_groups=1, sample_size=32,
        ),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=tiny_unet(),
        scheduler=PNDMScheduler(**NOISE_SCHEDULE, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture
def teacher(pipeline_folder: Path) -> Teacher:
    return Teacher(load_pipeline(pipeline_folder))


@pytest.fixture(scope="session")
def one_server() -> Iterator[Server]:
    """Started once: to stop one takes half a second."""
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def server(one_server: Server) -> Server:
    one_server.reset()
    return one_server


@pytest.fixture
def world(tmp_path: Path) -> World:
    """What a report is made from, to be changed."""
    return World(tmp_path, [0])


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A report that tests may read but not change."""
    world = World(tmp_path_factory.mktemp("report"), [0])
    world.build()
    return world


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a git and DVC repository in which every job has run."""
    from recorded_project import begin  # DVC takes a second to import

    monkeypatch.chdir(tmp_path)
    begin()
    return tmp_path


@pytest.fixture
def students(pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a configuration, a teacher, two finished students of one run (its copies) and one begun."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    settings = {"teacher": "teacher", "sampling": {"steps": 2, "seed": 7}}
    (tmp_path / "config/config.yaml").write_text(json.dumps(settings))
    shutil.copytree(pipeline_folder, tmp_path / "teacher")
    for seed in (10, 9):
        shutil.copytree(pipeline_folder, tmp_path / f"results/emoji/students/mine/{seed}/pipeline")
    (tmp_path / "results/emoji/students/begun/0").mkdir(parents=True)
    return tmp_path
