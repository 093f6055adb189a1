"""Golden values: what a platform gave before, to the bit, so that a change that claims to change no number is shown.

    python tests/golden.py compare results/smoke ../other/results/smoke   # two finished worlds, file by file
    python tests/golden.py write results/smoke                            # renew this platform's values

Bits are equal on one platform alone: kind of processor, its vector instructions, versions of what computes. So each
has a file in ``tests/golden_values``. Where there is none for the platform at hand, tests that compare are skipped and
name it.
"""

import argparse
import copy
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from checkout import ARTIFACTS, compare
from randcond.jobs.provenance import instructions, versions
from randcond.jobs.seeding import normal

VALUES = Path(__file__).parent / "golden_values"
ASSETS = Path(__file__).parents[1] / "workflow/assets/emoji"
STEPS, BATCH = 4, 4
COMPUTING = ("torch", "diffusers", "transformers")


def platform() -> dict[str, str]:
    """What bits depend on."""
    found = {"processor": instructions(), "blas": os.environ.get("OPENBLAS_CORETYPE", "")}
    return found | {name: versions()[name] for name in COMPUTING}


def file() -> Path:
    """Where this platform's values are, or would be."""
    return VALUES / f"{hashlib.sha256(json.dumps(platform(), sort_keys=True).encode()).hexdigest()[:12]}.json"


def values(kind: str) -> Any:
    """This platform's values of a kind, ``"smoke"`` or ``"losses"``; skips the test where there are none."""
    import pytest

    known = json.loads(file().read_text()) if file().exists() else {}
    if kind not in known:
        pytest.skip(
            f"no golden values of {kind} for this platform ({platform()}); python tests/golden.py write makes them"
        )
    return known[kind]


def hashes(world: Path) -> dict[str, str]:
    """Name -> SHA-256 of a finished world's artifacts, e.g. of ``results/smoke``."""
    found = {path for pattern in ARTIFACTS for path in world.glob(pattern.partition("/")[2])}
    found = {path for path in found if path.is_file() and not path.name.startswith(".")}  # Snakemake's timestamps
    return {str(path.relative_to(world)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(found)}


def losses() -> dict[str, list[dict[str, float]]]:
    """Kind of training -> the losses of each of its first steps."""
    torch.set_num_threads(1)
    found = {}
    for name, (problem, rate) in _problems():
        recipe = SimpleNamespace(
            steps=STEPS, batch=BATCH, micro_batch=BATCH, learning_rate=rate, schedule="cosine", cycles=1,
            weight_decay=1e-2, gradient_clip=1.0, ema=0.0, optimizer="adamw",
        )  # fmt: skip
        from randcond.training.loop import fit

        found[name] = fit(problem, recipe, name, log_every=1).history
    return found


def _problems() -> Iterator[tuple[str, tuple[torch.nn.Module, float]]]:
    yield from _students()
    yield "student made faster", (_made_faster(), 1e-4)
    yield from _parts_of_a_teacher()
    yield "denoiser, a flow's", (_flow(), 1e-3)
    yield from _digits()


def _students() -> Iterator[tuple[str, tuple[torch.nn.Module, float]]]:
    from randcond.method.conditioning import probability
    from randcond.students.distil import load_teacher, student_and_loss, trajectories
    from randcond.students.problem import Distillation

    texts = _texts()
    runs = {
        "copied": {"student": "b-base", "init": "copied"},
        "copied, real images": {"student": "b-base", "init": "copied", "images": "real"},
        "random": {"student": "b-small", "init": "random"},
        "a level less": {"student": "b-tiny", "init": "copied"},
        "narrower": {"student": "c-base", "init": "random"},
        "narrower, inherited": {"student": "c-base", "init": "inherited", "importance": "norm"},
        "authors' features": {"student": "b-tiny", "init": "copied", "features": "authors"},
        "relative features": {"student": "b-base", "init": "copied", "relative_features": True},
        "trajectories": {"student": "b-base", "init": "copied", "trajectories": dict(bank=4, stride=200)},
    }
    for name, run in runs.items():
        teacher = load_teacher(ASSETS / "teacher", torch.device("cpu"))
        recipe = SimpleNamespace(mixed_precision="no", gradient_checkpointing=False, batch=BATCH, null_text=0.1)
        loss = student_and_loss(
            teacher, {"images": "rendered", "features": "blocks", "relative_features": False} | run, 0, recipe
        )
        p = probability({"kind": "exponential", "rate": 5.0}) if name != "narrower" else None
        pairs = _Pairs(texts, teacher.latent_shape)
        own_way = {"share": 0.5, "guidance": 1.0} | run["trajectories"] if "trajectories" in run else None
        bank = trajectories(own_way, teacher, texts, recipe, 0)
        yield f"student, {name}", (Distillation(loss, teacher, pairs, texts, p, 0.1, BATCH, 0, *bank), 1e-3)


def _texts() -> list[str]:
    from randcond.worlds import emoji

    return [caption.text for caption in emoji.captions()[::37]]


def _made_faster() -> torch.nn.Module:
    from randcond.faster.problem import Consistency
    from randcond.method.conditioning import Exponential
    from randcond.method.consistency import Phases
    from randcond.students.distil import load_teacher

    teacher, texts = load_teacher(ASSETS / "teacher", torch.device("cpu")), _texts()
    student = copy.deepcopy(teacher.denoiser).requires_grad_(True).train()
    pairs = _Pairs(texts, teacher.latent_shape)
    return Consistency(student, teacher, pairs, texts, Exponential(), Phases(24, 4), 2.0, BATCH, 0)


def _flow() -> torch.nn.Module:
    from diffusers import FlowMatchEulerDiscreteScheduler

    from randcond.make_teacher.flow import FlowProblem, build_transformer

    torch.manual_seed(0)
    captions = [*"abcdefgh"]

    def encode(texts: Sequence[str]) -> dict[str, torch.Tensor]:
        said = [[*captions, ""].index(text) for text in texts]
        return {
            "encoder_hidden_states": torch.stack([normal((16, 64), 8, i) for i in said]),
            "pooled_projections": torch.stack([normal((32,), 10, i) for i in said]),
        }

    latents = torch.stack([normal((4, 8, 8), 9, i) for i in range(8)])
    transformer = build_transformer(8, 4, 64, 32, blocks=2, heads=2, patch=2)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    return FlowProblem(transformer, latents, torch.arange(8)[:, None], captions, encode, scheduler, BATCH, 4)


class _Pairs:
    """D of noise: as many latents as texts."""

    def __init__(self, texts: list[str], shape: tuple[int, ...]) -> None:
        self._texts, self._latents = texts, torch.stack([normal(shape, 7, i) for i in range(len(texts))])

    def batch(self, step: int, size: int) -> list[int]:
        return [(step * size + i) % len(self._texts) for i in range(size)]

    def texts(self, rows: list[int]) -> list[str]:
        return [self._texts[row] for row in rows]

    def variation(self, step: int, size: int) -> None:
        return None

    def latents(self, rows: list[int], variation: None = None) -> torch.Tensor:
        return self._latents[rows]


def _parts_of_a_teacher() -> Iterator[tuple[str, tuple[torch.nn.Module, float]]]:
    from transformers import CLIPTokenizer

    from randcond.make_teacher import autoencoder, clip, denoiser
    from randcond.make_teacher.material import MATERIAL

    world = MATERIAL["emoji"]()
    images = world.varied_images
    torch.manual_seed(0)
    model = autoencoder.build_autoencoder(world.image_size, world.autoencoder_widths, world.latent_channels)
    yield "autoencoder", (autoencoder.AutoencoderProblem(model, world.texts, images, BATCH, 2e-6, 0), 2e-3)
    tokenizer = CLIPTokenizer.from_pretrained(ASSETS / "teacher/tokenizer")

    def tokenize(asked: list[str]) -> torch.Tensor:
        padded = tokenizer(asked, padding="max_length", truncation=True, max_length=world.context)
        return torch.tensor(padded["input_ids"])

    towers = clip.TextEncoderTowers(clip.build_text_encoder(tokenizer))
    batches = world.batches(world.meanings, BATCH, 2)
    yield "text encoder", (clip.ClipProblem(towers, world.texts, tokenize, images, batches, BATCH, 1), 1e-3)
    states = torch.stack([normal((16, 128), 8, i) for i in range(9)])
    latents = torch.stack([normal((4, 8, 8), 9, i) for i in range(8)])
    unet = denoiser.build_denoiser(8, 128)
    chosen = torch.arange(8)[:, None]
    yield "denoiser", (denoiser.DenoiserProblem(unet, latents, chosen, states, BATCH, 3), 6e-4)


def _digits() -> Iterator[tuple[str, tuple[torch.nn.Module, float]]]:
    from randcond.figures import digits, digits_diffusion

    shown = digits.load().take(torch.arange(40))
    with digits.seeded(0):
        network = torch.nn.Linear(shown.images.shape[1], len(digits.NAMES))
        denoiser = digits_diffusion.Denoiser(32, 2)
        encoder = digits_diffusion.TextEncoder()
    targets = digits.one_hot(shown.labels)
    yield "digits, classifier", (digits.Classification(network, shown.images, targets, 4.0, BATCH, 0), 2e-3)
    names = [digits.NAMES[label] for label in shown.labels.tolist()]
    problem = digits_diffusion.Denoising(denoiser, encoder, shown.halved().images, names, None, None, BATCH, 0)
    yield "digits, diffusion", (problem, 1e-3)


def _write(world: Path) -> None:
    if not (world / "report/tables").is_dir():
        sys.exit(f"{world}: no finished world; run `make smoke` first")
    VALUES.mkdir(exist_ok=True)
    content = {"platform": platform(), "smoke": hashes(world), "losses": losses()}
    file().write_text(json.dumps(content, indent=1) + "\n")
    print(f"{file()}: {len(content['smoke'])} artifacts, {len(content['losses'])} trainings")


def _compare(one: Path, other: Path) -> None:
    found, expected = hashes(one), hashes(other)
    if difference := compare(found, expected):
        sys.exit(f"{one} and {other}: {difference}")
    print(f"{one} and {other}: {len(found)} files, all equal")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("compare")
    command.add_argument("worlds", type=Path, nargs=2)
    command.set_defaults(run=lambda given: _compare(*given.worlds))
    command = commands.add_parser("write")
    command.add_argument("world", type=Path)
    command.set_defaults(run=lambda given: _write(given.world))
    arguments = parser.parse_args()
    arguments.run(arguments)
