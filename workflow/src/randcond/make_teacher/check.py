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
from randcond.make_teacher.material import MATERIAL, Material
from randcond.scores.evaluator import Evaluator
from randcond.scores.names import Name, load_naming
from randcond.teachers.pipelines import decode, draw_latents, load_pipeline
from randcond.worlds import emoji
from randcond.worlds.drawings import Meaning
from randcond.worlds.meanings import UNSEEN_PAIR, split_of_meaning


def shares(asked: list[Meaning], found: list[Name]) -> dict[str, float]:
    """In how many of the images all is right that was asked for.

    Returns:
        ``animals`` and ``rest``: the concept; ``style``: the artist, of those that a text names; ``unseen pair``:
        both, of pairs that no student meets. What was not asked for has no number.
    """
    concept = np.array([meaning.concept == name for meaning, (name, _) in zip(asked, found, strict=True)])
    style = np.array([meaning.artist == name for meaning, (_, name) in zip(asked, found, strict=True)])
    animal = np.array([emoji.concepts()[meaning.concept] for meaning in asked])
    styled = np.array([meaning.artist is not None for meaning in asked])
    pair = np.array([split_of_meaning(meaning) == UNSEEN_PAIR for meaning in asked])
    groups = {
        "animals": concept[animal],
        "rest": concept[~animal],
        "style": style[styled],
        UNSEEN_PAIR: (concept & style)[pair],
    }
    return {name: float(right.mean()) for name, right in groups.items() if len(right)}


def choose(world: Material, of_each: int, seed: int) -> list[int]:
    """Numbers of so many texts of each concept, by chance of all that the world is judged by."""
    rng, of_concept = numpy_generator(seed), dict[str, list[int]]()
    for i in world.judged:
        of_concept.setdefault(world.meanings[i].concept, []).append(i)
    return [rows[j] for rows in of_concept.values() for j in rng.choice(len(rows), of_each, replace=False)]


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
    settings, world = json.loads(arguments.settings), MATERIAL[arguments.world]()
    set_threads(arguments.threads)
    evaluator, pipeline = Evaluator(arguments.evaluator), load_pipeline(arguments.teacher)
    picks = choose(world, settings["captions_per_concept"], settings["seed"])
    texts, asked = [world.texts[i] for i in picks], [world.meanings[i] for i in picks]
    real = world.real_images(texts, settings["seed"] + 10**6)
    restored = torch.cat([reconstruct(pipeline.vae, part) for part in real.split(settings["batch"])])
    progress, samples = Progress("teacher's samples", len(texts), "images"), []
    for start in range(0, len(texts), settings["batch"]):
        part = texts[start : start + settings["batch"]]
        latents = draw_latents(pipeline, part, start, settings["seed"], settings["steps"], settings["guidance_scale"])
        samples.append(decode(pipeline, latents))
        progress.at(start + len(part))
    images = {"real": real, "reconstructed": restored, "sampled": torch.cat(samples)}
    naming = load_naming(arguments.world)(evaluator)
    scores: dict[str, object] = {"settings": settings, "images": len(texts)}
    for name, group in images.items():
        scores[name] = shares(asked, naming(group))
    error = (real.float() - restored.float()) / 127.5
    scores["reconstruction_error"] = float(error.square().mean())
    write_json(arguments.output, scores)
    write_grid(arguments.grid, images["sampled"][:: settings["captions_per_concept"] // 2], columns=18)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=MATERIAL, required=True)
    parser.add_argument("--settings", required=True)
    parser.add_argument("--threads", type=int, default=1)
    for option in ("--teacher", "--evaluator", "--output", "--grid"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
