"""Metrics against closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from randcond.jobs.errors import UserError
from randcond.scores import metrics
from randcond.scores.evaluator import class_logits
from randcond.scores.metrics import FidToReference, all_metrics, error95, fid, inception_score, kid


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_fid_of_two_gaussians(rng: np.random.Generator) -> None:
    shift, scale = np.array([1.0, -2.0, 0.5]), np.array([1.0, 2.0, 0.5])
    first, second = rng.normal(size=(200_000, 3)), rng.normal(size=(200_000, 3)) * scale + shift
    closed = float((shift**2).sum() + ((1 - scale) ** 2).sum())
    assert fid(first, second) == pytest.approx(closed, rel=0.02)
    assert fid(first, first) == pytest.approx(0, abs=1e-8)


def test_fid_of_correlated_gaussians(rng: np.random.Generator) -> None:
    mix = rng.normal(size=(4, 4))
    first, second = rng.normal(size=(500, 4)) @ mix, rng.normal(size=(400, 4)) + 0.3
    s1, s2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    shift = first.mean(0) - second.mean(0)
    expected = shift @ shift + np.trace(s1 + s2 - 2 * np.real(sqrtm(s1 @ s2)))
    assert fid(first, second) == pytest.approx(expected, rel=1e-6)
    assert FidToReference(second)(first) == pytest.approx(expected, rel=1e-6)


def test_fid_with_fewer_images_than_features(rng: np.random.Generator) -> None:
    first, second = rng.normal(size=(20, 32)), rng.normal(size=(25, 32)) + 1
    assert FidToReference(second)(first) == pytest.approx(fid(first, second), rel=1e-3)


def test_kid_is_the_unbiased_mean_discrepancy(rng: np.random.Generator) -> None:
    # with fewer images than a subset holds, every subset is the whole set
    first, second = rng.normal(size=(40, 6)), rng.normal(size=(40, 6)) + 0.5

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((np.dot(x, y) / 6 + 1) ** 3)

    within = sum(
        np.mean([kernel(x, y) for i, x in enumerate(images) for j, y in enumerate(images) if i != j])
        for images in (first, second)
    )
    between = np.mean([kernel(x, y) for x in first for y in second])
    assert kid(first, second, 0) == pytest.approx(within - 2 * between)


def test_kid(rng: np.random.Generator) -> None:
    same, other = rng.normal(size=(2, 200, 8)), rng.normal(size=(150, 8)) + 1
    assert abs(kid(same[0], same[1], 0)) < 0.1
    assert kid(other, same[1], 0) > 1
    assert kid(other, same[1], 0) == kid(other, same[1], 0)
    assert kid(other, same[1], 0) != kid(other, same[1], 1)


def test_the_global_generator_is_left_alone(rng: np.random.Generator) -> None:
    features = rng.normal(size=(30, 4))
    np.random.seed(7)
    expected = np.random.random(3)
    np.random.seed(7)
    kid(features, features, 0)
    all_metrics(features, features, features, features[:, 0], features[:, 0] > 0, 2, 0)
    assert (np.random.random(3) == expected).all()
    np.random.seed(7)
    with pytest.raises(RuntimeError, match="shapes"):
        kid(features, features[:, :2], 0)
    assert (np.random.random(3) == expected).all()


def test_inception_score(rng: np.random.Generator) -> None:
    assert inception_score(np.zeros((50, 10))) == pytest.approx(1)
    assert inception_score(100 * np.eye(10)[np.arange(50) % 10]) == pytest.approx(10)
    # half the images sure of one class, half of another
    assert inception_score(100 * np.eye(10)[np.arange(50) % 2]) == pytest.approx(2)
    logits = rng.normal(size=(30, 4)) * 2
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert inception_score(logits) == pytest.approx(float(np.exp((p * np.log(p / p.mean(0))).sum(1).mean())))


def test_error95_of_a_mean(rng: np.random.Generator) -> None:
    values = rng.normal(size=400)
    found = error95(lambda i: float(values[i].mean()), 400, 2000, 0)
    # a bootstrap of 2000 knows a standard deviation to 1/sqrt(4000) = 1.6%
    assert found == pytest.approx(1.96 * values.std() / 20, rel=0.08)
    assert found == error95(lambda i: float(values[i].mean()), 400, 2000, 0)
    assert found != error95(lambda i: float(values[i].mean()), 400, 2000, 1)
    assert error95(lambda i: 3.0, 400, 10, 0) == 0


def test_error95_within_strata(rng: np.random.Generator) -> None:
    # two kinds of prompts that differ much: which of them are drawn again is no chance
    strata = np.tile([0, 1, 1, 1], 100)
    values = np.where(strata == 1, 10.0, 0.0) + rng.normal(size=400)
    found = error95(lambda i: float(values[i].mean()), 400, 2000, 0, strata)
    parts = [(np.mean(strata == k), values[strata == k].std(), (strata == k).sum()) for k in (0, 1)]
    expected = 1.96 * sum(share**2 * spread**2 / count for share, spread, count in parts) ** 0.5
    assert found == pytest.approx(expected, rel=0.08)
    assert error95(lambda i: float(values[i].mean()), 400, 2000, 0) > 4 * found
    drawn: list[np.ndarray] = []
    error95(lambda i: drawn.append(i) or 0.0, 400, 5, 0, strata)  # type: ignore[func-returns-value]
    for indices in drawn:
        assert (strata[indices] == 1).sum() == 300 and len(np.unique(indices)) < 300


def test_strata_of_one_image_are_no_certainty(rng: np.random.Generator) -> None:
    values = rng.normal(size=40)
    alone = error95(lambda i: float(values[i].mean()), 40, 500, 0, np.arange(40))
    assert alone == pytest.approx(error95(lambda i: float(values[i].mean()), 40, 500, 0), rel=0.15)
    # four of a kind are pooled with others, five are not
    for count, pooled in ((4, True), (5, False)):
        kinds = np.repeat(np.arange(8), count)
        apart = kinds.astype(float)
        found = error95(lambda i, apart=apart: float(apart[i].mean()), len(kinds), 50, 0, kinds)
        assert (found > 0) == pooled


def measures(rng: np.random.Generator, n: int = 60) -> dict:
    return {
        "features": rng.normal(size=(n, 6)),
        "reference": rng.normal(size=(120, 6)),
        "logits": rng.normal(size=(n, 5)),
        "cosines": rng.uniform(0.1, 0.4, n),
        "named": np.arange(n) < 0.75 * n,
        "rounds": 10,
        "seed": 0,
    }


def test_all_metrics(rng: np.random.Generator) -> None:
    values = measures(rng)
    scores = all_metrics(**values | {"rounds": 1000})
    assert set(scores) == {"fid", "kid", "is", "clip", "named"}
    assert scores["named"]["value"] == 0.75
    assert scores["named"]["error95"] == pytest.approx(1.96 * (0.75 * 0.25 / 60) ** 0.5, rel=0.1)
    assert scores["clip"]["value"] == pytest.approx(values["cosines"].mean())
    assert scores["clip"]["error95"] == pytest.approx(1.96 * values["cosines"].std() / 60**0.5, rel=0.1)
    assert scores["fid"]["value"] == pytest.approx(fid(values["features"], values["reference"]))
    assert scores["kid"]["value"] == pytest.approx(kid(values["features"], values["reference"], 0))
    assert scores["is"]["value"] == pytest.approx(inception_score(values["logits"]))
    assert all(score["error95"] > 0 for score in scores.values())


def test_the_error_of_kid_is_over_all_images_at_once(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(metrics, "kid", lambda f, r, s, subsets=100, size=1000: asked.append((subsets, size)) or 0.1)
    for count in (250, 1000, 1001, 2500):
        metrics.all_metrics(**measures(rng, count) | {"rounds": 2})
    assert [one for one in asked if one != (100, 1000)] == [
        *[(1, 250)] * 2, *[(1, 1000)] * 2, *[(1, 501), (1, 500)] * 2, *[(1, 834), (1, 833), (1, 833)] * 2,
    ]  # fmt: skip


def test_kid_in_parts_takes_every_image_once(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[np.ndarray]()
    monkeypatch.setattr(metrics, "kid", lambda f, *_: seen.append(f) or float(f.mean()))
    features = rng.normal(size=(2000, 3))
    assert metrics.kid_in_parts(features, features, seed=0) == pytest.approx(features.mean())
    assert len(seen) == 2
    assert np.array_equal(np.sort(np.concatenate(seen), 0), np.sort(features, 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["features", "reference", "logits", "cosines"])
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_finite_is_one_line(rng: np.random.Generator, name: str, bad: float) -> None:
    values = measures(rng)
    values[name][0] = bad
    with pytest.raises(UserError, match="finite") as caught:
        all_metrics(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_one_image_has_no_spread(rng: np.random.Generator) -> None:
    with pytest.raises(UserError, match="at least 2 images") as caught:
        all_metrics(**measures(rng, 1))
    assert "\n" not in str(caught.value)


def test_class_logits_are_the_best_match_over_colours(rng: np.random.Generator) -> None:
    images, classes = rng.normal(size=(5, 3)), rng.normal(size=(4, 2, 3))
    plain = [[20 * max(float(image @ colour) for colour in concept) for concept in classes] for image in images]
    np.testing.assert_allclose(class_logits(images, classes, 20.0), plain)
