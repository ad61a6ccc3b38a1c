"""Do two sets of features give the same examples as nearest neighbours?

N(i) are the k examples, i itself left out, that are least dissimilar to example i. Where
several are equally near, those that come first in the order of the examples are taken.

References: M. Huh, B. Cheung, T. Wang, P. Isola, The Platonic Representation Hypothesis, 2024,
and the code published with it; L. Song et al., Feature selection via dependence maximization,
2012, eq. 5.
"""

import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tlx.analyses import _comparison, kernels, rsa
from tlx.analyses._comparison import Comparison

_HIGHEST = jax.lax.Precision.HIGHEST


def mutual_knn(x: Any, y: Any, *, k: int = 10, dissimilarity: str = "cosine") -> Float[Array, ""]:
    """The share of the k nearest neighbours that two sets of features have in common.

    Σᵢ |N_x(i) ∩ N_y(i)| / (n·k). Symmetric. With "cosine", as published, neighbours are those of
    largest inner product once each example is scaled to length 1: invariant to orthogonal maps
    and to the length of each example, not to translation. With "euclidean": to orthogonal maps,
    one factor on all features, and translation.

    Args:
      x: [n, ...] features of n ≥ k + 2 examples; flattened to [n, Dx].
      y: [n, ...] features of the same examples.
      k: at least 1.
      dissimilarity: which examples are near, a name in `rsa.DISSIMILARITIES`.

    Returns:
      Scalar, 0 … 1. k/(n − 1) on average between unrelated features, so values are comparable
      only at equal k and n. NaN where the features are constant (all examples coincide), hold
      NaN, or, for "cosine" and "correlation", one example has no direction.

    Raises:
      ValueError: for k below 1, fewer than k + 2 examples, lengths that differ, or an unknown
        dissimilarity; TypeError for a k that is no integer. At call, also while tracing.

    Numerics: exact but for examples whose dissimilarities agree to rounding (see `rsa.rsa`).
      Each that changes places at the border changes the value by 1/(n·k).

    Cost: n²·D operations and a few n² floats for each set; a comparison reads two matrices of
      n² bools.
    """
    return _comparison.between(make_mutual_knn(k, dissimilarity), x, y)


def cknna(x: Any, y: Any, *, k: int = 10) -> Float[Array, ""]:
    """Centred kernel nearest-neighbour alignment: CKA on the neighbours in common.

    Each example is scaled to length 1 (not centred before), K = XXᵀ, L = YYᵀ. With the matrix
    M_ij = 1 for j in N_x(i) ∩ N_y(i) and else 0, A = M∘K and B = M∘L:

    h(A, B) = Σ_ij A_ij·B_ji + ΣA·ΣB / ((n − 1)(n − 2)) − 2/(n − 2)·1ᵀAB1,

    which is n(n − 3) times the unbiased HSIC, and

    CKNNA = h(A, B) / √(h(M_x∘K, M_x∘K)·h(M_y∘L, M_y∘L)),

    M_x and M_y by the neighbours of one set alone. This is what the code of the authors computes
    on rows that are scaled as in their experiments, but for the 1e-6 that it adds to the
    denominator, which changes small values. What follows from the definition:

    - M is not symmetric, j being among the nearest of i does not make i one of j. The first sum
      therefore holds only pairs that are neighbours both ways, and h(A, B) ≠ h(B, A):
      exchanging x and y changes the value.
    - The diagonal is never a neighbour, and does not enter.
    - A and B are zero outside of M, and M is the same in both. Where the features' mean is large
      all of K is near 1, and the value tells only how far the neighbours agree.
    - At k = n − 1, M is all pairs: the debiased linear CKA of the scaled rows. Only there does
      the centring do what its name says.

    Invariant to orthogonal maps and to the length of each example; not to translation.

    Args:
      x: [n, ...] features of n examples, n above k and at least 4; flattened to [n, Dx].
      y: [n, ...] features of the same examples.
      k: at least 2.

    Returns:
      Scalar without bounds, h being no inner product: 1 between a set and itself, but between
      different ones up to 1.5 was seen for k near n. Not 0 on average between unrelated
      features unless k = n − 1. NaN where h of one set alone is not positive, features are
      constant or hold NaN, or an example is all zeros.

    Raises:
      ValueError: for k below 2, fewer than k + 1 or 4 examples, or lengths that differ;
        TypeError for a k that is no integer. At call, also while tracing.

    Numerics: neighbours as in `mutual_knn`. At k = n − 1 the rows are centred first, which
      changes nothing but the rounding; below, sums of uncentred terms are subtracted, which
      costs digits as M gets full.

    Cost: as `mutual_knn`, with n² floats more to keep and to read.
    """
    return _comparison.between(make_cknna(k), x, y)


def make_mutual_knn(k: int = 10, dissimilarity: str = "cosine") -> Comparison:
    """`mutual_knn` as a comparison; prepared are bools [n, n]. Reordering is exact but for ties.

    Raises:
      ValueError: for k below 1 or an unknown dissimilarity; TypeError for a k that is no integer.
    """
    rsa.dissimilarity_of(dissimilarity)
    return _mutual_knn(_checked(k, least=1), dissimilarity)


def make_cknna(k: int = 10) -> Comparison:
    """`cknna` as a comparison; prepared are bools and floats [n, n]. Reordering as above.

    Raises:
      ValueError: for k below 2; TypeError for a k that is no integer.
    """
    return _cknna(_checked(k, least=2))


class _Neighbors(NamedTuple):
    """Which examples are near, bool [n, n] by row, and whether any are nearer than others."""

    near: Bool[Array, "n n"]
    defined: Bool[Array, ""]


class _Kernel(NamedTuple):
    """A set's neighbours by row, its kernel, and h of it alone, NaN where that is not positive."""

    near: Bool[Array, "n n"]
    kernel: Float[Array, "n n"]
    own: Float[Array, ""]


@functools.cache  # on plain positions: the same object whichever way the options were given
def _mutual_knn(k: int, dissimilarity: str) -> Comparison:
    def prepare(x: Array) -> _Neighbors:
        return _neighbors(rsa.dissimilarity_of(dissimilarity)(x), k)

    def compare(x: _Neighbors, y: _Neighbors) -> Float[Array, ""]:
        share = (x.near & y.near).sum() / (len(x.near) * k)
        return jnp.where(x.defined & y.defined, share, jnp.nan)

    def reorder(x: _Neighbors, order: Array) -> _Neighbors:
        return x._replace(near=_comparison.pairs(x.near, order))

    return Comparison(prepare, compare, reorder, k + 2, f"mutual_knn with k = {k}")


@functools.cache
def _cknna(k: int) -> Comparison:
    def prepare(x: Array) -> _Kernel:
        near, defined = _neighbors(rsa.dissimilarity_of("cosine")(x), k)
        rows = rsa.unit_rows(x)
        if k == len(x) - 1:
            rows = kernels.centred(rows)
        kernel = jnp.matmul(rows, rows.T, precision=_HIGHEST)
        masked = jnp.where(near, kernel, 0)
        own, rounding = _h(masked, masked), 32 * float(jnp.finfo(kernel.dtype).eps)
        defined &= own > rounding * jnp.square(masked).sum()
        return _Kernel(near, kernel, jnp.where(defined, own, jnp.nan))

    def compare(x: _Kernel, y: _Kernel) -> Float[Array, ""]:
        near = x.near & y.near
        together = _h(jnp.where(near, x.kernel, 0), jnp.where(near, y.kernel, 0))
        return together / (jnp.sqrt(x.own) * jnp.sqrt(y.own))

    def reorder(x: _Kernel, order: Array) -> _Kernel:
        near, kernel = _comparison.pairs((x.near, x.kernel), order)
        return _Kernel(near, kernel, x.own)

    return Comparison(prepare, compare, reorder, max(k + 1, 4), f"cknna with k = {k}")


def _neighbors(d: Float[Array, "n n"], k: int) -> _Neighbors:
    """The k least dissimilar examples of each, those of lower index first among equals."""
    alone = jnp.where(jnp.eye(len(d), dtype=bool), jnp.inf, d)
    _, nearest = jax.lax.top_k(-alone, k)
    near = jnp.zeros(d.shape, bool).at[jnp.arange(len(d))[:, None], nearest].set(True)
    return _Neighbors(near, d.max() > 0)  # false for NaN as well


def _h(a: Array, b: Array) -> Float[Array, ""]:
    """N(n − 3) times the unbiased HSIC of matrices with a zero diagonal, symmetric or not."""
    n = len(a)
    totals = a.sum() * b.sum() / ((n - 1) * (n - 2))
    return (a * b.T).sum() + totals - 2 / (n - 2) * (a.sum(0) * b.sum(1)).sum()


def _checked(k: int, *, least: int) -> int:
    """K as a plain int of at least `least`."""
    k = operator.index(k)
    if k < least:
        raise ValueError(f"expected k of at least {least}, got {k}")
    return k
