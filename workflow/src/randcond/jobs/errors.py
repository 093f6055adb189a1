"""Errors that are meant for the user: one line, naming the file or setting and what to do."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class UserError(Exception):
    """Something the user can put right. Shown as one line, without a traceback.

    What it quotes of others' files stays in that line, and cannot steer the terminal.
    """

    def __str__(self) -> str:
        line = " ".join(super().__str__().split())
        return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)


def reason(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def lacks_memory(error: Exception) -> bool:
    """Whether that is what an error says: torch raises a plain RuntimeError, and a kind of its own for a GPU's."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def of_the_machine(error: Exception) -> str | None:
    """What an error of the machine's means, in one line: memory, disk or a file; None for any other."""
    text = " ".join(str(error).split())
    if lacks_memory(error):
        return "out of memory; lower the stage's batch setting or give the job more memory"
    if "No space left on device" in text:  # safetensors raises a kind of its own
        return f"the disk is full ({text}); make room and give the same command again"
    return text if isinstance(error, OSError) else None


@contextmanager
def one_line() -> Iterator[None]:
    """End a command with 1 and one line where the user or the machine is at fault; what nobody foresaw is raised."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except Exception as error:
        if (said := of_the_machine(error)) is None:
            raise
        sys.exit(f"error: {said}")


@contextmanager
def reading(
    path: Path, what: str, missing: str = "run the stage that makes it", broken: str = "delete it and run again"
) -> Iterator[None]:
    """Make one line of whatever a library raises at a file that it cannot read.

    Whether the file is there, whether the system lets it be read, or whether it is broken, decides what to do about
    it: nobody should delete a good file for want of a permission. Libraries tell it badly, so the file is asked.

    Args:
        path: The file, or a folder of files.
        what: What it should be, e.g. ``a whole zip``.
        missing: What to do if it is not there.
        broken: What to do if it is something else.

    Raises:
        UserError: For every error but a lack of memory.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        fault = _fault_of_the_system(path, error)
        if fault is None:
            raise UserError(f"{path}: not {what} ({reason(error)}); {broken}") from None
        if isinstance(fault, FileNotFoundError):
            raise UserError(f"{path}: no such file; {missing}") from None
        raise UserError(
            f"{fault.filename or path}: cannot be read ({fault.strerror}); look at its permissions and at its disk"
        ) from None


def _fault_of_the_system(path: Path, error: Exception) -> OSError | None:
    """Why the system does not give the file, if it does not."""
    try:
        for one in [Path(path), *Path(path).rglob("*")]:
            if one.is_dir():
                os.scandir(one).close()
            else:
                open(one, "rb").close()
    except OSError as found:
        return found
    except ValueError:  # no name that a file can have
        return None
    return error if isinstance(error, OSError) and error.errno is not None else None
