"""Distil one student: the paper's algorithm, from D, C and p(t) to a finished pipeline on disk."""

import argparse
import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import nn

from randcond.checkpoint import Checkpoint
from randcond.conditioning import TRAIN_TIMESTEPS, Probability, probability, recondition
from randcond.errors import UserError
from randcond.files import atomic_path, sha256_of, write_json
from randcond.losses import DistillationLoss
from randcond.pool import ArrowTexts, TextPool
from randcond.progress import log
from randcond.prompts import read_prompts
from randcond.render import LatentShards
from randcond.seeding import generator, normal, numpy_generator
from randcond.stage import device, run_stage, set_threads
from randcond.students import build_student, count_parameters, feature_pairs
from randcond.teacher import DTYPES, Teacher, load_pipeline
from randcond.training import fit
from randcond.workflow import code_of

# settings that a training may go on with when they have changed, e.g. after it ran out of memory
_NOT_OF_STATE = ("micro_batch", "gradient_checkpointing", "checkpoint_minutes")


class Pairs:
    """D: latents and the texts they were rendered from, dealt out epoch by epoch in an order fixed by the seed.

    Args:
        shards: All rendered latents.
        texts: Their texts, row by row.
        rows: The rows that make up D.
        seed: Seed of the order.
    """

    def __init__(self, shards: LatentShards, texts: list[str], rows: list[int], seed: int) -> None:
        self._shards, self._texts, self._rows, self._seed = shards, texts, rows, seed
        self._order = lru_cache(2)(self._shuffled)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """(channels, height, width) of a latent."""
        return self._shards.shape

    def batch(self, step: int, size: int) -> list[int]:
        """Rows of step ``step``'s batch."""
        places = range(step * size, (step + 1) * size)
        return [self._order(place // len(self))[place % len(self)] for place in places]

    def texts(self, rows: list[int]) -> list[str]:
        """Texts of the rows."""
        return [self._texts[row] for row in rows]

    def latents(self, rows: list[int]) -> torch.Tensor:
        """Latents of the rows."""
        return self._shards.get(rows)

    def _shuffled(self, epoch: int) -> list[int]:
        return [self._rows[i] for i in numpy_generator(self._seed, 1, epoch).permutation(len(self._rows))]


class Distillation(nn.Module):
    """The training problem: draws the batch of a step from (seed, step) and computes its losses.

    Args:
        loss: What the student is trained by.
        teacher: Encodes the texts.
        pairs: D.
        pool: C, with D's own texts.
        p: p(t), or None for no random conditioning.
        null_text: Probability of the empty text.
        batch: Pairs a step, in all processes together.
        seed: Seed of the run.
    """

    def __init__(
        self,
        loss: DistillationLoss,
        teacher: Teacher,
        pairs: Pairs,
        pool: Sequence[str],
        p: Probability | None,
        null_text: float,
        batch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.loss = loss
        self._teacher, self._pairs, self._pool = teacher, pairs, pool
        self._p, self._null_text, self._batch, self._seed = p, null_text, batch, seed
        self._draw = lru_cache(1)(self._drawn)  # the parts of a batch are asked for one after another

    def forward(self, step: int, rows: slice) -> dict[str, torch.Tensor]:
        """Losses of the given rows of step ``step``'s batch."""
        chosen, timesteps, texts, swapped, noise = self._draw(step)
        device = self._teacher.device
        return self.loss(
            self._pairs.latents(chosen[rows]).to(device),
            noise[rows].to(device),
            timesteps[rows].to(device),
            self._teacher.encode(texts[rows]),
            swapped[rows].to(device),
            1 - float(swapped.float().mean()),
        )

    def _drawn(self, step: int) -> tuple[list[int], torch.Tensor, list[str], torch.Tensor, torch.Tensor]:
        """Rows, timesteps, texts, which were swapped, and noise: of the whole batch, whoever asks for a part."""
        chance = generator(self._seed, 2, step)
        chosen = self._pairs.batch(step, self._batch)
        timesteps = torch.randint(TRAIN_TIMESTEPS, (self._batch,), generator=chance)
        texts, swapped = recondition(self._pairs.texts(chosen), timesteps, self._pool, self._p, chance, self._null_text)
        noise = torch.randn((self._batch, *self._teacher.latent_shape), generator=chance)
        return chosen, timesteps, texts, swapped, noise


def distil(arguments: argparse.Namespace) -> None:
    """Train the student of ``arguments.settings`` and write its pipeline and loss history."""
    settings = json.loads(arguments.settings)
    run, recipe = settings["run"], SimpleNamespace(**settings["recipe"], steps=settings["steps"], cycles=1)
    set_threads(arguments.threads)
    accelerator = Accelerator(mixed_precision=recipe.mixed_precision, cpu=device() == "cpu")
    if not accelerator.is_main_process:
        log.setLevel(logging.WARNING)  # one voice is enough
    teacher = Teacher(load_pipeline(arguments.teacher, accelerator.device))
    check_teacher(teacher, arguments.teacher)
    with torch.random.fork_rng():
        torch.manual_seed(settings["seed"])
        student = build_student(teacher.unet, run["student"], run["init"])
        names = feature_pairs(teacher.unet, student, run["student"])
        loss = DistillationLoss(teacher, student.train(), names, denoise=run["images"] == "real")
    # after the student has taken its weights from it; what is saved with the student stays as it is
    teacher.unet.to(DTYPES[recipe.mixed_precision])
    if recipe.gradient_checkpointing:
        student.enable_gradient_checkpointing()
    pairs, pool = load_data(arguments, run, settings["count"], settings["seed"])
    if pairs.shape != teacher.latent_shape:
        raise UserError(
            f"{arguments.latents[0]}: latents are {pairs.shape}, this teacher's {teacher.latent_shape};"
            " render them again"
        )
    p = probability(run["random_conditioning"]) if run["random_conditioning"] else None
    problem = Distillation(loss, teacher, pairs, pool, p, recipe.null_text, recipe.batch, settings["seed"])
    log.info(
        "%s: %s parameters, D has %d pairs, C %d texts, %d steps",
        *(arguments.name, f"{count_parameters(student):,}", len(pairs), len(pool), recipe.steps),
    )
    checkpoint = Checkpoint(arguments.checkpoint, _fingerprint(arguments), recipe.checkpoint_minutes)
    with checkpoint.lock() if accelerator.is_main_process else nullcontext():
        fitted = fit(problem, recipe, arguments.name, student, checkpoint, accelerator)
        if accelerator.is_main_process:
            if recipe.weights == "ema" and fitted.ema is not None:
                fitted.ema.copy_to(student.parameters())
            write_json(arguments.history, fitted.history)
            save_pipeline(teacher.pipeline, student, arguments.output)
    if accelerator.is_main_process:
        checkpoint.remove()


def check_teacher(teacher: Teacher, folder: Path) -> None:
    """Raise :class:`UserError` if the teacher predicts a constant, or what is no finite number."""
    noise = torch.stack([normal(teacher.latent_shape, 0, i) for i in range(2)]).to(teacher.device)
    timesteps = torch.tensor([1, TRAIN_TIMESTEPS - 1], device=noise.device)
    with torch.no_grad():
        predicted = teacher.predict(teacher.unet, noise, timesteps, teacher.encode(["", "a"]))
    if not torch.isfinite(predicted).all() or float(predicted.std()) < 1e-6:
        raise UserError(f"{folder}: the teacher's predictions are constant or not finite numbers; check its weights")


def load_data(arguments: argparse.Namespace, run: dict, count: int, seed: int) -> tuple[Pairs, TextPool]:
    """D and C of a run.

    Raises:
        UserError: If prompts and latents do not belong together, or D or an added pool is empty.
    """
    prompts = read_prompts(arguments.prompts)
    rendered = prompts.head(count)
    shards = LatentShards(arguments.latents)
    if len(shards) != len(rendered):
        raise UserError(f"{arguments.prompts}: {len(rendered)} prompts but {len(shards)} latents; render them again")
    seen = (rendered["split"] == "seen").to_numpy()
    rows = np.flatnonzero(seen) if run["rows"] == "seen" else np.arange(len(rendered))
    rows = rows[: run["size"]]
    if not len(rows):
        raise UserError(f"{arguments.prompts}: holds no {run['rows']} prompts, so D is empty")
    texts = rendered["text"].tolist()
    parts: list[Sequence[str]] = [[texts[row] for row in rows]]
    if "unseen" in run["texts"]:
        parts.append(rendered["text"][~seen].tolist())
    if "llm" in run["texts"]:
        parts.append(prompts["text"].tolist()[count:])
    if "pool" in run["texts"]:
        parts.append(ArrowTexts(arguments.pool))
    if any(not len(part) for part in parts):
        raise UserError(f"{arguments.name}: one of the text pools {', '.join(run['texts'])} is empty")
    return Pairs(shards, texts, [int(row) for row in rows], seed), TextPool(*parts)


def save_pipeline(teacher: StableDiffusionPipeline, student: UNet2DConditionModel, folder: Path) -> None:
    """Write the teacher's pipeline with the student's UNet in its place, atomically."""
    pipeline = StableDiffusionPipeline(
        vae=teacher.vae,
        text_encoder=teacher.text_encoder,
        tokenizer=teacher.tokenizer,
        unet=student.eval(),
        scheduler=teacher.scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    with atomic_path(folder) as partial:
        pipeline.save_pretrained(partial, safe_serialization=True)


def _fingerprint(arguments: argparse.Namespace) -> dict[str, str]:
    """What a checkpoint depends on: settings, data, teacher and code."""
    data = [arguments.prompts, *arguments.latents, *([arguments.pool] if arguments.pool else [])]
    teacher = sorted(file for file in arguments.teacher.rglob("*") if file.is_file())
    code = [Path(file) for file in code_of(Path(__file__).parent, "distill")]
    settings = json.loads(arguments.settings)
    for name in _NOT_OF_STATE:
        settings["recipe"].pop(name)
    return {
        "settings": hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest(),
        "data": sha256_of(data),
        "teacher": sha256_of(teacher),
        "code": sha256_of(code),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON: run, recipe, steps, count, seed")
    parser.add_argument("--name", required=True, help="shown in progress lines")
    parser.add_argument("--latents", type=Path, nargs="+", required=True)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    for option in ("--teacher", "--prompts", "--output", "--history", "--checkpoint"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(distil, parser)
