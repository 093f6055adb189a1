"""A world's scores: what ``scores/<world>.py`` has to offer."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd


class Scores(Protocol):
    """Scores of samples. ``evaluators`` are the model folders of the configuration, ``images`` zips in row order."""

    KINDS: int
    """Kinds of images that ``reference`` takes, each with as many zips."""

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


def load_scores(name: str) -> Scores:
    """The world's scores."""
    return cast(Scores, import_module(f"randcond.scores.{name}"))
