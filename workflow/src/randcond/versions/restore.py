"""Bring recorded results into a checkout, and put them where others can fetch them."""

import json
import subprocess
import sys
from pathlib import Path

from randcond.jobs.errors import UserError

REMOTE = "shared"


def fetch(files: list[Path]) -> None:
    """Fetch what is recorded for these dvc.yaml files from the cache or the remote, into the workspace.

    Raises:
        UserError: If something cannot be had.
    """
    missing = _dvc("pull", *map(str, files))
    if missing.returncode:
        raise UserError(f"dvc pull: {_last_line(missing.stderr)}; set a remote with `dvc remote add -d {REMOTE} <url>`")


def clean(files: list[Path]) -> None:
    """Insist that results, code and configuration are as recorded.

    Raises:
        UserError: Naming the first stage that is not.
    """
    done = _dvc("status", "--json", *map(str, files))
    if done.returncode:
        raise UserError(f"dvc status: {_last_line(done.stderr)}")
    if changed := json.loads(done.stdout):
        name, why = next(iter(changed.items()))
        raise UserError(
            f"{name}: not as recorded ({_changes(why)}), and {len(changed) - 1} more stages; name the configuration"
            " that they were recorded with (make restore CONFIG=... VALUES=...), check out the commit whose results you"
            " want, or run snakemake to make them anew"
        )


def share(remote: str) -> None:
    """Make ``remote`` the default remote and push everything that is recorded there.

    Raises:
        UserError: If DVC cannot reach it.
    """
    for command in (("remote", "add", "--force", "--default", REMOTE, remote), ("push",)):
        done = _dvc(*command)
        if done.returncode:
            raise UserError(f"dvc {command[0]}: {_last_line(done.stderr)}")


def _changes(why: list[object]) -> str:
    found = [value for entry in why if isinstance(entry, dict) for value in entry.values()]
    names = [f"{path} {how}" for one in found if isinstance(one, dict) for path, how in one.items()]
    return "; ".join(names) or "its command"


def _dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].removeprefix("ERROR: ") if lines else "failed"
