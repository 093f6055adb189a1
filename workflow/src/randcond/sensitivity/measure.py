"""Measure how far x_t tells its text from another one, as the teacher sees it: what ``kind: measured`` takes p(t) from.

Images are D's rendered latents of seen concepts, so that no student's p(t) comes from an image that it must not see;
the other texts are all of the prompts'. Latents rendered with guidance are near the teacher's q(x|c), not quite its
samples.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path, write_json
from randcond.jobs.plots import save
from randcond.jobs.progress import log
from randcond.jobs.stage import device, run_stage, set_threads
from randcond.jobs.tensors import read_tensors
from randcond.method.sensitivity import measure
from randcond.prompts.table import read_prompts
from randcond.sensitivity.figure import draw, table
from randcond.teachers.pipelines import load_pipeline, teacher_of

SHARES = (0.2, 0.35, 0.5)  # of the p(t) that the stage itself shows


def images_of(prompts: pd.DataFrame, paths: list[Path], count: int) -> tuple[torch.Tensor, list[str]]:
    """The first ``count`` latents of seen concepts, or all where there are fewer, and their texts.

    Args:
        prompts: Columns text and split, row by row as they were rendered.
        paths: The first shards of latents, in order.
        count: Images wanted.

    Raises:
        UserError: If prompts and latents do not belong together, or no image shows a seen concept.
    """
    shards = [read_tensors(path) for path in paths]
    for path, shard in zip(paths, shards, strict=True):
        if shard.keys() != {"latents", "rows"} or not torch.isfinite(shard["latents"]).all():
            raise UserError(f"{path}: no shard of finite rendered latents; render it again")
    rows = torch.cat([shard["rows"] for shard in shards]).tolist()
    if rows != list(range(len(rows))) or len(rows) > len(prompts):
        raise UserError(f"{paths[0]}: its latents are not of the first of {len(prompts)} prompts; render them again")
    seen = np.flatnonzero((prompts["split"].iloc[: len(rows)] == "seen").to_numpy())[:count]
    if not len(seen):
        raise UserError(f"{paths[0]}: shows no seen concept; render more images, or measure another world")
    latents = torch.cat([shard["latents"].float() for shard in shards])
    return latents[seen], prompts["text"].iloc[seen].tolist()


def _main(arguments: argparse.Namespace) -> None:
    settings = json.loads(arguments.settings)
    set_threads(arguments.threads)
    prompts = read_prompts(arguments.prompts).head(settings["count"])
    latents, texts = images_of(prompts, arguments.latents, settings["images"])
    teacher = teacher_of(load_pipeline(arguments.teacher, device()))
    if tuple(latents.shape[1:]) != teacher.latent_shape:
        raise UserError(
            f"{arguments.latents[0]}: latents are {tuple(latents.shape[1:])}, this teacher's {teacher.latent_shape};"
            " render them again"
        )
    how = {"levels": settings["levels"], "seed": settings["seed"], "batch": settings["batch"]}
    curve = measure(
        *(teacher, latents.to(teacher.device), texts, prompts["text"].tolist()), others=settings["texts"], **how
    )
    if not np.isfinite(curve.kl).all():
        raise UserError(f"{arguments.teacher}: the teacher's predictions are not finite numbers; check its weights")
    for share in SHARES:
        log.info("sensitivity: p(t) = E exp(-KL_t / tau) has a share of %g with tau %.3g", share, curve.tau(share))
    with atomic_path(arguments.figure) as partial:
        save(draw(curve, SHARES), partial, arguments.figure.suffix)
    with atomic_path(arguments.table) as partial:
        table(curve, SHARES).to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
    write_json(arguments.output, {"settings": settings, "images": len(texts), **curve.record()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", required=True, help="JSON: count, images, texts, levels, seed, batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--latents", type=Path, nargs="+", required=True)
    for option in ("--teacher", "--prompts", "--output", "--figure", "--table"):
        parser.add_argument(option, type=Path, required=True)
    run_stage(_main, parser)
