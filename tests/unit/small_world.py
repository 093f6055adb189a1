"""Every stage's inputs in small, and its real command line run on them."""

import json
import logging
import runpy
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from tiny_pipelines import student_of

from randcond.jobs.tensors import write_tensors
from randcond.prompts.pool import write_pool
from randcond.prompts.table import write_prompts
from randcond.samples.images import stored, write_images
from randcond.settings.config import Config
from randcond.worlds import emoji

ROOT = Path(__file__).parents[2]
EVALUATOR = ROOT / "workflow/assets/emoji/evaluator"
COUNT = 6  # prompts of D, and evaluation prompts
SHARD = 3
RECIPE = Config().distillation.recipe("copied") | {"batch": 2}
HELD = Config().distillation.held() | {"micro_batch": 2}
RUN = {
    "student": "b-base", "init": "copied", "prompts": "captions", "rows": "all", "size": None, "images": "rendered",
    "random_conditioning": {"kind": "constant", "p": 1.0}, "texts": ["pool"],
    "features": "blocks", "trajectories": None, "relative_features": False, "importance": "norm",
}  # fmt: skip
SAMPLING = {"steps": 1, "guidance_scale": 2.0, "batch": 3, "shard": COUNT, "seed": 1, "precision": "no"}
STORED = {"image_format": "png", "resize": None}
SETTINGS = {
    "render": SAMPLING
    | {"count": COUNT, "shard": SHARD, "images": "rendered", "world": "emoji", "latents": "fp32"},
    "distill": {"run": RUN, "recipe": RECIPE, "steps": 2, "count": COUNT, "seed": 0},
    "sensitivity": {"count": COUNT, "images": 96, "texts": 2, "levels": 3, "seed": 0, "batch": 4},
    "sample": SAMPLING | STORED | {"count": COUNT},
    "real": STORED | {"real_per_prompt": 2, "seed": 2, "world": "emoji"},
    "reference": {"batch": 4, "real_per_prompt": 2, "world": "emoji"},
    "score": {"batch": 4, "bootstrap": 2, "seed": 0, "world": "emoji", "name": "small", "protocol": {"steps": 1}},
    "report": {
        "title": "Small", "world": "emoji", "name": "small", "seeds": [0], "runs": {"mine": RUN},
        "tables": {"table1": {"title": "T", "splits": ["all"],
                              "rows": [{"run": "mine", "paper": {"table": "table1", "row": "2"}, "label": "Mine"}]}},
        "grids": [{"title": "G", "split": "all", "runs": ["mine"], "count": 3}],
    },
    "llm": Config().prompts.llm.model_dump() | {"threads": 1, "world": "emoji"},
}  # fmt: skip


@dataclass(frozen=True)
class SmallWorld:
    """A folder with whole inputs for every stage; spoil one, then :meth:`run` a stage."""

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def command(self, stage: str) -> list[str]:
        """The stage's module and its arguments, as the rule gives them; the output is called ``<stage>.out``."""
        inputs = {
            "render": "renders.render --shard 0 --teacher teacher --prompts captions.parquet",
            "distill": "students.distil --name mine/0 --teacher teacher --prompts captions.parquet --pool pool.arrow"
            " --latents 00000.safetensors 00001.safetensors --history history.out --checkpoint checkpoint",
            "sensitivity": "sensitivity.measure --teacher teacher --prompts captions.parquet"
            " --latents 00000.safetensors 00001.safetensors --figure figure.svg --table table.csv",
            "sample": "samples.draw --pipeline teacher --prompts evaluation.parquet",
            "real": "samples.real_images --prompts evaluation.parquet",
            "reference": "scores.score reference --evaluator evaluator --images real.zip --prompts evaluation.parquet",
            "score": "scores.score run --run mine --seed 0 --evaluator evaluator --reference reference.safetensors"
            " --images samples/mine/0/0.zip --pipeline teacher --prompts evaluation.parquet",
            "report": "report --scores scores/mine/0.json --histories students/mine/0/history.json"
            " --samples samples/mine/0/0.zip --prompts evaluation.parquet --llm-summary llm.json"
            " --benchmarks benchmarks",
            "llm": "prompts.llm write --model model.gguf --captions captions.parquet --evaluation evaluation.parquet"
            " --summary summary.out --work work",
        }[stage]  # fmt: skip
        output = "--prompts" if stage == "llm" else "--output"
        settings = SETTINGS[stage]
        if stage == "distill":
            settings = settings | {"run": RUN | {"student": student_of(self.folder / "teacher")}}
        held = ["--held", json.dumps(HELD)] if stage == "distill" else []
        settings_of = [*held, "--settings", json.dumps(settings)]
        return [*inputs.split(), *settings_of, output, f"{stage}.out", "--log", f"{stage}.log"]

    def run(self, stage: str, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
        """Run the stage's command in this process; its exit code."""
        module, *arguments = self.command(stage)
        with monkeypatch.context() as patch, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # runpy's own, of modules that tests have imported
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", [module, *arguments, *more])
            try:
                runpy.run_module(f"randcond.{module}", run_name="__main__", alter_sys=True)
            except SystemExit as stopped:
                return int(stopped.code or 0)
            finally:
                _close_logs()
        return 0


def _close_logs() -> None:
    for name in ("randcond", "py.warnings"):
        logger = logging.getLogger(name)
        for handler in list(logger.handlers):
            handler.close()
            logger.removeHandler(handler)
        logger.propagate = True
    logging.captureWarnings(False)


def build(folder: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch) -> SmallWorld:
    """Write whole inputs for every stage to ``folder``; ``teacher`` is a pipeline."""
    shutil.copytree(teacher, folder / "teacher")
    shutil.copytree(EVALUATOR, folder / "evaluator")
    animal = emoji.concepts()
    seen = [caption.text for caption in emoji.captions() if not animal[caption.concept]][::40]
    unseen = [caption.text for caption in emoji.captions() if animal[caption.concept]][::40]
    texts = [text for pair in zip(seen, unseen, strict=False) for text in pair]
    frame = pd.DataFrame({"text": texts, "split": ["seen", "unseen"] * (len(texts) // 2), "source": "emoji"})
    write_prompts(folder / "captions.parquet", frame[:COUNT])
    write_prompts(folder / "evaluation.parquet", frame[COUNT : 2 * COUNT])
    write_pool(folder / "pool.arrow", texts)
    chance = torch.Generator().manual_seed(0)
    for i in range(COUNT // SHARD):
        latents = torch.randn(SHARD, 4, 8, 8, generator=chance)
        rows = torch.arange(SHARD * i, SHARD * (i + 1))
        write_tensors(folder / f"{i:05d}.safetensors", {"latents": latents, "rows": rows})
    for name, count in (("samples/mine/0/0.zip", COUNT), ("real.zip", 2 * COUNT)):
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=chance)
        files = (stored(Image.fromarray(image), "png", None) for image in images.permute(0, 2, 3, 1).numpy())
        write_images(folder / name, files, 0, "png")
    history = folder / "students/mine/0/history.json"
    history.parent.mkdir(parents=True)
    history.write_text(json.dumps([{"step": 2, "loss": 1.0}]))
    summary = {"model": "m", "asked": 2, "accepted": 1, "duplicates": 0, "filtered": 1, "pool": 1}
    (folder / "llm.json").write_text(json.dumps(summary | {"acceptance_rate": 0.5, "examples": ["a sword"]}))
    (folder / "benchmarks/render").mkdir(parents=True)
    (folder / "benchmarks/render/0.tsv").write_text("s\th:m:s\tmax_rss\n1.5\t0:00:01\t2000\n")
    (folder / "model.gguf").write_bytes(b"GGUF")
    world = SmallWorld(folder)
    assert world.run("reference", monkeypatch) == 0
    (world / "reference.out").rename(world / "reference.safetensors")
    assert world.run("score", monkeypatch) == 0
    (world / "scores/mine").mkdir(parents=True)
    (world / "score.out").rename(world / "scores/mine/0.json")
    return world
