"""P-values adjusted for multiple tests."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from tlx.core import host


@host.only
def holm(p_values: Any) -> Float[np.ndarray, "..."]:
    """The p-values adjusted by Holm's method, which controls the family-wise error rate.

    Of the sorted p₁ ≤ … ≤ p_M the i-th becomes max over j ≤ i of (M − j + 1)·p_j, at most 1.
    Rejecting those of at most α keeps the probability of any false rejection at most α, for any
    dependence between the tests.

    Args:
      p_values: float [...], 0 … 1; NaN where there was no test.

    Returns:
      float64 [...]; NaN stays NaN and is not counted in M.

    Raises:
      ValueError: at call, for a value outside 0 … 1.

    References: S. Holm, A simple sequentially rejective multiple test procedure, 1979.

    >>> from tlx.analyses import function
    >>> print(function.holm([0.01, 0.02, 0.5]))  # 3·0.01, 2·0.02, 0.5
    [0.03 0.04 0.5 ]
    """
    return _adjusted(p_values, lambda p: np.maximum.accumulate(p * np.arange(len(p), 0, -1)))


@host.only
def benjamini_hochberg(p_values: Any) -> Float[np.ndarray, "..."]:
    """The p-values adjusted by Benjamini and Hochberg's method, for the false discovery rate.

    Of the sorted p₁ ≤ … ≤ p_M the i-th becomes min over j ≥ i of M/j·p_j. Rejecting those of at
    most α makes the expected share of false rejections at most α, for independent tests and for
    tests that depend positively on each other.

    Args:
      p_values: float [...], 0 … 1; NaN where there was no test.

    Returns:
      float64 [...]; NaN stays NaN and is not counted in M.

    Raises:
      ValueError: at call, for a value outside 0 … 1.

    References: Y. Benjamini, Y. Hochberg, Controlling the false discovery rate, 1995.

    >>> from tlx.analyses import function
    >>> print(function.benjamini_hochberg([0.01, 0.02, 0.5]))  # 3/2·0.02 for the first two
    [0.03 0.03 0.5 ]
    """

    def rising(p: Float[np.ndarray, " M"]) -> Float[np.ndarray, " M"]:
        scaled = p * len(p) / np.arange(1, len(p) + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _adjusted(p_values, rising)


def _adjusted(p_values: Any, rule: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    p = np.asarray(p_values, np.float64)
    if outside := int(np.sum((p < 0) | (p > 1))):
        raise ValueError(f"expected p-values in 0 … 1, got {outside} outside")
    flat, out = p.ravel(), np.full(p.size, np.nan)
    order = np.argsort(flat)[: np.sum(~np.isnan(flat))]  # NaN sorts last
    out[order] = np.minimum(rule(flat[order]), 1.0)
    return out.reshape(p.shape)
