"""How a world's evaluator names what it is shown: what ``scores/<world>_names.py`` has to offer.

Apart from the scores, so that changed statistics draw no figure anew.
"""

from collections.abc import Callable
from importlib import import_module
from typing import cast

import numpy as np
import torch

from randcond.jobs.errors import UserError
from randcond.scores.evaluator import Evaluator

Name = tuple[str, str | None]  # a concept and, in a world of several, the artist
Naming = Callable[[torch.Tensor], list[Name]]  # uint8 images (n, 3, h, w) -> what each is named


def load_naming(world: str) -> Callable[[Evaluator], Naming]:
    """How the world's evaluator names images; of the worlds that are made of named things alone.

    Raises:
        UserError: If it is another world.
    """
    try:
        module = import_module(f"randcond.scores.{world}_names")
    except ModuleNotFoundError:
        raise UserError(
            f"config: world: the evaluator of the world {world} names nothing; emoji's and artists' do"
        ) from None
    return cast(Callable[[Evaluator], Naming], module.naming)


def directions(evaluator: Evaluator, images: torch.Tensor) -> np.ndarray:
    """Features of uint8 images (n, 3, h, w), of length 1.

    Raises:
        UserError: If one is not finite.
    """
    features = evaluator.features_of(images)
    if not np.isfinite(features).all():
        raise UserError("features are not finite; check the evaluator's weights, and those that drew the images")
    return unit(features)


def unit(features: np.ndarray) -> np.ndarray:
    """Features (n, width) of length 1."""
    found: np.ndarray = features / np.linalg.norm(features, axis=1, keepdims=True)
    return found
