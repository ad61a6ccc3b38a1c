"""The power law that fits the tail of a sample best."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from tlx.core import shown

LEAST_TAIL = 10
"""Values of a tail: with fewer, the standard error is above 30% of alpha − 1."""

CANDIDATES = 200
"""Starts of the tail that are tried: all of few values, else these, evenly spaced by rank."""


@shown.short
class PowerLaw(NamedTuple):
    """A density p(x) = (α − 1)/x_min · (x/x_min)^(−α) for x ≥ x_min.

    Attributes:
      alpha: float, above 1.
      alpha_error: float, its standard error (α − 1)/√n, if the values are independent.
      tail_start: float, x_min.
      tail_distance: float, 0 … 1, the Kolmogorov–Smirnov distance of the tail from the law.
      num_tail: int, n, the values of at least x_min.
    """

    alpha: float
    alpha_error: float
    tail_start: float
    tail_distance: float
    num_tail: int


NONE = PowerLaw(np.nan, np.nan, np.nan, np.nan, 0)


def fit(sample: Float[np.ndarray, " N"]) -> PowerLaw:
    """The maximum likelihood power law of the tail with the smallest distance from its law.

    α = 1 + n / Σ ln(x / x_min) over the n values of at least x_min.

    Args:
      sample: float64 [N], in any order; values that are not positive are in no tail.

    Returns:
      `PowerLaw`; NaN with a tail of 0 values where fewer than `LEAST_TAIL` values are positive,
      where all that a tail could hold are equal (no law has them), or for NaN in the sample.

    Numerics: float64; logarithms, so that any scale of the sample does.
    Cost: O(N · min(N, `CANDIDATES`)).
    References: Clauset, Shalizi, Newman 2009, "Power-law distributions in empirical data",
      equations 3.1, 3.2 and 3.9.
    """
    if np.isnan(sample).any():
        return NONE
    logs = np.log(np.sort(sample[sample > 0]))
    last = len(logs) - LEAST_TAIL
    if last < 0:
        return NONE
    starts = np.unique(np.linspace(0, last, min(last + 1, CANDIDATES)).round().astype(int))
    # a tail holds all values that equal its first one
    starts = np.unique(np.searchsorted(logs, logs[starts]))
    fits = [_from(logs[start:]) for start in starts if logs[start] < logs[-1]]
    return min(fits, key=lambda found: found.tail_distance, default=NONE)


def _from(logs: Float[np.ndarray, " n"]) -> PowerLaw:
    """The law of an entire sample, from its increasing logarithms that are not all equal."""
    n = len(logs)
    above = logs - logs[0]
    exponent = float(n / above.sum())
    law = -np.expm1(-exponent * above)
    steps = np.arange(n + 1) / n
    distance = max(np.abs(law - steps[:-1]).max(), np.abs(law - steps[1:]).max())
    start = float(np.exp(logs[0]))
    return PowerLaw(1 + exponent, exponent / np.sqrt(n), start, float(distance), n)
