"""Ridge regression with an intercept on streamed examples, exact, in float64 on the host.

With X [n, D] and Y [n, C] about their means, W(λ) = (XᵀX + λI)⁻¹ XᵀY = Xᵀ(XXᵀ + λI)⁻¹Y.
Examples are held as rows while there are no more rows than columns, and the second form is
solved; beyond that as centred sums, which merge exactly (T. Chan, G. Golub, R. LeVeque, Updating
formulae and a pairwise algorithm for computing sample variances, 1979), and the first form is.

The strength minimises generalised cross-validation, n‖Y − Ŷ(λ)‖² / (n − 1 − tr H(λ))²
with H = X(XᵀX + λI)⁻¹Xᵀ: the leave-one-out squared error in closed form, with the mean leverage
in place of each example's leverage (G. Golub, M. Heath, G. Wahba, Generalized
cross-validation as a method for choosing a good ridge parameter, 1979).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

_EPS = float(np.finfo(np.float64).eps)


class Moments(NamedTuple):
    """The sums of n ≥ 1 examples about their means.

    Attributes:
      n: their number.
      x: float64 [D], the mean row.
      y: float64 [C], the mean target.
      xx: float64 [D, D], the scatter of the rows.
      xy: float64 [D, C], of rows with targets.
      yy: the sum of the targets' squares.
    """

    n: int
    x: Float[np.ndarray, " D"]
    y: Float[np.ndarray, " C"]
    xx: Float[np.ndarray, "D D"]
    xy: Float[np.ndarray, "D C"]
    yy: float


class Examples(NamedTuple):
    """The examples so far: rows and targets of batches, or, if these are None, their moments."""

    batches: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    moments: Moments | None = None


class Fit(NamedTuple):
    """The map of a row, ŷ = y + (row − x) W.

    Attributes:
      x: float64 [D], the mean row of the examples.
      y: float64 [C], their mean target.
      weights: float64 [D, C], W.
      strength: λ as a share of the rows' mean variance (times n); NaN where rows or targets
        are constant, and W is zero for any strength.
    """

    x: Float[np.ndarray, " D"]
    y: Float[np.ndarray, " C"]
    weights: Float[np.ndarray, "D C"]
    strength: float

    def __call__(self, rows: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B C"]:
        """The predicted targets of rows."""
        return self.y + (rows.astype(np.float64) - self.x) @ self.weights


class _Spectrum(NamedTuple):
    """The r directions in which rows vary: their scatter, and the targets' components along them.

    W(λ) = `back(along / (values + λ))`; at λ = 0 they explain `energy` [r] of Σ‖y‖².
    """

    values: Float[np.ndarray, " r"]
    along: Float[np.ndarray, "r C"]
    energy: Float[np.ndarray, " r"]
    back: Callable[[np.ndarray], np.ndarray]


def add(examples: Examples | None, rows: np.ndarray, targets: np.ndarray) -> Examples | None:
    """The examples with more rows [B, D] and targets [B, C]; None once a value is not finite."""
    if examples is None or not (np.isfinite(rows).all() and np.isfinite(targets).all()):
        return None
    if not len(rows):
        return examples
    if examples.moments is not None:
        return Examples(moments=merge(examples.moments, of_rows(rows, targets)))
    batches = (*examples.batches, (rows, targets))
    if sum(len(part) for part, _ in batches) <= rows.shape[1]:
        return Examples(batches)
    return Examples(moments=of_rows(*_joined(batches)))


def of_rows(rows: np.ndarray, targets: np.ndarray) -> Moments:
    """The moments of one or more examples."""
    mean_x, x = _centred(rows)
    mean_y, y = _centred(targets)
    return Moments(len(x), mean_x, mean_y, x.T @ x, x.T @ y, float(np.square(y).sum()))


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of the examples of both."""
    n = a.n + b.n
    x, y, each = b.x - a.x, b.y - a.y, a.n * b.n / n
    return Moments(
        n,
        a.x + b.n / n * x,
        a.y + b.n / n * y,
        a.xx + b.xx + each * np.outer(x, x),
        a.xy + b.xy + each * np.outer(x, y),
        a.yy + b.yy + each * float(y @ y),
    )


def solve(examples: Examples, strengths: Sequence[float]) -> Fit | None:
    """The regression of the strength with the least generalised cross-validation.

    Args:
      examples: from `add`.
      strengths: λ to choose from, above 0, in units of the mean of the rows' variances (times
        n) over the min(D, n − 1) directions that they can vary in.

    Returns:
      The fit; None without examples.

    Numerics: directions whose scatter is below rounding, eps·min(n, D) of the largest, count
      as constant.
    Cost: 2nD·min(n, D) flops for the products and some 9·min(n, D)³ for the eigenvectors.
    """
    if examples.moments is not None:
        n, mean_x, mean_y, _, _, yy = examples.moments
        spectrum = _of_moments(examples.moments)
    elif examples.batches:
        rows, targets = _joined(examples.batches)
        mean_x, x = _centred(rows)
        mean_y, y = _centred(targets)
        n, yy = len(x), float(np.square(y).sum())
        spectrum = _of_examples(x, y)
    else:
        return None
    constant = Fit(mean_x, mean_y, np.zeros((len(mean_x), len(mean_y))), math.nan)
    if not len(spectrum.values) or yy == 0:
        return constant
    unit = spectrum.values.sum() / min(len(mean_x), n - 1)
    errors = [_cross_validation(spectrum, n, yy, strength * unit) for strength in strengths]
    best = strengths[int(np.argmin(errors))]
    weights = spectrum.back(spectrum.along / (spectrum.values + best * unit)[:, None])
    return constant._replace(weights=weights, strength=float(best))


def _of_moments(moments: Moments) -> _Spectrum:
    values, vectors = _directions(moments.xx)
    along = vectors.T @ moments.xy
    energy = np.square(along).sum(1) / values
    return _Spectrum(values, along, energy, lambda parts: vectors @ parts)


def _of_examples(x: np.ndarray, y: np.ndarray) -> _Spectrum:
    values, vectors = _directions(x @ x.T)
    along = vectors.T @ y
    return _Spectrum(values, along, np.square(along).sum(1), lambda parts: x.T @ (vectors @ parts))


def _directions(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues above rounding with their vectors as columns."""
    values, vectors = np.linalg.eigh(gram)
    kept = values > _EPS * len(values) * max(values[-1], 0)
    return values[kept], vectors[:, kept]


def _cross_validation(spectrum: _Spectrum, n: int, yy: float, ridge: float) -> float:
    values = spectrum.values
    shrunk = ridge / (values + ridge)
    left = yy - float(np.sum(spectrum.energy * (1 - shrunk) * (1 + shrunk)))
    left = max(left, n * _EPS * yy)  # where everything is explained the rest is rounding error
    freedom = n - 1 - len(values) + shrunk.sum()
    return n * left / float(freedom) ** 2


def _centred(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean row, and the rows less it in float64; both exact where rows are constant."""
    away = rows.astype(np.float64) - rows[0].astype(np.float64)
    mean = away.mean(0)
    return rows[0].astype(np.float64) + mean, away - mean


def _joined(batches: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    rows, targets = zip(*batches, strict=True)
    return np.concatenate(rows), np.concatenate(targets)
