"""UNets of chosen steps along a training: beside its checkpoint while it runs, then in a folder of their own."""

import os
import shutil
from pathlib import Path

from diffusers import ModelMixin

from randcond.jobs.errors import UserError
from randcond.jobs.files import atomic_path
from randcond.training.loop import MovingAverage


class Kept:
    """The UNets that a training keeps, each a folder ``<step>-<weights>`` as diffusers loads it.

    Args:
        points: Steps and kinds of weights, ``raw`` or ``ema``.
        folder: Where they are until the training ends. In the checkpoint's folder they outlive an interruption, as the
            state does: what was written after the last saved state is written again, the same.
        unet: What is trained.
    """

    def __init__(self, points: list[tuple[int, str]], folder: Path, unet: ModelMixin) -> None:
        self._points, self._folder, self._unet = points, folder, unet
        self._looked = False

    def after_step(self, step: int, ema: MovingAverage | None) -> None:
        """Write what is to be kept of step ``step``.

        Raises:
            UserError: If the training goes on from a state whose UNets are gone.
        """
        if not self._looked:  # now, not when the training has ended
            self._look(before=step)
            self._looked = True
        for at, weights in self._points:
            if at == step:
                self._write(self._folder / f"{step}-{weights}", ema if weights == "ema" else None)

    def collect(self, output: Path) -> None:
        """Put all of them into ``output``, whole or not at all; they stay where they are as well.

        Raises:
            UserError: If one is missing.
        """
        self._look()
        with atomic_path(output) as partial:
            partial.mkdir()
            for step, weights in self._points:
                name = f"{step}-{weights}"
                shutil.copytree(self._folder / name, partial / name, copy_function=_link)

    def _look(self, before: int | None = None) -> None:
        for step, weights in self._points:
            path = self._folder / f"{step}-{weights}"
            if (before is None or step < before) and not path.is_dir():
                raise UserError(f"{path}: is missing, though the training was there; delete {self._folder.parent}")

    def _write(self, path: Path, ema: MovingAverage | None) -> None:
        parameters = list(self._unet.parameters())
        if ema is not None:
            ema.store(parameters)
            ema.copy_to(parameters)
        try:
            with atomic_path(path) as partial:
                self._unet.save_pretrained(partial, safe_serialization=True)
        finally:
            if ema is not None:
                ema.restore(parameters)


def _link(source: str, target: str) -> None:
    """The same file under another name: gigabytes need not be written twice. Not every file system can."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
