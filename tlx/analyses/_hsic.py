"""The arithmetic of linear CKA: Gram matrices of features and their inner products.

For centred features Z [n, D] of n examples, with K = ZZᵀ: the biased form is ⟨K, L⟩ =
(n − 1)²·HSIC₀; the debiased form takes the U-centred matrix K~, for i ≠ j
K~ᵢⱼ = Kᵢⱼ − mᵢ − mⱼ and zero on the diagonal, and ⟨K~, L~⟩ = n(n − 3)·HSIC₁.
Expanding the sums links the two: with k, l the diagonals of the centred K and L,
⟨K, L⟩ = ⟨K~, L~⟩ + n/(n − 2)·Σ kᵢlᵢ − Σ kᵢ·Σ lᵢ / ((n − 1)(n − 2)).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

NO_SCALE = -(2**20)
"""The exponent of a layer whose Gram matrix is zero: below that of any other."""

_HIGHEST = jax.lax.Precision.HIGHEST


class Inner(NamedTuple):
    """Inner products of Gram matrices, in both forms."""

    debiased: Array
    biased: Array


class Products(NamedTuple):
    """⟨K~, L~⟩ [Lx, Ly] for all pairs of layers, ‖K~‖² [Lx] and ‖L~‖² [Ly]."""

    xy: Inner
    xx: Inner
    yy: Inner

    def ratios(self) -> Inner:
        """The CKA [Lx, Ly] in both forms; NaN where a norm is zero or NaN."""
        debiased = [_sqrt_of_more_than_rounding(norm) for norm in (self.xx, self.yy)]
        biased = [jnp.sqrt(norm.biased) for norm in (self.xx, self.yy)]
        return Inner(
            _divide(self.xy.debiased, *debiased),
            _divide(self.xy.biased, *biased),
        )


class Grams(NamedTuple):
    """The Gram matrices of L layers on the same n examples, each scaled by 2^−exponent.

    Attributes:
      off: float [L, B·B], U-centred; zero on the diagonal and where a row is masked.
      diagonal: float [L, B], of the centred matrix; zero where the row is masked.
      exponent: int32 [L].
      rows: float scalar, n.
    """

    off: Float[Array, "L BB"]
    diagonal: Float[Array, "L B"]
    exponent: Int[Array, " L"]
    rows: Float[Array, ""]


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


def grams(layers: list[Array], mask: Bool[Array, " B"]) -> Grams:
    """The Gram matrices of several layers' features, each [B, ...]."""
    centred_layers = (centred(features, mask) for features in layers)
    gram = jnp.stack([jnp.matmul(z, z.T, precision=_HIGHEST) for z in centred_layers])
    trace = jnp.trace(gram, axis1=1, axis2=2)
    exponent = jnp.clip(jnp.frexp(trace)[1], -120, 120).astype(jnp.int32)
    gram = gram * power_of_two(-exponent)[:, None, None]
    rows = mask.sum().astype(gram.dtype)
    off, diagonal = _u_centred(gram, mask, rows)
    exponent = jnp.where(trace == 0, NO_SCALE, exponent)
    return Grams(off.reshape(len(layers), -1), diagonal, exponent, rows)


def power_of_two(exponent: Int[Array, " L"]) -> Float[Array, " L"]:
    """2^exponent, exact; zero far below the smallest number."""
    return jnp.ldexp(jnp.ones(exponent.shape), jnp.maximum(exponent, -2000))


def products(x: Grams, y: Grams) -> Products:
    """The inner products of all pairs of layers, in units of 2^(exponent_x + exponent_y)."""
    return Products(
        _both_forms(
            jnp.matmul(x.off, y.off.T, precision=_HIGHEST),
            jnp.matmul(x.diagonal, y.diagonal.T, precision=_HIGHEST),
            x.diagonal.sum(-1)[:, None] * y.diagonal.sum(-1)[None, :],
            x.rows,
        ),
        _norms(x),
        _norms(y),
    )


def products_from_features(x: Float[Array, "n Dx"], y: Float[Array, "n Dy"]) -> Inner:
    """The same for one pair of centred features by their D×D products, for D below n.

    Accurate there: what is subtracted is then a small part, D/n, of ⟨K, L⟩.
    """
    n = len(x)
    biased = jnp.square(jnp.matmul(x.T, y, precision=_HIGHEST)).sum()
    k, l_ = jnp.square(x).sum(1), jnp.square(y).sum(1)
    together = n / (n - 2) * (k * l_).sum() - k.sum() * l_.sum() / ((n - 1) * (n - 2))
    return Inner(biased - together, biased)


def _u_centred(gram: Array, mask: Array, rows: Array) -> tuple[Array, Array]:
    """The U-centred matrices [L, B, B], and the diagonals [L, B] of the centred ones.

    Both from the rows' true sums, which are zero but for the rounding of the mean.
    """
    n, n_1, n_2 = (jnp.maximum(rows - i, 1) for i in range(3))
    sums, diagonal = gram.sum(1), jnp.diagonal(gram, axis1=1, axis2=2)
    total = sums.sum(1, keepdims=True)
    m = (sums - diagonal) / n_2 - (total - diagonal.sum(1, keepdims=True)) / (2 * n_1 * n_2)
    valid = mask[:, None] & mask[None, :] & ~jnp.eye(len(mask), dtype=bool)
    off = jnp.where(valid[None], gram - m[:, :, None] - m[:, None, :], 0)
    return off, jnp.where(mask[None], diagonal - 2 * sums / n + total / (n * n), 0)


def _norms(x: Grams) -> Inner:
    return _both_forms(
        jnp.square(x.off).sum(-1),
        jnp.square(x.diagonal).sum(-1),
        jnp.square(x.diagonal.sum(-1)),
        x.rows,
    )


def _both_forms(debiased: Array, diagonals: Array, traces: Array, rows: Array) -> Inner:
    n_1, n_2 = jnp.maximum(rows - 1, 1), jnp.maximum(rows - 2, 1)
    return Inner(debiased, debiased + rows / n_2 * diagonals - traces / (n_1 * n_2))


def _sqrt_of_more_than_rounding(norm: Inner) -> Array:
    """The debiased norm; zero where its square is nothing but rounding.

    Where one example alone differs from the rest the U-centred matrix is exactly zero, but
    in floating point some units in the last place of the biased one are left.
    """
    rounding = (32 * float(jnp.finfo(norm.debiased.dtype).eps)) ** 2
    return jnp.where(norm.debiased <= rounding * norm.biased, 0, jnp.sqrt(norm.debiased))


def _divide(xy: Array, norm_x: Array, norm_y: Array) -> Array:
    """Xy / (norm_x · norm_y), NaN (and no infinity) for a norm of zero."""
    norms = jnp.outer(norm_x, norm_y)
    return jnp.where(norms == 0, jnp.nan, xy / jnp.where(norms == 0, 1, norms))
