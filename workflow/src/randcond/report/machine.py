"""What the numbers were made with: versions, the machine, time and memory of every job."""

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pandas as pd
import torch

from randcond.errors import UserError

PACKAGES = (
    *("torch", "diffusers", "transformers", "accelerate", "snakemake", "dvc", "pandas", "clean-fid"),
    "open-clip-torch",
)


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
        try:
            frame = pd.read_csv(path, sep="\t", na_values=["-", "NA"])
            jobs = pd.DataFrame({"seconds": frame["s"].astype(float), "memory": frame["max_rss"].astype(float)})
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{path}: not a benchmark file of Snakemake ({error}); delete it") from None
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


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    found = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, str]:
    """The machine that made the report."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "GPU": ", ".join(gpus) or "none",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def commit(folder: Path) -> str:
    """The git commit of the code in ``folder``, and whether it was changed since."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
    except (OSError, subprocess.SubprocessError):
        return "unknown (no git commit here)"
    return f"{head}, with uncommitted changes" if changed else head


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()
