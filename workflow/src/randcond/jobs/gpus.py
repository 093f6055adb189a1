"""GPUs of one machine, dealt out to the jobs on it.

Snakemake counts GPUs (``--resources gpu=4``) but names none, so that each job of one GPU would take the first. A job
takes those that no other has: it locks a file for each, for as long as it lives.
"""

import os
import tempfile
from pathlib import Path

from randcond.jobs.files import take_lock


def visible(there: int) -> list[str]:
    """The machine's GPUs as ``CUDA_VISIBLE_DEVICES`` names them, where it is set; otherwise their numbers.

    Args:
        there: how many torch finds, with that variable as it is.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [one.strip() for one in named.split(",")][:there] if named else [str(one) for one in range(there)]


def deal(gpus: list[str], number: int) -> list[str]:
    """That many of these GPUs: first those that no other job of this user's has, then the others in their order.

    What it takes stays taken until this process has ended, or what it becomes by ``exec``. A GPU of another's job is
    taken where there are too few, as nothing else keeps two workflows apart.
    """
    taken: list[str] = []
    for gpu in gpus:
        if len(taken) < number and _lock(gpu):
            taken.append(gpu)
    return taken + [gpu for gpu in gpus if gpu not in taken][: number - len(taken)]


def _lock(gpu: str) -> bool:
    """Lock a GPU's file, unless another process has; it is not closed, and survives ``exec``."""
    path = Path(tempfile.gettempdir()) / f"randcond-gpu-{os.getuid()}-{gpu.replace('/', '-')}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    os.set_inheritable(file, True)
    if free := take_lock(file, path):
        return free
    os.close(file)
    return False
