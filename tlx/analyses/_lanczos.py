"""Lanczos' method with full reorthogonalisation.

Ours, since a product reads a stream of batches, which no compiled loop can, and since the
method must go on past an invariant space: matrices of nets have large kernels and repeated
eigenvalues, at which the bare recursion divides noise by zero and returns false values.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float


class Tridiagonal(NamedTuple):
    """A matrix A in an orthonormal basis Q: Q·A·Qᵀ is tridiagonal.

    Attributes:
      diagonal: float64 [K].
      off_diagonal: float64 [K], beside the diagonal; the last is the norm of what A times the
        last row of the basis has outside the basis.
      basis: float [K, P], Q, whose first row is the start; the dtype is the products'.
    """

    diagonal: Float[np.ndarray, " K"]
    off_diagonal: Float[np.ndarray, " K"]
    basis: Float[np.ndarray, "K P"]


def tridiagonal(product: Callable[[Any], Any], start: Any, order: int) -> Tridiagonal:
    """K steps of Lanczos' method.

    Each new vector is made orthogonal to all before it, twice (twice is enough: Giraud,
    Langou, Rozložník 2005). Where nothing but rounding is left of it, the basis spans an
    invariant space: the off-diagonal is 0, and a random vector orthogonal to it starts anew.

    Args:
      product: the symmetric matrix times a vector [P].
      start: float [P].
      order: K, 1 … P.

    Returns:
      `Tridiagonal`; NaN in both diagonals where a product is not finite.

    Raises:
      ValueError: at call, for a start that is zero or not finite.
    """
    start = np.asarray(start)
    length = float(np.linalg.norm(start))
    if not 0 < length < np.inf:
        raise ValueError(f"expected a start vector of positive finite norm, got norm {length}")
    basis = np.zeros((order, start.size), start.dtype)
    diagonal, off_diagonal = np.full(order, np.nan), np.full(order, np.nan)
    rng = np.random.default_rng(order)
    row = start / start.dtype.type(length)
    for i in range(order):
        basis[i] = row
        image = np.asarray(product(row))
        if not np.isfinite(image).all():
            return Tridiagonal(np.full(order, np.nan), np.full(order, np.nan), basis)
        diagonal[i] = row @ image
        rest, off_diagonal[i] = _outside(image, basis[: i + 1])
        if i + 1 < order and off_diagonal[i] == 0:
            rest, length = _outside(_random(rng, row), basis[: i + 1])
            row = rest / row.dtype.type(length)
        elif i + 1 < order:
            row = rest / row.dtype.type(off_diagonal[i])
    return Tridiagonal(diagonal, off_diagonal, basis)


def _outside(vector: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, float]:
    """What a vector has outside the span of a basis, and its norm: 0 if that is rounding only."""
    once = vector - (basis @ vector) @ basis
    twice = once - (basis @ once) @ basis
    length = float(np.linalg.norm(twice))
    if length <= float(np.linalg.norm(once)) / 2:
        return np.zeros_like(vector), 0.0
    return twice, length


def _random(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    return rng.standard_normal(like.shape).astype(like.dtype)
