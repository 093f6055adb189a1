"""Every stage of the paper's world on tiny models of the real classes: only the weights are untested."""

import argparse
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from PIL import Image
from published import ASSETS, ROOT, fetch_all, writers

from randcond import report
from randcond.converted.convert import convert
from randcond.jobs.errors import UserError
from randcond.jobs.files import sha256
from randcond.jobs.tensors import read_tensors
from randcond.prompts import choose as prompts
from randcond.prompts import local_model, writing
from randcond.renders import render
from randcond.report.shown import read_settings
from randcond.samples import draw as sample
from randcond.samples import real_images
from randcond.scores import calibrate, check, score
from randcond.scores import paper as paper_scores
from randcond.scores.inception import fid_features
from randcond.settings.config import Config
from randcond.students import distil as distill
from randcond.students.data import LatentShards
from randcond.teachers.pipelines import draw_latents, load_pipeline, teacher_of
from single_file import save_single_file

DRAWN = {"steps": 2, "guidance_scale": 7.5, "precision": "no", "seed": 5}
JPEG = {"image_format": "jpeg", "resize": 16}


class Run:
    """The stages' outputs in one folder, made by calling them as their commands do."""

    def __init__(self, folder: Path, teacher: Path) -> None:
        self.folder = folder
        self.assets = fetch_all(folder, teacher)
        paper = yaml.safe_load((ROOT / "config/paper.yaml").read_text())
        # the configuration's own paths, as snakemake would find them
        self.sources = [f"{name}={folder / path}" for name, path in paper["sources"].items()]
        self.evaluators = [folder / paper["evaluator"], folder / paper["inception"]]
        self.teacher = folder / paper["teacher"]
        settings = {"count": 9, "evaluation": 8, "benchmark": 6, "pool": 10, "max_characters": 100, "seed": 0}
        names = ("captions", "evaluation", "pool", "summary")
        self.prompts = {name: folder / f"made-{name}" for name in names}
        self.call(prompts._evaluation, settings, **self.prompts)
        self.call(prompts._training, settings | {"expected": {}, "draw": 0}, **self.prompts)

    def call(self, stage: object, settings: dict, **more: object) -> None:
        values = {
            "sources": self.sources,
            "threads": 1,
            "unet": None,
            "settings": json.dumps(settings | {"world": "paper"}),
        }
        stage(argparse.Namespace(**values | more))

    def render(self, images: str, size: int, batch: int) -> list[Path]:
        paths = []
        for shard in range(-(-9 // size)):
            paths.append(self.folder / f"{images}-{size}-{shard}.safetensors")
            settings = DRAWN | {"count": 9, "shard": size, "batch": batch, "images": images, "latents": "fp16"}
            more = {"shard": shard, "teacher": self.teacher, "prompts": self.prompts["captions"], "output": paths[-1]}
            self.call(render._main, settings, **more)
        return paths

    def distil(
        self, latents: list[Path], changes: dict | None = None, keep: list | None = None, **recipe: object
    ) -> Path:
        output = self.folder / "student"
        held = Config().distillation.held() | {"micro_batch": 2}
        values = Config().distillation.recipe("copied") | {"batch": 4} | recipe
        held |= {name: values.pop(name) for name in [*values] if name in held}
        run = {
            "student": "b-base",
            "init": "copied",
            "prompts": "captions",
            "rows": "seen",
            "size": None,
            "images": "real",
        }
        run |= {"random_conditioning": {"kind": "exponential", "rate": 5.0}, "texts": ["unseen", "pool"]}
        run |= {"features": "authors", "trajectories": None, "relative_features": False}
        run |= changes or {}
        settings = {"run": run, "recipe": values, "steps": 2, "count": 9, "seed": 3}
        if keep is not None:
            settings["keep"] = keep
        more = {"name": "tiny/3", "teacher": self.teacher, "prompts": self.prompts["captions"], "latents": latents}
        names = {"history": "students/mine/3/history.json", "checkpoint": "checkpoint", "unets": "unets"}
        files = {name: self.folder / path for name, path in names.items()}
        self.call(distill.distil, settings, **more, **files, pool=self.prompts["pool"], sensitivity=None, output=output,
                  held=json.dumps(held))  # fmt: skip
        return output

    def sample(self, pipeline: Path, count: int, size: int, unet: Path | None = None) -> list[Path]:
        paths = []
        for shard in range(-(-count // size)):
            paths.append(self.folder / f"{(unet or pipeline).name}-{count}-{shard}.zip")
            settings = DRAWN | JPEG | {"count": count, "shard": size, "batch": 3}
            more = {"prompts": self.prompts["evaluation"], "output": paths[-1], "name": "sample"}
            self.call(sample._main, settings, shard=shard, pipeline=pipeline, unet=unet, **more)
        return paths

    def score(self, name: str, pipeline: Path, images: list[Path], count: int, unet: Path | None = None) -> dict:
        settings = {
            "batch": 4,
            "bootstrap": 2,
            "seed": 0,
            "count": count,
            "benchmark": 6,
            "name": "tiny",
            "protocol": {"weights": "ema"},
        }
        output = self.folder / f"{name}.json"
        if unet is not None:
            step, weights = unet.name.split("-")
            output = self.folder / f"{name}-{unet.name}.json"
            settings |= {"step": int(step), "protocol": {"weights": weights}}
        more = {"evaluator": self.evaluators, "images": images, "prompts": self.prompts["evaluation"]}
        files = {"reference": self.folder / "reference.safetensors", "output": output}
        self.call(score._score, settings, **more, **files, run=name, seed=3, pipeline=pipeline, unet=unet)
        return json.loads(output.read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pipeline_folder: Path) -> Run:
    return Run(tmp_path_factory.mktemp("paper"), pipeline_folder)


def test_every_asset_is_laid_out_as_it_is_listed(run: Run) -> None:
    assert writers(run.teacher).keys() == ASSETS.keys() == run.assets.keys()
    for name, folder in run.assets.items():
        repacked = ASSETS[name].repack == "zip"
        listed = {file.path.replace(".tar.gz", ".zip") if repacked else file.path for file in ASSETS[name].files}
        assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == listed


@pytest.mark.parametrize("name", ["stable-diffusion-2-1", "stable-diffusion-xl-base-1-0", "stable-diffusion-3-medium"])
def test_another_teacher_draws_from_the_files_that_are_listed(run: Run, name: str) -> None:
    drawn = draw_latents(load_pipeline(run.assets[name]), ["a car"], 0, 1, 2, 2.0)
    assert torch.isfinite(drawn).all()


def test_a_model_in_one_file_is_read_by_the_fetched_layout(run: Run, tmp_path: Path) -> None:
    layout, file = run.assets["stable-diffusion-v1-4-layout"], tmp_path / "mine.safetensors"
    assert not list(layout.rglob("*.safetensors"))
    save_single_file(load_pipeline(run.teacher), file)
    convert(file, layout, tmp_path / "folder")
    ours, theirs = load_pipeline(tmp_path / "folder"), load_pipeline(run.teacher)
    drawn = [draw_latents(pipeline, ["a car"], 0, 1, 2, 2.0) for pipeline in (ours, theirs)]
    assert torch.equal(*drawn)


def test_what_will_score_is_looked_at_before_anything_expensive(run: Run) -> None:
    output = run.folder / "evaluators.json"
    run.call(check._main, {}, world="paper", evaluator=run.evaluators, students=[], output=output)
    assert json.loads(output.read_text()) == {"loads": True}
    weights = run.evaluators[0] / "open_clip_pytorch_model.bin"
    kept = weights.read_bytes()
    try:
        for content in (kept[:-1000], pickle.dumps(Path("/"))):
            weights.write_bytes(content)
            with pytest.raises(UserError, match="clip-vit-g-14: no whole open_clip model"):
                check.check("paper", run.evaluators)
    finally:
        weights.write_bytes(kept)


@pytest.mark.parametrize("spoilt", [False, True])
def test_the_evaluator_of_a_model_of_ones_own_is_looked_at_too(tmp_path: Path, spoilt: bool) -> None:
    evaluator = shutil.copytree(ROOT / "workflow/assets/emoji/evaluator", tmp_path / "evaluator")
    both = [evaluator, ROOT / "workflow/assets/emoji/teacher"]
    if not spoilt:
        return check.check("own", both)
    (evaluator / "open_clip_config.json").write_text("{}")
    with pytest.raises(UserError, match="evaluator: no whole open_clip model"):
        check.check("own", both)
    return None


def test_the_fetched_language_model_writes(run: Run) -> None:
    values = {"count": 1, "batch": 2, "examples": 1, "new_tokens": 6, "temperature": 1.0, "top_p": 1.0}
    settings = writing.Settings(**values, max_rounds=1, seed=0, threads=1)
    write = local_model.load_writer(run.assets["llm"], settings)
    assert isinstance(write("- a red bus\n", ["", ""], 0), list)


@pytest.mark.parametrize("images", ["rendered", "real"])
def test_latents_do_not_depend_on_shards_and_batches(run: Run, images: str) -> None:
    whole, parts = run.render(images, 9, 9), run.render(images, 4, 3)
    one, other = (LatentShards(paths).get(list(range(9))) for paths in (whole, parts))
    torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)  # of float16
    tensors = read_tensors(parts[0])
    assert tensors["latents"].dtype == torch.float16
    # their true size: two bytes a number, and little around it
    assert parts[0].stat().st_size < 4 * 4 * 8 * 8 * 2 + 1000


def test_from_latents_to_the_report(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper_scores, "fid_features", lambda *given: fid_features(*given)[:, :12])
    student = run.distil(run.render("real", 9, 4), keep=[(2, "raw")])
    history = run.folder / "students/mine/3/history.json"
    assert json.loads(history.read_text())[-1]["step"] == 2
    run.call(
        real_images.main, {"real_per_prompt": 1, "seed": 0, **JPEG}, prompts=run.prompts["evaluation"],
        output=run.folder / "real.zip",
    )  # fmt: skip
    with zipfile.ZipFile(run.folder / "real.zip") as archive:
        assert archive.namelist() == [f"{i:05d}.jpg" for i in range(8)]
        assert Image.open(io.BytesIO(archive.read("00003.jpg"))).size == (16, 16)
    run.call(
        score._reference, {"batch": 4, "real_per_prompt": 1}, evaluator=run.evaluators,
        images=[run.folder / "real.zip"], prompts=run.prompts["evaluation"],
        output=run.folder / "reference.safetensors",
    )  # fmt: skip
    drawn = run.sample(student, 6, 4)
    with zipfile.ZipFile(drawn[1]) as archive:
        assert archive.namelist() == ["00004.jpg", "00005.jpg"]  # no more than the run needs
    found = run.score("mine", student, drawn, 6)
    assert found["world"] == "paper"
    assert set(found["splits"]) == {"coco30k"}
    kept = run.folder / "unets/2-raw"
    raw = run.score("mine", student, run.sample(student, 6, 4, kept), 6, kept)
    assert raw["unet_sha256"] == sha256(kept / "diffusion_pytorch_model.safetensors") != found["unet_sha256"]
    assert (raw["step"], found.get("step")) == (2, None)
    assert raw["splits"]["coco30k"]["metrics"]["fid"] != found["splits"]["coco30k"]["metrics"]["fid"]
    teacher = run.score("teacher", run.teacher, run.sample(run.teacher, 8, 4), 8)
    assert set(teacher["splits"]) == {"coco30k", "all", "seen", "unseen"}
    bounds = {"fid": {"value": teacher["splits"]["coco30k"]["metrics"]["fid"]["value"] + 0.1, "tolerance": 0.2}}
    gate = {"split": "coco30k", "scores": bounds, "overridden_by": None}
    files = {"scores": run.folder / "teacher.json", "output": run.folder / "calibration.json"}
    run.call(calibrate._main, gate, **files)
    assert json.loads(files["output"].read_text())["passed"]
    bounds["fid"]["tolerance"] = 0.05
    with pytest.raises(UserError, match="the teacher is off"):
        run.call(calibrate._main, gate, **files)
    rows = [{"run": name, "label": name} for name in ("teacher", "mine")]
    tables = {"table1": {"title": "Table 1", "splits": ["coco30k"], "rows": rows}}
    settings = {"title": "T", "world": "paper", "name": "tiny", "seeds": [3], "runs": {"mine": {}}, "tables": tables}
    scores = [run.folder / f"{name}.json" for name in ("teacher", "mine")]
    made = report.Files(scores, [history], calibration=files["output"], along=[run.folder / "mine-2-raw.json"])
    report.build(read_settings(json.dumps(settings)), made, run.folder / "report")
    page = (run.folder / "report/index.html").read_text()
    assert "step 2, moving average" in page and "mine, step 2, raw weights" in page
    shown = pd.read_csv(run.folder / "report/tables/along-table1.csv").query("metric == 'fid'")["measured"]
    fids = {one["splits"]["coco30k"]["metrics"]["fid"]["value"] for one in (found, raw)}
    assert set(shown) == fids


@pytest.fixture
def fresh_state() -> Iterator[None]:
    """accelerate keeps one precision a process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.mark.parametrize(
    "student", ["b-tiny", "c-base", *(pytest.param(one, marks=pytest.mark.slow) for one in ("b-small", "c-tiny"))]
)
def test_stable_diffusion_2_is_a_teacher(run: Run, student: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "teacher", run.assets["stable-diffusion-2-1"])
    teacher = teacher_of(load_pipeline(run.teacher))
    latents, noise, timesteps = torch.ones(1, 4, 8, 8), torch.zeros(1, 4, 8, 8), torch.tensor([600])
    cumulative = teacher.pipeline.scheduler.alphas_cumprod[600]
    v = teacher.target(latents, noise, timesteps)  # v = alpha * noise - sigma * x_0
    torch.testing.assert_close(v, -((1 - cumulative) ** 0.5) * latents)
    init = "copied" if student.startswith("b-") else "random"
    output = run.distil(run.render("rendered", 9, 9), {"student": student, "init": init, "images": "rendered"})
    made = load_pipeline(output)
    assert made.scheduler.config["prediction_type"] == "v_prediction"
    for block in (*made.unet.down_blocks, *made.unet.up_blocks):
        for attention in getattr(block, "attentions", None) or ():
            own = attention.transformer_blocks[0].attn1
            assert own.inner_dim == attention.proj_in.in_features  # no channel is left out
    (archive,) = run.sample(output, 2, 2)
    with zipfile.ZipFile(archive) as opened:
        assert len(opened.namelist()) == 2


@pytest.mark.usefixtures("fresh_state")
def test_half_precision_trains(run: Run) -> None:
    # bfloat16 is what a CPU has of the GPUs' mixed precision
    student = run.distil(run.render("rendered", 9, 9), mixed_precision="bf16", gradient_checkpointing=True)
    weights = read_tensors(student / "unet/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    kept = read_tensors(student / "vae/diffusion_pytorch_model.safetensors")
    given = read_tensors(run.teacher / "vae/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(kept[name], tensor) for name, tensor in given.items())
