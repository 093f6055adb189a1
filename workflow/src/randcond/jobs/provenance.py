"""What a job was made with: the git commit, package versions and the machine, written into its log."""

import json
import logging
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "diffusers", "transformers", "accelerate", "snakemake", "dvc", "pandas", "clean-fid"),
    "open-clip-torch",
)
SOURCES = Path(__file__).resolve().parents[4]
MADE_WITH = "made with "  # the log's line: this, then JSON

log = logging.getLogger("randcond")


def made_with() -> dict[str, Any]:
    """``{"commit", "versions", "machine"}`` of this process, all texts."""
    return {"commit": commit(SOURCES), "versions": versions(), "machine": machine()}


def environment_of(made: dict[str, Any]) -> dict[str, Any]:
    """What of such a record the bits of a result may depend on, the code apart."""
    return {"versions": made["versions"], "machine": made["machine"]}


def taken_part(before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records of those who have worked on something so far and, if its environment is none of theirs, this process's.

    If there are others than this process's environment, the log is told: a record with them as ``also``.
    """
    mine = made_with()
    others = [made for made in before if environment_of(made) != environment_of(mine)]
    if others:
        log.debug("%s%s", MADE_WITH, json.dumps({**mine, "also": others}))
    return before if len(others) < len(before) else [*before, mine]


def read_made_with(log: str) -> dict[str, Any] | None:
    """The last such record in a log's text, with the time ``at`` which it was written; None if there is none.

    If others took part in what it made, their records are its ``also``.
    """
    for line in reversed(log.splitlines()):
        before, found, text = line.partition(f" {MADE_WITH}{{")
        if found:
            try:
                return {**json.loads("{" + text), "at": before[:19]}
            except json.JSONDecodeError:
                continue
    return None


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
    """This machine. GPUs are listed by a process that has imported torch."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    torch: Any = sys.modules.get("torch")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else []
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "instructions": instructions(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "GPU": ", ".join(gpus) or "none",
    }


def instructions() -> str:
    """What the bits of a result depend on beside the versions: the kind of processor and its vector instructions.

    Two machines whose processors have the same name may differ in it, and then make other students of one seed.
    """
    said = _cpuinfo()
    kind = [said[key] for key in ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part") if key in said]
    flags = said.get("flags", said.get("Features", "")).split()
    vectors = sorted(flag for flag in flags if flag.startswith(("avx", "amx", "fma", "sve", "asimd")))
    return " ".join([platform.machine(), "-".join(kind), *vectors])


def _processor() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first processor."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


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
