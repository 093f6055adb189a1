"""Evaluation images as files: an uncompressed zip of images named by their number."""

import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from randcond.jobs.files import atomic_path


def encoded(image: Image.Image, image_format: str) -> bytes:
    """The image as a file, with PIL's default settings."""
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def stored(image: Image.Image, image_format: str, resize: int | None) -> bytes:
    """The image as a file; with ``resize``, as BK-SDM does it: stored, read again, resized and stored once more."""
    if resize is None:
        return encoded(image, image_format)
    return resized(Image.open(io.BytesIO(encoded(image, image_format))), image_format, resize)


def resized(image: Image.Image, image_format: str, size: int) -> bytes:
    """The image in ``size`` x ``size`` pixels, by PIL's default filter, as a file."""
    return encoded(image.convert("RGB").resize((size, size)), image_format)


def write_images(path: Path, files: Iterable[bytes], first: int, image_format: str) -> int:
    """Write images to a zip; their names count from ``first``. Equal images give equal bytes. Their number."""
    suffix, count = {"png": "png", "jpeg": "jpg"}[image_format], 0
    with atomic_path(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
        for content in files:
            # a fixed date, so that equal images give equal files
            archive.writestr(zipfile.ZipInfo(f"{first + count:05d}.{suffix}", (1980, 1, 1, 0, 0, 0)), content)
            count += 1
    return count
