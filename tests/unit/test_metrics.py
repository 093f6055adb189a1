"""Metrics against closed forms."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from randcond.errors import UserError
from randcond.metrics import FidToReference, all_metrics, error95, fid, inception_score, kid


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


def test_kid(rng: np.random.Generator) -> None:
    same, other = rng.normal(size=(2, 400, 8)), rng.normal(size=(400, 8)) + 1
    np.random.seed(7)
    before = np.random.get_state()[1].copy()
    assert abs(kid(same[0], same[1], 0)) < 0.05
    assert kid(other, same[1], 0) > 1
    assert kid(other, same[1], 0) == kid(other, same[1], 0)
    assert (np.random.get_state()[1] == before).all()


def test_inception_score() -> None:
    assert inception_score(np.zeros((50, 10))) == pytest.approx(1)
    assert inception_score(100 * np.eye(10)[np.arange(50) % 10]) == pytest.approx(10)
    # half the images sure of one class, half of another
    assert inception_score(100 * np.eye(10)[np.arange(50) % 2]) == pytest.approx(2)


def test_error95_of_a_mean(rng: np.random.Generator) -> None:
    values = rng.normal(size=400)
    found = error95(lambda i: float(values[i].mean()), 400, 2000, 0)
    assert found == pytest.approx(1.96 * values.std() / 20, rel=0.1)
    assert found == error95(lambda i: float(values[i].mean()), 400, 2000, 0)


def test_all_metrics(rng: np.random.Generator) -> None:
    features, reference = rng.normal(size=(60, 6)), rng.normal(size=(120, 6))
    named = np.arange(60) < 45
    scores = all_metrics(features, reference, rng.normal(size=(60, 5)), np.full(60, 0.25), named, 10, 0)
    assert set(scores) == {"fid", "kid", "is", "clip", "named"}
    assert scores["named"]["value"] == 0.75
    assert scores["clip"] == {"value": 0.25, "error95": pytest.approx(0, abs=1e-12)}
    assert scores["fid"]["value"] == pytest.approx(fid(features, reference))
    features[0, 0] = np.nan
    with pytest.raises((UserError, ValueError, np.linalg.LinAlgError)):
        all_metrics(features, reference, rng.normal(size=(60, 5)), np.full(60, 0.25), named, 10, 0)
