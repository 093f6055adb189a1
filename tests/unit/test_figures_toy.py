"""Figure 5's toy: densities against closed forms, and a distance that falls as noise grows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal, norm

from randcond.figures.toy import SHOWN, Mixture, distances, kept_at, scatter, shapes, total_variation


def one(x: float, deviation: float) -> Mixture:
    return Mixture(np.array([[x, 0.0]]), deviation)


@given(apart=st.floats(0, 4), deviation=st.floats(0.2, 2))
def test_distance_of_two_gaussians(apart: float, deviation: float) -> None:
    found = total_variation(one(-apart / 2, deviation), one(apart / 2, deviation), 150)
    assert found == pytest.approx(2 * norm.cdf(apart / (2 * deviation)) - 1, abs=2e-3)


def test_density_is_the_mean_of_its_gaussians() -> None:
    mixture = shapes()["c"].noised(0.3)
    points = np.random.default_rng(0).normal(size=(20, 2))
    gaussians = [multivariate_normal(mean, mixture.deviation**2 * np.eye(2)) for mean in mixture.means]
    np.testing.assert_allclose(mixture.density(points), np.mean([g.pdf(points) for g in gaussians], axis=0))


def test_noise_moves_the_moments_as_the_schedule_says() -> None:
    mixture, rng = Mixture(np.array([[2.0, -1.0], [0.0, 3.0]]), 0.5), np.random.default_rng(1)
    clean = mixture.sample(40_000, rng)
    noised = 0.36**0.5 * clean + 0.64**0.5 * rng.normal(size=clean.shape)
    expected = mixture.noised(0.36)
    np.testing.assert_allclose(noised.mean(0), expected.means.mean(0), atol=0.03)
    variance = expected.deviation**2 + expected.means.var(0)
    np.testing.assert_allclose(noised.var(0), variance, rtol=0.03)


def test_no_noise_changes_nothing_and_all_noise_leaves_the_standard_normal() -> None:
    mixture = shapes()["c~"]
    np.testing.assert_array_equal(mixture.noised(1.0).means, mixture.means)
    assert mixture.noised(1.0).deviation == pytest.approx(mixture.deviation)
    gone = mixture.noised(0.0)
    assert not gone.means.any() and gone.deviation == 1.0


def test_the_two_conditions_melt_into_one() -> None:
    found = distances(step=300, cells=120)
    assert list(found) == [0, 300, 600, 900, 999]
    values = np.array(list(found.values()))
    assert (np.diff(values) < 0).all()
    assert 0.98 < values[0] <= 1.001 and values[-1] < 0.1


def test_a_fine_enough_grid() -> None:
    # the narrowest case, at the default number of cells and at more
    ring, cross = (mixture.noised(kept_at()[0]) for mixture in shapes().values())
    assert total_variation(ring, cross, 200) == pytest.approx(total_variation(ring, cross, 330), abs=2e-3)


def test_points_follow_the_seed() -> None:
    first, same = (scatter({"seeds": [3, 4], "points": 5}) for _ in range(2))
    assert first.equals(same)
    assert not first["x"].equals(scatter({"seeds": [4], "points": 5})["x"])
    assert len(first) == 2 * 5 * len(SHOWN)
    clean = first[(first["t"] == 0) & (first["condition"] == "c")][["x", "y"]].to_numpy()
    near = np.linalg.norm(clean[:, None] - shapes()["c"].means, axis=2).min(1)
    assert (near < 6 * 0.1).all()
