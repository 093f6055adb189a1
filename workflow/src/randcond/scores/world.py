"""A world's scores: what ``scores/<world>.py`` has to offer."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd

from randcond.jobs.errors import UserError
from randcond.scores.evaluator import Evaluator
from randcond.scores.named import Naming


class Scores(Protocol):
    """Scores of samples. ``evaluators`` are the model folders of the configuration, ``images`` zips in row order."""

    def reference(
        self, evaluators: Sequence[Path], images: Sequence[Path], prompts: pd.DataFrame, settings: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """What all runs are compared with: features of real images, of the prompts, ..."""

    def features(self, evaluators: Sequence[Path], images: Sequence[Path], batch: int) -> dict[str, np.ndarray]:
        """All that images are scored by."""

    def splits(
        self,
        evaluators: Sequence[Path],
        images: Sequence[Path],
        reference: dict[str, np.ndarray],
        prompts: pd.DataFrame,
        settings: dict[str, Any],
    ) -> dict[str, Any]:
        """Split -> ``count``, ``reference_count`` and ``metrics`` (name -> ``value`` and ``error95``)."""


def load_naming(name: str) -> Callable[[Evaluator], Naming]:
    """How the world's evaluator names images; of the worlds that are made of named things alone.

    Raises:
        UserError: If it is another world.
    """
    found = getattr(import_module(f"randcond.scores.{name}"), "naming", None)
    if found is None:
        raise UserError(f"config: world: the evaluator of the world {name} names nothing; emoji's and artists' do")
    return cast(Callable[[Evaluator], Naming], found)


def load_scores(name: str) -> Scores:
    """The world's scores."""
    return cast(Scores, import_module(f"randcond.scores.{name}"))
