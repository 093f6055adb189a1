"""The code files that a stage depends on, found by following its imports."""

import ast
from functools import cache
from pathlib import Path


def code_of(package: Path, module: str) -> list[str]:
    """Files of ``package`` that ``module`` (e.g. ``"students.distil"``) imports, directly or not, and its own; sorted.

    A module's lists, ``<module>_*.csv`` beside it, belong to it.

    Snakemake does not track imported modules: rules list these files as inputs.

    Raises:
        FileNotFoundError: If there is no such module.
    """
    if _file_of(package, module) is None:
        raise FileNotFoundError(f"{package}: has no module {module}")
    found: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file_of(package, name)
        if path is None or path in found:
            continue
        # every package on the way to a module is run before it, the outermost first
        waiting += ["__init__", *("/".join(name.split(".")[:i]) for i in range(1, name.count(".") + 1))]
        found |= {path, *path.parent.glob(f"{path.stem}_*.csv")}
        waiting += _imports(path, package.name)
    return sorted(str(path) for path in found)


def _file_of(package: Path, module: str) -> Path | None:
    base = package / module.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache  # rules ask for the same files again and again
def _imports(path: Path, package: str) -> list[str]:
    """Modules of the package that a file imports, or whose whole names it holds, without the package's own name."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.append(node.value)  # of a module that is loaded by its name
    return [name.removeprefix(f"{package}.") for name in names if name.startswith(f"{package}.")]
