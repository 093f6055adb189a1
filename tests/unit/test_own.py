"""The world of one's own: texts from files, what is held out, and scores against the teacher's own samples."""

import itertools
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers.models.autoencoders.vae import Encoder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from randcond.jobs.errors import UserError
from randcond.samples.images import stored, write_images
from randcond.scores import own as scores
from randcond.teachers.pipelines import decode, draw_latents, encode_images, load_pipeline
from randcond.worlds import load_world, own

ROOT = Path(__file__).parents[2]

TEXTS = [
    f"a {colour} {thing}" for colour in ("red", "blue", "white", "pink") for thing in ("cup", "tiger", "polar bear")
]
ASKED: dict[str, Any] = {"evaluation": 4, "count": 2, "held_out": ["tiger", "Polar bear"], "seed": 5, "draw": 0}
ASKED["pooled"] = False


def written(folder: Path, suffix: str, texts: list[str]) -> dict[str, Path]:
    path = folder / f"texts{suffix}"
    if suffix == ".txt":
        path.write_text("\n".join(texts), encoding="utf-8")
    elif suffix == ".csv":
        pd.DataFrame({"id": range(len(texts)), "text": texts}).to_csv(path, index=False)
    else:
        pd.DataFrame({"text": texts}).to_parquet(path)
    return {"own": path}


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet"])
def test_each_text_is_evaluated_rendered_or_in_the_pool(tmp_path: Path, suffix: str) -> None:
    # repeated, blank and untidy lines are one text or none
    sources = written(tmp_path, suffix, [*TEXTS, "", "  a red   cup ", TEXTS[3]])
    evaluation = own.evaluation(ASKED, sources)
    captions, pool = own.choose(ASKED, evaluation, sources)
    assert (len(evaluation), len(captions)) == (4, 2)
    assert not any("tiger" in text or "bear" in text for text in captions["text"])
    assert sorted([*evaluation["text"], *captions["text"], *pool]) == sorted(TEXTS)
    for text, split in [*evaluation[["text", "split"]].values, *captions[["text", "split"]].values]:
        assert split == ("seen" if "cup" in text else "unseen")


def test_a_draw_is_of_its_own_and_the_evaluation_is_not(tmp_path: Path) -> None:
    sources = written(tmp_path, ".txt", [f"text number {i}" for i in range(60)])
    asked = ASKED | {"count": 20, "held_out": []}
    evaluation = own.evaluation(asked, sources)
    one, two = (own.choose(asked | {"draw": draw}, evaluation, sources)[0]["text"].tolist() for draw in (0, 1))
    assert one != two
    assert one == own.choose(asked, evaluation, sources)[0]["text"].tolist()
    assert not {*one, *two} & set(evaluation["text"])


@given(st.text("abc- ,.", max_size=12))
def test_words_are_whole(text: str) -> None:
    words = "".join(c if c.isalnum() else " " for c in text).split()
    assert own.names(text, ["a"]) == ("a" in words)
    assert own.names(text, ["a B"]) == any(pair == ("a", "b") for pair in itertools.pairwise(words))


@pytest.mark.parametrize("word", ["t-shirt", "T shirt", "St. Bernard", "cat's", "bear,"])
def test_marks_of_words_and_texts_do_not_count(word: str) -> None:
    texts = {"a green T-shirt": 0, "a st bernard": 1, "the cat's tail": 2, "bear": 3, "a shirt of a saint": 4}
    found = [number for text, number in texts.items() if own.names(text, [word])]
    assert found == [{"t": 0, "T": 0, "S": 1, "c": 2, "b": 3}[word[0]]]


BAD = {
    "no such file": ("texts.txt", None, "no such file"),
    "another kind": ("texts.docx", b"a cup", "texts are read from"),
    "empty": ("texts.txt", b"", "0 different texts"),
    "one text": ("texts.txt", b"a cup\na cup\n", "1 different texts"),
    "another encoding": ("texts.txt", "ein Bär\n".encode("latin-1") * 9, "not UTF-8"),
    "16 bits": ("texts.csv", "text\na cup\n".encode("utf-16"), "not UTF-8"),
    "no column": ("texts.csv", b"caption\na cup\n", "lacks the column text"),
    "commas that are not quoted": ("texts.csv", b"text\na red cup, on a road\na cup, on a hill\n" * 3, "quote texts"),
    "an empty table": ("texts.csv", b"", "cannot be read"),
    "a torn table": ("texts.parquet", b"PAR1 and no more", "cannot be read"),
    "binary": ("texts.txt", b"\x80\x02}q\x00.", "not UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_texts_are_named(tmp_path: Path, case: str) -> None:
    name, content, told = BAD[case]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=told) as refused:
        own.evaluation(ASKED, {"own": tmp_path / name})
    assert name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_million_texts_of_which_half_repeat(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"text number {i % 500_000}" for i in range(1_000_000)))
    asked = ASKED | {"evaluation": 500, "count": 4000, "held_out": []}
    evaluation = own.evaluation(asked, {"own": path})
    captions, pool = own.choose(asked, evaluation, {"own": path})
    assert (len(evaluation), len(captions), len(pool)) == (500, 4000, 495_500)


def test_more_than_there_is(tmp_path: Path) -> None:
    sources = written(tmp_path, ".txt", TEXTS)
    with pytest.raises(UserError, match=r"prompts.evaluation: 11 of the 12"):
        own.evaluation(ASKED | {"evaluation": 11}, sources)
    evaluation = own.evaluation(ASKED, sources)
    with pytest.raises(UserError, match=r"prompts.count: 4 pairs .* only [0-3] different"):
        own.choose(ASKED | {"count": 4}, evaluation, sources)
    with pytest.raises(UserError, match="sources.own"):
        own.evaluation(ASKED, {})
    with pytest.raises(UserError, match="no real images"):
        load_world("own").training_images(evaluation, 0, 0, 32, {})


def test_an_empty_pool_is_told_of_before_anything_is_rendered(tmp_path: Path) -> None:
    sources, asked = written(tmp_path, ".txt", TEXTS), ASKED | {"held_out": [], "count": 8, "pooled": True}
    evaluation = own.evaluation(asked, sources)
    assert len(own.choose(asked | {"count": 7}, evaluation, sources)[1]) == 1
    with pytest.raises(UserError, match=r"prompts.count: .*texts.txt has no text left for the pool; lower it"):
        own.choose(asked, evaluation, sources)
    assert own.choose(asked | {"pooled": False}, evaluation, sources)[1] == []  # no run wants one


@pytest.mark.parametrize(
    ("things", "told"),
    [
        (("cup", "cup", "tiger"), "1 of the 6 evaluation prompts .* texts with them to .*txt, or .* more texts have"),
        (("tiger", "tiger", "cup"), "5 of the 6 evaluation prompts .* texts without them .* that fewer texts have"),
    ],
)
def test_words_are_held_out_of_enough_prompts(tmp_path: Path, things: tuple[str, ...], told: str) -> None:
    sources = written(tmp_path, ".txt", [f"{thing} {i}" for i, thing in enumerate(4 * things)])
    found, asked = set(), ASKED | {"evaluation": 6}
    for seed in range(20):
        drawn = own.evaluation(asked | {"held_out": [], "seed": seed}, sources)["text"]
        unseen = int(drawn.str.startswith("tiger").sum())
        found.add(unseen)
        if 2 <= unseen <= 4:
            split = own.evaluation(asked | {"held_out": ["tiger"], "seed": seed}, sources)["split"]
            assert (split == "unseen").sum() == unseen
        elif unseen in (1, 5):
            with pytest.raises(UserError, match=rf"prompts\.held_out: {told}"):
                own.evaluation(asked | {"held_out": ["tiger"], "seed": seed}, sources)
    assert found >= {3, 1 if things[0] == "cup" else 5}
    with pytest.raises(UserError, match=r"prompts\.held_out: 0 of the 6"):
        own.evaluation(asked | {"held_out": ["zebra"]}, sources)


class Lookup:
    """Features of an evaluator that has seen the images: rows of an array by the name of the archive."""

    known: ClassVar[dict[str, np.ndarray]] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def image_features(self, archives: list[Path], batch: int) -> np.ndarray:
        return np.concatenate([self.known[path.stem] for path in archives])

    def text_features(self, texts: list[str]) -> np.ndarray:
        return self.known["texts"][: len(texts)]


@pytest.fixture
def lookup(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    chance = np.random.default_rng(0)
    monkeypatch.setattr(scores, "Evaluator", Lookup)
    monkeypatch.setattr(scores, "latents", lambda _, archives, __: Lookup.known[archives[0].stem])
    teacher = chance.normal(size=(40, 6)) + 1
    Lookup.known = {
        "again": chance.normal(size=(40, 6)) + 1, "same": teacher, "near": teacher + 0.3 * chance.normal(size=(40, 6)),
        "far": chance.normal(size=(40, 6)) - 1, "texts": teacher / np.linalg.norm(teacher, axis=1, keepdims=True),
    }  # fmt: skip
    return Lookup.known


PROMPTS = pd.DataFrame({"text": [str(i) for i in range(40)], "split": ["seen"] * 30 + ["unseen"] * 10})
HOW = {"batch": 8, "bootstrap": 5, "seed": 0}


def scored(name: str, prompts: pd.DataFrame = PROMPTS) -> dict[str, Any]:
    reference = scores.reference([Path("clip"), Path("teacher")], [Path("again.zip"), Path("same.zip")], prompts, HOW)
    return scores.splits([Path("clip"), Path("teacher")], [Path(f"{name}.zip")], reference, prompts, HOW)


def test_the_teacher_is_the_floor_and_the_nearer_student_the_better(lookup: dict[str, np.ndarray]) -> None:
    found = {name: scored(name)["all"]["metrics"] for name in ("same", "near", "far")}
    assert found["same"]["agreement"]["value"] == pytest.approx(1.0)
    for metric in ("agreement", "clip"):
        values = [found[name][metric]["value"] for name in ("same", "near", "far")]
        assert values == sorted(values, reverse=True)
    for metric in ("fid", "kid", "latents"):
        assert found["near"][metric]["value"] < found["far"][metric]["value"]
    assert found["same"]["latents"]["value"] == 0
    apart = np.linalg.norm(lookup["near"] - lookup["same"], axis=1) / 6**0.5
    assert found["near"]["latents"]["value"] == pytest.approx(apart.mean())
    unit = {name: rows / np.linalg.norm(rows, axis=1, keepdims=True) for name, rows in lookup.items()}
    assert found["near"]["agreement"]["value"] == pytest.approx(
        np.einsum("nd,nd->n", unit["near"], unit["same"]).mean()
    )


@pytest.mark.usefixtures("lookup")
def test_splits_where_words_are_held_out() -> None:
    assert {name: split["count"] for name, split in scored("near").items()} == {"all": 40, "seen": 30, "unseen": 10}
    assert scored("near", PROMPTS.assign(split="seen")).keys() == {"all"}
    assert json.dumps(scored("near"))  # plain numbers


def test_latents_are_those_that_the_pictures_were_drawn_from(tmp_path: Path) -> None:
    pipeline = load_pipeline(ROOT / "workflow/assets/emoji/teacher")
    drawn = draw_latents(pipeline, ["a tiger on a red background", "a blue owl"], 0, 3, 8, 2.0)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in decode(pipeline, drawn)]
    for i in range(2):
        write_images(tmp_path / f"{i}.zip", [stored(pictures[i], "png", None)], i, "png")
    found = scores.latents(ROOT / "workflow/assets/emoji/teacher", [tmp_path / "0.zip", tmp_path / "1.zip"], 1)
    assert found.shape == (2, drawn[0].numel())
    apart = np.square(found - drawn.flatten(1).numpy()).mean(1)
    crossed = np.square(found - drawn.flip(0).flatten(1).numpy()).mean(1)
    assert (apart < 0.1).all() and (crossed > 10 * apart).all()
    with pytest.raises(UserError, match=r"vae: no such file|vae: not an autoencoder"):
        scores.latents(tmp_path, [tmp_path / "0.zip"], 1)


def test_the_autoencoder_is_given_one_image_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance, teacher = np.random.default_rng(0), ROOT / "workflow/assets/emoji/teacher"
    pixels = [chance.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(3)]
    write_images(tmp_path / "0.zip", [stored(Image.fromarray(one), "png", None) for one in pixels], 0, "png")
    taken: list[int] = []
    encode = Encoder.forward
    monkeypatch.setattr(Encoder, "forward", lambda self, images: taken.append(len(images)) or encode(self, images))
    found = scores.latents(teacher, [tmp_path / "0.zip"], 128)
    assert taken == [1, 1, 1]
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    together = encode_images(load_pipeline(teacher), images).flatten(1).numpy()
    np.testing.assert_allclose(found, together, rtol=1e-4, atol=1e-5)


def test_wrong_images_are_no_score(lookup: dict[str, np.ndarray]) -> None:
    lookup["few"] = lookup["near"][:39]
    with pytest.raises(UserError, match="39 samples for 40 prompts"):
        scored("few")
    lookup["nan"] = lookup["near"].copy()
    lookup["nan"][3, 2] = np.nan
    with pytest.raises(UserError, match="not finite"):
        scored("nan")
    with pytest.raises(UserError, match="only 1 unseen prompts"):
        scored("near", PROMPTS.assign(split=["seen"] * 39 + ["unseen"]))
    evaluators, zips = [Path("clip"), Path("teacher")], [Path("again.zip"), Path("same.zip")]
    reference = scores.reference(evaluators, zips, PROMPTS, HOW)
    del reference["prompts"]
    with pytest.raises(UserError, match="by another evaluator"):
        scores.splits(evaluators, [Path("near.zip")], reference, PROMPTS, HOW)
