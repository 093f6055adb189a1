"""Scores of the artists' world, from features of which it is known what they show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from randcond.scores import artists as scores
from randcond.scores.artists_names import concept_logits, style_logits
from randcond.scores.metrics import error95
from randcond.scores.names import unit
from randcond.worlds import artists
from randcond.worlds.emoji import concepts
from randcond.worlds.meanings import UNSEEN_PAIR, artists_of, meanings, parse, styles

PROMPTS, SETTINGS = 333, {"batch": 8, "bootstrap": 2, "seed": 0}


@pytest.fixture(scope="module")
def classes() -> np.ndarray:
    return unit(np.random.default_rng(0).normal(size=(len(meanings()), 64)).astype(np.float32))


@pytest.fixture(scope="module")
def prompts() -> pd.DataFrame:
    return artists.evaluation({"evaluation": PROMPTS, "seed": 0})


def reference(classes: np.ndarray) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "classes": classes,
        "prompts": unit(rng.normal(size=(PROMPTS, 64))),
        "images": unit(rng.normal(size=(2 * PROMPTS, 64))),
        "logit_scale": np.array([50.0]),
    }


def split(classes: np.ndarray, prompts: pd.DataFrame, drawn: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr(scores, "features", lambda *arguments: {"images": drawn})
    return scores.splits([Path("evaluator")], [Path("images.zip")], reference(classes), prompts, SETTINGS)


def test_logits_are_the_best_match(classes: np.ndarray) -> None:
    directions = unit(np.random.default_rng(2).normal(size=(5, 64)))
    by_concept, by_style = (f(directions, classes, 3.0) for f in (concept_logits, style_logits))
    assert by_concept.shape == (5, len(concepts()))
    assert by_style.shape == (5, len(styles()))
    for i, direction in enumerate(directions):
        cosines = {meaning: 3 * float(direction @ classes[k]) for k, meaning in enumerate(meanings())}
        lions = max(value for meaning, value in cosines.items() if meaning.concept == "lion")
        assert by_concept[i, list(concepts()).index("lion")] == pytest.approx(lions)
        outlined = max(value for meaning, value in cosines.items() if meaning.artist == "openmoji")
        assert by_style[i, list(styles()).index("openmoji")] == pytest.approx(outlined)


def test_what_was_asked_for_is_right(
    classes: np.ndarray, prompts: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [parse(text) for text in prompts["text"]]
    drawn = np.stack([classes[meanings().index(meaning)] for meaning in asked])
    found = split(classes, prompts, drawn, monkeypatch)
    assert list(found) == ["all", "seen", "unseen", UNSEEN_PAIR]
    for name, of_split in found.items():
        assert of_split["metrics"]["named"]["value"] == of_split["metrics"]["style"]["value"] == 1
        assert of_split["count"] == (len(prompts) if name == "all" else (prompts["split"] == name).sum())
        assert of_split["reference_count"] == 2 * of_split["count"]


def test_styles_are_judged_where_one_was_asked_for(
    classes: np.ndarray, prompts: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, wrong = [], 0
    asked = [parse(text) for text in prompts["text"]]
    for i, meaning in enumerate(asked):
        if meaning.artist and i % 3 == 0:  # another artist drew it
            wrong += 1
            meaning = replace(meaning, artist=next(a for a in artists_of(meaning.concept) if a != meaning.artist))
        rows.append(meanings().index(meaning))
    metrics = split(classes, prompts, classes[rows], monkeypatch)["all"]["metrics"]
    styled = sum(meaning.artist is not None for meaning in asked)
    assert metrics["named"]["value"] == 1
    assert metrics["style"]["value"] == pytest.approx(1 - wrong / styled)
    # images are drawn again within each concept, as those of the other metrics
    right, names = metrics["style"]["value"], list(concepts())
    of = [names.index(meaning.concept) for meaning in asked if meaning.artist]
    styled_right = np.array([i % 3 != 0 for i, meaning in enumerate(asked) if meaning.artist], float)
    assert styled_right.mean() == pytest.approx(right)
    within = error95(lambda rows: float(styled_right[rows].mean()), len(of), 2, 0, strata=np.array(of))
    assert metrics["style"]["error95"] == pytest.approx(within)


def test_few_prompts_need_hold_no_pair_of_that_kind(
    classes: np.ndarray, prompts: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = prompts[prompts["split"] != UNSEEN_PAIR].reset_index(drop=True)
    monkeypatch.setattr(scores, "features", lambda *arguments: {"images": classes[: len(few)]})
    known = reference(classes) | {"prompts": classes[: len(few)], "images": classes[: len(few)]}
    found = scores.splits([Path("evaluator")], [Path("images.zip")], known, few, SETTINGS)
    assert list(found) == ["all", "seen", "unseen"]
