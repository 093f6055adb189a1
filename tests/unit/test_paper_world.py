"""The paper's world in small: its prompts, images and scores, from files and random weights of the real classes."""

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from paper_world import THINGS, picture, write_clip, write_inception, write_sources
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.prompts.table import read_prompts
from randcond.samples.images import encoded, resized, stored, write_images
from randcond.scores import paper as paper_scores
from randcond.scores.inception import CLEAN, LEGACY, LOGITS, fid_features, logits
from randcond.scores.world import load_scores
from randcond.worlds import load_world, paper
from randcond.worlds.animals import names_animal

ROOT = Path(__file__).parents[2]
COCO = ROOT.parent / "shared/data/mscoco_val2014_30k.csv"
SETTINGS = {"count": 9, "evaluation": 8, "benchmark": 6, "pool": 10, "max_characters": 100, "seed": 0, "draw": 0}


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    return write_sources(tmp_path)


def test_chosen(sources: dict[str, Path]) -> None:
    evaluation = paper.evaluation(SETTINGS, sources)
    captions, pool = paper.choose(SETTINGS, evaluation, sources)
    assert captions["source"].tolist() == [f"{i:03d}.jpg" for i in range(9)]
    assert captions["text"].tolist()[5] == THINGS[3]  # with its comma
    assert captions["split"].tolist() == ["unseen"] * 2 + ["seen"] * 5 + ["unseen"] * 2
    # the benchmark's rows in their order, captions twice if they stand there twice; then the photos left over
    assert evaluation["source"].tolist() == [f"COCO_val2014_{i:012d}.jpg" for i in range(8)]
    assert evaluation["text"].tolist()[4] == evaluation["text"].tolist()[1] == THINGS[0]
    assert evaluation["text"].tolist()[6:] == ["a first caption of car 6", "a first caption of car 7"]
    drawn = list(pool)
    assert len(set(drawn)) == 10
    assert all(text.startswith("a text of the web") for text in drawn)
    again, other = paper.choose(SETTINGS | {"draw": 1}, evaluation, sources)
    pd.testing.assert_frame_equal(again, captions)  # D is all that there is
    assert set(other) != set(drawn)
    del sources["annotations"]
    assert len(paper.evaluation(SETTINGS | {"evaluation": 6}, sources)) == 6
    assert len(paper.choose(SETTINGS | {"count": 4}, evaluation, sources)[0]) == 4


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"count": 10}, "prompts.count: 10 wanted.*holds 9"),
        ({"evaluation": 9}, "prompts.evaluation: 9 wanted.*holds 8"),
        ({"benchmark": 5}, "prompts.benchmark: 5 wanted.*holds 6"),
        ({"pool": None}, "prompts.pool"),
    ],
)
def test_counts_are_asserted(sources: dict[str, Path], change: dict, named: str) -> None:
    with pytest.raises(UserError, match=named):
        paper.choose(SETTINGS | change, paper.evaluation(SETTINGS | change, sources), sources)


@pytest.mark.parametrize("fault", ["no captions", "no texts", "two zips", "no metadata", "cut zip", "no text column"])
def test_faulty_sources_are_one_line(sources: dict[str, Path], fault: str, tmp_path: Path) -> None:
    if fault == "no captions":
        del sources["captions"]
    elif fault == "no texts":
        for file in sources["texts"].iterdir():
            file.unlink()
    elif fault == "two zips":
        sources["captions"] = tmp_path  # where several lie
    elif fault == "no metadata":
        sources["captions"] = sources["photos"]
    elif fault == "cut zip":
        copy = tmp_path / "cut.zip"
        copy.write_bytes(sources["captions"].read_bytes()[:-40])
        sources["captions"] = copy
    else:
        (sources["evaluation"] / "metadata.csv").write_text("file_name,caption\na.jpg,b\n")
    with pytest.raises(UserError) as caught:
        list(paper.choose(SETTINGS, paper.evaluation(SETTINGS, sources), sources)[1])
    assert "\n" not in str(caught.value)


def test_training_images_are_cut_square(sources: dict[str, Path]) -> None:
    captions = paper.choose(SETTINGS, paper.evaluation(SETTINGS, sources), sources)[0]
    images = paper.training_images(captions[2:5], 0, 2, 16, sources)
    assert images.shape == (3, 3, 16, 16)
    assert images.dtype == torch.uint8
    whole = Image.open(io.BytesIO(picture(2))).resize((21, 16), Image.Resampling.LANCZOS)
    assert (images[0].permute(1, 2, 0).numpy() == np.asarray(whole)[:, 2:18]).all()
    assert torch.equal(paper.training_images(captions[3:4], 9, 3, 16, sources)[0], images[1])


def test_reference_images_follow_the_prompts(sources: dict[str, Path]) -> None:
    evaluation = paper.evaluation(SETTINGS, sources)
    photos = list(paper.reference_images(evaluation, 1, 0, sources))
    assert [photo.mode for photo in photos] == ["RGB"] * 8  # a grey one too
    assert (np.asarray(photos[7]) == np.asarray(Image.open(io.BytesIO(picture(107))))).all()
    with pytest.raises(UserError, match="real_per_prompt"):
        list(paper.reference_images(evaluation, 2, 0, sources))


@pytest.mark.parametrize(
    ("text", "animal"),
    [
        ("A DOG runs", True), ("a hot dog with mustard", False), ("a dog eats a hot dog", True), ("dogma", False),
        ("two geese", True), ("a computer mouse", False), ("mice", True), ("a teddy bear", False),
        ("bears, fishing", True),
        ("hot dogs and cats", True), ("a man riding a wave", False), ("", False), ("caterpillar", True),
        ("category", False),
    ],
)  # fmt: skip
def test_animals(text: str, animal: bool) -> None:
    assert names_animal(text) == animal
    assert paper.split_of(text) == ("unseen" if animal else "seen")


def test_the_list_of_animals() -> None:
    with (ROOT / "workflow/src/randcond/worlds/paper_animals.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    words = [row["word"] for row in rows]
    assert len(words) == len(set(words)) > 300
    for row in rows:
        assert names_animal(f"look, a {row['word']}!")
        assert all(names_animal(plural) for plural in row["plural"].split("|"))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("3. A Dog on the beach.", "a dog on the beach"),
        ("dog", None),
        ("see http://example.org now ok", None),
        ("<b>a dog on the beach</b>", None),
        ("word " * 61, None),
        ("", None),
    ],
)
def test_written_lines(line: str, text: str | None) -> None:
    found, reason = paper.screen(line)
    assert found == text
    assert (reason == "") == (text is not None)
    assert reason in ("", *paper.REASONS)


def test_stored_as_bk_sdm_does() -> None:
    image = Image.open(io.BytesIO(picture(1, (64, 64))))
    once = Image.open(io.BytesIO(encoded(image, "jpeg")))
    buffer = io.BytesIO()
    once.resize((32, 32)).save(buffer, "JPEG")
    assert stored(image, "jpeg", 32) == buffer.getvalue()
    assert stored(image, "jpeg", 32) != resized(image, "jpeg", 32)  # the first JPEG does leave traces
    assert Image.open(io.BytesIO(stored(image, "jpeg", 32))).size == (32, 32)


@pytest.fixture(scope="module")
def evaluators(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("evaluators")
    return [write_clip(folder / "clip"), write_inception(folder / "inception")]


def archive(path: Path, count: int, seed: int, first: int = 0) -> Path:
    write_images(path, (picture(seed + i, (32, 32)) for i in range(count)), first, "jpeg")
    return path


def test_features_of_both_modes(tmp_path: Path, evaluators: list[Path]) -> None:
    images = [archive(tmp_path / "a.zip", 3, 0), archive(tmp_path / "b.zip", 2, 3, first=3)]
    for mode in ("legacy_pytorch", "clean"):
        found = fid_features(evaluators[1], images, mode, 2, "cpu")
        assert found.shape == (5, 2048)
        # however the shards are named on the command line
        found_again = fid_features(evaluators[1], images[::-1], mode, 5, "cpu")
        np.testing.assert_allclose(found, found_again, rtol=1e-3, atol=1e-3)
        assert np.abs(found[1:] - found[:-1]).max(1).min() > 0.1  # no two alike
    values = logits(evaluators[1], images, 2, "cpu")
    assert values.shape == (5, 1008)
    np.testing.assert_allclose(values, logits(evaluators[1], images[::-1], 5, "cpu"), rtol=1e-3, atol=1e-3)
    with pytest.raises(UserError, match=r"b\.zip: 00003\.jpg stands where image 0 should"):
        logits(evaluators[1], images[1:], 2, "cpu")
    spoilt = write_images(tmp_path / "c.zip", [b"no picture"], 0, "jpeg")
    for score in (lambda: logits(evaluators[1], [tmp_path / "c.zip"], 2, "cpu"),
                  lambda: fid_features(evaluators[1], [tmp_path / "c.zip"], "clean", 2, "cpu")):  # fmt: skip
        with pytest.raises(UserError, match=r"c\.zip: holds a picture that cannot be read"):
            score()
    assert spoilt == 1


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the 2,048 features only: a matrix root of them all takes half a minute."""
    monkeypatch.setattr(paper_scores, "fid_features", lambda *given: fid_features(*given)[:, :12])


@pytest.mark.usefixtures("narrow")
def test_scores(tmp_path: Path, evaluators: list[Path], sources: dict[str, Path]) -> None:
    prompts = paper.evaluation(SETTINGS, sources)
    settings = {"batch": 3, "bootstrap": 2, "seed": 0, "benchmark": 6}
    photos, drawn = archive(tmp_path / "real.zip", 8, 0), archive(tmp_path / "all.zip", 8, 50)
    reference = paper_scores.reference(evaluators, [photos], prompts, settings)
    assert reference["fid"].shape == reference["fid_clean"].shape == (8, 12)
    found = paper_scores.splits(evaluators, [drawn], reference, prompts, settings | {"count": 8})
    assert {name: (one["count"], one["reference_count"]) for name, one in found.items()} == {
        "coco30k": (6, 8), "all": (8, 8), "seen": (5, 5), "unseen": (3, 3),
    }  # fmt: skip
    assert set(found["all"]["metrics"]) == {"fid", "fid_clean", "kid", "is", "clip"}
    # a run that no table shows beyond the benchmark has that split only, and the same score there
    short = archive(tmp_path / "short.zip", 6, 50)
    only = paper_scores.splits(evaluators, [short], reference, prompts, settings | {"count": 6})
    assert set(only) == {"coco30k"}
    for name, score in only["coco30k"]["metrics"].items():
        assert score["value"] == pytest.approx(found["coco30k"]["metrics"][name]["value"], rel=1e-3, abs=1e-4)
    # the photos themselves are at no distance
    same = paper_scores.splits(evaluators, [photos], reference, prompts, settings | {"count": 8})
    assert same["all"]["metrics"]["fid"]["value"] == pytest.approx(0, abs=1e-2)
    assert found["all"]["metrics"]["fid"]["value"] > 10 * abs(same["all"]["metrics"]["fid"]["value"])
    with pytest.raises(UserError, match="6 samples, 8 expected"):
        paper_scores.splits(evaluators, [short], reference, prompts, settings | {"count": 8})
    with pytest.raises(UserError, match="inception"):
        paper_scores.reference(evaluators[:1], [photos], prompts, settings)
    with pytest.raises(UserError, match="8 photos, 7 expected"):
        paper_scores.reference(evaluators, [photos], prompts[:7], settings)


def test_missing_weights_are_not_downloaded(tmp_path: Path, evaluators: list[Path]) -> None:
    images = archive(tmp_path / "a.zip", 2, 0)
    for mode, name in (("legacy_pytorch", LEGACY), ("clean", CLEAN)):
        with pytest.raises(UserError, match=f"{name}: no such file; run snakemake fetch"):
            fid_features(tmp_path, [images], mode, 2, "cpu")
    (tmp_path / LEGACY).parent.mkdir()
    (tmp_path / LEGACY).write_bytes((evaluators[1] / LOGITS).read_bytes()[:1000])
    with pytest.raises(UserError, match="not a plain file of weights"):
        fid_features(tmp_path, [images], "legacy_pytorch", 2, "cpu")


def test_worlds_are_found_by_name() -> None:
    assert load_world("paper") is paper
    assert load_scores("paper") is paper_scores


@pytest.mark.skipif(not COCO.exists(), reason="needs the real captions beside the checkout")
def test_real_captions_pass_without_a_loss(sources: dict[str, Path]) -> None:
    with COCO.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    del sources["annotations"]
    settings = SETTINGS | {"evaluation": 30_000, "benchmark": 30_000}
    evaluation = paper.evaluation(settings, sources | {"evaluation": COCO})
    assert evaluation["source"].tolist() == [row["file_name"] for row in rows]
    assert evaluation["source"].is_unique
    assert evaluation["text"].tolist() == [" ".join(row["text"].split()) for row in rows]
    animals = (evaluation["split"] == "unseen").mean()
    assert 0.15 < animals < 0.25  # of COCO's photos about a fifth show animals
    # sharding: every row in exactly one shard
    size = 1000
    shards = [evaluation[first : first + size] for first in range(0, 30_000, size)]
    assert pd.concat(shards)["source"].tolist() == evaluation["source"].tolist()
    # tokenising by CLIP's own tokenizer: no text is empty, none has a text of another row in it
    import open_clip

    tokens = open_clip.get_tokenizer("ViT-g-14")(evaluation["text"].tolist())
    assert tokens.shape == (30_000, 77)
    assert int((tokens != 0).sum(1).min()) > 4
    assert len({row.numpy().tobytes() for row in tokens}) == evaluation["text"].str.lower().nunique()


def test_prompts_stage(sources: dict[str, Path], tmp_path: Path) -> None:
    import argparse

    from randcond.prompts import choose as prompts

    outputs = {name: tmp_path / f"made-{name}" for name in ("captions", "evaluation", "pool", "summary")}
    settings = SETTINGS | {"world": "paper", "expected": {"seen": 5, "unseen": 3}}
    given = [f"{name}={path}" for name, path in sources.items()]
    for stage in (prompts._evaluation, prompts._training):
        stage(argparse.Namespace(settings=json.dumps(settings), sources=given, **outputs))
    summary = json.loads(outputs["summary"].read_text())
    assert summary["captions"] == {"seen": 5, "unseen": 4}
    assert summary["expected"] == {"seen": 5, "unseen": 3}
    assert summary["pool"] == 10
    with zipfile.ZipFile(sources["captions"]) as file:
        assert len(read_prompts(outputs["captions"])) == len(file.namelist()) - 1
