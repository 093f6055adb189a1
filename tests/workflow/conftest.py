"""A copy of the checkout in which the smoke world is run once for all tests of the workflow."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMOKE = ("--cores", "2", "--configfile", "config/smoke.yaml")


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

    def snakemake(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run snakemake here; its output is shown if it fails."""
        environment = os.environ | {"PYTHONPATH": str(self.folder / "workflow/src")}
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
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


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The smoke world, run from nothing to its report."""
    checkout = Checkout(tmp_path_factory.mktemp("smoke"))
    checkout.snakemake(*SMOKE)
    return checkout


@pytest.fixture
def edited(smoke: Checkout) -> Checkout:
    """The finished smoke world with config files put back after the test."""
    kept = {file: file.read_bytes() for file in (smoke.folder / "config").iterdir()}
    yield smoke
    for file, content in kept.items():
        file.write_bytes(content)
