"""Features of images in zips: the same however they are cut into pieces, and a line says how far they are."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from randcond.samples.images import stored, write_images
from randcond.scores import image_features, metrics
from randcond.scores.image_features import ImageFeatures, pieces

COUNT, BATCH = 11, 2


@pytest.fixture
def archives(tmp_path: Path) -> list[Path]:
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 3), np.uint8)
    images = [stored(Image.fromarray(one), "png", None) for one in pixels]
    for first, last in ((0, 8), (8, COUNT)):
        write_images(tmp_path / f"{first}.zip", images[first:last], first, "png")
    return [tmp_path / "0.zip", tmp_path / "8.zip"]


def features(archives: list[Path]) -> np.ndarray:
    def preprocess(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float()

    return ImageFeatures(lambda batch: batch.mean((2, 3)), preprocess, torch.device("cpu")).image_features(
        archives, BATCH
    )


def test_pieces_change_nothing(archives: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = features(archives)
    assert whole.shape == (COUNT, 3)
    monkeypatch.setattr(image_features, "_BATCHES", 1)
    found = [(archive.name, len(names)) for archive, names in pieces("features", archives, BATCH)]
    assert found == [("0.zip", 2)] * 4 + [("8.zip", 2), ("8.zip", 1)]
    assert np.array_equal(features(archives), whole)


@pytest.mark.parametrize("strata", [None, np.arange(COUNT) % 2])
def test_long_scoring_says_how_far_it_is(
    strata: np.ndarray | None, archives: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = list[tuple[str, int, int]]()

    class Recorded:
        def __init__(self, what: str, total: int, _unit: str) -> None:
            self.at = lambda done: said.append((what, done, total))

    for module in (image_features, metrics):
        monkeypatch.setattr(module, "Progress", Recorded)
    monkeypatch.setattr(image_features, "_BATCHES", 2)
    features(archives)
    metrics.error95(lambda rows: float(rows.mean()), COUNT, 3, 0, strata)
    assert said[:3] == [("features", done, COUNT) for done in (4, 8, COUNT)]
    assert said[3:] == [("bootstrap", done, 3) for done in range(3)]  # never at the end: of what is over soon nothing
