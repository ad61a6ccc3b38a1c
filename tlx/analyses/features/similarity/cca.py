"""How much of two sets of features is the same up to linear maps: canonical correlations, R².

With the singular value decompositions X = U_x S_x V_xᵀ and Y = U_y S_y V_yᵀ of the centred
features, the canonical correlations ρ are the singular values of U_xᵀ U_y: the cosines between
the spaces of all linear functions of x and of y on the n examples. The measures differ in how
they weigh them.

As soon as rank_x + rank_y > n − 1 the two spaces must intersect, and that many ρ are 1 for any
features; well before that, unrelated features look similar. Use several times as many examples
as features (M. Raghu et al. advise 5 to 10 times), or compare the values with a permutation
null.

References: M. Raghu, J. Gilmer, J. Yosinski, J. Sohl-Dickstein, SVCCA: singular vector
canonical correlation analysis for deep learning dynamics and interpretability, 2017; A. Morcos,
M. Raghu, S. Bengio, Insights on representational similarity in neural networks with canonical
correlation, 2018; S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network
representations revisited, 2019, section 3 and appendix C.
"""

import functools
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from tlx.analyses.features.similarity import _comparison, _overlaps
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.core import checks, public
from tlx.core.scale import times_power

__dir__ = public.names(__name__)

Weights = Literal["projection", "released"]

WEIGHTS: tuple[Weights, ...] = ("projection", "released")
"""The weights of projection weighted CCA; see `pwcca`."""


def mean_cca(x: Any, y: Any) -> Float[Array, ""]:
    """The mean of the canonical correlations, Σ ρ / min(rank_x, rank_y).

    Symmetric, and invariant to translation and every invertible linear map of either set: all
    directions above the numerical rank have the same weight, noise included.

    Args:
      x: [n, ...] features of n ≥ 2 examples; flattened to [n, Dx].
      y: [n, ...] features of the same examples.

    Returns:
      Scalar, 0 … 1 up to rounding. NaN where the features are constant or hold NaN.

    Raises:
      ValueError: for fewer than 2 examples or lengths that differ. At call, also while
        tracing.

    Numerics: float32 or more, features centred and scaled by a power of two before any product.
    The error is below 1e-7 times the ratio of the largest to the smallest singular value, in
    float32; for features stored with an offset, times that in units of the spread as well.
    Directions with s ≤ (min(n, D) + 16)·eps·s_max do not count.
    Cost: the decompositions of x and y, about 6·n·D·min(n, D) flops each, and of a product of
    min(n, Dx) by min(n, Dy) numbers.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> shear = jnp.array([[1.0, 9.0, 0.0], [0.0, 1.0, 9.0], [0.0, 0.0, 1.0]])
    >>> round(float(features.mean_cca(x, x @ shear)), 3), float(features.cka(x, x @ shear)) < 0.9
    (1.0, True)
    """
    return _comparison.between(make_mean_cca(), x, y)


def svcca(x: Any, y: Any, *, variance: float = 0.99) -> Float[Array, ""]:
    """Singular vector CCA: the mean canonical correlation of the leading directions.

    In each set the fewest leading singular directions with a share `variance` of Σ s² are kept;
    then as `mean_cca`. (Some code, including the method's tutorial, takes the share of Σ s, and so
    keeps more.) Symmetric, and invariant to translation, isotropic scaling and orthogonal maps of
    either set. Discontinuous where a further direction is included.

    Args:
      x: as in `mean_cca`.
      y: as in `mean_cca`.
      variance: share, above 0 and up to 1; 1 gives `mean_cca`.

    Returns:
      Scalar, 0 … 1 up to rounding. NaN where the features are constant or hold NaN.

    Raises:
      ValueError: for another `variance`, and as `mean_cca`.

    Numerics, cost: as `mean_cca`.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> signal = jnp.array([1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
    >>> noise_x, noise_y = 0.01 * signal.reshape(2, 4).T.ravel(), 0.01 * jnp.tile(signal[2:6], 2)
    >>> x, y = jnp.stack([signal, noise_x], 1), jnp.stack([signal, noise_y], 1)
    >>> [round(float(of(x, y)), 3) for of in (features.mean_cca, features.svcca)]
    [0.5, 1.0]
    """
    return _comparison.between(make_svcca(variance), x, y)


def pwcca(x: Any, y: Any, *, weights: Weights = "projection") -> Float[Array, ""]:
    """Projection weighted CCA, Σ αᵢρᵢ / Σ αᵢ: correlations weighted by how much of x they explain.

    With "projection" αᵢ = Σ_j |⟨hᵢ, x_j⟩|, where hᵢ is the i-th canonical variate of x at
    length 1 and x_j the j-th centred feature of x, as the reference defines it. Not symmetric:
    x determines the weights, whichever set is wider. Invariant to translation and isotropic scaling
    of either set and to every invertible linear map of y; not to rotations of x, since the sum
    of absolute values runs over features. Where several ρ are equal, such as those that are 1
    because n is small, their variates are not unique and neither is the value.

    "released" is what the code released with the reference computes, and many published values
    used: the narrower set determines the weights (x if both have the same width), its variates
    lack the inverse root of the covariance, the mean of the i-th feature is added to the i-th of
    them, a QR decomposition makes them orthogonal, and the features whose products with them are
    summed are not centred. The value thus depends on the offset and the order of the features and
    on the signs that a singular value decomposition leaves open (here those of LAPACK; other
    devices may choose others). The two often differ by some 1e-3.

    Args:
      x: as in `mean_cca`.
      y: as in `mean_cca`.
      weights: "projection" or "released".

    Returns:
      Scalar, 0 … 1 up to rounding. NaN where the features are constant or hold NaN.

    Raises:
      ValueError: for other `weights`, for "released" with as many features as examples, and as
        `mean_cca`.

    Numerics, cost: as `mean_cca`.
    """
    return _comparison.between(make_pwcca(weights), x, y)


def regression_r2(x: Any, y: Any) -> Float[Array, ""]:
    """The share of y's variance explained by a linear least-squares fit from x, R².

    ‖U_xᵀ Ȳ‖² / ‖Ȳ‖², in sample: over all features of y together, so that those of large
    variance weigh more. Not symmetric: x predicts y. Invariant to translation of either set,
    every invertible linear map of x, and isotropic scaling and orthogonal maps of y. It is 1
    as soon as rank_x reaches n − 1, and about rank_x/(n − 1) for unrelated features.

    Args:
      x: as in `mean_cca`; the predictors.
      y: as in `mean_cca`; the targets.

    Returns:
      Scalar, 0 … 1 up to rounding. NaN where either set is constant or holds NaN.

    Raises:
      ValueError: as `mean_cca`.

    Numerics, cost: as `mean_cca`, without the last decomposition.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> both = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> one = both[:, :1]  # half of the variance
    >>> [round(float(features.regression_r2(*pair)), 3) for pair in ((both, one), (one, both))]
    [1.0, 0.5]
    """
    return _comparison.between(make_regression_r2(), x, y)


@functools.cache
def make_mean_cca() -> Comparison:
    """`mean_cca` as a comparison."""
    return _overlaps.comparison(_overlaps.mean_cca, name="mean CCA", whitens=True)


def make_svcca(variance: float = 0.99) -> Comparison:
    """`svcca` as a comparison."""
    if not 0 < variance <= 1:
        raise ValueError(f"expected variance above 0 and up to 1, got {variance}")
    return _svcca(float(variance))


@functools.lru_cache(maxsize=256)  # of positional options, so that equal ones share an object
def _svcca(variance: float) -> Comparison:
    measure = functools.partial(_overlaps.restricted, variance=variance)
    return _overlaps.comparison(measure, name=f"SVCCA ({variance:g})", whitens=variance > 0.99)


def make_pwcca(weights: Weights = "projection") -> Comparison:
    """`pwcca` as a comparison."""
    if weights not in WEIGHTS:
        raise ValueError(checks.unknown("weights", weights, WEIGHTS))
    return _released() if weights == "released" else _projection_weighted()


@functools.cache
def _projection_weighted() -> Comparison:
    return _overlaps.comparison(
        _overlaps.projection_weighted, name="projection weighted CCA", whitens=True, right=True
    )


@functools.cache
def make_regression_r2() -> Comparison:
    """`regression_r2` as a comparison."""
    return _overlaps.comparison(_overlaps.explained, name="regression R²", whitens=True)


class _Uncentred(NamedTuple):
    """A decomposition and the mean of the features [D], in its units."""

    centred: _overlaps.Decomposed
    mean: Float[Array, " D"]


@functools.cache
def _released() -> Comparison:
    """`pwcca` with the weights of the released code; it has no form from moments."""

    def prepare(features: Array) -> _Uncentred:
        found = _overlaps.decomposed(features, right=True)
        mean = features[0] + (features - features[:1]).mean(0)
        return _Uncentred(found, times_power(mean, -found.spectrum.exponent))

    def compare(x: _Uncentred, y: _Uncentred) -> Array:
        a, b = (x, y) if len(x.mean) <= len(y.mean) else (y, x)
        n, width = len(a.centred.u), len(b.mean)
        if width >= n:
            raise ValueError(
                "expected fewer features than examples for weights='released', got "
                f"{width} features and {n} examples; use weights='projection'"
            )
        v, w = a.centred.spectrum.v, b.centred.spectrum.v
        assert v is not None
        assert w is not None
        overlap = _overlaps.dot(a.centred.u.T, b.centred.u)
        between = _overlaps.dot(_overlaps.dot(v, overlap), w.T)
        u, rho, _ = _overlaps.svd(between)
        # examples in the basis of U and the constant vector 1/√n
        length = jnp.sqrt(jnp.asarray(n, u.dtype))
        deviations, offset = a.centred.spectrum.s[:, None] * v.T, length * a.mean[None, :]
        variates, _ = jnp.linalg.qr(jnp.concatenate([_overlaps.dot(deviations, u), offset]))
        features = jnp.concatenate([deviations, offset])
        weights = jnp.abs(_overlaps.dot(variates.T, features)).sum(1)
        some = jnp.minimum(a.centred.spectrum.rank(), b.centred.spectrum.rank()) > 0
        return jnp.where(some, (weights * rho).sum() / weights.sum(), jnp.nan)

    def reorder(prepared: _Uncentred, order: Array) -> _Uncentred:
        centred = prepared.centred
        return prepared._replace(centred=centred._replace(u=centred.u[order]))

    return Comparison(prepare, compare, reorder, 2, "projection weighted CCA (released)")
