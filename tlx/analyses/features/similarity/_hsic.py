"""The arithmetic of CKA: centred Gram matrices and their inner products.

For the Gram matrix K of n examples, the biased form uses the centred matrix, ⟨HKH, HLH⟩ =
(n − 1)²·HSIC₀, and the debiased form the U-centred one, K~ᵢⱼ = Kᵢⱼ − mᵢ − mⱼ for i ≠ j and
zero on the diagonal, ⟨K~, L~⟩ = n(n − 3)·HSIC₁. Expanding the sums relates the two: with k, l
the diagonals of HKH and HLH,
⟨HKH, HLH⟩ = ⟨K~, L~⟩ + n/(n − 2)·Σ kᵢlᵢ − Σ kᵢ·Σ lᵢ / ((n − 1)(n − 2)).

Let the examples of L be permuted at random. Since the rows of HKH sum to zero, and K~ also has a
zero diagonal, the means and the variance over all n! permutations are exactly
E⟨HKH, HLH⟩ = tr(HKH)·tr(HLH)/(n − 1), E⟨K~, L~⟩ = 0 and
Var⟨K~, L~⟩ = 2‖K~‖²‖L~‖²/(n(n − 3)).

Where a kernel is Z Zᵀ with few features, the products follow from Z_xᵀ Z_y (`Rows`) and are
the same numbers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tlx.analyses.features.similarity.kernels import Kernel
from tlx.core.scale import NO_SCALE, power_of_two, times_power
from tlx.core.tree import unit_scale

LEAST_ROWS = 4
"""The smallest number of examples for which the debiased estimator is defined."""

_HIGHEST = jax.lax.Precision.HIGHEST


class Cross(NamedTuple):
    """Inner products of the Gram matrices of Lx with those of Ly layers, each [Lx, Ly].

    Attributes:
      debiased: ⟨K~, L~⟩.
      biased: ⟨HKH, HLH⟩.
      chance: the mean of `biased` over permutations.
      variance: that of `debiased` over permutations.
    """

    debiased: Array
    biased: Array
    chance: Array
    variance: Array


class Norms(NamedTuple):
    """Squared norms of the Gram matrices of L layers, each [L].

    Attributes:
      debiased: ‖K~‖².
      biased: ‖HKH‖².
      corrected: ‖K~‖² less the products of a feature with itself, D/(D − 1)·(‖K~‖² − Σ_q ‖K~_q‖²)
        with K_q the Gram matrix of feature q alone; zeros where it was not requested.
    """

    debiased: Array
    biased: Array
    corrected: Array


class Grams(NamedTuple):
    """The Gram matrices of L layers on the same n examples, each scaled by 2^−exponent.

    Attributes:
      off: float [L, B·B], U-centred; zero on the diagonal and where a row is masked.
      diagonal: float [L, B], of the centred matrix; zero where the row is masked.
      same: float [L], Σ_q ‖K~_q‖² over features, and factor: float [L], D/(D − 1).
      exponent: int32 [L].
      rows: float scalar, n.
    """

    off: Float[Array, "L BB"]
    diagonal: Float[Array, "L B"]
    same: Float[Array, " L"]
    factor: Float[Array, " L"]
    exponent: Int[Array, " L"]
    rows: Float[Array, ""]


class Rows(NamedTuple):
    """The centred features of L layers on the same n examples; as `Grams`, with Z Zᵀ the matrix."""

    z: tuple[Float[Array, "B D"], ...]
    diagonal: Float[Array, "L B"]
    same: Float[Array, " L"]
    factor: Float[Array, " L"]
    exponent: Int[Array, " L"]
    rows: Float[Array, ""]


def grams(kernel: Kernel, layers: list[Array], mask: Bool[Array, " B"], corrected: bool) -> Grams:
    """The Gram matrices of several layers' features, each [B, D].

    Args:
      kernel: the kernel between examples.
      layers: features; masked rows may hold anything.
      mask: which rows count.
      corrected: whether the products of a feature with itself are needed; for the linear kernel.
    """
    found = [kernel.gram(features, mask) for features in layers]
    gram = jnp.stack([each for each, _ in found])
    own = jnp.stack([exponent for _, exponent in found]).astype(jnp.int32)
    same = []
    if corrected:
        assert kernel.rows is not None
        same = [_same_feature(kernel.rows(features, mask), mask) for features in layers]
    gram = jnp.where((mask[:, None] & mask[None, :])[None], gram, 0)
    size = jnp.max(jnp.abs(gram), axis=(1, 2))
    shift = jnp.where(jnp.isfinite(size), jnp.frexp(size)[1], 0).astype(jnp.int32)
    gram = gram * power_of_two(-shift)[:, None, None]
    exponent = own + shift
    rows = mask.sum().astype(gram.dtype)
    off, diagonal = _without_rounding(gram, *u_centred(gram, mask, rows))
    selves = _in_units(same, exponent) if same else jnp.zeros(len(layers), gram.dtype)
    exponent = jnp.where(size == 0, NO_SCALE, exponent)
    return Grams(off.reshape(len(layers), -1), diagonal, selves, _factors(layers), exponent, rows)


def rows_of(kernel: Kernel, layers: list[Array], mask: Bool[Array, " B"], corrected: bool) -> Rows:
    """As `grams`, for kernels with `rows`: nothing of size B·B is formed."""
    assert kernel.rows is not None
    scaled = [unit_scale(kernel.rows(features, mask)) for features in layers]
    z = tuple(part for part, _ in scaled)
    exponent = jnp.stack([2 * e for _, e in scaled]).astype(jnp.int32)
    diagonal = jnp.stack([jnp.square(part).sum(1) for part in z])
    same = [_same_feature(part, mask) for part in z] if corrected else []
    zero = jnp.zeros(len(layers), jnp.int32)
    selves = _in_units(same, zero) if same else jnp.zeros(len(layers), diagonal.dtype)
    exponent = jnp.where(diagonal.sum(-1) == 0, NO_SCALE, exponent)
    rows = mask.sum().astype(diagonal.dtype)
    return Rows(z, diagonal, selves, _factors(layers), exponent, rows)


def as_grams(x: Rows) -> Grams:
    """The Gram matrices of the given features; every row counts."""
    gram = jnp.stack([jnp.matmul(z, z.T, precision=_HIGHEST) for z in x.z])
    off, diagonal = u_centred(gram, jnp.ones(gram.shape[1], bool), x.rows)
    return Grams(off.reshape(len(gram), -1), diagonal, x.same, x.factor, x.exponent, x.rows)


def cross(x: Grams | Rows, y: Grams | Rows) -> Cross:
    """The inner products of all pairs of layers, in units of 2^(exponent_x + exponent_y)."""
    if isinstance(x, Rows) and isinstance(y, Rows):
        biased = _squared_blocks(x.z, y.z)
        debiased = biased - _of_diagonals(x, y)
    else:
        x, y = (as_grams(side) if isinstance(side, Rows) else side for side in (x, y))
        debiased = jnp.matmul(x.off, y.off.T, precision=_HIGHEST)
        biased = debiased + _of_diagonals(x, y)
    n_1 = jnp.maximum(x.rows - 1, 1)
    chance = jnp.outer(x.diagonal.sum(-1), y.diagonal.sum(-1)) / n_1
    pairs = jnp.maximum(x.rows * (x.rows - 3), 1)
    variance = 2 * jnp.outer(norms(x).debiased, norms(y).debiased) / pairs
    return Cross(debiased, biased, chance, variance)


def norms(x: Grams | Rows) -> Norms:
    """The squared norms of all layers, in units of 2^(2·exponent)."""
    n_1, n_2 = jnp.maximum(x.rows - 1, 1), jnp.maximum(x.rows - 2, 1)
    squares, trace = jnp.square(x.diagonal).sum(-1), x.diagonal.sum(-1)
    together = x.rows / n_2 * squares - jnp.square(trace) / (n_1 * n_2)
    if isinstance(x, Rows):
        biased = jnp.stack([jnp.square(jnp.matmul(z.T, z, precision=_HIGHEST)).sum() for z in x.z])
        debiased = biased - together
        # of a difference; equal small terms of a long sum are all rounded in the same direction
        rounding = jnp.clip(2 * x.rows, 32, 8192) * float(jnp.finfo(debiased.dtype).eps)
        debiased = jnp.where(debiased <= rounding * biased, 0, debiased)
    else:
        debiased = jnp.square(x.off).sum(-1)
        biased = debiased + together
    return Norms(debiased, biased, x.factor * (debiased - x.same))


def ratio(xy: Cross, xx: Norms, yy: Norms, estimator: str) -> Array:
    """The CKA [Lx, Ly]; NaN where a norm is NaN or zero (or, corrected, not positive).

    The three are sums over the same batches, in the same units.
    """
    if estimator == "biased":
        return _divide(xy.biased, jnp.sqrt(xx.biased), jnp.sqrt(yy.biased))
    field = "corrected" if estimator == "feature_corrected" else "debiased"
    lengths = [_sqrt_of_more_than_rounding(getattr(z, field), z.biased) for z in (xx, yy)]
    return _divide(xy.debiased, *lengths)


def reordered(x: Grams | Rows, order: Int[Array, " n"]) -> Grams | Rows:
    """The same layers with the examples in another order; every row counts."""
    diagonal = x.diagonal[:, order]
    if isinstance(x, Rows):
        return x._replace(z=tuple(z[order] for z in x.z), diagonal=diagonal)
    square = x.off.reshape(len(x.off), len(order), len(order))
    off = square[:, order][:, :, order].reshape(x.off.shape)
    return x._replace(off=off, diagonal=diagonal)


def _of_diagonals(x: Grams | Rows, y: Grams | Rows) -> Array:
    """The excess of the biased inner products over the debiased ones."""
    n_1, n_2 = jnp.maximum(x.rows - 1, 1), jnp.maximum(x.rows - 2, 1)
    together = jnp.matmul(x.diagonal, y.diagonal.T, precision=_HIGHEST)
    traces = jnp.outer(x.diagonal.sum(-1), y.diagonal.sum(-1))
    return x.rows / n_2 * together - traces / (n_1 * n_2)


def _squared_blocks(x: tuple[Array, ...], y: tuple[Array, ...]) -> Array:
    """‖Z_xᵀ Z_y‖² for all pairs, from one product of all layers' features side by side."""
    product = jnp.matmul(jnp.concatenate(x, 1).T, jnp.concatenate(y, 1), precision=_HIGHEST)
    left = jnp.matmul(_blocks(x), jnp.square(product), precision=_HIGHEST)
    return jnp.matmul(left, _blocks(y).T, precision=_HIGHEST)


def _blocks(layers: tuple[Array, ...]) -> Array:
    """[L, ΣD], one where a feature belongs to a layer."""
    owner = np.repeat(np.arange(len(layers)), [z.shape[1] for z in layers])
    return jnp.asarray(np.arange(len(layers))[:, None] == owner, layers[0].dtype)


def _same_feature(z: Array, mask: Array) -> tuple[Array, Array]:
    """Σ_q ‖K~_q‖² of centred features, and the exponent of its unit, a power of two."""
    z, exponent = unit_scale(z)
    n = mask.sum().astype(z.dtype)
    n_1, n_2 = jnp.maximum(n - 1, 1), jnp.maximum(n - 2, 1)
    squares = jnp.square(z)
    second, fourth = squares.sum(0), jnp.square(squares).sum(0)
    each = jnp.square(second) * (1 + 1 / (n_1 * n_2)) - n / n_2 * fourth
    return each.sum(), 4 * exponent


def _in_units(same: list[tuple[Array, Array]], exponent: Array) -> Array:
    """The sums over features in units of 2^(2·exponent)."""
    return jnp.stack(
        [times_power(v, e - 2 * own) for (v, e), own in zip(same, exponent, strict=True)]
    )


def _factors(layers: list[Array]) -> Array:
    """D/(D − 1) of each layer; NaN for a single feature."""
    dims = [x.shape[1] for x in layers]
    return jnp.array([d / (d - 1) if d > 1 else float("nan") for d in dims], jnp.result_type(float))


def u_centred(gram: Array, mask: Array, rows: Array) -> tuple[Array, Array]:
    """The U-centred matrices [L, B, B], and the diagonals [L, B] of the centred ones."""
    n, n_1, n_2 = (jnp.maximum(rows - i, 1) for i in range(3))
    sums, diagonal = gram.sum(1), jnp.diagonal(gram, axis1=1, axis2=2)
    total = sums.sum(1, keepdims=True)
    m = (sums - diagonal) / n_2 - (total - diagonal.sum(1, keepdims=True)) / (2 * n_1 * n_2)
    valid = mask[:, None] & mask[None, :] & ~jnp.eye(len(mask), dtype=bool)
    off = jnp.where(valid[None], gram - m[:, :, None] - m[:, None, :], 0)
    return off, jnp.where(mask[None], diagonal - 2 * sums / n + total / (n * n), 0)


def _without_rounding(gram: Array, off: Array, diagonal: Array) -> tuple[Array, Array]:
    """Zeros for layers whose centred matrix is nothing but rounding error of the uncentred one.

    This happens for constant features under a kernel that is not centred itself, such as RBF.
    """
    rounding = (32 * float(jnp.finfo(gram.dtype).eps)) ** 2
    total = jnp.square(gram).sum((1, 2))
    nothing = jnp.square(off).sum((1, 2)) + jnp.square(diagonal).sum(-1) <= rounding * total
    return jnp.where(nothing[:, None, None], 0, off), jnp.where(nothing[:, None], 0, diagonal)


def _sqrt_of_more_than_rounding(norm: Array, biased: Array) -> Array:
    """The norm; zero where its square is negative or nothing but rounding error.

    If a single example differs from the rest, the U-centred matrix is exactly zero, but in
    floating point some units in the last place of the biased one remain.
    """
    rounding = (32 * float(jnp.finfo(norm.dtype).eps)) ** 2
    nothing = norm <= rounding * biased
    return jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, 1, norm)))


def _divide(xy: Array, norm_x: Array, norm_y: Array) -> Array:
    """Xy / (norm_x · norm_y), NaN (and no infinity) for a norm of zero."""
    norms = jnp.outer(norm_x, norm_y)
    return jnp.where(norms == 0, jnp.nan, xy / jnp.where(norms == 0, 1, norms))
