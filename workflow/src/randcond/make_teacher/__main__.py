"""Train a miniature world's teacher and evaluator from nothing; each part resumes when run again.

autoencoder, text-encoder and evaluator come first, then denoiser, then assemble puts the teacher together.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from accelerate import Accelerator
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    PNDMScheduler,
    SD3Transformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from randcond.jobs.code import code_of
from randcond.jobs.files import atomic_path, files_below, sha256, sha256_of, write_json
from randcond.jobs.progress import log
from randcond.jobs.stage import device, multiplies_bfloat16, run_stage, set_threads
from randcond.make_teacher import clip, flow
from randcond.make_teacher.autoencoder import (
    AutoencoderProblem,
    build_autoencoder,
    measure_scale,
    start_orthogonal,
)
from randcond.make_teacher.denoiser import (
    DenoiserProblem,
    build_denoiser,
    encode_scenes,
    encode_texts,
    scenes_and_captions,
)
from randcond.make_teacher.material import MATERIAL, Material
from randcond.teachers.noise import NOISE_SCHEDULE
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import Fitted, fit

_SCALED = 8192  # images, at most about, by which the latents are scaled
_PACKAGE = Path(__file__).parents[1]


def _fit(
    arguments: argparse.Namespace, settings: dict, problem: nn.Module, averaged: nn.Module | None = None
) -> Fitted:
    # micro_batch: everything here fits in memory whole
    recipe = SimpleNamespace(
        **{"ema": 0.0, "weight_decay": 1e-2, "gradient_clip": 1.0, "schedule": "cosine_with_restarts", "cycles": 1}
        | {"optimizer": "adamw"}
        | settings
    )
    recipe.micro_batch = recipe.batch
    checkpoint = Checkpoint(arguments.checkpoint, _made_of(arguments, settings))
    accelerator = Accelerator(mixed_precision=_precision(settings))
    with checkpoint.lock():
        return fit(
            *(problem, recipe, arguments.part, averaged, checkpoint, accelerator),
            warmup=settings.get("warmup", 0),
            decay=settings.get("decay", 0),
        )


def _precision(settings: dict) -> str:
    """The one that is set, or float32 where this processor would emulate it."""
    named: str = settings.get("mixed_precision", "no")
    if named == "bf16" and not multiplies_bfloat16(device()):
        log.info("this processor emulates bfloat16; float32, which is faster on it, takes its place")
        return "no"
    return named


def _made_of(arguments: argparse.Namespace, settings: dict) -> dict[str, str]:
    """What a checkpoint depends on: settings, code, and the parts that this one is made of."""
    made_of = {"world": arguments.world, "family": arguments.family, "settings": json.dumps(settings, sort_keys=True)}
    made_of["code"] = sha256_of([Path(file) for file in code_of(_PACKAGE, "make_teacher.__main__")])
    parts = {"autoencoder": arguments.autoencoder, "text encoder": arguments.text_encoder}
    return made_of | {name: sha256_of(files_below(folder)) for name, folder in parts.items() if folder}


def _autoencoder(arguments: argparse.Namespace, settings: dict) -> None:
    world = MATERIAL[arguments.world]()
    model = build_autoencoder(world.image_size, world.autoencoder_widths, world.latent_channels)
    if world.orthogonal_start:
        start_orthogonal(model)
    problem = AutoencoderProblem(
        model, world.texts, world.varied_images, settings["batch"], settings["kl_weight"], settings["seed"]
    )
    fitted = _fit(arguments, settings, problem)
    images = world.varied_images(world.texts[:: max(11, len(world.texts) // _SCALED)], settings["seed"])
    model.register_to_config(scaling_factor=measure_scale(model.eval(), images))
    _write(arguments.output, fitted, lambda folder: model.half().save_pretrained(folder))


def _text_encoder(arguments: argparse.Namespace, settings: dict) -> None:
    world = MATERIAL[arguments.world]()
    tokenizer = clip.build_tokenizer(world.texts, world.vocabulary, world.context)
    towers = clip.TextEncoderTowers(clip.build_text_encoder(tokenizer))
    fitted = _fit(arguments, settings, _clip_problem(towers, tokenizer, world, settings))

    def write(folder: Path) -> None:
        towers.text_encoder.half().save_pretrained(folder / "text_encoder")
        tokenizer.save_pretrained(folder / "tokenizer")

    _write(arguments.output, fitted, write)


def _evaluator(arguments: argparse.Namespace, settings: dict) -> None:
    world = MATERIAL[arguments.world]()
    tokenizer = clip.build_tokenizer(world.texts, world.vocabulary, world.context)
    config = clip.evaluator_config(tokenizer, world.evaluator_width, world.evaluator_layers)
    text_config = {key: value for key, value in config["text_cfg"].items() if key != "hf_tokenizer_name"}
    model = open_clip.CLIP(config["embed_dim"], config["vision_cfg"], text_config)
    model.logit_scale.requires_grad_(False)  # the problem has its own, copied back below
    if _precision(settings) != "no":  # whose convolutions are a third faster so; float32's gain little
        model.visual.to(memory_format=torch.channels_last)
    names = clip.Names(config["embed_dim"], world.meanings) if world.evaluator_names else None
    problem = _clip_problem(model, tokenizer, world, settings, names)
    fitted = _fit(arguments, settings, problem)
    model.logit_scale.data.copy_(problem.logit_scale.data)

    def write(folder: Path) -> None:
        folder.mkdir()
        tokenizer.save_pretrained(folder)
        weights = {
            name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
            for name, tensor in model.state_dict().items()
        }
        save_file(weights, folder / "open_clip_model.safetensors")
        preprocess = {"interpolation": "bicubic", "resize_mode": "shortest"}
        write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess})

    _write(arguments.output, fitted, write)


def _clip_problem(
    towers: nn.Module, tokenizer: CLIPTokenizer, world: Material, settings: dict, names: clip.Names | None = None
) -> clip.ClipProblem:
    def tokenize(texts: list[str]) -> torch.Tensor:
        padded = tokenizer(texts, padding="max_length", truncation=True, max_length=world.context)
        return torch.tensor(padded["input_ids"])

    batches = world.batches(world.meanings, settings["batch"], settings["colours"])
    return clip.ClipProblem(
        *(towers, world.texts, tokenize, world.varied_images, batches), *(settings["batch"], settings["seed"], names)
    )


def _denoiser(arguments: argparse.Namespace, settings: dict) -> None:
    autoencoder = AutoencoderKL.from_pretrained(arguments.autoencoder, dtype=torch.float32).eval()
    world = MATERIAL[arguments.world]()
    shown, choices, said = scenes_and_captions(world.texts, world.meanings, settings["scenes"])
    latents = encode_scenes(autoencoder, shown, world.real_images, settings["seed"])
    denoiser: UNet2DConditionModel | SD3Transformer2DModel
    problem: nn.Module
    batch, seed = settings["batch"], settings["seed"]
    if arguments.family == "sd3":
        pipeline = flow.flow_pipeline(autoencoder, *_load_text_encoder(arguments.text_encoder, projected=True))
        denoiser, encode = pipeline.transformer, flow.encoding(pipeline)
        problem = flow.FlowProblem(denoiser, latents, choices, said, encode, pipeline.scheduler, batch, seed)
    else:
        states = encode_texts(*_load_text_encoder(arguments.text_encoder), [*said, ""])
        denoiser = build_denoiser(latents.shape[-1], states.shape[-1], latents.shape[1], world.denoiser_widths)
        problem = DenoiserProblem(denoiser, latents, choices, states, batch, seed, settings.get("noisier", False))
    fitted = _fit(arguments, settings, problem, averaged=denoiser)
    assert fitted.ema is not None
    fitted.ema.copy_to(denoiser.parameters())
    _write(arguments.output, fitted, lambda folder: denoiser.half().save_pretrained(folder))


def _assemble(arguments: argparse.Namespace, settings: dict) -> None:
    pipeline = _pipeline(arguments).to(torch.float16)
    with atomic_path(arguments.output) as partial:
        pipeline.save_pretrained(partial, safe_serialization=True)
        folders = {
            "autoencoder": arguments.autoencoder,
            "text_encoder": arguments.text_encoder,
            "denoiser": arguments.denoiser,
        }
        # an autoencoder that is another teacher's brings none
        histories = {part: folder / "history.json" for part, folder in folders.items()}
        known = {part: json.loads(file.read_text()) for part, file in histories.items() if file.exists()}
        write_json(partial / "training.json", {"recipe": settings, "history": known})
        sums = {str(f.relative_to(partial)): sha256(f) for f in sorted(partial.rglob("*.safetensors"))}
        write_json(partial / "sha256.json", sums)


def _pipeline(arguments: argparse.Namespace) -> DiffusionPipeline:
    autoencoder = AutoencoderKL.from_pretrained(arguments.autoencoder, dtype=torch.float16)
    if arguments.family == "sd3":
        transformer = SD3Transformer2DModel.from_pretrained(arguments.denoiser, dtype=torch.float16)
        texts = _load_text_encoder(arguments.text_encoder, projected=True)
        return flow.flow_pipeline(autoencoder, *texts, transformer)
    text_encoder, tokenizer = _load_text_encoder(arguments.text_encoder)
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=UNet2DConditionModel.from_pretrained(arguments.denoiser, dtype=torch.float16),
        scheduler=_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _scheduler() -> PNDMScheduler:
    return PNDMScheduler(**NOISE_SCHEDULE, skip_prk_steps=True, set_alpha_to_one=False)


def _load_text_encoder(folder: Path, projected: bool = False) -> tuple[Any, CLIPTokenizer]:
    files, tokenizer = folder / "text_encoder", CLIPTokenizer.from_pretrained(folder / "tokenizer")
    if not projected:
        return CLIPTextModel.from_pretrained(files, dtype=torch.float32).eval(), tokenizer
    if json.loads((files / "config.json").read_text())["architectures"] == ["CLIPTextModelWithProjection"]:
        return CLIPTextModelWithProjection.from_pretrained(files, dtype=torch.float32).eval(), tokenizer
    bare = CLIPTextModel.from_pretrained(files, dtype=torch.float32)  # of a teacher that takes no pooled text
    model = CLIPTextModelWithProjection(bare.config)
    model.text_model.load_state_dict(bare.state_dict())
    nn.init.eye_(model.text_projection.weight)
    return model.eval(), tokenizer


def _write(output: Path, fitted: Fitted, write: Callable[[Path], object]) -> None:
    with atomic_path(output) as partial:
        write(partial)
        write_json(partial / "history.json", fitted.record())


PARTS = {
    "autoencoder": _autoencoder,
    "text-encoder": _text_encoder,
    "evaluator": _evaluator,
    "denoiser": _denoiser,
    "assemble": _assemble,
}


def _main(arguments: argparse.Namespace) -> None:
    set_threads(arguments.threads)
    settings = json.loads(arguments.settings)
    torch.manual_seed(settings.get("seed", 0))
    PARTS[arguments.part](arguments, settings)
    if arguments.checkpoint:  # only now that the result is in its place
        Checkpoint(arguments.checkpoint, {}).remove()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--world", choices=MATERIAL, required=True)
    parser.add_argument("--family", choices=("stable_diffusion", "sd3"), default="stable_diffusion")
    parser.add_argument("--settings", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True)
    for option in ("--checkpoint", "--autoencoder", "--text-encoder", "--denoiser"):
        parser.add_argument(option, type=Path)
    run_stage(_main, parser)
