"""Record in dvc.lock, and keep in DVC's cache, what Snakemake calls up to date; nothing else."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvc.dependency import ParamsDependency
from dvc_data.hashfile.tree import Tree

from randcond.jobs.files import files_below
from randcond.versions.lock import write_lock
from randcond.versions.pipeline import pipeline_file
from randcond.versions.plan import Job, Stage, within
from randcond.versions.repository import opened, stages_of

Hashes = dict[str, str]  # path -> MD5


@dataclass
class Recorded:
    """What became of the stages.

    Attributes:
        new: Stages whose record was written.
        kept: Stages whose record was right already.
        refused: Stages that Snakemake calls up to date and that were not recorded, with the reason.
        unfinished: Stages that Snakemake would run.
    """

    new: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)


def record(stages: list[Stage]) -> Recorded:
    """Record the stages that are up to date, whole, and made from what is recorded itself.

    An artifact that is not the recorded one although its job has not run since (its log is the recorded one) was
    changed by somebody else: it is refused, and with it what was made from it. So is a stage whose input was exchanged
    for an older file.

    Args:
        stages: All stages of a world, each after those it depends on, in agreement with dvc.yaml.

    Raises:
        UserError: If DVC cannot be used here, or a dvc.lock is broken.
    """
    found = Recorded()
    doubtful: list[str] = []  # outs that are not as recorded
    with opened() as repo:
        known = stages_of({stage.world for stage in stages}, repo)
        changed: dict[str, list[Any]] = {}
        for stage in stages:
            if not stage.done:  # whatever DVC thinks of it
                doubtful += stage.outs
                found.unfinished.append(stage.name)
                continue
            entry = known[stage.world, stage.name]
            differs = entry.changed_stage() or any(one.changed() for one in (*entry.deps, *entry.outs))
            reason = _reason(stage, entry, doubtful)
            if reason is not None:
                doubtful += stage.outs
                found.refused[stage.name] = reason
            elif differs:
                entry.save(run_cache=False)  # from the run cache `dvc repro` takes outputs that Snakemake does not know
                entry.commit(relink=False)  # a linked output would be newer than what was made from it
                changed.setdefault(stage.world, []).append(entry)
                found.new.append(stage.name)
            else:
                found.kept.append(stage.name)
        for world, several in changed.items():
            write_lock(pipeline_file(world).with_suffix(".lock"), several, repo)
    return found


def _reason(stage: Stage, entry: Any, doubtful: list[str]) -> str | None:
    """Why a stage must not be recorded, if it must not."""
    for dep in stage.deps:
        if within(dep, doubtful):
            return f"it was made from {dep}, which is not recorded"
    for path in (path for job in stage.jobs for path in job.left):
        if not Path(path).exists():
            return f"{path} is missing; delete what its job made and run snakemake, or `dvc checkout --force` it"
    for path in _surplus(stage):
        return f"{path} was left by other settings; delete it and run `make record`"
    for path in _replaced(stage, entry):
        return f"{path} changed since {stage.name} was made, but is older than it; touch it and run snakemake"
    for path in _altered(stage.jobs, entry):
        return f"{path} was changed after its job; delete it and run snakemake, or `dvc checkout --force` it"
    return None


def _surplus(stage: Stage) -> Iterable[str]:
    """Files in a folder of shards that no job makes."""
    made = {path for job in stage.jobs for path in job.left}
    for folder in (out for out in stage.outs if out not in made):
        yield from sorted(str(path) for path in Path(folder).rglob("*") if path.is_file() and str(path) not in made)


def _replaced(stage: Stage, entry: Any) -> Iterable[str]:
    """Inputs that differ from the record although Snakemake has not noticed: an older file was put in their place.

    Such a file was last written before the outputs, and put there after them. Outputs that Snakemake was told to take
    as they are (``--touch``) are later than both.
    """
    made = min(_time(path) for job in stage.jobs for path in job.outputs)
    for dep in (one for one in entry.deps if one.hash_info and not isinstance(one, ParamsDependency)):
        put = Path(dep.fs_path).lstat().st_ctime_ns  # of a link or a folder that was exchanged as a whole
        times = {file: file.stat() for file in files_below(Path(dep.fs_path))}
        older = [file for file, of in times.items() if of.st_mtime_ns < made < max(put, of.st_ctime_ns)]
        if older and dep.changed_checksum() and not any(out.changed_checksum() for out in entry.outs):
            yield os.path.relpath(older[0])


def _time(output: str) -> int:
    """When an output was made or touched, in nanoseconds, by the file that Snakemake goes by."""
    stamp = Path(output, ".snakemake_timestamp")
    return (stamp if stamp.is_file() else Path(output)).stat().st_mtime_ns


def _altered(jobs: list[Job], entry: Any) -> Iterable[str]:
    """Outputs that differ from their record although their job's log does not."""
    if not any(out.hash_info for out in entry.outs) or not any(out.changed_checksum() for out in entry.outs):
        return
    before, now = {}, {}
    for out in entry.outs:
        before.update(_hashes(out, out.get_obj() if out.hash_info else None))
        out.save()
        now.update(_hashes(out, out.obj))
    for job in jobs:
        if job.log not in before or before[job.log] != now[job.log]:
            continue  # it ran again
        for path in job.outputs:
            if _part(before, path) != _part(now, path):
                yield path


def _hashes(out: Any, found: Any) -> Hashes:
    path = Path(out.fs_path).relative_to(Path(out.repo.root_dir)).as_posix()
    if isinstance(found, Tree):
        return {"/".join((path, *key)): hash_info.value for key, (_, hash_info) in found.iteritems()}
    return {path: out.hash_info.value} if out.hash_info else {}


def _part(hashes: Hashes, path: str) -> Hashes:
    return {name: value for name, value in hashes.items() if within(name, [path])}
