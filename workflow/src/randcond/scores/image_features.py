"""Features of the images in zips, by whatever model turns a picture into numbers."""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from cleanfid import fid
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.progress import Progress
from randcond.worlds.archives import numbered_images

# what Pillow and zipfile raise at broken files (a broken PNG is a SyntaxError); not what torch does for want of memory
_NO_PICTURE = (
    *(OSError, ValueError, SyntaxError, LookupError, TypeError, EOFError),
    *(Image.DecompressionBombError, zipfile.BadZipFile, zlib.error, struct.error),
)
_BATCHES = 8  # that are read between two looks at the clock; an archive is opened anew after them


class ImageFeatures:
    """A model of pictures.

    Args:
        encode: Preprocessed pictures (n, 3, h, w) -> features (n, width).
        preprocess: A PIL picture -> what ``encode`` takes of it, (3, h, w).
        device: Where the model is.
    """

    def __init__(
        self,
        encode: Callable[[torch.Tensor], torch.Tensor],
        preprocess: Callable[[Image.Image], torch.Tensor],
        device: torch.device,
    ) -> None:
        self._encode, self._preprocess, self._device = encode, preprocess, device

    def image_features(self, archives: list[Path], batch: int) -> np.ndarray:
        """Features of all images of the zips, in the order of their numbers: float32 (images, width), not normalised.

        clean-fid reads and batches the images; the resize is the model's own preprocessing.

        Raises:
            UserError: If an archive is broken or empty, or an image is missing.
        """
        return np.concatenate([self._features(*one, batch) for one in pieces("features", archives, batch)])

    @torch.no_grad()
    def features_of(self, images: torch.Tensor, batch: int = 128) -> np.ndarray:
        """Features of uint8 images (n, 3, h, w), as :meth:`image_features`."""
        ready = torch.stack([self._preprocess(Image.fromarray(i)) for i in images.permute(0, 2, 3, 1).numpy()])
        return torch.cat([self._encode(part.to(self._device)).cpu() for part in ready.split(batch)]).numpy()

    def _features(self, archive: Path, names: list[str], batch: int) -> np.ndarray:
        with pictures(archive):
            return fid.get_files_features(
                names,
                model=self._encode,
                num_workers=0,
                batch_size=batch,
                device=self._device,
                custom_fn_resize=self._resize,
                fdir=str(archive),
                verbose=False,
            )

    def _resize(self, image: np.ndarray) -> np.ndarray:
        tensor = self._preprocess(Image.fromarray(image))
        return tensor.permute(1, 2, 0).numpy()


def pieces(what: str, archives: Sequence[Path], batch: int) -> Iterator[tuple[Path, list[str]]]:
    """The zips' images, some whole batches at a time; now and then a line says how far ``what`` has come.

    Raises:
        UserError: As :func:`numbered_images`.
    """
    found = numbered_images(archives)
    progress, done = Progress(what, sum(len(names) for _, names in found), "images"), 0
    for archive, names in found:
        for start in range(0, len(names), _BATCHES * batch):
            piece = names[start : start + _BATCHES * batch]
            yield archive, piece
            done += len(piece)
            progress.at(done)


@contextmanager
def pictures(archive: Path) -> Iterator[None]:
    """One line for a picture of the archive that a library cannot read while it computes features."""
    try:
        yield
    except _NO_PICTURE as error:
        raise UserError(f"{archive}: holds a picture that cannot be read ({error}); draw them again") from None
