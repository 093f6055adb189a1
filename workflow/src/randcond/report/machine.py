"""Time and memory of every job."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from randcond.jobs.errors import reading


@dataclass(frozen=True)
class Cost:
    """Jobs of a rule: seconds in all, the largest peak memory in MiB (None: too short to be measured)."""

    rule: str
    jobs: int
    seconds: float
    memory: float | None

    @property
    def time(self) -> str:
        """Hours, minutes and seconds."""
        whole = round(self.seconds)
        return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def costs(paths: Iterable[Path]) -> list[Cost]:
    """Time and memory by rule, the dearest first, then their total, from ``.../benchmarks/<rule>/....tsv``.

    Raises:
        UserError: If a file is not one of Snakemake's benchmarks.
    """
    rows = []
    for path in paths:
        with reading(path, "a benchmark file of Snakemake", broken="delete it"):
            frame = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
            jobs = pd.DataFrame({"seconds": frame["s"].astype(float), "memory": frame["max_rss"].astype(float)})
        rows.append(jobs.assign(rule=_rule(path)))
    if not rows:
        return []
    frame = pd.concat(rows)
    by_rule = [_cost(str(rule), group) for rule, group in frame.groupby("rule")]
    return [*sorted(by_rule, key=lambda cost: -cost.seconds), _cost("all", frame)]


def _rule(path: Path) -> str:
    parts = path.with_suffix("").parts
    return parts[parts.index("benchmarks") + 1] if "benchmarks" in parts[:-1] else parts[-1]


def _cost(rule: str, jobs: pd.DataFrame) -> Cost:
    memory = jobs["memory"].max()
    return Cost(rule, len(jobs), float(jobs["seconds"].sum()), None if pd.isna(memory) else float(memory))
