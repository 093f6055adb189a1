"""Scores without real images: a student's samples against the teacher's, in the features of a model of one's choice.

It is a CLIP, or one of torchvision's classifiers, which knows no texts: then there is no CLIP score.

FID and KID are distances to the teacher's samples from other noise, so that the teacher's own row is the floor: it says
how far two sets of the same model are apart. Agreement is the cosine of a sample and the teacher's of the same prompt
and noise; their distance in latents is the root of the mean squared difference of what the teacher's autoencoder makes
of the two.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL
from PIL import Image

from randcond.jobs.errors import UserError, reading
from randcond.jobs.stage import device
from randcond.scores.classifier import DESCRIBED, Classifier
from randcond.scores.evaluator import Evaluator
from randcond.scores.image_features import pieces
from randcond.scores.metrics import FidToReference, error95, fid, kid

KINDS = 2  # the teacher's samples from other noise, and from the students'


def load_evaluator(folder: Path) -> Evaluator | Classifier:
    """The classifier of a folder that has one's description, else the CLIP."""
    return Classifier(folder) if (folder / DESCRIBED).exists() else Evaluator(folder)


def reference(
    evaluators: Sequence[Path], images: Sequence[Path], prompts: pd.DataFrame, settings: dict[str, Any]
) -> dict[str, np.ndarray]:
    """Directions of the teacher's samples and of the texts.

    Args:
        evaluators: One CLIP in open_clip's format, or a classifier's folder, and the teacher's folder.
        images: The teacher's samples from other noise, then as many zips of those from the students' noise.
        prompts: The evaluation prompts.
        settings: ``batch``, how many images are read at once.

    Returns:
        ``images`` (other noise), ``teacher`` (the same noise) and, of a CLIP, ``prompts``, each (prompts, width), of
        length 1; and ``latents`` of the teacher's samples from the same noise, (prompts, channels * height * width).

    Raises:
        UserError: If there is not one sample a prompt of each kind.
    """
    evaluator, texts = load_evaluator(evaluators[0]), prompts["text"].tolist()
    half = len(images) // 2
    found = {
        "images": _unit(evaluator.image_features(list(images[:half]), settings["batch"])),
        "teacher": _unit(evaluator.image_features(list(images[half:]), settings["batch"])),
        "latents": latents(evaluators[1], images[half:], settings["batch"]),
    }
    if isinstance(evaluator, Evaluator):
        found["prompts"] = evaluator.text_features(texts)
    for name, array in found.items():
        if len(array) != len(texts):
            raise UserError(f"{images[0]}: {len(array)} {name} for {len(texts)} prompts; delete it and run again")
    return found


def features(evaluators: Sequence[Path], images: Sequence[Path], batch: int) -> dict[str, np.ndarray]:
    """The evaluator's features of the images of the zips, and their latents by the teacher's autoencoder."""
    return {
        "images": load_evaluator(evaluators[0]).image_features(list(images), batch),
        "latents": latents(evaluators[1], images, batch),
    }


@torch.no_grad()
def latents(teacher: Path, archives: Sequence[Path], batch: int) -> np.ndarray:
    """The images of the zips, encoded by the teacher's autoencoder: scaled latents, float32 (images, all their values).

    Raises:
        UserError: If an archive or the autoencoder is broken.
    """
    with reading(teacher / "vae", "an autoencoder with safetensors weights"):
        vae = AutoencoderKL.from_pretrained(
            str(teacher), subfolder="vae", dtype=torch.float32, use_safetensors=True, local_files_only=True
        ).to(device())
    vae.enable_slicing()  # one image at a time: its activations of a batch of large ones would not fit on a GPU
    found = []
    for archive, names in pieces("latents", archives, batch):
        with reading(archive, "a whole zip of images"), zipfile.ZipFile(archive) as opened:
            for start in range(0, len(names), batch):
                pictures = [Image.open(io.BytesIO(opened.read(name))) for name in names[start : start + batch]]
                pixels = torch.from_numpy(np.stack([np.asarray(picture.convert("RGB")) for picture in pictures]))
                unit = pixels.permute(0, 3, 1, 2).to(vae.device).float() / 127.5 - 1
                mean = vae.encode(unit).latent_dist.mode() * vae.config["scaling_factor"]
                found.append(mean.flatten(1).cpu().numpy())
    return np.concatenate(found)


def splits(
    evaluators: Sequence[Path],
    images: Sequence[Path],
    reference: dict[str, np.ndarray],
    prompts: pd.DataFrame,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Scores of all prompts' samples and, where words are held out, of seen and unseen ones.

    Raises:
        UserError: If there is not one sample a prompt, or a feature is not finite.
    """
    drawn_as = features(evaluators, images, settings["batch"])
    drawn = drawn_as["images"]
    if len(drawn) != len(prompts):
        raise UserError(f"{images[0]}: {len(drawn)} samples for {len(prompts)} prompts; draw them again")
    if not all(np.isfinite(array).all() for array in drawn_as.values()):
        raise UserError(f"{images[0]}: the features are not finite; look at the samples")
    wordless = (evaluators[0] / DESCRIBED).exists()
    wanted = {"images", "teacher"} | (set() if wordless else {"prompts"})
    if wanted - reference.keys() or any(reference[name].shape != drawn.shape for name in wanted):
        raise UserError("scores/reference.safetensors: made for other prompts or by another evaluator; delete it")
    if reference.get("latents", drawn[:0]).shape != drawn_as["latents"].shape:
        raise UserError("scores/reference.safetensors: of latents of another shape; delete it and run again")
    apart = np.sqrt(np.square(drawn_as["latents"] - reference["latents"]).mean(1))
    unit, split = _unit(drawn), prompts["split"].to_numpy()
    names = ["all", *(["seen", "unseen"] if (split == "unseen").any() else [])]
    found: dict[str, Any] = {}
    for name in names:
        chosen = np.ones(len(split), bool) if name == "all" else split == name
        if chosen.sum() < 2:
            raise UserError(f"prompts.evaluation: only {chosen.sum()} {name} prompts; scores need at least 2")
        found[name] = {
            "count": int(chosen.sum()),
            "reference_count": int(chosen.sum()),
            "metrics": _metrics(
                unit[chosen],
                {key: reference[key][chosen] for key in wanted},
                apart[chosen],
                *(settings["bootstrap"], settings["seed"]),
            ),
        }
    return found


def _metrics(
    unit: np.ndarray, reference: dict[str, np.ndarray], apart: np.ndarray, rounds: int, seed: int
) -> dict[str, dict[str, float]]:
    # of length sqrt(width), so that KID's kernel is (cos + 1)^3
    scale = unit.shape[1] ** 0.5
    drawn, real = scale * unit, scale * reference["images"]
    to_reference = FidToReference(real)
    agreement = (unit * reference["teacher"]).sum(1)
    statistics: dict[str, tuple[float, Callable[[np.ndarray], float]]] = {
        "fid": (fid(drawn, real), lambda i: to_reference(drawn[i])),
        "kid": (kid(drawn, real, seed), lambda i: kid(drawn[i], real, seed, 1, len(drawn))),
        "agreement": (float(agreement.mean()), lambda i: float(agreement[i].mean())),
        "latents": (float(apart.mean()), lambda i: float(apart[i].mean())),
    }
    if "prompts" in reference:
        clip = (unit * reference["prompts"]).sum(1)
        statistics["clip"] = float(clip.mean()), lambda i: float(clip[i].mean())
    count = len(unit)
    return {
        name: {"value": value, "error95": error95(statistic, count, rounds, seed)}
        for name, (value, statistic) in statistics.items()
    }


def _unit(features: np.ndarray) -> np.ndarray:
    unit: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit
