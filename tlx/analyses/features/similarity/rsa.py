"""Representational similarity analysis: whether the same examples lie far apart in two layers.

Each set of features on n examples is turned into the dissimilarities of all n(n − 1)/2 pairs of
examples, and these are compared. This makes features of different widths comparable.

The dissimilarities, with what leaves them unchanged up to one factor for all pairs:

- "correlation": 1 − Pearson correlation of the two feature vectors. The scale of each example,
  and a number added to all features of an example.
- "cosine": 1 − cosine of the two feature vectors. The scale of each example, and orthogonal maps.
- "euclidean", "squared_euclidean": ‖x − x'‖ or its square. Translation (the same vector added to
  every example), one factor on all features, and orthogonal maps.

Neither of the first two is invariant to translation, and "correlation" depends on the axes: an
orthogonal map changes it.

The comparisons of the pairs:

- "pearson": correlation.
- "spearman": correlation of the ranks, pairs that tie sharing the mean of their ranks.
- "rho_a": the mean of Spearman's correlation over all orders of tied pairs. Spearman's
  correlation rewards ties, such as those of features that only encode a class; this one does
  not. Kendall's τ_a, recommended for that reason, compares all pairs of pairs; this needs only a
  sort, so τ_a is not offered.
- "cosine": inner product over the norms, not centred: a dissimilarity of 0 is meaningful.

References: N. Kriegeskorte, M. Mur, P. Bandettini, Representational similarity analysis –
connecting the branches of systems neuroscience, 2008; H. Nili et al., A toolbox for
representational similarity analysis, 2014 (ties); H. Schütt et al., Statistical inference on
representational geometries, 2023 (ρ_a).
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tlx.analyses.features.similarity import _comparison, kernels
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.core import checks, public

__dir__ = public.names(__name__)

Dissimilarity = Literal["correlation", "cosine", "euclidean", "squared_euclidean"]

Compare = Literal["pearson", "spearman", "rho_a", "cosine"]

_BITS = {"float32": (8, 16, jnp.int32), "float64": (11, 40, jnp.int64)}
"""The bits of exponent and mantissa that distinguish pairs, and the integer type."""


def rsa(
    x: Any,
    y: Any,
    *,
    dissimilarity: Dissimilarity = "correlation",
    compare: Compare = "spearman",
) -> Float[Array, ""]:
    """The agreement of the dissimilarities of all pairs of examples in two sets of features.

    Symmetric, and invariant to a positive factor on either set; the module's text lists the
    further invariances of each dissimilarity. For "spearman" and "rho_a", "euclidean" and
    "squared_euclidean" are the same, since only the order counts.

    Args:
      x: [n, ...] features of n ≥ 3 examples; flattened to [n, Dx].
      y: [n, ...] features of the same examples.
      dissimilarity: a name in DISSIMILARITIES.
      compare: a name in COMPARISONS.

    Returns:
      Scalar, −1 … 1; "cosine" 0 … 1. 1 between a set and itself, except that ties lower
      "rho_a". Not 0 on average between unrelated features for the comparison
      "cosine". NaN where the features are constant, all pairs are equally dissimilar (except
      with "cosine"), features hold NaN, or, for "correlation" and "cosine", one example has no
      direction: equal features in the former case, zeros in the latter.

    Raises:
      ValueError: for unknown names, lengths that differ or fewer than 3 examples. At call, also
        while tracing.

    Numerics: dissimilarities are ‖u − v‖² from the inner products of centred rows (of length 1
      for "correlation" and "cosine"), so an offset costs no accuracy; in float32 good to about
      1e-6 of the two squared distances from the mean. Equal examples are at exactly 0. Before
      ranks are taken, 16 bits are kept (float64: 40): ties in exact arithmetic would otherwise
      be ordered by rounding error, which can change the value arbitrarily.

    Cost: n²·D operations and a few n² floats for each set; for ranks also a sort of n²/2 numbers,
      on CPU the longest part.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> x = jnp.array([[0.0], [1.0], [3.0], [7.0]])  # all six distances differ
    >>> y = jnp.concatenate([x + 5, x**1.1], 1)  # of another width, farther apart
    >>> round(float(features.rsa(x, y, dissimilarity="euclidean")), 3)  # in the same order
    1.0
    """
    return _comparison.between(make_rsa(dissimilarity, compare), x, y)


def make_rsa(
    dissimilarity: Dissimilarity = "correlation", compare: Compare = "spearman"
) -> Comparison:
    """`rsa` as a comparison; prepared is a float matrix [n, n], zero on the diagonal.

    The comparison is the sum of the elementwise product of two such matrices.

    Raises:
      ValueError: for a name that is not in DISSIMILARITIES or COMPARISONS.
    """
    dissimilarity_of(dissimilarity)
    if compare not in COMPARISONS:
        raise ValueError(checks.unknown("comparison of dissimilarities", compare, COMPARISONS))
    return _make(dissimilarity, compare)


@functools.lru_cache(maxsize=256)  # of positional options, so that equal ones share an object
def _make(dissimilarity: Dissimilarity, compare: Compare) -> Comparison:
    def prepare(x: Array) -> Float[Array, "n n"]:
        return COMPARISONS[compare](DISSIMILARITIES[dissimilarity](x))

    def inner(a: Array, b: Array) -> Float[Array, ""]:
        return (a * b).sum()

    return Comparison(prepare, inner, _comparison.pairs, 3, f"rsa ({dissimilarity}, {compare})")


def dissimilarity_of(name: Dissimilarity) -> Callable[[Array], Array]:
    """The function `(features [n, D]) -> float [n, n]` of a name in DISSIMILARITIES.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in DISSIMILARITIES:
        raise ValueError(checks.unknown("dissimilarity", name, DISSIMILARITIES))
    return DISSIMILARITIES[name]


def _squared_euclidean(x: Array) -> Array:
    return kernels.squared_distances(x, jnp.ones(len(x), bool))


def _euclidean(x: Array) -> Array:
    return kernels.root(_squared_euclidean(x))


def _cosine(x: Array) -> Array:
    """‖u − v‖² of unit vectors, twice 1 − cosine: accurate also where all cosines are near 1."""
    z = kernels.centred(kernels.unit_rows(x))
    # parallel examples: their unit vectors differ by rounding error only
    rounding = 8 * float(jnp.finfo(z.dtype).eps)
    return _squared_euclidean(jnp.where(jnp.abs(z).max() <= rounding, 0, z))


def _correlation(x: Array) -> Array:
    return _cosine(kernels.centred(x.T).T)


DISSIMILARITIES: Mapping[Dissimilarity, Callable[[Array], Array]] = MappingProxyType(
    {
        "correlation": _correlation,
        "cosine": _cosine,
        "euclidean": _euclidean,
        "squared_euclidean": _squared_euclidean,
    }
)
"""Features [n, D] to the dissimilarities [n, n], up to a positive factor; 0 on the diagonal."""


def _ranks(d: Array) -> Array:
    """The ranks 1 … n(n − 1)/2 of the pairs, equal ones sharing their mean; 0 on the diagonal."""
    n = len(d)
    pair = jnp.arange(n * (n - 1) // 2)
    i = pair % n  # with each of the n/2 that follow it, cyclically: every pair once
    j = (i + pair // n + 1) % n
    exponent, mantissa, integer = _BITS[d.dtype.name]
    rounded = jax.lax.reduce_precision(jnp.abs(d[i, j]), exponent, mantissa)
    # bit patterns of non-negative numbers have the same order, and integers sort faster
    bits = jax.lax.bitcast_convert_type(rounded, integer)
    ranks = _mean_ranks(bits).astype(d.dtype) + 0 * rounded  # NaN where that is
    return jnp.zeros_like(d).at[i, j].set(ranks).at[j, i].set(ranks)


def _mean_ranks(values: Array) -> Array:
    """The ranks 1 … m of integers [m], equal ones sharing their mean."""
    ascending = jnp.sort(values)
    below = jnp.searchsorted(ascending, values, side="left")
    not_above = jnp.searchsorted(ascending, values, side="right")
    return (below + not_above + 1) / 2


def _less_mean(d: Array) -> Array:
    """The pairs' values less their mean, 0 on the diagonal; less one value first, for accuracy."""
    shifted = jnp.where(_diagonal(d), 0, d - d[0, 1])
    return jnp.where(_diagonal(d), 0, shifted - shifted.sum() / (len(d) * (len(d) - 1)))


def _over_norm(a: Array, before: Array) -> Array:
    """A / ‖A‖; NaN where A is only rounding error of what it was computed from."""
    norm, rounding = jnp.sqrt(jnp.square(a).sum()), 32 * float(jnp.finfo(a.dtype).eps)
    return a / jnp.where(norm > rounding * jnp.sqrt(jnp.square(before).sum()), norm, jnp.nan)


def _rho_a(d: Array) -> Array:
    ranks = _ranks(d)
    centred, m = _less_mean(ranks), len(d) * (len(d) - 1) // 2
    without_ties = (m * (m * m - 1) / 6) ** 0.5  # the norm, each pair counted twice
    return jnp.where(jnp.any(centred != 0), centred / without_ties, jnp.nan)


def _pearson(d: Array) -> Array:
    return _over_norm(_less_mean(d), d)


def _diagonal(d: Array) -> Array:
    return jnp.eye(len(d), dtype=bool)


COMPARISONS: Mapping[Compare, Callable[[Array], Array]] = MappingProxyType(
    {
        "pearson": _pearson,
        "spearman": lambda d: _pearson(_ranks(d)),
        "rho_a": _rho_a,
        "cosine": lambda d: _over_norm(d, d),
    }
)
"""Dissimilarities [n, n] to a matrix whose inner product with another's is the comparison."""
