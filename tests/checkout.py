"""A copy of the checkout to run Snakemake in, for tests and for the scripts beside them."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COLD = {"PATH": os.environ["PATH"]}  # as it was before tests put warm commands (warm_python.py) in front
SMOKE = ("--cores", "2", "--configfile", "config/smoke.yaml")

# what two runs of the same settings have in common to the bit (below results/)
ARTIFACTS = (
    "*/prompts/**/*", "*/renders/**/*", "*/students/**/*.safetensors", "*/students/**/history.json", "*/samples/**/*",
    "*/scores/**/*", "*/report/tables/*", "*/figures/**/*",
)  # fmt: skip


def python() -> str:
    """The interpreter that tests run commands with: the warm one where it is there."""
    return sys.executable if os.environ["PATH"] == COLD["PATH"] else "python"


class Checkout:
    """A copy of the project's files, to run Snakemake in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT, check=True, capture_output=True, text=True,
        )  # fmt: skip
        for name in listing.stdout.splitlines():
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start snakemake here, in a session of its own, to be sent signals; its output and errors are one pipe."""
        path = os.pathsep.join(filter(None, [str(self.folder / "workflow/src"), os.environ.get("PYTHONPATH")]))
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder, env=os.environ | COLD | {"PYTHONPATH": path} | environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def snakemake(self, *arguments: str, check: bool = True, cold: bool = False) -> subprocess.CompletedProcess[str]:
        """Run snakemake here, ``cold`` with processes of its own; its output is shown if it fails."""
        environment = os.environ | (COLD if cold else {}) | {"PYTHONPATH": str(self.folder / "workflow/src")}
        done = subprocess.run(
            [sys.executable if cold else python(), "-m", "snakemake", *arguments],
            cwd=self.folder, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def planned(self, *arguments: str) -> set[str]:
        """What a dry run would do, as ``rule`` or ``rule run`` for rules that fan out over runs."""
        output = self.snakemake(*SMOKE, *arguments, "--dry-run").stdout
        jobs, rule = set(), ""
        for line in output.splitlines():
            if line.startswith(("rule ", "localrule ")):
                rule = line.split()[1].rstrip(":")
                jobs.add(rule)
            elif line.strip().startswith("wildcards:") and "run=" in line:
                jobs.discard(rule)
                jobs.add(f"{rule} {line.split('run=')[1].split(',')[0]}")
        return jobs - {"all"}

    def hashes(self, *patterns: str) -> dict[str, str]:
        """Name -> SHA-256 of the files in results that match."""
        results = self.folder / "results"
        files = sorted(file for pattern in patterns for file in results.glob(pattern) if file.is_file())
        return {str(file.relative_to(results)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def compare(found: dict[str, str], expected: dict[str, str]) -> str:
    """How two answers of :meth:`Checkout.hashes` differ, in a few words, or ``""``."""
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"{len(differing)} of {len(expected)} files differ, e.g. {differing[0]}" if differing else ""
