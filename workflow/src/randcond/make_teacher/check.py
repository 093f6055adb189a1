"""Is the teacher good enough? Real drawings, their reconstructions and samples, as the evaluator names them."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from randcond.jobs.files import atomic_path, write_json
from randcond.jobs.progress import Progress
from randcond.jobs.seeding import numpy_generator
from randcond.jobs.stage import run_stage, set_threads
from randcond.make_teacher.autoencoder import reconstruct
from randcond.scores.evaluator import Evaluator, class_logits
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline
from randcond.worlds import emoji


def named_right(evaluator: Evaluator, classes: np.ndarray, images: torch.Tensor, concepts: list[str]) -> np.ndarray:
    """bool (n,): does the evaluator name the concept of each uint8 image (n, 3, h, w)?"""
    features = evaluator.features_of(images)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    names = list(emoji.concepts())
    return class_logits(unit, classes, evaluator.logit_scale).argmax(1) == [names.index(name) for name in concepts]


def write_grid(path: Path, images: torch.Tensor, columns: int, zoom: int = 3) -> None:
    """Write uint8 images (n, 3, h, w) as one PNG, ``columns`` in a row."""
    n, _, height, width = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + 2), columns * (width + 2), 3), 255, np.uint8)
    for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        top, left = i // columns * (height + 2), i % columns * (width + 2)
        sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet)
    with atomic_path(path) as partial:
        picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(partial, "PNG")


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    evaluator, pipeline = Evaluator(arguments.evaluator), load_pipeline(arguments.teacher)
    classes = evaluator.class_features(emoji.captions())
    captions = emoji.captions()
    animal = np.array(list(emoji.concepts().values()))
    # templates and colours at random
    rng, each = numpy_generator(settings["seed"]), settings["captions_per_concept"]
    per_concept = len(captions) // len(animal)
    picks = [i * per_concept + j for i in range(len(animal)) for j in rng.choice(per_concept, each, replace=False)]
    chosen = [captions[i] for i in picks]
    texts, concepts = [caption.text for caption in chosen], [caption.concept for caption in chosen]
    real = emoji.real_images(texts, settings["seed"] + 10**6)
    restored = torch.cat([reconstruct(pipeline.vae, part) for part in real.split(settings["batch"])])
    progress, samples = Progress("teacher's samples", len(texts), "images"), []
    for start in range(0, len(texts), settings["batch"]):
        part = texts[start : start + settings["batch"]]
        latents = draw_latents(pipeline, part, start, settings["seed"], settings["steps"], settings["guidance_scale"])
        samples.append(decode(pipeline, latents))
        progress.at(start + len(part))
    images = {"real": real, "reconstructed": restored, "sampled": torch.cat(samples)}
    is_animal = np.repeat(animal, each)
    scores: dict[str, object] = {"settings": settings, "images": len(texts)}
    for name, group in images.items():
        right = named_right(evaluator, classes, group, concepts)
        scores[name] = {"animals": float(right[is_animal].mean()), "rest": float(right[~is_animal].mean())}
    error = (real.float() - restored.float()) / 127.5
    scores["reconstruction_error"] = float(error.square().mean())
    write_json(arguments.output, scores)
    write_grid(arguments.grid, images["sampled"][:: each // 2], columns=18)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--threads", type=int, default=1)
    for option in ("--teacher", "--evaluator", "--output", "--grid"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
