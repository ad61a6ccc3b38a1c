"""Kernels of CKA: how alike two examples are in the features of a layer.

A kernel turns features [n, D] into the Gram matrix [n, n]. All are normalised so that the
scale of the features does not matter. Builders are cached: equal options give the same
object, for which compiled code is found again.

References: S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network
representations revisited, 2019 (linear and RBF with the median heuristic); G. Székely,
M. Rizzo, N. Bakirov, Measuring and testing dependence by correlation of distances, 2007.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

_HIGHEST = jax.lax.Precision.HIGHEST


class Kernel(NamedTuple):
    """A kernel, by its features or by its Gram matrix.

    Attributes:
      name: with its options, as a record shows it.
      rows: `(x [B, D], mask [B]) -> z [B, D']`, centred over the unmasked rows and zero in
        the masked ones, with the kernel z zᵀ; None where there is no such map of few dimensions.
      gram: `(x, mask) -> [B, B]`, not centred, finite where a row is masked; None where `rows` is
        given.
      is_linear: whether the kernel is a sum over features, as `feature_corrected` needs it.
    """

    name: str
    rows: Callable[[Array, Array], Array] | None
    gram: Callable[[Array, Array], Array] | None
    is_linear: bool = False


@functools.cache
def linear() -> Kernel:
    """⟨x, x'⟩ of centred features. Invariant to translation and orthogonal maps."""
    return Kernel("linear", centred, None, is_linear=True)


@functools.cache
def cosine() -> Kernel:
    """⟨x, x'⟩ / (‖x‖ ‖x'‖): each example scaled to length 1, not centred before.

    Invariant to orthogonal maps and to the length of each example, not to translation. An
    example of zeros has no direction: the result is NaN.
    """

    def rows(x: Array, mask: Array) -> Array:
        x = unit_scale(jnp.where(mask[:, None], x, 0))[0]
        norm = jnp.sqrt(jnp.square(x).sum(1, keepdims=True))
        z = centred(x / jnp.where(mask[:, None], norm, 1), mask)
        rounding = 8 * float(jnp.finfo(z.dtype).eps)  # of the division, where all are one
        return jnp.where(jnp.max(jnp.abs(z), initial=0) <= rounding, 0, z)

    return Kernel("cosine", rows, None)


@functools.cache
def rbf(bandwidth: float = 0.5) -> Kernel:
    """exp(−‖x − x'‖² / (2σ²)), σ = bandwidth · median distance.

    The median is over all n² pairs of the batch, an example with itself included, as in
    Kornblith et al.; in a stream each batch has its own.

    Args:
      bandwidth: above 0; the paper used 0.2 to 0.8.

    Raises:
      ValueError: for a bandwidth that is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"expected a bandwidth above 0, got {bandwidth}")

    def gram(x: Array, mask: Array) -> Array:
        squares = squared_distances(x, mask)
        scale = 2 * bandwidth**2 * _median(squares, mask)
        # a median of zero: the limit, 1 between equal examples and 0 between others
        return jnp.where(
            scale == 0,
            (squares == 0).astype(squares.dtype),
            jnp.exp(-squares / jnp.where(scale == 0, 1, scale)),
        )

    return Kernel(f"rbf({bandwidth:g})", None, gram)


@functools.cache
def polynomial(degree: int = 3, offset: float = 1.0) -> Kernel:
    """(⟨x, x'⟩ / s + offset)^degree of centred features, s their mean squared length.

    Args:
      degree: at least 1.
      offset: what the lower degrees weigh; 0 leaves the highest alone.

    Raises:
      ValueError: for a degree below 1.
    """
    if degree < 1:
        raise ValueError(f"expected a degree of at least 1, got {degree}")

    def gram(x: Array, mask: Array) -> Array:
        z = unit_scale(centred(x, mask))[0]
        products = jnp.matmul(z, z.T, precision=_HIGHEST)
        mean = jnp.trace(products) / jnp.maximum(mask.sum(), 1).astype(z.dtype)
        raised = (products / jnp.where(mean == 0, 1, mean) + offset) ** degree
        return jnp.where(mean == 0, 0, raised)

    return Kernel(f"polynomial({degree}, {offset:g})", None, gram)


@functools.cache
def distance() -> Kernel:
    """−‖x − x'‖, with which CKA is the squared distance correlation."""

    def gram(x: Array, mask: Array) -> Array:
        return -jnp.sqrt(squared_distances(x, mask))

    return Kernel("distance", None, gram)


def centred(features: Array, mask: Bool[Array, " B"] | None = None) -> Float[Array, "B D"]:
    """Features [B, ...] as [B, D], less their mean over the unmasked rows; masked rows are 0.

    The first unmasked row is subtracted before the mean is taken: constant features so
    become exact zeros, and a large offset costs no accuracy.
    """
    x = features.reshape(len(features), -1)
    x = x.astype(jnp.result_type(float))
    if mask is None:
        mask = jnp.ones(len(x), bool)
    first = jax.lax.dynamic_slice_in_dim(x, jnp.argmax(mask), 1)
    x = jnp.where(mask[:, None], x - first, 0)
    # a product with ones: on CPU several times faster than a sum over the first axis
    total = jnp.matmul(jnp.ones((1, len(x)), x.dtype), x, precision=_HIGHEST)
    mean = total / jnp.maximum(mask.sum(), 1).astype(x.dtype)
    return jnp.where(mask[:, None], x - mean, 0)


def unit_scale(x: Array) -> tuple[Array, Int[Array, ""]]:
    """X divided by the power of two at its largest entry, exactly, and the exponent of that."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    exponent = jnp.frexp(largest)[1]
    return jnp.ldexp(x, -exponent), exponent


def squared_distances(x: Array, mask: Array) -> Float[Array, "B B"]:
    """‖x − x'‖² between all rows, in units of a power of two; exactly 0 on the diagonal.

    Numerics: from inner products of centred features, so to about 1e-6 of the largest.
    """
    z = unit_scale(centred(x, mask))[0]
    products = jnp.matmul(z, z.T, precision=_HIGHEST)
    lengths = jnp.diagonal(products)
    squares = jnp.maximum(lengths[:, None] + lengths[None, :] - 2 * products, 0)
    return jnp.where(jnp.eye(len(z), dtype=bool), 0, squares)


def _median(squares: Array, mask: Array) -> Array:
    """The median over all pairs of unmasked rows."""
    valid = mask[:, None] & mask[None, :]
    ascending = jnp.sort(jnp.where(valid, squares, jnp.inf).reshape(-1))
    count = jnp.maximum(valid.sum(), 1)
    return (ascending[(count - 1) // 2] + ascending[count // 2]) / 2
