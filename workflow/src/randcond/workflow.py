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


def code_of(package: Path, module: str) -> list[str]:
    """Files of ``package`` that ``module`` (e.g. ``"distill"``) imports, directly or not, and its own; sorted.

    Snakemake does not track imported modules: rules list these files as inputs.

    Raises:
        FileNotFoundError: If there is no such module.
    """
    if _file_of(package, module) is None:
        raise FileNotFoundError(f"{package}: has no module {module}")
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        path = _file_of(package, waiting.pop())
        if path is None or path in found:
            continue
        found.add(path)
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
