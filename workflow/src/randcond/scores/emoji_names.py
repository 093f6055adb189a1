"""What the emoji world's evaluator calls a picture: a concept; all artists are one here."""

import torch

from randcond.scores.evaluator import Evaluator, class_logits
from randcond.scores.names import Name, Naming, directions
from randcond.worlds import emoji


def naming(evaluator: Evaluator) -> Naming:
    """How the evaluator names images."""
    classes, concepts = evaluator.class_features(emoji.captions()), list(emoji.concepts())

    def names(images: torch.Tensor) -> list[Name]:
        logits = class_logits(directions(evaluator, images), classes, evaluator.logit_scale)
        return [(concepts[i], None) for i in logits.argmax(1)]

    return names
