"""What the rules compute from the configuration: counts of shards, steps and images, and the protocol in words."""

import math
from collections.abc import Iterable
from typing import Any


def shards(count: int, size: int) -> int:
    """Number of shards of at most ``size`` that hold ``count`` items."""
    return math.ceil(count / size)


def step_count(steps: dict[str, int], run: dict[str, Any]) -> int:
    """Optimiser steps of a run: by where its weights come from."""
    return steps[run["init"]]


def needs_images(run: dict[str, Any]) -> bool:
    """Whether a run takes any pairs from D's images, and not all of them from the teacher's trajectories."""
    return run["trajectories"] is None or run["trajectories"]["share"] < 1


def asks_writer(config: dict[str, Any], runs: Iterable[dict[str, Any]]) -> bool:
    """Whether a language model writes anything: prompts that a run is rendered from, or a described world's texts."""
    return config["prompts"]["description"] is not None or any(run["prompts"] == "llm" for run in runs)


def without_idle_writer(config: dict[str, Any], runs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The configuration without the language model's place where nothing asks it, so that it is not fetched either."""
    if asks_writer(config, runs):
        return config
    prompts = config["prompts"]
    return config | {"prompts": prompts | {"llm": prompts["llm"] | {"writer": None}}}


def kept_points(recipe: dict[str, Any], run: dict[str, Any]) -> list[tuple[int, str]]:
    """Steps and kinds of weights (``raw`` or ``ema``) of the UNets that a training keeps beside its pipeline.

    Its last step is kept too, but for the weights that the pipeline has.

    Args:
        recipe: The configuration's ``distillation``.
        run: The run.
    """
    last, every = step_count(recipe["steps"], run), recipe["keep_every"]
    steps, kinds = [*range(every, last, every), last] if every else [], ["raw", "ema"] if recipe["ema"] else ["raw"]
    return [(step, kind) for step in steps for kind in kinds if (step, kind) != (last, recipe["weights"])]


def shown_point(recipe: dict[str, Any], run: dict[str, Any], row: dict[str, Any]) -> tuple[int, str] | None:
    """Step and kind of weights that a row of a table shows; None: the finished student.

    Args:
        recipe: The configuration's ``distillation``.
        run: The row's run.
        row: The row.
    """
    last = step_count(recipe["steps"], run)
    point = (row["step"] or last, row["weights"] or recipe["weights"])
    return None if point == (last, recipe["weights"]) else point


def evaluation_count(experiments: dict[str, Any], run: str, benchmark: int | None, everything: int) -> int:
    """Evaluation images that a run needs: the benchmark's, unless a table or grid shows it on more prompts."""
    tables = [(table["splits"], [row["run"] for row in table["rows"]]) for table in experiments["tables"].values()]
    shown = tables + [([grid["split"]], grid["runs"]) for grid in experiments["grids"]]
    splits = {split for of_these, runs in shown if run in runs for split in of_these}
    return benchmark if benchmark is not None and splits <= {"coco30k"} else everything


def drawing(experiments: dict[str, Any], name: str, guidance_scale: float) -> dict[str, Any]:
    """How what is scored under a name is drawn otherwise than the configuration's ``sampling`` says; empty for a run.

    Args:
        experiments: The experiments file.
        name: A run, a student that was made faster, something drawn in other steps, or the teacher.
        guidance_scale: The configuration's.
    """
    drawn, faster = experiments["drawn"].get(name), experiments["faster"]
    made = faster.get(drawn["run"] if drawn else name)
    if drawn is None and made is None:
        return {}
    steps = drawn["steps"] if drawn else made["steps"]
    if made is None:
        return {"steps": steps, "guidance_scale": guidance_scale}
    return {"steps": steps, "guidance_scale": 1.0, "scheduler": "DDIM" if made["phases"] > 1 else "LCM"}


def protocol(config: dict[str, Any]) -> dict[str, Any]:
    """How a configuration's samples are drawn, stored and scored, in words for the report."""
    sampling, scoring = config["sampling"], config["scoring"]
    stored, features = "PNG, no resize but the evaluator's own", "the world's evaluator"
    scaled = "directions scaled to length sqrt(width)"
    if size := sampling["resize"]:
        kind = sampling["image_format"].upper()
        stored = f"{kind}, resized to {size} x {size} by PIL's default filter, {kind} again"
    if config["inception"]:
        features, scaled = (
            "Inception (FID in clean-fid's modes legacy_pytorch and clean; IS by torch-fidelity)",
            "as is",
        )
    more = {"sampling precision": sampling["precision"], "training steps": config["distillation"]["steps"]}
    held_against: dict[str, Any] = {"real images per prompt": scoring["real_per_prompt"]}
    if config["world"] == "own":
        held_against = {"held against": "the teacher's samples from other noise, one a prompt"}
    return {
        "scheduler": "PNDM",
        "steps": sampling["steps"],
        "guidance_scale": sampling["guidance_scale"],
        "weights": config["distillation"]["weights"],
        "image format": stored,
        "features": f"{features}, {scaled}",
        **held_against,
        "sampling seed": sampling["seed"],
        **(more if config["inception"] else {}),
    }
