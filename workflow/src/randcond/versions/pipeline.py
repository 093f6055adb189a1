"""The dvc.yaml of a world, written from what Snakemake would make, and the settings that Snakemake works out."""

import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from randcond.jobs.errors import reading
from randcond.jobs.files import read_json, write_json, write_text
from randcond.versions.plan import DEFAULT_WORLD, Stage

HEAD = "# Written by Snakemake's last run of this world, or by `make record`. Do not edit: the rules are the source.\n"
RUN, ALL = "{run}", ("",)

# What a rule's settings come from, so that `dvc status` knows at once. Sections of the configuration; runs and the
# like are sections of the experiments file. A rule that is not listed is taken to read everything.
READS: dict[str, tuple[str, ...]] = {
    "fetch_llm": (),
    "fetch_asset": (),
    "evaluation_prompts": ("prompts.evaluation", "prompts.benchmark", "prompts.held_out", "prompts.seed"),
    "prompts": tuple(f"prompts.{name}" for name in ("count", "pool", "max_characters", "expected", "held_out", "seed")),
    "llm_prompts": ("prompts.llm",),
    "render": ("rendering", "prompts.count"),
    "student": (RUN, "distillation", "prompts.count"),
    "faster": (RUN, "distillation", "sampling.guidance_scale", "prompts.count"),
    "sample": (RUN, "sampling"),
    "sample_along": (RUN, "sampling"),
    "real_images": ("scoring.real_per_prompt", "scoring.seed", "sampling.image_format", "sampling.resize"),
    "fresh_real_images": ("scoring.seed", "sampling.image_format", "sampling.resize"),
    "reference": ("scoring.batch", "scoring.real_per_prompt"),
    "score": (RUN, "scoring", "sampling.steps", "sampling.guidance_scale", "sampling.seed", "distillation.weights"),
    "score_along": (RUN, "scoring", "sampling.steps", "sampling.guidance_scale", "sampling.seed"),
    "cost": (RUN, "sampling.steps", "sampling.guidance_scale"),
    "model": (RUN, "sampling", "model_card", "teacher"),
    "digits_classifier": ("figures.seeds", "figures.classifier"),
    "digits_diffusion": ("figures.seeds", "figures.diffusion"),
    "swapped_condition": ("figures.seeds", "figures.swapped"),
    "toy": ("figures.seeds", "figures.toy"),
    "autoencoder": ("make_teacher.autoencoder",),
    "text_encoder": ("make_teacher.text_encoder",),
    "evaluator": ("make_teacher.evaluator",),
    "denoiser": ("make_teacher.denoiser",),
    "assemble_teacher": ("make_teacher",),
    "teacher_scores": ("sampling.steps", "sampling.guidance_scale", "sampling.batch"),
}


@dataclass(frozen=True)
class Source:
    """Where a world's configuration comes from.

    Attributes:
        configfiles: Snakemake's ``--configfile``, relative to the project's root.
        config: Snakemake's ``--config``.
        experiments: The experiments file.
    """

    configfiles: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    experiments: str = "config/experiments.yaml"

    @property
    def options(self) -> list[str]:
        """The options that make Snakemake read it."""
        files = ["--configfile", *self.configfiles] if self.configfiles else []
        return [
            *files,
            *(["--config", *(f"{k}={json.dumps(v)}" for k, v in self.config.items())] if self.config else []),
        ]

    @property
    def files(self) -> list[str]:
        """Configuration files that lie in the project, those that are merged later after the others."""
        files = ["config/config.yaml", *self.configfiles]
        return [
            file for file in files if not os.path.isabs(file) and not file.startswith("..") and Path(file).is_file()
        ]


def pipeline_file(world: str) -> Path:
    """A world's dvc.yaml: the project's own for the default world, else one in versions/."""
    return Path("dvc.yaml") if world == DEFAULT_WORLD else Path("versions", world, "dvc.yaml")


def settings_file(world: str) -> Path:
    """The settings of a world's stages, as the Snakefile works them out."""
    return Path("versions", world, "settings.json")


def write_pipelines(stages: list[Stage], source: Source) -> list[str]:
    """Write dvc.yaml and settings for the worlds that the stages belong to; return those worlds.

    What other worlds share (results/assets) keeps its other stages. Files that would not change are left alone.
    """
    by_world: dict[str, list[Stage]] = {}
    for stage in stages:
        by_world.setdefault(stage.world, []).append(stage)
    main = stages[-1].world
    for world, several in by_world.items():
        shared = world != main
        write_settings(several, world, shared)
        entries = {stage.name: _entry(stage, source, world) for stage in several}
        if shared:
            entries = _merged(pipeline_file(world), entries)
        content = {**_shown(several, world), "stages": entries}
        _write(pipeline_file(world), HEAD + yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True))
    return list(by_world)


@contextmanager
def rewritten(stages: list[Stage], source: Source) -> Iterator[None]:
    """Write dvc.yaml and settings, by which DVC compares; put back what was there before if what follows fails."""
    worlds = {stage.world for stage in stages}
    files = [file for world in worlds for file in (pipeline_file(world), settings_file(world))]
    before = {file: file.read_text(encoding="utf-8") if file.is_file() else None for file in files}
    try:
        write_pipelines(stages, source)
        yield
    except BaseException:
        for file, text in before.items():
            if text is None:
                file.unlink(missing_ok=True)
            else:
                _write(file, text)
        raise


def write_settings(stages: list[Stage], world: str, keep_others: bool) -> None:
    """Write what the Snakefile works out for each stage: its settings, defaults filled in, and its command."""
    path = settings_file(world)
    known = read_json(path) if keep_others and path.is_file() else {}
    for stage in stages:
        jobs = {json.dumps(job.settings, sort_keys=True): job.settings for job in stage.jobs}
        assert len(jobs) == 1, f"the jobs of {stage.name} differ in their settings"
        known[stage.name] = {"settings": stage.jobs[0].settings, "command": stage.jobs[0].command}
    if not path.is_file() or read_json(path) != known:
        write_json(path, known)


def _write(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def _merged(path: Path, entries: dict[str, Any]) -> dict[str, Any]:
    """Stages of ``path`` with new ones; one that only another world's command would change is kept."""
    with reading(path, "a list of DVC's stages", broken=f"correct it, or take git's: git checkout -- {path}"):
        known = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("stages", {}) if path.is_file() else {}
    for name, entry in entries.items():
        old = known.get(name)
        if old is None or {**old, "cmd": "", "params": []} != {**entry, "cmd": "", "params": []}:
            known[name] = entry
    return known


def _entry(stage: Stage, source: Source, world: str) -> dict[str, Any]:
    command = ["snakemake", "--cores", "all", "--quiet", "rules", *source.options, "--allowed-rules", stage.rule]
    metrics = [out for out in stage.outs if stage.rule in ("score", "score_along") and out.endswith(".json")]
    entry: dict[str, Any] = {"cmd": shlex.join([*command, "--", *stage.targets])}
    if world != DEFAULT_WORLD:
        entry["wdir"] = "../.."
    entry["deps"] = stage.deps
    entry["params"] = _params(stage, source, world)
    entry["outs"] = [out for out in stage.outs if out not in metrics]
    if metrics:
        entry["metrics"] = metrics
    return {key: value for key, value in entry.items() if value}


def _params(stage: Stage, source: Source, world: str) -> list[dict[str, list[str]]]:
    reads = READS.get(stage.rule, ALL)
    run = stage.jobs[0].wildcards.get("run")
    everything = ["runs", "faster", "drawn", "tables", "grids"] if reads == ALL else []
    experiments = _entries(source.experiments, run) if RUN in reads and run is not None else everything
    wanted = {source.experiments: experiments, **{file: list(reads) for file in source.files}}
    found = {file: _present(file, keys) for file, keys in wanted.items()}
    return [{file: keys} for file, keys in {**found, str(settings_file(world)): [stage.name]}.items() if keys]


@lru_cache
def _values(text: str) -> dict[str, Any]:
    """What a YAML file of this text says: each is asked for by hundreds of stages."""
    return yaml.safe_load(text) or {}


def _entries(file: str, name: str) -> list[str]:
    """Entries of the experiments file that a name's settings come from: its own, and those of what it starts from."""
    values, found = _values(Path(file).read_text(encoding="utf-8")), []
    for kind, start in (("drawn", "run"), ("faster", "student"), ("runs", "")):
        entry = (values.get(kind) or {}).get(name)
        if entry is not None:
            found.append(f"{kind}.{name}")
            name = entry.get(start, name)
    return found


def _present(file: str, keys: list[str]) -> list[str]:
    """Those of ``keys`` that the YAML file has; its top-level ones for ``""``. DVC cannot watch what is not there."""
    values = _values(Path(file).read_text(encoding="utf-8"))
    if list(ALL) == keys:
        return list(values)
    found = []
    for key in keys:
        value: Any = values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found.append(key)
    return found


def _shown(stages: list[Stage], world: str) -> dict[str, Any]:
    """Students as named artifacts, and plots: losses and p(t)."""
    up = "" if world == DEFAULT_WORLD else "../../"
    students = {
        stage.name: {"path": up + out, "type": "model", "desc": "a distilled student, a diffusers pipeline"}
        for stage in stages
        for out in stage.outs
        if out.endswith("/pipeline")
    }
    histories = [f"{up}{out}" for stage in stages for out in stage.outs if out.endswith("/history.json")]
    plots: list[dict[str, Any]] = []
    if histories:
        losses = {"title": "Distillation loss", "x": "step", "y": {path: "loss" for path in histories}}
        plots.append({"loss": losses})
    for report in (
        f"{up}{out}" for stage in stages for out in stage.outs if stage.rule == "report" and out.endswith("/report")
    ):
        y = {f"{report}/figures/probability.csv": "probability"}
        plots.append({"probability": {"title": "p(t)", "x": "t", "y": y, "template": "settings"}})
    return {key: value for key, value in {"artifacts": students, "plots": plots}.items() if value}
