"""Where the numbers of a run are from: commits, machines, packages, settings, and the hashes of all inputs."""

import os
import subprocess
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException

from randcond.jobs.errors import UserError
from randcond.jobs.provenance import read_made_with
from randcond.versions.lock import locked_stages
from randcond.versions.pipeline import pipeline_file


def describe(world: str, run: str, revision: str | None = None) -> str:
    """All that led to the scores of a run, as text: one paragraph for each stage, inputs first.

    Args:
        world: The world's name.
        run: A run, or ``teacher``.
        revision: Git revision of the record; None: dvc.lock as it is.

    Raises:
        UserError: If nothing is recorded for that run, or a dvc.lock is broken.
    """
    locks = {name: _lock(pipeline_file(name).with_suffix(".lock"), revision) for name in (world, "assets")}
    stages = {stage: entry for lock in locks.values() for stage, entry in lock.items()}
    wanted = sorted(
        name for name in stages if name.startswith(f"score-{run}-") and name.rpartition("-")[0] == f"score-{run}"
    )
    if not wanted:
        raise UserError(
            f"{pipeline_file(world).with_suffix('.lock')}: no scores of {run} are recorded; run snakemake first"
        )
    ordered: list[str] = []
    for name in wanted:
        _collect(name, stages, ordered)
    parts = [_paragraph(name, stages[name], revision) for name in ordered]
    return f"{world}: {run}, recorded in {_commit_of(world, revision)}\n\n" + "\n\n".join(parts)


def _lock(path: Path, revision: str | None) -> dict[str, Any]:
    if revision is None:
        return locked_stages(path, path.read_bytes()) if path.is_file() else {}
    english = os.environ | {"LC_ALL": "C"}  # it is told by its words what git lacks
    done = subprocess.run(["git", "show", f"{revision}:{path}"], capture_output=True, text=True, env=english)
    if done.returncode and "exists on disk" not in done.stderr and "does not exist" not in done.stderr:
        raise UserError(f"{revision}: {done.stderr.strip().splitlines()[-1]}")
    return {} if done.returncode else locked_stages(path, done.stdout)


def _collect(name: str, stages: dict[str, Any], ordered: list[str]) -> None:
    """Append a stage after all those whose outs it depends on."""
    if name in ordered:
        return
    deps = {dep["path"] for dep in stages[name].get("deps", [])}
    for other, entry in stages.items():
        if deps & {out["path"] for out in entry.get("outs", [])}:
            _collect(other, stages, ordered)
    ordered.append(name)


def _paragraph(name: str, entry: dict[str, Any], revision: str | None) -> str:
    lines = [name, f"  command: {entry['cmd']}"]
    for made in _made_with(entry, revision):
        lines += [f"  made {made['at']} at commit {made['commit']}", *_environment(made)]
        for other in made.get("also", []):
            lines += [f"  begun before in another environment, at commit {other['commit']}", *_environment(other)]
    for file, values in entry.get("params", {}).items():
        lines += [f"  {file}: {key} = {value}" for key, value in values.items()]
    for kind in ("deps", "outs"):
        lines += [f"  {kind[:-1]} {one['path']} md5 {one['md5']}" for one in entry.get(kind, [])]
    return "\n".join(lines)


def _environment(made: dict[str, Any]) -> list[str]:
    return [f"  machine: {_pairs(made['machine'])}", f"  packages: {_pairs(made['versions'])}"]


def _made_with(entry: dict[str, Any], revision: str | None) -> list[dict[str, Any]]:
    """What its jobs were made with, out of their logs; jobs of one commit, machine and set of packages once."""
    found: dict[str, dict[str, Any]] = {}
    for log in (out for out in entry["outs"] if "/logs/" in out["path"] or out["path"].endswith(".log")):
        for text in _texts(log["path"], revision):
            if made := read_made_with(text):
                found.setdefault(str({**made, "at": ""}), made)
    return list(found.values())


def _texts(path: str, revision: str | None) -> list[str]:
    """The text of a log, or of the logs in a folder, out of DVC's cache or remote."""
    try:
        fs = dvc.api.DVCFileSystem(".", rev=revision)
        files = fs.find(f"/{path}") if fs.isdir(f"/{path}") else [f"/{path}"]
        return [fs.read_text(file) for file in files]
    except (OSError, DvcException) as error:
        raise UserError(
            f"{path}: not in DVC's cache nor on its remote ({type(error).__name__}); dvc pull first"
        ) from None


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _commit_of(world: str, revision: str | None) -> str:
    """The last commit that changed the record."""
    path = str(pipeline_file(world).with_suffix(".lock"))
    command = ["git", "log", "-1", "--format=commit %H of %cs", revision or "HEAD", "--", path]
    done = subprocess.run(command, capture_output=True, text=True)
    changed = subprocess.run(["git", "status", "--porcelain", "--", path], capture_output=True, text=True).stdout
    if revision is None and (changed or not done.stdout.strip()):
        return f"{path}, not committed yet"
    return done.stdout.strip() or "no commit"
