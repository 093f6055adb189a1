"""Inception's features and logits of images in zips, by clean-fid and torch-fidelity, from weights on disk.

The folder holds ``checkpoints/pt_inception-2015-12-05-6726825d.pth`` (clean-fid's mode ``legacy_pytorch``),
``inception-2015-12-05.pt`` (mode ``clean``) and ``weights-inception-2015-12-05-6726825d.pth`` (torch-fidelity). Both
libraries would download what is missing; here that is an error. All three are published by others as they are: the
first and the last are read as plain tensors first, the second is TorchScript; the fetch stage checks their SHA-256.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from cleanfid import fid
from cleanfid.features import InceptionV3W, feature_extractor
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from randcond.jobs.errors import UserError, reading
from randcond.scores.image_features import pictures, pieces

LEGACY = "checkpoints/pt_inception-2015-12-05-6726825d.pth"
CLEAN = "inception-2015-12-05.pt"
LOGITS = "weights-inception-2015-12-05-6726825d.pth"


def fid_features(folder: Path, archives: list[Path], mode: str, batch: int, device: str) -> np.ndarray:
    """Features of all images of the zips in the order of their numbers, float32 (images, 2048).

    Args:
        folder: The weights.
        archives: Zips of images.
        mode: ``"legacy_pytorch"`` (pytorch-fid's weights and resize) or ``"clean"``, as in clean-fid.
        batch: Images at once.
        device: ``"cpu"`` or ``"cuda"``.

    Raises:
        UserError: If weights or an archive are missing or broken.
    """
    if mode == "clean":
        network = InceptionV3W(str(_weights(folder, CLEAN).parent), download=False).to(device).eval()
    else:
        _plain_tensors(_weights(folder, LEGACY))
        with _hub(folder):
            network = feature_extractor("pytorch_inception", torch.device(device), use_dataparallel=False)
    parts = []
    for archive, names in pieces(f"Inception, {mode}", archives, batch):
        with pictures(archive):
            part = fid.get_files_features(
                names,
                model=network,
                num_workers=0,
                batch_size=batch,
                device=torch.device(device),
                mode=mode,
                fdir=str(archive),
                verbose=False,
            )
        parts.append(part)
    return np.concatenate(parts)


@torch.no_grad()
def logits(folder: Path, archives: list[Path], batch: int, device: str) -> np.ndarray:
    """Class logits of all images of the zips, float32 (images, 1008), as torch-fidelity's inception score takes them.

    Raises:
        UserError: If weights or an archive are missing or broken.
    """
    path = _weights(folder, LOGITS)
    _plain_tensors(path)
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["logits_unbiased"], feature_extractor_weights_path=str(path)
    ).to(device)
    found = []
    for archive, names in pieces("Inception, logits", archives, batch):
        with pictures(archive), zipfile.ZipFile(archive) as opened:
            for start in range(0, len(names), batch):
                images = [Image.open(io.BytesIO(opened.read(name))) for name in names[start : start + batch]]
                pixels = torch.from_numpy(np.stack([np.asarray(image.convert("RGB")) for image in images]))
                (values,) = network(pixels.permute(0, 3, 1, 2).contiguous().to(device))
                found.append(values.float().cpu())
    return torch.cat(found).numpy()


def _weights(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise UserError(f"{path}: no such file; run snakemake fetch, or correct the setting inception")
    return path


def _plain_tensors(path: Path) -> None:
    """Refuse a file that holds more than tensors before a library loads it with all it holds."""
    with reading(path, "a plain file of weights", broken="delete it and run snakemake fetch"):
        torch.load(path, map_location="meta", weights_only=True)


@contextmanager
def _hub(folder: Path) -> Iterator[None]:
    """Let torch look for downloads in ``folder``."""
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(folder))
    try:
        yield
    finally:
        torch.hub.set_dir(before)
