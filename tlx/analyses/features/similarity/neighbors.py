"""Whether the same examples are nearest neighbours in two sets of features.

N(i) are the k examples, other than i, that are least dissimilar to example i. If more examples
tie for the last places than there are places, they share these: with c examples strictly nearer
and t tied, each of the t is a neighbour with weight (k − c)/t. So m_ij, the weight of j as a
neighbour of i, sums to k over j and does not depend on the order of the examples. (Taking the
first of the tied examples would favour the same ones in both sets, and so matching pairs over
others.) The neighbours in common are min(m_x, m_y), the intersection if there are no ties.

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

from tlx.analyses.features.similarity import _comparison, kernels, rsa
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.analyses.features.similarity.rsa import Dissimilarity
from tlx.core import public

__dir__ = public.names(__name__)

_HIGHEST = jax.lax.Precision.HIGHEST


def mutual_knn(
    x: Any, y: Any, *, k: int = 10, dissimilarity: Dissimilarity = "cosine"
) -> Float[Array, ""]:
    """The share of the k nearest neighbours that two sets of features have in common.

    Σ_ij min(m_x, m_y) / (n·k), without ties Σᵢ |N_x(i) ∩ N_y(i)| / (n·k). Symmetric. With
    "cosine", as published, neighbours are those of largest inner product once each example is
    scaled to length 1: invariant to orthogonal maps and to the length of each example, not to
    translation. With "euclidean": to orthogonal maps, isotropic scaling, and translation.

    Args:
      x: [n, ...] features of n ≥ k + 2 examples; flattened to [n, Dx].
      y: [n, ...] features of the same examples.
      k: at least 1.
      dissimilarity: a name in `rsa.DISSIMILARITIES`.

    Returns:
      Scalar, 0 … 1; 1 between a set and itself. k/(n − 1) on average between unrelated
      features without ties, and more where both sets tie (min(m_x, m_y) ≥ m_x·m_y), so values
      are comparable only at equal k and n. NaN where the features are constant (all examples
      coincide), hold NaN, or, for "cosine" and "correlation", one example has no direction.

    Raises:
      ValueError: for k below 1, fewer than k + 2 examples, lengths that differ, or an unknown
        dissimilarity; TypeError for a k that is no integer. At call, also while tracing.

    Numerics: ties in exact arithmetic are ties here: those whose squared distance differs from the
      k-th by less than its rounding, 32 eps of the two examples' squared distances from the mean.
      Otherwise each example that changes places changes the value by 1/(n·k).

    Cost: n²·D operations and a few n² floats for each set; a comparison reads two matrices of
      n² floats.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> def on_circle(hours):
    ...     angles = hours * (jnp.pi / 6)
    ...     return jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)
    >>> hours = jnp.arange(12.0)  # noon is next to 1 and 11; of 5 times as fast a hand to 5 and 7
    >>> x, moved, faster = on_circle(hours), 3 * on_circle(hours + 2), on_circle(5 * hours)
    >>> [float(features.mutual_knn(x, y, k=2)) for y in (moved, faster)]
    [1.0, 0.0]
    """
    return _comparison.between(make_mutual_knn(k, dissimilarity), x, y)


def cknna(x: Any, y: Any, *, k: int = 10) -> Float[Array, ""]:
    """Centred kernel nearest-neighbour alignment: CKA on the neighbours in common.

    Each example is scaled to length 1 (not centred before), K = XXᵀ, L = YYᵀ. With the matrix
    M = min(m_x, m_y), which without ties is 1 for j in N_x(i) ∩ N_y(i) and else 0, A = M∘K and
    B = M∘L:

    h(A, B) = Σ_ij A_ij·B_ji + ΣA·ΣB / ((n − 1)(n − 2)) − 2/(n − 2)·1ᵀAB1,

    which is n(n − 3) times the unbiased HSIC, and

    CKNNA = h(A, B) / √(h(M_x∘K, M_x∘K)·h(M_y∘L, M_y∘L)),

    M_x = m_x and M_y = m_y by the neighbours of one set alone. (With the product m_x·m_y instead of
    the minimum, a set with ties would not be most similar to itself.) Without ties this is what
    the authors' code computes on rows scaled as in their experiments, except for the 1e-6 that it
    adds to the denominator, which changes small values. It follows from the definition:

    - M is not symmetric: j can be among the nearest of i without i being among those of j. The
      first sum therefore holds only mutual neighbours, and h(A, B) ≠ h(B, A):
      exchanging x and y changes the value.
    - The diagonal is never a neighbour and does not contribute.
    - A and B are zero outside of M, and M is the same in both. If the features' mean is large, all
      of K is near 1, and the value shows only how far the neighbours agree.
    - At k = n − 1, M is all pairs: the debiased linear CKA of the scaled rows. Only there does
      the centring have its usual meaning.

    Invariant to orthogonal maps and to the length of each example; not to translation.

    Args:
      x: [n, ...] features of n examples, n above k and at least 4; flattened to [n, Dx].
      y: [n, ...] features of the same examples.
      k: at least 2.

    Returns:
      Scalar without bounds, since h is not an inner product: 1 between a set and itself, but up to
      1.5 was seen between different sets for k near n. Not 0 on average between unrelated
      features unless k = n − 1. NaN where h of one set alone is not positive, features are
      constant or hold NaN, or an example is all zeros.

    Raises:
      ValueError: for k below 2, fewer than k + 1 or 4 examples, or lengths that differ;
        TypeError for a k that is no integer. At call, also while tracing.

    Numerics: neighbours as in `mutual_knn`. At k = n − 1 the rows are centred first, which
      changes nothing but the rounding; below, sums of uncentred terms are subtracted, which
      costs digits as M gets full.

    Cost: as `mutual_knn`, with n² more floats to keep and to read.
    """
    return _comparison.between(make_cknna(k), x, y)


def make_mutual_knn(k: int = 10, dissimilarity: Dissimilarity = "cosine") -> Comparison:
    """`mutual_knn` as a comparison; prepared are floats [n, n].

    Raises:
      ValueError: for k below 1 or an unknown dissimilarity; TypeError for a k that is no integer.
    """
    rsa.dissimilarity_of(dissimilarity)
    return _mutual_knn(_checked(k, least=1), dissimilarity)


def make_cknna(k: int = 10) -> Comparison:
    """`cknna` as a comparison; prepared are two matrices of floats [n, n].

    Raises:
      ValueError: for k below 2; TypeError for a k that is no integer.
    """
    return _cknna(_checked(k, least=2))


class _Neighbors(NamedTuple):
    """The weights of examples as neighbours, 0 … 1, and whether some are nearer than others."""

    near: Float[Array, "n n"]
    defined: Bool[Array, ""]


class _Kernel(NamedTuple):
    """A set's neighbours by row, its kernel, and its h with itself (NaN unless positive)."""

    near: Float[Array, "n n"]
    kernel: Float[Array, "n n"]
    own: Float[Array, ""]


@functools.lru_cache(maxsize=256)  # of positional options, so that equal ones share an object
def _mutual_knn(k: int, dissimilarity: Dissimilarity) -> Comparison:
    # squares have the same ranks as distances, and their rounding is known
    squared = rsa.dissimilarity_of(
        "squared_euclidean" if dissimilarity == "euclidean" else dissimilarity
    )

    def prepare(x: Array) -> _Neighbors:
        return _neighbors(squared(x), k)

    def compare(x: _Neighbors, y: _Neighbors) -> Float[Array, ""]:
        share = jnp.minimum(x.near, y.near).sum() / (len(x.near) * k)
        return jnp.where(x.defined & y.defined, share, jnp.nan)

    def reorder(x: _Neighbors, order: Array) -> _Neighbors:
        return x._replace(near=_comparison.pairs(x.near, order))

    return Comparison(prepare, compare, reorder, k + 2, f"mutual_knn with k = {k}")


@functools.lru_cache(maxsize=256)
def _cknna(k: int) -> Comparison:
    def prepare(x: Array) -> _Kernel:
        near, defined = _neighbors(rsa.dissimilarity_of("cosine")(x), k)
        rows = kernels.unit_rows(x)
        if k == len(x) - 1:
            rows = kernels.centred(rows)
        kernel = jnp.matmul(rows, rows.T, precision=_HIGHEST)
        masked = near * kernel
        own = _h(masked, masked)
        # of sums of n² numbers in any order, whose signs do not cancel
        rounding = 2 * len(x) * float(jnp.finfo(kernel.dtype).eps) * _sizes(masked, masked)
        defined &= own > rounding
        return _Kernel(near, kernel, jnp.where(defined, own, jnp.nan))

    def compare(x: _Kernel, y: _Kernel) -> Float[Array, ""]:
        near = jnp.minimum(x.near, y.near)
        together = _h(near * x.kernel, near * y.kernel)
        return together / (jnp.sqrt(x.own) * jnp.sqrt(y.own))

    def reorder(x: _Kernel, order: Array) -> _Kernel:
        near, kernel = _comparison.pairs((x.near, x.kernel), order)
        return _Kernel(near, kernel, x.own)

    return Comparison(prepare, compare, reorder, max(k + 1, 4), f"cknna with k = {k}")


def _neighbors(d: Float[Array, "n n"], k: int) -> _Neighbors:
    """The k least dissimilar examples of each, by squared distances; ties share places."""
    means = d.mean(1)
    lengths = means - means.mean() / 2  # the squared distances from the mean of all
    rounding = 32 * float(jnp.finfo(d.dtype).eps) * (lengths[:, None] + lengths[None, :])
    alone = jnp.where(jnp.eye(len(d), dtype=bool), jnp.inf, d)
    beyond = alone - _kth_least(alone, k)[:, None]
    closer, tied = beyond < -rounding, jnp.abs(beyond) <= rounding
    left = (k - closer.sum(1)).astype(d.dtype)
    share = left / jnp.maximum(tied.sum(1), 1).astype(d.dtype)
    near = jnp.where(closer, 1, jnp.where(tied, share[:, None], 0))
    return _Neighbors(near, d.max() > 0)  # false for NaN as well


def _kth_least(d: Float[Array, "n n"], k: int) -> Float[Array, " n"]:
    """The k-th least value of each row.

    XLA sorts whole rows where top_k is of float64 or its last value is sliced, which takes 20 times
    as long: float64 goes from each value to the next one above, k times at most.
    """
    if d.dtype != jnp.float64:
        return -jax.lax.top_k(-d, k)[0].min(1)

    def next_above(_: int, value: Array) -> Array:
        is_kth = (d <= value[:, None]).sum(1) >= k
        return jnp.where(is_kth, value, jnp.where(d > value[:, None], d, jnp.inf).min(1))

    return jax.lax.fori_loop(1, k, next_above, d.min(1))


def _h(a: Array, b: Array) -> Float[Array, ""]:
    """The unbiased HSIC times n(n − 3) of matrices with a zero diagonal, symmetric or not."""
    both, totals, mixed = _terms(a, b)
    return both + totals - mixed


def _sizes(a: Array, b: Array) -> Float[Array, ""]:
    """What `_h` is the difference of, by magnitude."""
    return jnp.abs(jnp.stack(_terms(a, b))).sum()


def _terms(a: Array, b: Array) -> tuple[Array, Array, Array]:
    n = len(a)
    totals = a.sum() * b.sum() / ((n - 1) * (n - 2))
    return (a * b.T).sum(), totals, 2 / (n - 2) * (a.sum(0) * b.sum(1)).sum()


def _checked(k: int, *, least: int) -> int:
    """The number k as a plain int of at least `least`."""
    k = operator.index(k)
    if k < least:
        raise ValueError(f"expected k of at least {least}, got {k}")
    return k
