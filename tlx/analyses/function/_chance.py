"""Agreement beyond chance with its interval, and McNemar's test; in float64 on the host."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

SURE = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]], np.float64)
"""Agreement, a right and b right, of two fully confident models, in each of `mistakes.CELLS`."""


class Estimate(NamedTuple):
    """A coefficient of agreement with its sampling error over examples.

    Attributes:
      value: float [...], −1 … 1.
      error: float [...], the standard error; NaN for fewer than two examples, and where the
        value is NaN.
      low: float [...], the lower end of the interval; NaN likewise.
      high: float [...], its upper end.
    """

    value: Float[np.ndarray, "..."]
    error: Float[np.ndarray, "..."]
    low: Float[np.ndarray, "..."]
    high: Float[np.ndarray, "..."]


def estimate(rows: np.ndarray, weights: np.ndarray, rest: float, z: float) -> Estimate:
    """(c_obs − c_exp) / (1 − c_exp) from rows [R, 3] of agreement, a right, b right.

    Args:
      rows: float [R, 3].
      weights: [..., R], the number of examples that each row represents.
      rest: the probability that two wrong answers are equal by chance.
      z: half the interval's width in standard errors.
    """
    count = weights.sum(-1)
    observed, p_a, p_b = np.moveaxis(ratio(weights @ rows, count[..., None]), -1, 0)
    expected = p_a * p_b + rest * (1 - p_a) * (1 - p_b)
    value = np.where(observed == 1, 1.0, ratio(observed - expected, 1 - expected))

    more = np.concatenate([rows, SURE])
    weights = np.concatenate([weights, np.ones((*count.shape, len(SURE)))], -1)
    total = weights.sum(-1)
    observed, p_a, p_b = np.moveaxis(weights @ more / total[..., None], -1, 0)
    free = 1 - (p_a * p_b + rest * (1 - p_a) * (1 - p_b))
    slope = (observed - 1) / free**2  # in c_exp
    gradient = np.stack(
        [1 / free, slope * (p_b - rest * (1 - p_b)), slope * (p_a - rest * (1 - p_a))], -1
    )
    means = np.stack([observed, p_a, p_b], -1)
    influence = gradient @ more.T - (gradient * means).sum(-1, keepdims=True)
    error = np.sqrt((weights * influence**2).sum(-1)) / total
    error = np.where((count > 1) & ~np.isnan(value), error, np.nan)
    centre = (observed - 1) / free + 1
    low, high = (np.clip(centre + side * z * error, -1, 1) for side in (-1, 1))
    found: list[Any] = [value, error, low, high]
    return Estimate(*found)


def mcnemar(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The exact and mid-p-values from counts [..., 4]; NaN without judgements."""
    apart = cells[..., 1] + cells[..., 2]
    fewer = np.minimum(cells[..., 1], cells[..., 2])
    some = cells.sum(-1) > 0
    fewer, apart = np.where(some, fewer, 0), np.where(some, apart, 0)
    up_to = special.bdtr(fewer, apart, 0.5)
    below = np.where(fewer > 0, special.bdtr(np.maximum(fewer - 1, 0), apart, 0.5), 0)
    exact = np.where(some, np.minimum(1, 2 * up_to), np.nan)
    return exact, np.where(some, up_to + below, np.nan)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient; NaN where `whole` is 0."""
    return np.where(whole == 0, np.nan, part / np.where(whole == 0, 1, whole))
