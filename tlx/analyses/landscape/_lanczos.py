"""Lanczos' method with full reorthogonalisation.

Our implementation, because a product reads a stream of batches, which no compiled loop can, and
because the method must continue past an invariant space: Hessians of nets have large null spaces
and repeated eigenvalues, where the plain recursion divides noise by zero and returns wrong values.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

BLOCK = 2**16
"""The number of entries of the basis held in float64 at a time."""


class Tridiagonal(NamedTuple):
    """A matrix A in an orthonormal basis Q: Q·A·Qᵀ is tridiagonal.

    Attributes:
      diagonal: float64 [K].
      off_diagonal: float64 [K]; the last is the norm of the component of A times the last row
        of the basis outside the span of the basis.
      basis: float [K, P], Q, whose first row is the start; the dtype is the products'.
    """

    diagonal: Float[np.ndarray, " K"]
    off_diagonal: Float[np.ndarray, " K"]
    basis: Float[np.ndarray, "K P"]


def tridiagonal(product: Callable[[Any], Any], start: Any, order: int) -> Tridiagonal:
    """K steps of Lanczos' method.

    Each new vector is orthogonalised against all before it, twice (twice is enough: Giraud,
    Langou, Rozložník 2005). If only rounding error is left of it, the basis spans an invariant
    space: the off-diagonal is 0, and the method restarts from a random orthogonal vector.

    Args:
      product: the symmetric matrix times a vector [P].
      start: float [P].
      order: K, 1 … P.

    Returns:
      `Tridiagonal`; NaN in both diagonals where a product is not finite.

    Raises:
      ValueError: at call, for a start that is zero or not finite.

    Numerics: all sums in float64, of products scaled by a power of two to about 1: a multiple of
      the matrix has the same multiple of the diagonals, as long as the products themselves
      are in the range of their dtype. Only the basis is rounded to that dtype.
    """
    start = np.asarray(start)
    if not (np.isfinite(start).all() and start.any()):
        length = float(np.linalg.norm(start))
        raise ValueError(f"expected a start vector of positive finite norm, got norm {length}")
    basis = np.zeros((order, start.size), start.dtype)
    diagonal, off_diagonal = np.full(order, np.nan), np.full(order, np.nan)
    rng = np.random.default_rng(order)
    rest = _scaled(start)[0]
    for i in range(order):
        basis[i] = rest / np.linalg.norm(rest)
        image = np.asarray(product(basis[i]))
        if not np.isfinite(image).all():
            return Tridiagonal(np.full(order, np.nan), np.full(order, np.nan), basis)
        rest, exponent = _scaled(image)
        along, outside = _orthogonal(rest, basis[: i + 1])
        diagonal[i], off_diagonal[i] = np.ldexp(along, exponent), np.ldexp(outside, exponent)
        if i + 1 < order and outside == 0:
            rest = rng.standard_normal(start.size)
            _orthogonal(rest, basis[: i + 1])
    return Tridiagonal(diagonal, off_diagonal, basis)


def _orthogonal(vector: np.ndarray, basis: np.ndarray) -> tuple[float, float]:
    """Projects a float64 vector out of the span of a basis, in place, twice.

    Returns the component along the last of the basis, and the norm of the rest: 0 if that is
    only rounding error.
    """
    width = max(1, BLOCK // len(basis))
    parts = [slice(i, i + width) for i in range(0, vector.size, width)]
    first, second = np.zeros(len(basis)), np.zeros(len(basis))
    for part in parts:
        first += basis[:, part].astype(np.float64) @ vector[part]
    for part in parts:
        block = basis[:, part].astype(np.float64)
        vector[part] -= first @ block
        second += block @ vector[part]
    once = float(np.linalg.norm(vector))
    for part in parts:
        vector[part] -= second @ basis[:, part].astype(np.float64)
    twice = float(np.linalg.norm(vector))
    return float(first[-1]), twice if twice > once / 2 else 0.0


def _scaled(vector: np.ndarray) -> tuple[np.ndarray, int]:
    """A finite vector in float64 over a power of two, its largest magnitude in ½ … 1; its exponent.

    Squares of it are in range.
    """
    exponent = int(np.frexp(np.abs(vector).max())[1])
    return np.ldexp(vector, -exponent, dtype=np.float64), exponent
