"""A variance shrunk over comparisons: the spread of three to five seeds is luck, that of many comparisons is not.

Smyth (2004), "Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments", section 6.2: variances of comparisons are taken to come from one scaled inverse chi-squared distribution,
whose two numbers are fitted to the logarithms of all of them; each comparison's own variance is then drawn towards it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

_FEWEST = 3  # comparisons that can tell of others


@dataclass(frozen=True)
class Prior:
    """What the comparisons have in common.

    Attributes:
        freedom: Degrees of freedom that it counts for; 0: every comparison stands for itself.
        variance: The common variance.
        pooled: Degrees of freedom of all comparisons together, more than which no interval may have.
    """

    freedom: float = 0.0
    variance: float = 0.0
    pooled: float = np.inf

    def moderated(self, variance: float, freedom: int) -> tuple[float, float]:
        """A comparison's variance drawn towards the common one, and its degrees of freedom.

        Args:
            variance: Of its differences over seeds.
            freedom: Seeds less one.
        """
        if self.freedom == 0:
            return variance, float(freedom)
        if np.isinf(self.freedom):
            return self.variance, self.pooled
        together = self.freedom + freedom
        shrunk = (self.freedom * self.variance + freedom * variance) / together
        return shrunk, min(together, self.pooled)


def fit(differences: Sequence[np.ndarray]) -> Prior:
    """The prior of comparisons of one metric.

    Args:
        differences: Of each comparison, one difference a seed; those with fewer than two seeds, or no spread at all,
            say nothing.

    Returns:
        The prior; that of no freedom if fewer than three comparisons say something.
    """
    said = [(d.var(ddof=1), len(d) - 1) for d in differences if len(d) > 1 and d.var(ddof=1) > 0]
    if len(said) < _FEWEST:
        return Prior()
    variances, freedoms = np.array([v for v, _ in said]), np.array([f for _, f in said], float)
    # the logarithm of a variance with f degrees of freedom, less what is expected of it
    logs = np.log(variances) - digamma(freedoms / 2) + np.log(freedoms / 2)
    spread = logs.var(ddof=1) - polygamma(1, freedoms / 2).mean()
    if spread <= 0:  # they differ no more than one variance's estimates would
        return Prior(np.inf, float(np.exp(logs.mean())), float(freedoms.sum()))
    freedom = 2 * inverse_trigamma(float(spread))
    common = float(np.exp(logs.mean() + digamma(freedom / 2) - np.log(freedom / 2)))
    return Prior(freedom, common, float(freedoms.sum()))


def inverse_trigamma(value: float) -> float:
    """The x above 0 whose trigamma is ``value``."""
    # between its bounds 1/x + 1/(2 x^2) and 1/x + 1/x^2, on a scale of logarithms
    found: float = brentq(lambda log: float(polygamma(1, np.exp(log))) - value, -20.0, 25.0, xtol=1e-12)
    return float(np.exp(found))
