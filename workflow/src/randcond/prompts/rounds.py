"""Lines of finished rounds of writing, appended to a file as they come, so that an interrupted job goes on there."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from randcond.jobs.errors import UserError
from randcond.jobs.files import take_lock, write_text


class Rounds:
    """One JSON line a round after a first line with the fingerprint.

    A file for millions of lines: each round costs its own lines, not those of all rounds before it.

    Args:
        folder: Where the file is kept.
        fingerprint: Name -> hash of what the lines depend on; compared on loading.
    """

    def __init__(self, folder: Path, fingerprint: dict[str, str]) -> None:
        self.folder = folder
        self.file = folder / "rounds.jsonl"
        self.fingerprint = fingerprint

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this process.

        Raises:
            UserError: If another process holds it, or the filesystem locks no files.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "lock"
        with open(path, "a") as file:
            if not take_lock(file, path):
                raise UserError(f"{self.folder}: another process writes here; wait for it or stop it")
            yield

    def load(self) -> list[list[str]]:
        """The rounds that were finished; a line cut off by a crash is dropped.

        Raises:
            UserError: If they were written under another fingerprint, or the file is not ours.
        """
        content = self.file.read_bytes() if self.file.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if not whole:
            write_text(self.file, json.dumps(self.fingerprint) + "\n")
            return []
        if len(whole) < len(content):
            with open(self.file, "r+b") as file:
                file.truncate(len(whole))
        try:
            saved, *rounds = [json.loads(line) for line in whole.splitlines()]
        except ValueError:
            raise UserError(f"{self.file}: not the rounds of this program; delete it to start anew") from None
        names = saved.keys() | self.fingerprint.keys()
        if changed := sorted(name for name in names if saved.get(name) != self.fingerprint.get(name)):
            raise UserError(f"{self.file}: written with other {', '.join(changed)}; delete it to start anew")
        return rounds

    def append(self, lines: list[str]) -> None:
        """Add a finished round."""
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(json.dumps(lines) + "\n")

    def remove(self) -> None:
        """Delete the folder, once the finished result is in its place."""
        shutil.rmtree(self.folder, ignore_errors=True)
