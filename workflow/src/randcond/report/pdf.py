"""``python -m randcond.report.pdf``: print the report's page to PDF with a browser that is installed."""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path
from randcond.jobs.stage import run_stage

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")


def browser() -> str:
    """The browser that ``BROWSER`` names, or the first one found.

    Raises:
        UserError: If there is none.
    """
    named = os.environ.get("BROWSER")
    for name in (named,) if named else BROWSERS:
        if found := shutil.which(name):
            return found
    wanted = f"BROWSER={named} is not there" if named else "no Chromium, Chrome or Edge was found"
    raise UserError(f"{wanted}; the report as PDF is printed by one: install it, or name it by BROWSER=")


def main(arguments: argparse.Namespace) -> None:
    """Print the page.

    Raises:
        UserError: If there is no page, no browser, or the browser writes no PDF.
    """
    page = arguments.report / "index.html"
    if not page.is_file():
        raise UserError(f"{page}: no such file; make the report first")
    program = browser()
    with tempfile.TemporaryDirectory() as profile, atomic_path(arguments.output) as partial:
        command = [program, "--headless", "--disable-gpu", "--no-sandbox", f"--user-data-dir={profile}"]
        command += ["--no-pdf-header-footer", f"--print-to-pdf={partial}", page.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True)
        if not partial.is_file() or not partial.read_bytes().startswith(b"%PDF"):
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise UserError(f"{page}: {program} wrote no PDF (it said: {said})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, required=True, help="the report's folder")
    parser.add_argument("--output", type=Path, required=True)
    run_stage(main, parser)
