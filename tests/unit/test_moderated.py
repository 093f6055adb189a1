"""A variance that comparisons share in: the published estimate, found again from data made by its own model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import polygamma

from randcond.report.moderated import Prior, fit, inverse_trigamma


@given(st.floats(1e-3, 1e6))
def test_inverse_of_trigamma(x: float) -> None:
    assert inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)


@pytest.mark.parametrize(("freedom", "scale"), [(4.0, 2.0), (12.0, 0.1)])
def test_the_prior_is_found_again(freedom: float, scale: float) -> None:
    rng = np.random.default_rng(1)
    # each comparison's own variance is a scaled inverse chi-squared, its four differences are normal
    variances = freedom * scale / rng.chisquare(freedom, 4000)
    found = fit([rng.normal(5, np.sqrt(variance), 4) for variance in variances])
    assert found.freedom == pytest.approx(freedom, rel=0.25)
    assert found.variance == pytest.approx(scale, rel=0.1)
    assert found.pooled == 3 * 4000


def test_one_variance_for_all_is_pooled() -> None:
    rng = np.random.default_rng(2)
    found = fit([rng.normal(0, 3, 5) for _ in range(40)])
    assert found.freedom > 15 and found.variance == pytest.approx(9, rel=0.3)
    variance, freedom = found.moderated(0.01, 4)
    assert variance > 5 and freedom <= 4 * 40


def test_a_variance_between_its_own_and_the_common_one() -> None:
    prior = Prior(freedom=4.0, variance=2.0, pooled=100.0)
    assert prior.moderated(1.0, 2) == (pytest.approx((4 * 2.0 + 2 * 1.0) / 6), 6.0)
    assert Prior(freedom=4.0, variance=2.0, pooled=5.0).moderated(1.0, 2)[1] == 5.0
    assert Prior().moderated(1.0, 2) == (1.0, 2.0)
    assert Prior(np.inf, 2.0, 30.0).moderated(1.0, 2) == (2.0, 30.0)


@pytest.mark.parametrize("differences", [[], [[1.0, 2.0]] * 2, [[1.0]] * 5, [[1.0, 1.0]] * 5])
def test_too_few_tell_of_no_other(differences: list[list[float]]) -> None:
    assert fit([np.array(one) for one in differences]) == Prior()
