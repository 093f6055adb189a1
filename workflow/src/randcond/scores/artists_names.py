"""What the artists' world's evaluator calls a picture: a concept, and who drew it."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from randcond.scores.evaluator import Evaluator
from randcond.scores.names import Name, Naming, unit
from randcond.scores.names import directions as directions_of
from randcond.worlds.emoji import concepts
from randcond.worlds.grammars import texts
from randcond.worlds.meanings import meanings, styles


def class_features(evaluator: Evaluator) -> np.ndarray:
    """Normalised mean text feature of each of ``meanings()``, over its clean sentences: (meanings, width)."""
    sentences = texts("clean")
    features = evaluator.text_features([sentence.text for sentence in sentences])
    number = {meaning: i for i, meaning in enumerate(meanings())}
    sums = np.zeros((len(number), features.shape[1]), np.float32)
    np.add.at(sums, [number[sentence.meaning] for sentence in sentences], features)
    return unit(sums)


def concept_logits(directions: np.ndarray, classes: np.ndarray, logit_scale: float) -> np.ndarray:
    """Logits (images, concepts): the best match of a concept over colours and artists, and those left open.

    Args:
        directions: Normalised image features, (images, width).
        classes: As of :func:`class_features`.
        logit_scale: The model's.
    """
    return _best(directions, classes, logit_scale, [meaning.concept for meaning in meanings()], concepts())


def style_logits(directions: np.ndarray, classes: np.ndarray, logit_scale: float) -> np.ndarray:
    """Logits (images, artists), in ``styles()``' order: the best match of an artist over all that it has drawn."""
    return _best(directions, classes, logit_scale, [meaning.artist for meaning in meanings()], styles())


def _best(
    directions: np.ndarray, classes: np.ndarray, scale: float, said: Sequence[str | None], names: Iterable[str]
) -> np.ndarray:
    cosines, of = directions @ classes.T, np.array([name or "" for name in said])
    return scale * np.stack([cosines[:, of == name].max(1) for name in names], axis=1)


def naming(evaluator: Evaluator) -> Naming:
    """How the evaluator names images: by concept and artist."""
    classes, names, artists = class_features(evaluator), list(concepts()), list(styles())

    def found(images: torch.Tensor) -> list[Name]:
        directions = directions_of(evaluator, images)
        logits = (of(directions, classes, evaluator.logit_scale).argmax(1) for of in (concept_logits, style_logits))
        return [(names[concept], artists[style]) for concept, style in zip(*logits, strict=True)]

    return found
