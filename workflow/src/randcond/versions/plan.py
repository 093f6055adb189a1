"""What Snakemake would make of a world: its jobs, grouped into the stages that DVC versions."""

import contextlib
import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT_WORLD = "artists"  # its dvc.yaml is the project's own
SHARD = "shard"  # the wildcard over which the jobs of one stage fan out


@dataclass(frozen=True)
class Job:
    """One job of Snakemake. Paths are relative to the project's root.

    Attributes:
        rule: The rule's name.
        wildcards: Its wildcards.
        inputs, outputs: Files and folders.
        log, benchmark: The other files that it leaves; None if it has none.
        settings: The rule's params value, parsed.
        command: The rule's shell command, before its fields are filled in.
        done: Whether Snakemake calls it up to date.
    """

    rule: str
    wildcards: dict[str, str]
    inputs: list[str]
    outputs: list[str]
    log: str | None
    benchmark: str | None
    settings: Any
    command: str
    done: bool

    @property
    def stage(self) -> str:
        """The stage that it belongs to: the rule and all wildcards but the shard."""
        parts = [self.rule, *(value for key, value in self.wildcards.items() if key != SHARD)]
        return "-".join(parts).replace("_", "-")

    @property
    def sharded(self) -> bool:
        """Whether its files lie in folders that the stage's jobs share."""
        return SHARD in self.wildcards

    @property
    def left(self) -> list[str]:
        """All that it leaves."""
        return [*self.outputs, *(path for path in (self.log, self.benchmark) if path)]


@dataclass(frozen=True)
class Stage:
    """A stage of DVC: one or more jobs of one rule, whose outputs are versioned together.

    Attributes:
        name: Its name, unique in its world.
        world: The folder in results/ that it writes to.
        jobs: Its jobs.
        outs: What DVC keeps: a folder for shards, else files and folders as Snakemake knows them.
        deps: What it is made from: outs of other stages, code, and other files of the project.
    """

    name: str
    world: str
    jobs: list[Job]
    outs: list[str]
    deps: list[str]

    @property
    def rule(self) -> str:
        """The rule of all its jobs."""
        return self.jobs[0].rule

    @property
    def targets(self) -> list[str]:
        """Outputs that Snakemake can be asked for."""
        return [job.outputs[0] for job in self.jobs]

    @property
    def done(self) -> bool:
        """Whether Snakemake calls all of it up to date."""
        return all(job.done for job in self.jobs)


def plan(configfiles: list[str], config: dict[str, Any], targets: Iterable[str]) -> list[Stage]:
    """The stages that lead to ``targets``, each after those it depends on, from a dry run in the current folder.

    Args:
        configfiles: Snakemake's ``--configfile``.
        config: Snakemake's ``--config``, parsed.
        targets: Rules or files.
    """
    return stages(_jobs(configfiles, config, targets))


def stages(jobs: Iterable[Job]) -> list[Stage]:
    """Group jobs, given in the order of their dependencies, into stages."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.stage, []).append(job)
    outs = {name: _outs(group) for name, group in groups.items()}
    kept = [out for several in outs.values() for out in several]
    return [
        Stage(
            name,
            Path(outs[name][0]).parts[1],
            sorted(group, key=lambda job: job.outputs),
            outs[name],
            _deps(group, kept),
        )
        for name, group in groups.items()
    ]


def behind_link(world: str) -> str | None:
    """Why nothing of a world can be versioned: which folder of results is a symbolic link; None if there is none."""
    own = Path("results", world)
    for folder in [Path("results"), own, Path("results/assets"), *sorted(own.glob("*"))]:
        if folder.is_symlink() and folder.is_dir():
            return (
                f"{folder} is a symbolic link, and DVC follows none out of its repository; mount the other disk there"
                f" (mount --bind TARGET {folder}), or move the whole checkout to it"
            )
    return None


def within(path: str, folders: Iterable[str]) -> str | None:
    """The one of ``folders`` that ``path`` is or lies in, if any."""
    return next((folder for folder in folders if path == folder or path.startswith(f"{folder}/")), None)


def _outs(jobs: list[Job]) -> list[str]:
    paths = [os.path.dirname(path) if job.sharded else path for job in jobs for path in job.left]
    return sorted(set(paths))


def _deps(jobs: list[Job], outs: list[str]) -> list[str]:
    inputs = {path for job in jobs for path in job.inputs}
    whole = [path for path in inputs if Path(path).is_dir()]  # a file of it would be named twice
    return sorted({within(path, outs) or _hashed_with(path, whole) or path for path in inputs})


def _hashed_with(path: str, folders: Iterable[str]) -> str | None:
    """The one of ``folders`` with which DVC hashes a file, if any: it does not follow links to folders."""
    folder = within(path, folders)
    if folder is None or path == folder:
        return folder
    inside = Path(path).parent.relative_to(folder)
    return folder if Path(path).parent.resolve() == Path(folder).resolve() / inside else None


def _jobs(configfiles: list[str], config: dict[str, Any], targets: Iterable[str]) -> list[Job]:
    # Snakemake takes seconds to import, and is not needed by what reads a plan
    from snakemake.api import SnakemakeApi
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api, contextlib.redirect_stdout(io.StringIO()):
        workflow = api.workflow(
            ResourceSettings(cores=1),
            ConfigSettings(config=config, configfiles=[Path(file) for file in configfiles]),
            snakefile=Path("Snakefile"),
        )
        workflow.dag(DAGSettings(targets=set(targets), force_incomplete=True)).execute_workflow("dryrun")
        dag = workflow._workflow.dag  # the public interface prints what it finds, and leaves out half of it
        levels = dag.toposorted()  # sets: sorted, or the record's order would change from run to run
        return [_job(job, dag) for level in levels for job in sorted(level, key=_outputs) if job.output]


def _outputs(job: Any) -> list[str]:
    return list(job.output)


def _job(job: Any, dag: Any) -> Job:
    settings = getattr(job.params, "settings", None)
    return Job(
        rule=job.rule.name,
        wildcards=dict(job.wildcards_dict),
        inputs=[_relative(path) for path in job.input],
        outputs=[_relative(path) for path in job.output],
        log=_relative(job.log[0]) if job.log else None,
        benchmark=_relative(job.benchmark) if job.benchmark else None,
        settings=json.loads(settings) if settings else None,
        command=job.rule.shellcmd,
        done=not dag.needrun(job),
    )


def _relative(path: str) -> str:
    return os.path.relpath(path)
