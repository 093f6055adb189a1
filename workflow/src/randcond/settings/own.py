"""What a model of one's own must be, looked at before anything runs, without loading it."""

import json
import re
from pathlib import Path

from safetensors import SafetensorError, safe_open

from randcond.jobs.errors import UserError, reason
from randcond.jobs.files import read_json
from randcond.method.catalogue import TRANSFORMER_STUDENTS, UNET_STUDENTS
from randcond.settings.config import Config
from randcond.settings.experiments import Experiments
from randcond.teachers.families import FAMILIES, check_libraries, family_of

_FETCHED = "results/assets/"  # what comes from outside, and may be to come
_SINGLE_FILE = {
    "UNet": "model.diffusion_model.",
    "autoencoder": "first_stage_model.",
    "text encoder": "cond_stage_model.",
}
_FEWEST_WORDS, _FEWEST_EXAMPLES = 4, 3  # of a description
_PLAIN = re.compile(r"[^.]+\.safetensors")  # and no variant such as model.fp16.safetensors
_PICKLES = (".ckpt", ".pt", ".pth", ".bin")


def check_own(config: Config, experiments: Experiments) -> None:
    """Raise :class:`UserError` if the world ``own`` lacks what it needs, or runs ask for what it has not.

    Other worlds pass.
    """
    if config.world != "own":
        return
    _check_texts(config, asking_for_pool(config, experiments))
    check_teacher(Path(config.teacher), config.layout)
    described = ("open_clip_config.json", "torchvision.json")
    if not _is_to_come(config.evaluator) and not any(Path(config.evaluator, name).is_file() for name in described):
        raise UserError(
            f"config: evaluator: {config.evaluator}: neither {' nor '.join(described)} in it; name a CLIP's"
            " folder, or that of one of torchvision's classifiers"
        )
    if config.inception is not None:
        raise UserError("config: inception: the own world is scored by its evaluator alone; leave it out")
    if config.prompts.benchmark is not None:
        raise UserError("config: prompts.benchmark: the own world is scored on all its prompts; leave it out")
    if config.prompts.pool is not None:
        raise UserError("config: prompts.pool: the own world's pool is all texts that are not rendered; leave it out")
    for name, run in experiments.runs.items():
        if run.images != "rendered":
            raise UserError(f"{config.experiments}: runs.{name}.images: the own world has no real images; use rendered")
        if run.prompts == "llm":
            raise UserError(f"{config.experiments}: runs.{name}: the own world has no written prompts; use captions")
        if "unseen" in run.texts:
            raise UserError(
                f"{config.experiments}: runs.{name}.texts: the own world knows no unseen texts to add; use pool, which"
                " has those of prompts.held_out too"
            )
        _check_student(config, name, run.student)
    _check_splits(config, experiments)


def _is_to_come(folder: str) -> bool:
    """Whether it is one of the assets, and not fetched yet."""
    return folder.startswith(_FETCHED) and not Path(folder).exists()


def asking_for_pool(config: Config, experiments: Experiments) -> list[str]:
    """The runs that are trained, be it for what is made of their students, and want the pool's texts beside D's."""
    scored = [name for name in (*experiments.runs, *experiments.more) if not config.only or name in config.only]
    trained = {experiments.student(name) for name in scored}
    return [name for name, run in experiments.runs.items() if name in trained and "pool" in run.texts]


def _check_splits(config: Config, experiments: Experiments) -> None:
    """Whether there are scores of all that is shown: what lacks them would fail in the report, after all trainings."""
    shown = [(f"tables.{name}", split) for name, one in experiments.tables.items() for split in one.splits]
    shown += [(f"series.{name}", one.split) for name, one in experiments.series.items()]
    shown += [("grids", one.split) for one in experiments.grids]
    apart = ("seen", "unseen")
    for where, split in shown:
        if split == "all" or (split in apart and config.prompts.held_out):
            continue
        way = "set prompts.held_out or " if split in apart else ""
        raise UserError(f"{config.experiments}: {where}: the own world scores no {split} here; {way}leave it out")


def _check_student(config: Config, name: str, student: str) -> None:
    """Whether a student can be made of the teacher's kind of denoiser; a layout that is to be fetched is a UNet's."""
    if _is_to_come(config.teacher):
        return
    described = Path(config.layout or config.teacher)
    transformer = described.exists() and family_of(described).denoiser == "transformer"
    known = TRANSFORMER_STUDENTS if transformer else UNET_STUDENTS
    if student not in known:
        kind = "a transformer" if transformer else "a UNet"
        raise UserError(
            f"{config.experiments}: runs.{name}.student: {student} is no student of {kind}; there are"
            f" {', '.join(known)}"
        )


def _check_texts(config: Config, pooled: list[str]) -> None:
    """Whether there are texts, or what a language model needs to write some, more than D's where a run has a pool."""
    prompts, file = config.prompts, config.sources.own
    if file is not None and prompts.description is not None:
        raise UserError("config: prompts.description: texts are read from sources.own; give one of the two")
    if file is not None:
        if not Path(file).is_file():
            raise UserError(f"config: sources.own: {file}: no such file")
        return
    if prompts.description is None:
        raise UserError(
            "config: sources.own: name the file of texts, .txt, .csv or .parquet, or have them written: say in"
            " prompts.description what the images show"
        )
    if len(prompts.description.split()) < _FEWEST_WORDS:
        raise UserError(
            f"config: prompts.description: {prompts.description!r} does not say what the images show; write a sentence"
        )
    if len(set(prompts.examples)) < _FEWEST_EXAMPLES:
        raise UserError(
            f"config: prompts.examples: {len(set(prompts.examples))} different texts; give at least"
            f" {_FEWEST_EXAMPLES}, as they would be asked of the teacher"
        )
    if prompts.llm.count < prompts.count + prompts.evaluation:
        raise UserError(
            f"config: prompts.llm.count: {prompts.llm.count} texts to be written are fewer than the {prompts.count} of"
            f" prompts.count and the {prompts.evaluation} of prompts.evaluation"
        )
    if pooled and prompts.llm.count == prompts.count + prompts.evaluation:
        raise UserError(
            f"config: prompts.llm.count: of {prompts.llm.count} texts prompts.count and prompts.evaluation leave none"
            f" for the pool; have more written, or leave pool out of {config.experiments}: runs.{pooled[0]}.texts"
        )


def check_teacher(path: Path, layout: str | None = None) -> None:
    """Raise :class:`UserError` unless it is the folder of a diffusers pipeline of a known family, or one file of it.

    Only names and the small ``model_index.json`` are read.

    Args:
        path: The teacher.
        layout: For one file, the folder of what it was fine-tuned from. What is fetched need not be there yet.
    """
    where = f"config: teacher: {path}"
    if path.suffix in _PICKLES:
        raise UserError(f"{where}: a pickle can run anything; save the pipeline as a folder with safetensors weights")
    if path.suffix == ".safetensors":
        _check_file(path, where)
        if layout is None:
            raise UserError(
                "config: teacher_layout: name the diffusers folder of the model that the teacher was fine-tuned from;"
                f" of Stable Diffusion 1.x it is {_FETCHED}stable-diffusion-v1-4-layout"
            )
        if not _is_to_come(layout):
            _check_folder(Path(layout), f"config: teacher_layout: {layout}", weights=False)
    elif not _is_to_come(str(path)):
        _check_folder(path, where, weights=True)


def _check_file(path: Path, where: str) -> None:
    """Whether a file holds a whole Stable Diffusion, by the names of its weights."""
    if not path.is_file():
        raise UserError(f"{where}: no such file")
    try:
        with safe_open(path, "np") as weights:
            names = list(weights.keys())
    except (OSError, SafetensorError) as error:
        raise UserError(f"{where}: no whole safetensors file ({reason(error)}); copy it again") from None
    if any("lora" in name for name in names):
        raise UserError(f"{where}: a LoRA; load it into its model, fuse it and save the pipeline as a folder")
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        of_v = ", its scheduler with prediction_type='v_prediction'" if "v_pred" in names else ""
        raise UserError(
            f"{where}: an SDXL in one file; load it by diffusers' from_single_file and save it as a folder{of_v}"
        )
    for part, prefix in _SINGLE_FILE.items():
        if not any(name.startswith(prefix) for name in names):
            raise UserError(
                f"{where}: holds no {part} ({prefix}*), so it is no whole Stable Diffusion; give a file with all"
                " parts, or a diffusers folder"
            )


def _check_folder(path: Path, where: str, weights: bool) -> None:
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
    if not isinstance(name, str) or name not in FAMILIES:
        raise UserError(f"{where}: a {name}; known are {', '.join(FAMILIES)}")
    check_libraries(path)
    layout = path / FAMILIES[name].denoiser / "config.json"
    if layout.is_file() and read_json(layout).get("time_cond_proj_dim"):
        raise UserError(
            f"{where}: a consistency model (LCM), whose guidance is an input; name the model that it was made from, and"
            " make its student faster (docs/advice.md)"
        )
    parts = [path / FAMILIES[name].denoiser, path / "vae", *sorted(path.glob("text_encoder*"))]
    for part in parts if weights else ():
        files = [file.name for file in part.glob("*.safetensors")]
        if part.is_dir() and not files:
            raise UserError(
                f"{where}: its {part.name} has no safetensors weights; save the pipeline with safe_serialization=True"
            )
        if files and not any(_PLAIN.fullmatch(file) for file in files):
            raise UserError(
                f"{where}: its {part.name} has only a variant, {files[0]}; load it with variant=... and save it without"
            )
