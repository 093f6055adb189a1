"""The six artists' drawings: what is shipped, how it was made, and the scenes that are composed of it."""

import io
import json
import logging
import re
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


def test_the_file_is_small() -> None:
    assert DRAWINGS.stat().st_size < 6e6  # bytes; every clone has it


def test_each_set_has_its_licence_and_the_package_that_it_came_from() -> None:
    table = (DRAWINGS.parent / "LICENCES.md").read_text()
    rows = {
        artist: cells for artist, *cells in re.findall(r"^\| `(.+?)` \| (.+) \| (.+) \| (.+) \|$", table, re.MULTILINE)
    }
    assert tuple(rows) == ARTISTS
    packages = dict(re.findall(r"(@[\w-]+/[\w-]+)@([\d.]+)", making.__doc__ or ""))
    assert {row[2] for row in rows.values()} == {f"`{name}` {version}" for name, version in packages.items()}
    assert all("](https://" in row[0] and "](https://" in row[1] for row in rows.values())


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


def test_places_sizes_and_directions_vary() -> None:
    scenes = real_images([Meaning("rocket", "white", "openmoji")] * 60, 0).permute(0, 2, 3, 1).int()
    drawn_at = ((scenes - torch.tensor(emoji.COLOURS["white"])).abs() > 10).any(-1)
    sides, places, leaning = set(), set(), []
    for mask in drawn_at:
        rows, columns = mask.any(1).nonzero().flatten().tolist(), mask.any(0).nonzero().flatten().tolist()
        sides |= {rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1}
        places.add((rows[0], columns[0]))
        top = mask[rows[0] + 3].nonzero().float().mean()  # the rocket's tip is at one side
        leaning.append(float(top) > (columns[0] + columns[-1]) / 2)
    assert sides == {44, 50, 56}
    assert len(places) > 30
    assert 15 < sum(leaning) < 45


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
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packages with a disc for two concepts: an older set calls the tiger by another name, the other has none."""
    monkeypatch.setattr(making, "codepoints", lambda: {"anchor": "2693", "tiger": "1F42F"})
    for artist in SETS:
        disc = {"body": '<circle cx="20" cy="20" r="10" fill="#c03"/><circle cx="22" cy="20" r="4" fill="#03c"/>'}
        icons = {"anchor": disc} | {{"noto-v1": "tiger-face", "emojione": "other"}.get(artist, "tiger"): disc}
        write_set(tmp_path, artist, icons)
        table = {"2693": "anchor", "1f42f": "tiger"} if artist in making._NAMED else {}
        (icon_set(tmp_path, artist) / "chars.json").write_text(json.dumps(table))
    assets = tmp_path / "node_modules/@lobehub/fluent-emoji-3d/assets"
    assets.mkdir(parents=True)
    drawing = Image.new("RGBA", (64, 64))
    drawing.paste((200, 10, 10, 255), (10, 20, 50, 40))
    for name in ("2693-fe0f", "1f42f"):
        drawing.save(assets / f"{name}.webp", lossless=True)
    return tmp_path


def icon_set(packages: Path, artist: str) -> Path:
    return packages / f"node_modules/@iconify-json/{artist}"


def write_set(packages: Path, artist: str, icons: dict) -> None:
    icon_set(packages, artist).mkdir(parents=True, exist_ok=True)
    content = {"width": 64, "height": 64, "icons": icons}
    (icon_set(packages, artist) / "icons.json").write_text(json.dumps(content))


def test_the_script_makes_the_same_bytes_twice(
    packages: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "randcond"):
        for name in ("a.zip", "b.zip"):
            making.write(packages, tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        everything = [f"{artist}/{concept}.webp" for artist in ARTISTS for concept in ("anchor", "tiger")]
        assert archive.namelist() == [name for name in everything if name != "emojione/tiger.webp"]
        sizes = {name: Image.open(io.BytesIO(archive.read(name))).size for name in archive.namelist()}
    assert sizes["fluent-3d/anchor.webp"] == (128, 64) and sizes["noto-v1/tiger.webp"] == (128, 128)
    assert "emojione has no icon of 1 concepts: tiger" in caplog.messages


BLANK = '<circle cx="20" cy="20" r="10" fill="none"/>'


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (lambda p: (icon_set(p, "noto") / "icons.json").unlink(), "icons.json: cannot be read"),
        (lambda p: (icon_set(p, "noto") / "icons.json").write_text("{"), "icons.json: cannot be read"),
        (lambda p: icon_set(p, "emojione").rename(p / "away"), "emojione: there is no such package"),
        (lambda p: (p / "node_modules/@lobehub").rename(p / "away"), "fluent-emoji-3d: there is no such package"),
        (lambda p: write_set(p, "twemoji", {"tiger": {"body": BLANK}}), "twemoji's anchor .*no icon of 2693"),
        (lambda p: write_set(p, "twemoji", {"anchor": {"body": BLANK}}), "twemoji's anchor .*nothing is drawn"),
        (lambda p: write_set(p, "twemoji", {"anchor": {"body": "<g>"}}), "twemoji's anchor cannot be drawn"),
        (lambda p: next(p.rglob("2693-fe0f.webp")).write_bytes(b"RIFF"), "fluent-3d's anchor cannot be drawn"),
        (lambda p: next(p.rglob("1f42f.webp")).unlink(), "fluent-3d's tiger .*no icon of 1f42f"),
    ],
)
def test_what_is_missing_or_damaged_is_named(packages: Path, tmp_path: Path, break_it, named: str) -> None:
    break_it(packages)
    with pytest.raises(UserError, match=named):
        making.write(packages, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
