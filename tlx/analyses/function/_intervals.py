"""Intervals of proportions, and the variance components of comparisons."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import special

Vector = Float[np.ndarray, " n"]
Square = Float[np.ndarray, "2 2"]


class Sources(NamedTuple):
    """The sampling variance of the means of two groups, by source.

    Attributes:
      means: float64 [2], of a and of b.
      parts: by source, its part of the covariance of the two means, with its degrees of freedom;
        a source with a single value is left out.
      both: float64 [2, 2], the part that the sources have in common.
    """

    means: Vector
    parts: dict[str, list[tuple[Square, int]]]
    both: Square


def sources(a: np.ndarray, b: np.ndarray, paired: bool) -> Sources:
    """The sources of two groups: float64 [Sa] and [Sb], or [Sa, N] and [Sb, N] of examples."""
    if not (a.size and b.size):
        return Sources(np.full(2, np.nan), {}, np.zeros((2, 2)))
    a, b = (np.where(np.isinf(x), np.nan, x) for x in (a, b))
    centres = np.array([a.flat[0], b.flat[0]])
    a, b = a - centres[0], b - centres[1]  # so that rounding gives equal values no spread
    means = np.array([a.mean(), b.mean()])
    parts: dict[str, list[tuple[Square, int]]] = {}
    both = np.zeros((2, 2))
    by_seed = [x.reshape(len(x), -1).mean(1) for x in (a, b)]
    if min(len(a), len(b)) > 1:
        parts["seeds"] = _seeds(by_seed, paired)
    if a.ndim == 2 and (n := a.shape[1]) > 1:
        parts["examples"] = [(_covariance(np.stack([a.mean(0), b.mean(0)])), n - 1)]
        if "seeds" in parts:
            left = [x - x.mean(1, keepdims=True) - x.mean(0) + x.mean() for x in (a, b)]
            both = _products(left, paired)
    return Sources(means + centres, parts, both)


def _covariance(values: Float[np.ndarray, "2 n"]) -> Square:
    """Of the means of two rows."""
    return np.cov(values) / values.shape[1]


def _seeds(by_seed: list[Vector], paired: bool) -> list[tuple[Square, int]]:
    if paired:
        return [(_covariance(np.stack(by_seed)), len(by_seed[0]) - 1)]
    variances = [x.var(ddof=1) / len(x) for x in by_seed]
    return [
        (np.diag([variances[0], 0.0]), len(by_seed[0]) - 1),
        (np.diag([0.0, variances[1]]), len(by_seed[1]) - 1),
    ]


def _products(left: list[np.ndarray], paired: bool) -> Square:
    """The covariance of two means from the interaction of seeds and examples."""
    found = np.zeros((2, 2))
    for i, x in enumerate(left):
        for j, y in enumerate(left):
            if i == j or paired:
                (num_seeds, n) = x.shape
                found[i, j] = (x * y).sum() / ((num_seeds - 1) * (n - 1) * num_seeds * n)
    return found


def spread(found: Sources, weights: Vector) -> tuple[Square, float]:
    """The covariance of the two means and the degrees of freedom, for a weighted sum of them.

    Degrees are Satterthwaite's; NaN without a source, and where nothing varies.
    """
    totals = [sum(m for m, _ in parts) for parts in found.parts.values()]
    if not totals:
        return np.full((2, 2), np.nan), np.nan
    # by chance, the difference can be less than the part of one source alone
    matrix = max(sum(totals) - found.both, *totals, key=lambda m: along(m, weights))
    terms = [along(m, weights) ** 2 / n for parts in found.parts.values() for m, n in parts]
    return matrix, along(matrix, weights) ** 2 / sum(terms) if sum(terms) else np.nan


def along(matrix: Square, weights: Vector) -> float:
    """The variance of a weighted sum, from the covariances of its terms."""
    return float(weights @ matrix @ weights)


def student(
    found: Sources, weights: Vector, confidence: float
) -> tuple[float, float, float, float, float]:
    """A weighted sum of the means, its t interval, standard error, and p-value of being 0.

    Where nothing varies the interval has no width, and p is 1 for a sum of 0, else 0.
    """
    matrix, degrees = spread(found, weights)
    value, error = float(weights @ found.means), float(np.sqrt(along(matrix, weights)))
    if error == 0:
        return value, value, value, error, float(value == 0)
    half = error * float(special.stdtrit(degrees, (1 + confidence) / 2))
    p = 2 * float(special.stdtr(degrees, -abs(value) / error))
    return value, value - half, value + half, error, p


def fieller(means: Vector, matrix: Square, t: float) -> tuple[float, float]:
    """The interval of ratios r of the second mean to the first with (m₁ − r·m₀)² ≤ t²·V(r).

    V(r) is the variance of m₁ − r·m₀. NaN where it is unbounded.
    """
    first, second = means
    square = first**2 - t**2 * matrix[0, 0]
    if not square > 0:
        return np.nan, np.nan
    middle = first * second - t**2 * matrix[0, 1]
    at_ratio = along(matrix, np.array([-second, first]))  # not as a difference of squares
    determinant = matrix[0, 0] * matrix[1, 1] - matrix[0, 1] ** 2
    half = t * np.sqrt(max(at_ratio - t**2 * determinant, 0.0))
    return float((middle - half) / square), float((middle + half) / square)


def score(only_a: int, only_b: int, n: int, z: float) -> tuple[float, float]:
    """Tango's interval for the difference of two paired proportions of n examples, by bisection."""
    apart = only_a - only_b
    side = np.array([1.0, -1.0])
    inner, outer = np.full(2, apart / n), np.array([-1.0, 1.0])
    for _ in range(60):
        delta = (inner + outer) / 2
        linear = (2 * n - apart) * delta - only_a - only_b
        root = np.sqrt(np.maximum(linear**2 + 8 * n * only_b * delta * (1 - delta), 0))
        likely = (root - linear) / (4 * n)
        variance = np.maximum(n * (2 * likely + delta * (1 - delta)), 0)
        rejected = side * (apart - n * delta) > z * np.sqrt(variance)
        inner, outer = np.where(rejected, inner, delta), np.where(rejected, delta, outer)
    return float(outer[0]), float(outer[1])
