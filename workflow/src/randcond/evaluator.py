"""The evaluator: an open_clip model of the world that turns images into features, names and cosines."""

import zipfile
from pathlib import Path

import numpy as np
import open_clip
import torch
from cleanfid import fid
from PIL import Image
from torch.nn import functional as F

from randcond.errors import UserError
from randcond.worlds.emoji import Caption


class Evaluator:
    """Loads the model from a local open_clip folder (config, safetensors weights, tokenizer)."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "open_clip_config.json").exists():
            raise UserError(f"{folder}: no open_clip model there (open_clip_config.json is missing)")
        self._model, self._preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        self._model.eval().requires_grad_(False)
        self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")

    @property
    def logit_scale(self) -> float:
        """Factor that turns cosines into class logits."""
        return float(self._model.logit_scale.exp())

    def image_features(self, archives: list[Path], batch: int) -> np.ndarray:
        """Features of all images of the zips, in the order of their names: float32 (images, width), not normalised.

        clean-fid reads and batches the images; the resize is the evaluator's own preprocessing.

        Raises:
            UserError: If an archive is broken or empty.
        """
        return np.concatenate([self._features(archive, batch) for archive in archives])

    @torch.no_grad()
    def features_of(self, images: torch.Tensor, batch: int = 128) -> np.ndarray:
        """Features of uint8 images (n, 3, h, w), as :meth:`image_features`."""
        ready = torch.stack([self._preprocess(Image.fromarray(i)) for i in images.permute(0, 2, 3, 1).numpy()])
        return torch.cat([self._model.encode_image(part) for part in ready.split(batch)]).numpy()

    def _features(self, archive: Path, batch: int) -> np.ndarray:
        try:
            names = sorted(zipfile.ZipFile(archive).namelist())
        except (zipfile.BadZipFile, FileNotFoundError) as error:
            raise UserError(f"{archive}: not a whole zip of images ({error}); delete it and run again") from None
        if not names:
            raise UserError(f"{archive}: holds no images; delete it and run again")
        return fid.get_files_features(
            names,
            model=self._model.encode_image,
            num_workers=0,
            batch_size=batch,
            device=torch.device("cpu"),
            custom_fn_resize=self._resize,
            fdir=str(archive),
            verbose=False,
        )

    def _resize(self, image: np.ndarray) -> np.ndarray:
        tensor = self._preprocess(Image.fromarray(image))
        return tensor.permute(1, 2, 0).numpy()

    @torch.no_grad()
    def text_features(self, texts: list[str], batch: int = 256) -> np.ndarray:
        """Normalised features of the texts, float32 (texts, width)."""
        parts = [texts[i : i + batch] for i in range(0, len(texts), batch)]
        return torch.cat(
            [F.normalize(self._model.encode_text(self._tokenizer(part)), dim=-1) for part in parts]
        ).numpy()

    def class_features(self, captions: tuple[Caption, ...]) -> np.ndarray:
        """Normalised mean text feature of each concept on each colour, over templates: (concepts, colours, width).

        Concepts and colours come in the order in which the captions first name them.
        """
        features = self.text_features([caption.text for caption in captions])
        meanings: dict[str, dict[str, list[int]]] = {}
        for i, caption in enumerate(captions):
            meanings.setdefault(caption.concept, {}).setdefault(caption.colour, []).append(i)
        means = np.stack([[features[rows].mean(0) for rows in colours.values()] for colours in meanings.values()])
        return means / np.linalg.norm(means, axis=-1, keepdims=True)


def class_logits(unit_features: np.ndarray, classes: np.ndarray, logit_scale: float) -> np.ndarray:
    """Zero-shot logits (images, concepts): the best match of a concept over its colours.

    Args:
        unit_features: Normalised image features, (images, width).
        classes: From :meth:`Evaluator.class_features`.
        logit_scale: The model's.
    """
    cosines = unit_features @ classes.reshape(-1, classes.shape[-1]).T
    return logit_scale * cosines.reshape(len(unit_features), *classes.shape[:2]).max(-1)
