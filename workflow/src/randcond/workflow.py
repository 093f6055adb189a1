"""What the Snakefile computes: counts of shards and steps, and the code files a stage depends on."""

import ast
import math
from pathlib import Path
from typing import Any


def shards(count: int, size: int) -> int:
    """Number of shards of at most ``size`` that hold ``count`` items."""
    return math.ceil(count / size)


def step_count(steps: dict[str, int], run: dict[str, Any]) -> int:
    """Optimiser steps of a run: by where its weights come from."""
    return steps[run["init"]]


def evaluation_count(experiments: dict[str, Any], run: str, benchmark: int | None, everything: int) -> int:
    """Evaluation images that a run needs: the benchmark's, unless a table or grid shows it on more prompts."""
    tables = [(table["splits"], [row["run"] for row in table["rows"]]) for table in experiments["tables"].values()]
    shown = tables + [([grid["split"]], grid["runs"]) for grid in experiments["grids"]]
    splits = {split for of_these, runs in shown if run in runs for split in of_these}
    return benchmark if benchmark is not None and splits <= {"coco30k"} else everything


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
    return {
        "scheduler": "PNDM",
        "steps": sampling["steps"],
        "guidance_scale": sampling["guidance_scale"],
        "weights": config["distillation"]["weights"],
        "image format": stored,
        "features": f"{features}, {scaled}",
        "real images per prompt": scoring["real_per_prompt"],
        "sampling seed": sampling["seed"],
        **(more if config["inception"] else {}),
    }


def code_of(package: Path, module: str) -> list[str]:
    """Files of ``package`` that ``module`` (e.g. ``"distill"``) imports, directly or not, and its own; sorted.

    A module's lists, ``<module>_*.csv`` beside it, belong to it.

    Snakemake does not track imported modules: rules list these files as inputs.

    Raises:
        FileNotFoundError: If there is no such module.
    """
    if _file_of(package, module) is None:
        raise FileNotFoundError(f"{package}: has no module {module}")
    found: set[Path] = set()
    waiting = [module, "__init__"]  # the package itself comes with every module
    while waiting:
        path = _file_of(package, waiting.pop())
        if path is None or path in found:
            continue
        found |= {path, *path.parent.glob(f"{path.stem}_*.csv")}
        waiting += _imports(path, package.name)
    return sorted(str(path) for path in found)


def _file_of(package: Path, module: str) -> Path | None:
    base = package / module.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(path: Path, package: str) -> list[str]:
    """Modules of the package named in a file's import statements, without the package's own name."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return [name.removeprefix(f"{package}.") for name in names if name.startswith(f"{package}.")]
