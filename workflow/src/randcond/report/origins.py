"""Where each run's numbers come from: what its jobs were made with, and the hash that leads to all of their inputs."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randcond.jobs.provenance import read_made_with
from randcond.report.score_files import Score

TRAININGS = ("student", "faster")  # whose logs are shown, and that of the scoring


@dataclass(frozen=True)
class Origin:
    """One job of a run: when, from which commit and in which environments (their numbers) it was made.

    The last environment is the one that ended it, at that time and commit; None, and no environments: unknown.
    """

    run: str
    seed: int
    job: str
    at: str | None
    commit: str | None
    environments: tuple[int, ...]
    scores_md5: str


@dataclass(frozen=True)
class Environment:
    """A machine and the versions of packages on it."""

    machine: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Elsewhere:
    """A job of a replicate that ran on another kind of machine, ``kind``, than that of most seeds of its run."""

    run: str
    seed: int
    job: str
    kind: str
    usual: str


def origins(
    scores: dict[str, list[Score]], logs: Iterable[Path], untrained: Iterable[str] = ("teacher",)
) -> tuple[list[Origin], list[Environment]]:
    """One row for the training and one for the scoring of each score, and the environments that they name.

    Args:
        scores: Scores by run.
        logs: Log files of jobs, ``.../<rule>/<run>-<seed>.log``; others are passed over.
        untrained: Names among the scores that no training stands behind, but another name's.
    """
    by_name = {f"{path.parent.name}/{path.stem}": path for path in logs}
    environments: list[Environment] = []
    rows = []
    for run, several in scores.items():
        for score in several:
            digest = hashlib.md5(score.path.read_bytes(), usedforsecurity=False).hexdigest()
            trained = [job for job in TRAININGS if f"{job}/{run}-{score.seed}" in by_name] or list(TRAININGS[:1])
            for job in [*(trained if run not in untrained else []), "score"]:
                path = by_name.get(f"{job}/{run}-{score.seed}")
                made = read_made_with(path.read_text(encoding="utf-8")) if path else None
                rows.append(_row(run, score.seed, job, made, environments, digest))
    return rows, environments


def _row(
    run: str, seed: int, job: str, made: dict[str, Any] | None, environments: list[Environment], digest: str
) -> Origin:
    if made is None:
        return Origin(run, seed, job, None, None, (), digest)
    numbers = []
    for one in [*made.get("also", []), made]:
        environment = Environment(one["machine"], one["versions"])
        if environment not in environments:
            environments.append(environment)
        numbers.append(environments.index(environment) + 1)
    return Origin(run, seed, job, made["at"], made["commit"], tuple(numbers), digest)


def elsewhere(rows: Iterable[Origin], environments: list[Environment]) -> list[Elsewhere]:
    """The jobs on another kind of machine than the same job of most seeds of their run; of halves, the first counts."""
    known = [(row, _kind([environments[i - 1].machine for i in row.environments])) for row in rows if row.environments]
    kinds: dict[tuple[str, str], Counter[str]] = {}
    for row, kind in known:
        kinds.setdefault((row.run, row.job), Counter())[kind] += 1
    usual = {key: counted.most_common(1)[0][0] for key, counted in kinds.items()}
    return [
        Elsewhere(row.run, row.seed, row.job, kind, usual[row.run, row.job])
        for row, kind in known
        if kind != usual[row.run, row.job]
    ]


def _kind(machines: list[dict[str, str]]) -> str:
    """What of the machines, one after another, the bits of a result depend on.

    Records from before they named instructions have the processor's name.
    """
    kinds = []
    for machine in machines:
        gpus = sorted(set(machine.get("GPU", "none").split(", ")) - {"none"})
        kinds.append(", ".join([machine.get("instructions") or machine.get("processor", "unknown"), *gpus]))
    return ", then ".join(dict.fromkeys(kinds))
