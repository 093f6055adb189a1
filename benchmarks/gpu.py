"""Stable Diffusion v1.4 at true size, with random weights, on this machine's GPU: how fast, and the same twice?

    python benchmarks/gpu.py                    writes docs/runs/gpu.json, which `make plan` then goes by
    python benchmarks/gpu.py --rehearse         the same program on the emoji world's small teacher, on the CPU; its
                                                numbers mean nothing and are written nowhere

Each training setting is timed over steps after two that are not counted. Share of the peak: operations of a step, as
`make plan` counts them, over seconds and over the card's dense peak in 16 bits, where it is known.
"""

import argparse
import itertools
import json
import platform
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torchvision.models import inception_v3

from randcond.jobs.errors import UserError
from randcond.jobs.files import write_json
from randcond.jobs.provenance import versions
from randcond.jobs.seeding import normal
from randcond.jobs.tensors import write_tensors
from randcond.make_teacher.clip import build_tokenizer
from randcond.method.catalogue import BLOCK_STUDENTS, STUDENTS
from randcond.method.conditioning import Exponential
from randcond.planning import operations, sd14
from randcond.planning.speeds import MEASURED
from randcond.students.data import LatentShards, Pairs
from randcond.students.distil import student_and_loss
from randcond.students.problem import Distillation
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline, teacher_of
from randcond.teachers.teacher import Teacher
from randcond.training.checkpoint import Checkpoint
from randcond.training.loop import fit

EMOJI = Path(__file__).parents[1] / "workflow/assets/emoji/teacher"
TEXTS = ["a tiger in the snow", "a red bus", "an old house by the sea", "two cups of tea"]
PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "A10": 125e12, "L4": 121e12, "V100": 125e12}  # dense, 16 bits
UNCOUNTED = 2  # steps


@dataclass(frozen=True)
class Setting:
    """How a student is trained."""

    student: str = "b-base"
    precision: str = "bf16"
    gradient_checkpointing: bool = False
    channels_last: bool = False
    compile: bool = False
    tf32: bool = False


def settings(students: list[str]) -> list[Setting]:
    """Every student with the plain setting, and B-Base with one thing changed at a time."""
    changed = [{"precision": "fp16"}, {"precision": "no"}, {"precision": "no", "tf32": True}, {"channels_last": True}]
    changed += [{"compile": True}, {"compile": True, "channels_last": True}, {"gradient_checkpointing": True}]
    return [*(Setting(student) for student in students), *(Setting(**one) for one in changed)]


def teacher(rehearsed: bool, device: torch.device) -> Teacher:
    """SD v1.4 at true size with random weights, or the emoji world's."""
    if rehearsed:
        return teacher_of(load_pipeline(EMOJI, device))
    tokenizer = build_tokenizer(TEXTS, 600)
    tokenizer.model_max_length = sd14.TOKENS
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return teacher_of(sd14.pipeline(tokenizer).to(device))


def problem(setting: Setting, batch: int, folder: Path, rehearsed: bool, device: torch.device) -> Distillation:
    """The training problem of a setting, on latents of noise."""
    made = teacher(rehearsed, device)
    recipe = SimpleNamespace(mixed_precision=setting.precision, gradient_checkpointing=setting.gradient_checkpointing)
    init = "copied" if setting.student in BLOCK_STUDENTS else "random"
    run = {"student": setting.student, "init": init, "images": "rendered", "features": "blocks"}
    run["relative_features"] = False
    loss = student_and_loss(made, run, 0, recipe).to(device)
    if setting.channels_last:
        loss.student.to(memory_format=torch.channels_last)
        made.denoiser.to(memory_format=torch.channels_last)
    if setting.compile:
        loss.student.compile()
        made.denoiser.compile()
    shard = folder / "latents.safetensors"
    latents = torch.stack([normal(made.latent_shape, 0, i) for i in range(len(TEXTS))])
    write_tensors(shard, {"latents": latents.half(), "rows": torch.arange(len(TEXTS))})
    pairs = Pairs(LatentShards([shard]), TEXTS, list(range(len(TEXTS))), seed=0)
    return Distillation(loss, made, pairs, TEXTS, Exponential(), 0.1, batch, seed=0)


def train(
    asked: Distillation, setting: Setting, batch: int, steps: int, device: torch.device, checkpoint: Any = None
) -> tuple[list[dict[str, float]], float]:
    """The losses of each step, and the seconds of those that count."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.tf32
    recipe = SimpleNamespace(
        steps=steps, batch=batch, micro_batch=batch, learning_rate=5e-5, schedule="constant", cycles=1,
        weight_decay=1e-2, gradient_clip=1.0, ema=0.0, optimizer="adamw",
    )  # fmt: skip
    AcceleratorState._reset_state(True)  # one precision a process is what it allows
    accelerator = Accelerator(mixed_precision=setting.precision, cpu=device.type == "cpu")
    began: list[float] = []
    original = asked.forward

    def noted(step: int, rows: slice) -> dict[str, torch.Tensor]:
        if device.type == "cuda":
            torch.cuda.synchronize()
        began.append(time.perf_counter())
        return original(step, rows)

    asked.forward = noted
    history = fit(asked, recipe, setting.student, asked.loss.student, checkpoint, accelerator, log_every=1).history
    asked.forward = original
    if device.type == "cuda":
        torch.cuda.synchronize()
    counted = min(UNCOUNTED, len(began) - 1)
    return history, time.perf_counter() - began[counted] if began else 0.0


def step_speed(setting: Setting, batch: int, steps: int, folder: Path, rehearsed: bool, device: torch.device) -> dict:
    """Pairs a second, peak memory and share of the card's peak of a setting; why not, where it does not run."""
    line: dict[str, Any] = {**asdict(setting), "batch": batch}
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        _, seconds = train(problem(setting, batch, folder, rehearsed, device), setting, batch, steps, device)
    except (RuntimeError, UserError) as error:
        return line | {"failed": str(error).strip().splitlines()[0][:200]}
    line["pairs_a_second"] = (steps - UNCOUNTED) * batch / seconds
    if device.type == "cuda":
        line["gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
        counted = operations.stable_diffusion().step_flops(setting.student, setting.gradient_checkpointing)
        line["operations_a_second"] = counted * line["pairs_a_second"]
        if peak := next((value for name, value in PEAKS.items() if name in torch.cuda.get_device_name()), None):
            line["share_of_peak"] = line["operations_a_second"] / peak
    return line


def drawing_speed(precision: str, batch: int, rehearsed: bool, device: torch.device) -> dict:
    """Images a second of rendering (latents) and of sampling (images) by the teacher, 25 steps with guidance."""
    made = teacher(rehearsed, device).pipeline
    made.to(dtype={"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision])
    texts = [TEXTS[i % len(TEXTS)] for i in range(batch)]
    draw_latents(made, texts, 0, 0, 2, 7.5)
    start = time.perf_counter()
    latents = draw_latents(made, texts, 0, 0, 25, 7.5)
    rendered = time.perf_counter() - start
    finite = bool(torch.isfinite(decode(made, latents).float()).all())
    sampled = time.perf_counter() - start
    line = {"precision": precision, "batch": batch, "finite": finite}
    return line | {"latents_a_second": batch / rendered, "images_a_second": batch / sampled}


@torch.no_grad()
def scoring_speed(batch: int, rehearsed: bool, device: torch.device) -> dict:
    """Images a second of the paper world's two evaluators, with random weights: CLIP's image tower, and Inception."""
    made = {
        "clip": open_clip.create_model("ViT-S-32" if rehearsed else "ViT-g-14"),
        "inception": inception_v3(weights=None, init_weights=False),
    }
    speeds = {}
    for name, (model, side) in zip(made, ((made["clip"].encode_image, 224), (made["inception"], 299)), strict=True):
        made[name].to(device).eval()
        images = torch.rand(batch, 3, side, side, device=device)
        seconds = []
        for _ in range(UNCOUNTED + 1):
            start = time.perf_counter()
            float(model(images).sum())  # the number waits for the card
            seconds.append(time.perf_counter() - start)
        speeds[f"{name}_images_a_second"] = batch / seconds[-1]
    return {"batch": batch} | speeds


def same_twice(precision: str, folder: Path, rehearsed: bool, device: torch.device) -> dict:
    """Are two runs equal to the bit, and a resumed one equal to an uninterrupted one?"""
    setting, batch = Setting(precision=precision), 2

    def run(steps: int, checkpoint: Any = None) -> tuple[list, torch.Tensor]:
        asked = problem(setting, batch, folder, rehearsed, device)
        history, _ = train(asked, setting, batch, steps, device, checkpoint)
        return history, torch.cat([p.detach().float().flatten().cpu() for p in asked.loss.student.parameters()])

    (one, weights), (other, again) = run(4), run(4)
    kept = Checkpoint(folder / f"checkpoint-{precision}", {"benchmark": precision}, minutes=0.0)
    run(3, kept)
    resumed, resumed_weights = run(4, kept)
    return {
        "precision": precision,
        "two_runs_equal": one == other and torch.equal(weights, again),
        "resumed_equal": resumed == one and torch.equal(weights, resumed_weights),
        "largest_difference": float((weights - resumed_weights).abs().max()),
    }


def measure(rehearsed: bool, batch: int, steps: int) -> dict[str, Any]:
    """All of it."""
    device = torch.device("cpu" if rehearsed else "cuda")
    students = ["b-base"] if rehearsed else list(STUDENTS)
    asked = settings(students)[:2] if rehearsed else settings(students)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training = [step_speed(one, batch, steps, folder, rehearsed, device) for one in asked]
        drawing = [drawing_speed(p, batch, rehearsed, device) for p in (["no"] if rehearsed else ["fp16", "bf16"])]
        twice = [same_twice(p, folder, rehearsed, device) for p in (["no"] if rehearsed else ["no", "fp16", "bf16"])]
    scoring = scoring_speed(2 if rehearsed else 64, rehearsed, device)
    found = {"training": training, "drawing": drawing, "scoring": scoring, "twice": twice}
    if rehearsed:
        return found
    card = torch.cuda.get_device_properties(0)
    kinds = itertools.groupby(card.name.lower(), lambda c: c.isalnum())
    best = max(line.get("operations_a_second", 0.0) for line in training if line["student"] == "b-base")
    fastest = max(line["images_a_second"] for line in drawing if line["finite"])
    return {
        "name": "-".join("".join(part) for alphanumeric, part in kinds if alphanumeric),
        "memory": card.total_memory / 1e9,
        "draw": fastest * operations.stable_diffusion().image_flops("unet", 25),
        "train": best,
        "measured": f"{time.strftime('%Y-%m-%d')}, {card.name}, torch {versions()['torch']}, {platform.machine()}",
        **found,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--output", type=Path, default=MEASURED)
    arguments = parser.parse_args()
    if not arguments.rehearse and not torch.cuda.is_available():
        sys.exit("skipped: torch finds no GPU here; --rehearse runs the program on the CPU")
    found = measure(arguments.rehearse, arguments.batch, arguments.steps)
    print(json.dumps(found, indent=1))
    if not arguments.rehearse:
        write_json(arguments.output, found)


if __name__ == "__main__":
    main()
