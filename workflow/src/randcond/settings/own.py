"""What a model of one's own must be, looked at before anything runs, without loading it."""

import json
from pathlib import Path

from randcond.jobs.errors import UserError
from randcond.settings.config import Config
from randcond.settings.experiments import Experiments

FAMILIES = ("StableDiffusionPipeline",)  # diffusers' classes of teachers
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


def check_own(config: Config, experiments: Experiments) -> None:
    """Raise :class:`UserError` if the world ``own`` lacks what it needs, or runs ask for what it has not.

    Other worlds pass.
    """
    if config.world != "own":
        return
    if config.sources.own is None:
        raise UserError("config: sources.own: name the file of texts, .txt, .csv or .parquet")
    if not Path(config.sources.own).is_file():
        raise UserError(f"config: sources.own: {config.sources.own}: no such file")
    check_teacher(Path(config.teacher))
    if not Path(config.evaluator, "open_clip_config.json").is_file():
        raise UserError(f"config: evaluator: {config.evaluator}: no open_clip_config.json in it; name a CLIP's folder")
    for name, run in experiments.runs.items():
        if run.images != "rendered":
            raise UserError(f"{config.experiments}: runs.{name}.images: the own world has no real images; use rendered")
        if run.prompts == "llm":
            raise UserError(f"{config.experiments}: runs.{name}: the own world has no written prompts; use captions")


def check_teacher(path: Path) -> None:
    """Raise :class:`UserError` unless it is the folder of a diffusers pipeline of a family that is known.

    Only names and the small ``model_index.json`` are read.
    """
    where = f"config: teacher: {path}"
    if path.suffix in _PICKLES:
        raise UserError(f"{where}: a pickle can run anything; save the pipeline as a folder with safetensors weights")
    if path.is_file():
        raise UserError(f"{where}: a file; load it by diffusers' from_single_file and save the pipeline as a folder")
    if not path.is_dir():
        raise UserError(f"{where}: no such folder")
    index = path / "model_index.json"
    if not index.is_file():
        kinds = {
            "adapter_config.json": "a LoRA",
            "pytorch_lora_weights.safetensors": "a LoRA",
            "config.json": "one model",
        }
        kind = next((kind for file, kind in kinds.items() if (path / file).is_file()), "something else")
        raise UserError(
            f"{where}: no model_index.json, so it is {kind} and no diffusers pipeline; fuse or save it as one"
        )
    try:
        name = json.loads(index.read_text())["_class_name"]
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise UserError(f"{index}: no index of a diffusers pipeline ({type(error).__name__})") from None
    if name not in FAMILIES:
        raise UserError(f"{where}: a {name}; known are {', '.join(FAMILIES)}")
    unet = path / "unet"
    if unet.is_dir() and not list(unet.glob("*.safetensors")):
        raise UserError(f"{where}: its unet has no safetensors weights; save the pipeline with safe_serialization=True")
