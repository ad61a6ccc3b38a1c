"""Kernels of CKA: the similarity of two examples in the features of a layer.

A kernel turns features [n, D] into the Gram matrix [n, n]. All are normalised so that the
scale of the features does not matter. Equal options give the same object, so that compiled
code is reused.

Cost: 2n²·D flops a Gram matrix; `rbf` also sorts n² numbers for its median.

References: S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network
representations revisited, 2019 (linear and RBF with the median heuristic); G. Székely,
M. Rizzo, N. Bakirov, Measuring and testing dependence by correlation of distances, 2007.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlx.core import public, shown
from tlx.core.tree import unit_scale

__dir__ = public.names(__name__)

_HIGHEST = jax.lax.Precision.HIGHEST
_FEW = 16  # rows whose mean is within a quarter of the spread of the mean of all


@shown.short
class Kernel(NamedTuple):
    """A kernel, by its Gram matrix and, where there is one, by a feature map of few dimensions.

    Attributes:
      name: with its options, as shown in records.
      gram: `(x [B, D], mask [B]) -> (gram [B, B], exponent)`, int32: the kernel is
        2^exponent·gram, up to one constant for all entries, which centring removes.
        Finite where a row is masked, whatever it contains.
      rows: `(x, mask) -> z [B, D']`, centred over the unmasked rows and zero in the masked
        ones, with z zᵀ the centred kernel; None where there is no such map of few dimensions.
      is_linear: whether the kernel is a sum over features, as `feature_corrected` needs it.
    """

    name: str
    gram: Callable[[Array, Array], tuple[Array, Array]]
    rows: Callable[[Array, Array], Array] | None = None
    is_linear: bool = False


def linear() -> Kernel:
    """⟨x, x'⟩ of centred features. Invariant to translation and orthogonal maps."""
    return _LINEAR


def cosine() -> Kernel:
    """⟨x, x'⟩ / (‖x‖ ‖x'‖): each example scaled to length 1, not centred before.

    Invariant to orthogonal maps and to the length of each example, not to translation. An
    example of zeros has no direction: the result is NaN.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> from tlx.analyses.features.similarity import kernels
    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> longer = jnp.arange(1.0, 51.0)[:, None] * x  # each example in its direction
    >>> round(float(features.cka(x, longer, kernel=kernels.cosine())), 3)
    1.0
    >>> float(features.cka(x, longer)) < 0.9
    True
    """
    return _COSINE


def distance() -> Kernel:
    """−‖x − x'‖, with which CKA is the squared distance correlation."""
    return _DISTANCE


def rbf(bandwidth: float = 0.5) -> Kernel:
    """exp(−‖x − x'‖² / (2σ²)), σ = bandwidth · median distance.

    The median is over all n² pairs of the batch, an example with itself included, as in
    Kornblith et al.; in a stream it is taken per batch.

    Args:
      bandwidth: above 0; the paper used 0.2 to 0.8.

    Raises:
      ValueError: for a bandwidth that is not positive.
    """
    if not bandwidth > 0:
        raise ValueError(f"expected a bandwidth above 0, got {bandwidth}")
    return _rbf(float(bandwidth))


def polynomial(degree: int = 3, offset: float = 1.0) -> Kernel:
    """(⟨x, x'⟩ / s + offset)^degree of centred features, s their mean squared length.

    Args:
      degree: an integer of at least 1.
      offset: the weight of the lower degrees; 0 leaves only the highest.

    Raises:
      ValueError: for another degree.
    """
    if degree < 1 or degree != int(degree):
        raise ValueError(f"expected an integer degree of at least 1, got {degree}")
    return _polynomial(int(degree), float(offset))


def _linear_gram(x: Array, mask: Array) -> tuple[Array, Array]:
    z, exponent = shifted(x, mask)
    return jnp.matmul(z, z.T, precision=_HIGHEST), 2 * exponent


def _cosine_gram(x: Array, mask: Array) -> tuple[Array, Array]:
    return _linear_gram(unit_rows(x), mask)


def _cosine_rows(x: Array, mask: Array) -> Array:
    z = centred(unit_rows(x), mask)
    rounding = 8 * float(jnp.finfo(z.dtype).eps)  # of the division, where all are equal
    return jnp.where(jnp.max(jnp.abs(z), initial=0) <= rounding, 0, z)


def _distance_gram(x: Array, mask: Array) -> tuple[Array, Array]:
    squares, exponent = _scaled_squares(x, mask)
    return -root(squares), exponent


@functools.lru_cache(maxsize=256)
def _rbf(bandwidth: float) -> Kernel:
    def gram(x: Array, mask: Array) -> tuple[Array, Array]:
        squares, _ = _scaled_squares(x, mask)
        scale = 2 * bandwidth**2 * _median(squares, mask)
        # minus 1, so that a wide kernel keeps its digits; a median of zero is the limit of
        # 0 between equal examples and −1 between others
        narrow = -(squares != 0).astype(squares.dtype)
        wide = jnp.expm1(-squares / jnp.where(scale == 0, 1, scale))
        return jnp.where(scale == 0, narrow, wide), jnp.zeros((), jnp.int32)

    return Kernel(f"rbf({bandwidth:g})", gram)


@functools.lru_cache(maxsize=256)
def _polynomial(degree: int, offset: float) -> Kernel:
    weights = [math.comb(degree, k) * offset ** (degree - k) for k in range(1, degree + 1)]

    def gram(x: Array, mask: Array) -> tuple[Array, Array]:
        z = unit_scale(centred(x, mask))[0]
        products = jnp.matmul(z, z.T, precision=_HIGHEST)
        mean = jnp.trace(products) / jnp.maximum(mask.sum(), 1).astype(z.dtype)
        products = products / jnp.where(mean == 0, 1, mean)
        raised = jnp.zeros_like(products)  # minus offset^degree, the same everywhere
        for weight in reversed(weights):
            raised = (raised + weight) * products
        return raised, jnp.zeros((), jnp.int32)

    return Kernel(f"polynomial({degree}, {offset:g})", gram)


def centred(features: Array, mask: Bool[Array, " B"] | None = None) -> Float[Array, "B D"]:
    """Features [B, ...] as [B, D], less their mean over the unmasked rows; masked rows are 0.

    The first unmasked row is subtracted before the mean is taken, so that constant features become
    exact zeros and a large offset costs no accuracy.
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


def shifted(x: Array, mask: Bool[Array, " B"]) -> tuple[Float[Array, "B D"], Int[Array, ""]]:
    """The rows less the mean of a few of them, over 2^exponent; and the exponent.

    Sufficient for a Gram matrix that is centred afterwards: the remaining offset is within the
    spread, which is about 1. Masked rows are 0, and constant features exactly 0.
    Several times cheaper than `centred`, which reads all rows twice more.
    """
    x = x.astype(jnp.result_type(float))
    start, few = jnp.argmax(mask), min(len(x), _FEW)
    first = jax.lax.dynamic_slice_in_dim(x, start, 1)
    counted = jax.lax.dynamic_slice_in_dim(mask, start, few)
    rows = jax.lax.dynamic_slice_in_dim(x, start, few)
    apart = jnp.where(counted[:, None], rows - first, 0)
    count = jnp.maximum(counted.sum(), 1).astype(x.dtype)
    centre = first + apart.sum(0, keepdims=True) / count
    unit = jax.lax.cond(
        (apart == 0).all(),  # of rows that are equal there is no spread
        lambda: unit_scale(jnp.where(mask[:, None], x - centre, 0))[1],
        lambda: unit_scale(apart)[1],
    )
    exponent = jnp.clip(unit, -_most(x.dtype), _most(x.dtype))
    scale = jnp.ldexp(jnp.ones((), x.dtype), -exponent)
    # most batches are full: XLA on CPU takes several times as long where it has to select
    z = jax.lax.cond(
        mask.all(),
        lambda: (x - centre) * scale,
        lambda: jnp.where(mask[:, None], (x - centre) * scale, 0),
    )
    return z, exponent


def unit_rows(x: Array) -> Float[Array, "B D"]:
    """Each row divided by its length; NaN for a row of zeros."""
    x = jax.vmap(lambda row: unit_scale(row)[0])(x.astype(jnp.result_type(float)))
    return x / jnp.sqrt(jnp.square(x).sum(1, keepdims=True))


def squared_distances(x: Array, mask: Array) -> Float[Array, "B B"]:
    """‖x − x'‖² between all rows, in units of a power of two; exactly 0 on the diagonal.

    Numerics: from inner products of centred features, so accurate to about 1e-6 of the largest.
    """
    return _scaled_squares(x, mask)[0]


def _scaled_squares(x: Array, mask: Array) -> tuple[Array, Array]:
    """The squared distances, and the exponent of the distances' unit."""
    z, exponent = unit_scale(centred(x, mask))
    products = jnp.matmul(z, z.T, precision=_HIGHEST)
    lengths = jnp.diagonal(products)
    squares = jnp.maximum(lengths[:, None] + lengths[None, :] - 2 * products, 0)
    return jnp.where(jnp.eye(len(z), dtype=bool), 0, squares), exponent


def root(squares: Array) -> Array:
    """Distances from their squares; between equal examples 0, with derivative 0."""
    return jnp.where(squares == 0, 0, jnp.sqrt(jnp.where(squares == 0, 1, squares)))


def _median(squares: Array, mask: Array) -> Array:
    """The median over all pairs of unmasked rows."""
    valid = mask[:, None] & mask[None, :]
    ascending = jnp.sort(jnp.where(valid, squares, jnp.inf).reshape(-1))
    count = jnp.maximum(valid.sum(), 1)
    return (ascending[(count - 1) // 2] + ascending[count // 2]) / 2


def _most(dtype: jnp.dtype) -> int:
    """An exponent of two that leaves room for sums."""
    return int(jnp.finfo(dtype).maxexp) - 8


_LINEAR = Kernel("linear", _linear_gram, centred, is_linear=True)
_COSINE = Kernel("cosine", _cosine_gram, _cosine_rows)
_DISTANCE = Kernel("distance", _distance_gram)
