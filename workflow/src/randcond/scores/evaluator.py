"""The evaluator: an open_clip model of the world that turns images into features, names and cosines."""

import json
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import open_clip
import torch
from safetensors import SafetensorError
from torch.nn import functional as F

from randcond.jobs.errors import UserError
from randcond.jobs.stage import device
from randcond.scores.image_features import ImageFeatures
from randcond.worlds import Caption

# as open_clip looks for them, the safest first; the others are unpickled as plain tensors (weights_only)
_BROKEN = (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError, UnpicklingError)
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")


class Evaluator(ImageFeatures):
    """Loads the model from a local open_clip folder: config, weights (one of :data:`WEIGHTS`), tokenizer.

    Raises:
        UserError: If the folder lacks one of them, is broken, or asks for code of its own to be run.
    """

    def __init__(self, folder: Path) -> None:
        tokenizer = _without_code(folder)
        if not any((folder / name).exists() for name in WEIGHTS):
            raise UserError(f"{folder}: no open_clip model there ({WEIGHTS[0]} is missing)")
        where = torch.device(device())
        try:
            self._model, preprocess = open_clip.create_model_from_pretrained(
                f"local-dir:{folder}", device=where, weights_only=True
            )
            self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", **tokenizer)
        except _BROKEN as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"{folder}: no whole open_clip model ({reason})") from None
        self._model.eval().requires_grad_(False)
        super().__init__(self._model.encode_image, preprocess, where)

    @property
    def logit_scale(self) -> float:
        """Factor that turns cosines into class logits."""
        return float(self._model.logit_scale.exp())

    @torch.no_grad()
    def text_features(self, texts: list[str], batch: int = 256) -> np.ndarray:
        """Normalised features of the texts, float32 (texts, width)."""
        parts = [texts[i : i + batch] for i in range(0, len(texts), batch)]
        tokens = [self._tokenizer(part).to(self._device) for part in parts]
        return torch.cat([F.normalize(self._model.encode_text(part), dim=-1).cpu() for part in tokens]).numpy()

    def class_features(self, captions: Sequence[Caption]) -> np.ndarray:
        """Normalised mean text feature of each concept on each colour, over templates: (concepts, colours, width).

        Concepts and colours come in the order in which the captions first name them.
        """
        features = self.text_features([caption.text for caption in captions])
        meanings: dict[str, dict[str, list[int]]] = {}
        for i, caption in enumerate(captions):
            meanings.setdefault(caption.concept, {}).setdefault(caption.colour, []).append(i)
        means = np.stack([[features[rows].mean(0) for rows in colours.values()] for colours in meanings.values()])
        return means / np.linalg.norm(means, axis=-1, keepdims=True)


def _without_code(folder: Path) -> dict[str, bool]:
    """What keeps the folder's tokenizer from running code that lies there, or asking whether it may.

    Raises:
        UserError: If the folder's settings want it run.
    """
    try:
        content = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
        text = content["model_cfg"]["text_cfg"]
        asked, transformers = text.get("tokenizer_kwargs", {}), bool(text.get("hf_tokenizer_name"))
    except FileNotFoundError:
        raise UserError(f"{folder}: no open_clip model there (open_clip_config.json is missing)") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: no whole open_clip model (open_clip_config.json: {error})") from None
    if not isinstance(asked, dict) or "trust_remote_code" in asked:
        raise UserError(f"{folder}: open_clip_config.json asks to run code of its tokenizer; no evaluator may")
    return {"trust_remote_code": False} if transformers else {}  # open_clip's own tokenizer knows no such thing


def class_logits(unit_features: np.ndarray, classes: np.ndarray, logit_scale: float) -> np.ndarray:
    """Zero-shot logits (images, concepts): the best match of a concept over its colours.

    Args:
        unit_features: Normalised image features, (images, width).
        classes: From :meth:`Evaluator.class_features`.
        logit_scale: The model's.
    """
    cosines = unit_features @ classes.reshape(-1, classes.shape[-1]).T
    return logit_scale * cosines.reshape(len(unit_features), *classes.shape[:2]).max(-1)
