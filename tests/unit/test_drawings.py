"""The six artists' drawings: what is shipped, how it was made, and the scenes that are composed of it."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.jobs.files import sha256
from randcond.make_teacher import drawings as making
from randcond.worlds import emoji
from randcond.worlds.drawings import ARTISTS, DRAWINGS, Meaning, drawn, real_images

SETS = [name for name in ARTISTS if name != "fluent-3d"]


def test_the_file_is_the_one_that_was_looked_at() -> None:
    assert json.loads((DRAWINGS.parent / "sha256.json").read_text()) == {DRAWINGS.name: sha256(DRAWINGS)}


def test_who_draws_what() -> None:
    assert set(drawn()) == set(emoji.concepts())
    full = [concept for concept, artists in drawn().items() if artists == ARTISTS]
    assert len(full) == 95
    for concept in drawn().keys() - set(full):
        assert drawn()[concept] == ("openmoji", "twemoji", "noto", "fluent-3d")


def test_every_drawing_is_cropped_and_of_one_size() -> None:
    with zipfile.ZipFile(DRAWINGS) as archive:
        assert len(archive.namelist()) == 634
        for name in archive.namelist():
            drawing = Image.open(io.BytesIO(archive.read(name))).convert("RGBA")
            assert max(drawing.size) == making.SIDE, name
            alpha = np.asarray(drawing)[..., 3]
            edges = (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1])
            assert all(edge.any() for edge in edges), f"{name}: an empty margin"
            assert np.asarray(drawing)[..., :3][alpha > 0].std() > 4, f"{name}: of one colour"


def test_a_scene_is_what_its_text_says() -> None:
    meanings = [Meaning("anchor", "red", "noto"), Meaning("tiger", "white", "fluent-3d")] * 8
    images = real_images(meanings, 3)
    assert images.shape == (16, 3, 64, 64) and images.dtype == torch.uint8
    for image, meaning in zip(images, meanings, strict=True):
        pixels = image.permute(1, 2, 0).reshape(-1, 3).float()
        wanted = torch.tensor(emoji.COLOURS[meaning.colour], dtype=torch.float32)
        background = (pixels - wanted).abs().amax(1) <= 8
        assert 0.15 < background.float().mean() < 0.9  # the shade varies by 8, the drawing covers the rest


def test_an_image_depends_on_its_number_alone() -> None:
    meanings = [Meaning("anchor", "red"), Meaning("tiger", "white"), Meaning("giraffe", "pink")]
    together = real_images(meanings, 3)
    assert torch.equal(together[1:], real_images(meanings[1:], 3, first=1))
    assert not torch.equal(together, real_images(meanings, 4))


def test_where_no_artist_is_named_all_who_draw_it_come_up() -> None:
    images = real_images([Meaning("giraffe", "white")] * 80, 0)
    # sorts the scenes by their one artist: those of the same drawing share their palette
    named = {artist: real_images([Meaning("giraffe", "white", artist)] * 8, 1) for artist in drawn()["giraffe"]}
    palette = {artist: scenes.float().mean((0, 2, 3)) for artist, scenes in named.items()}
    nearest = [
        min(palette, key=lambda artist: float((image.float().mean((1, 2)) - palette[artist]).norm()))
        for image in images
    ]
    assert len(set(nearest)) >= 3


def test_a_pair_that_nobody_drew_is_refused() -> None:
    with pytest.raises(UserError, match="emojione has not drawn a giraffe"):
        real_images([Meaning("giraffe", "red", "emojione")], 0)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The packages with two drawings: a disc that all sets have, and one that the older sets call by another name."""
    for artist in SETS:
        folder = tmp_path / f"node_modules/@iconify-json/{artist}"
        folder.mkdir(parents=True)
        disc = {"body": '<circle cx="20" cy="20" r="10" fill="#c03"/><circle cx="22" cy="20" r="4" fill="#03c"/>'}
        icons = {"anchor": disc, "tiger" if artist in making._NAMED else "tiger-face": disc}
        (folder / "icons.json").write_text(json.dumps({"width": 64, "height": 64, "icons": icons}))
        table = {"2693": "anchor", "1f42f": "tiger"} if artist in making._NAMED else {}
        (folder / "chars.json").write_text(json.dumps(table))
    assets = tmp_path / "node_modules/@lobehub/fluent-emoji-3d/assets"
    assets.mkdir(parents=True)
    drawing = Image.new("RGBA", (64, 64))
    drawing.paste((200, 10, 10, 255), (10, 20, 50, 40))
    drawing.save(assets / "2693-fe0f.webp", lossless=True)
    return tmp_path


def test_the_script_makes_the_same_bytes_twice(packages: Path, tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        making.write(packages, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert set(archive.namelist()) == {f"{a}/anchor.webp" for a in ARTISTS} | {f"{a}/tiger.webp" for a in SETS}
        sizes = {name: Image.open(io.BytesIO(archive.read(name))).size for name in archive.namelist()}
    assert sizes["fluent-3d/anchor.webp"] == (128, 64) and sizes["noto/tiger.webp"] == (128, 128)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda folder: (folder / "node_modules/@iconify-json/noto/icons.json").unlink(), "icons.json: cannot be read"),
        (lambda folder: (folder / "node_modules/@iconify-json").rename(folder / "away"), "there is no such package"),
    ],
)
def test_what_is_missing_is_named(packages: Path, tmp_path: Path, break_it, named: str) -> None:
    break_it(packages)
    with pytest.raises(UserError, match=named):
        making.write(packages, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
