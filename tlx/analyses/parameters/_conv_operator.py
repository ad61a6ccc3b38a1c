"""The largest singular values of a convolution with its stride and padding, matrix-free.

A block Krylov method: the blocks are batches of the convolution. A single vector, as in plain
Lanczos, would find one of each group of equal singular values, and a convolution has many such
(that of a 1x1 kernel has each as often as there are pixels).
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SPARE = 4
"""Vectors of a block beyond the number of requested values."""

STEPS = 40
"""The maximum number of blocks."""

ENOUGH = 1e-5
"""The method stops when all bounds are below this fraction of the largest value."""


class Top(NamedTuple):
    """The largest singular values of a linear map, and properties of all of them.

    Attributes:
      values: float64 [k], falling.
      residuals: float64 [k], ‖Aᵀu − σv‖ of each with its singular vectors, Av = σu: the map has
        a singular value that close to σ.
      frobenius_norm: float, of the entire map, exact.
      num_values: int, the number of all singular values: the smaller side of the map.
    """

    values: Float[np.ndarray, " k"]
    residuals: Float[np.ndarray, " k"]
    frobenius_norm: float
    num_values: int


class Geometry(NamedTuple):
    """How a kernel goes over its inputs; one entry an axis of space.

    Attributes:
      size: of the inputs.
      strides: at least 1.
      padding: zeros before and after.
      dilation: of the kernel, at least 1.
      groups: of channels.
    """

    size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


Linear = Callable[[Any], Any]
"""[b, *shape] -> [b, *other shape], each row by the same linear map."""


def explicit(
    padding: str | Sequence[tuple[int, int]],
    window: tuple[int, ...],
    size: tuple[int, ...],
    strides: tuple[int, ...],
) -> tuple[tuple[int, int], ...]:
    """Padding before and after each axis, of "SAME", "VALID" or what is such already."""
    if not isinstance(padding, str):
        return tuple((int(low), int(high)) for low, high in padding)
    pads = jax.lax.padtype_to_pads(size, window, strides, padding)
    return tuple((int(low), int(high)) for low, high in pads)


def top(kernel: Float[np.ndarray, "*taps I O"], geometry: Geometry, num_values: int) -> Top:
    """The largest singular values of a convolution; NaN if the kernel is not finite."""
    *taps, inputs, _ = kernel.shape
    # the products below are of fourth order in the weights: as they are, small ones vanish
    scale = float(np.abs(kernel[np.isfinite(kernel)]).max(initial=0)) or 1.0
    weights = jnp.asarray(kernel / scale, jnp.result_type(float))
    shape = (*geometry.size, inputs * geometry.groups)
    there = functools.partial(_convolved, weights, geometry)
    struct = jax.eval_shape(there, jax.ShapeDtypeStruct((1, *shape), weights.dtype))
    back = functools.partial(_transposed, weights, geometry, shape)
    sides = (math.prod(shape), math.prod(struct.shape))
    total = min(sides)
    counts = functools.reduce(np.multiply.outer, _uses(taps, struct.shape[1:-1], geometry))
    squares = np.square(kernel.astype(np.float64)).sum((-2, -1))
    norm = math.sqrt((counts * squares).sum())
    k = min(num_values, total)
    if not np.isfinite(kernel).all() or not total:
        return Top(np.full(k, np.nan), np.full(k, np.nan), norm, total)
    forth, reverse = _on_rows(there, shape), _on_rows(back, struct.shape[1:])
    if sides[1] < sides[0]:  # the transpose has the same singular values and the shorter basis
        forth, reverse = reverse, forth
    values, residuals = _block_krylov(forth, reverse, total, k)
    return Top(scale * values, scale * residuals, norm, total)


def _uses(taps: Sequence[int], out: Sequence[int], geometry: Geometry) -> list[np.ndarray]:
    """For each axis, at how many outputs each tap reads an input rather than padding."""
    found = []
    for n, m, size, stride, (low, _), dilation in zip(taps, out, *geometry[:4], strict=True):
        read = np.arange(n)[:, None] * dilation + np.arange(m)[None] * stride - low
        found.append(((read >= 0) & (read < size)).sum(1))
    return found


@functools.partial(jax.jit, static_argnums=1)
def _convolved(kernel: Array, geometry: Geometry, x: Array) -> Array:
    d = len(geometry.size)
    data, space = (0, d + 1, *range(1, d + 1)), tuple(range(d))
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        geometry.strides,
        geometry.padding,
        rhs_dilation=geometry.dilation,
        dimension_numbers=jax.lax.ConvDimensionNumbers(data, (d + 1, d, *space), data),
        feature_group_count=geometry.groups,
        precision=jax.lax.Precision.HIGHEST,
    )


@functools.partial(jax.jit, static_argnums=(1, 2))
def _transposed(kernel: Array, geometry: Geometry, shape: tuple[int, ...], y: Array) -> Array:
    like = jax.ShapeDtypeStruct((len(y), *shape), y.dtype)
    (x,) = jax.linear_transpose(functools.partial(_convolved, kernel, geometry), like)(y)
    return x


def _on_rows(linear: Linear, shape: tuple[int, ...]) -> Linear:
    """A map of rows [b, P] for one of batches [b, *shape]."""

    def rows(x: np.ndarray) -> np.ndarray:
        batch = jnp.asarray(x.reshape(len(x), *shape), jnp.result_type(float))
        return np.asarray(linear(batch)).reshape(len(x), -1)

    return rows


def _block_krylov(
    there: Linear, back: Linear, dimension: int, k: int
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """The k largest singular values of `there` and their residuals.

    Rayleigh and Ritz's values of AᵀA in the span of X, (AᵀA)X, (AᵀA)²X, …, all rows kept
    orthonormal; the last step is on A itself, which spares squares their loss of digits.
    """
    width = min(k + SPARE, dimension)
    most = min(width * STEPS, dimension)
    dtype = np.dtype(jnp.result_type(float))
    basis, projected = np.empty((most, dimension), dtype), np.zeros((most, most))
    rows = np.random.default_rng(0).standard_normal((width, dimension)).astype(dtype)
    rows, _ = _orthonormal(rows, basis[:0])
    end = 0
    while True:
        start, end = end, end + len(rows)
        basis[start:end] = rows
        images = back(there(rows))
        projected[:end, start:end] = basis[:end] @ images.T
        projected[start:end, :end] = projected[:end, start:end].T
        squares, vectors = np.linalg.eigh(projected[:end, :end])
        squares, vectors = squares[::-1][:k], vectors[:, ::-1][:, :k]
        if end == most:
            break
        rows, rest = _orthonormal(images, basis[:end])
        outside = np.linalg.norm(rest @ vectors[start:end], axis=0)
        if (outside <= ENOUGH * np.sqrt(np.maximum(squares * squares[0], 0))).all():
            break
        rows = rows[: most - end]
    right = vectors.T.astype(dtype) @ basis[:end]
    left, values, turn = np.linalg.svd(there(right).astype(np.float64).T, full_matrices=False)
    apart = back(left.T) - values[:, None] * (turn @ right)
    return values, np.linalg.norm(apart, axis=1)


def _orthonormal(rows: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal rows orthogonal to a basis, and R where Rᵀ times them is what rows have outside.

    Rows that lie in the basis leave rounding, of which the second round makes new directions.
    """
    factors = []
    for _ in range(2):
        for _ in range(2):
            rows = rows - (rows @ basis.T) @ basis
        columns, factor = np.linalg.qr(rows.T)
        rows = np.ascontiguousarray(columns.T)
        factors.append(factor)
    return rows, factors[1] @ factors[0]
