"""How alike two sets of features are after the best rotation: Procrustes, shape metrics.

The centred sets are aligned by the best orthogonal map; the cosine (a similarity) or the angle
(a metric) between them remains. With the singular value decompositions X = U_x S_x V_xᵀ and
Y = U_y S_y V_yᵀ and M = U_xᵀ U_y, the best alignment has the inner product ‖S_x M S_y‖_*, the
sum of singular values.

References: F. Ding, J. Denain, J. Steinhardt, Grounding representation similarity through
statistical testing, 2021 (Procrustes); A. Williams, E. Kunz, S. Kornblith, S. Linderman,
Generalized shape metrics on neural representations, 2021, sections 2 and 3 (shape metrics,
partial whitening).
"""

import functools
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from tlx.analyses.features.similarity import _comparison, _overlaps
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.analyses.features.similarity._overlaps import Spectrum
from tlx.core import public

__dir__ = public.names(__name__)


def procrustes(x: Any, y: Any) -> Float[Array, ""]:
    """The Procrustes similarity ‖X̄ᵀȲ‖_* / (‖X̄‖ ‖Ȳ‖) of two sets of centred features.

    Symmetric, and invariant to orthogonal maps, isotropic scaling and translation of either
    set. The widths may differ: the narrower set is padded with columns of zeros. The squared
    Procrustes distance of the sets scaled to norm 1 is 2 − 2·similarity.

    Args:
      x: [n, ...] features of n ≥ 2 examples; flattened to [n, Dx].
      y: [n, ...] features of the same examples.

    Returns:
      Scalar, 0 … 1 up to rounding. NaN where the features are constant or hold NaN.

    Raises:
      ValueError: for fewer than 2 examples or lengths that differ. At call, also while
        tracing.

    Numerics: float32 or more, features centred and scaled by a power of two before any product;
    accurate to about 1e-5 in float32.
    Cost: the decompositions of x and y, about 6·n·D·min(n, D) flops each, and of a product of
    min(n, Dx) by min(n, Dy) numbers.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> both = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> one = both[:, :1]  # half of the variance
    >>> [round(float(features.procrustes(both, y)), 3) for y in (both[:, ::-1], one)]  # 1, 1/√2
    [1.0, 0.707]
    """
    return _comparison.between(make_procrustes(), x, y)


def shape_distance(x: Any, y: Any, *, alpha: float = 1.0) -> Float[Array, ""]:
    """The angular shape distance of two sets of features: the angle after the best rotation.

    Each centred X is first partly whitened, its singular values s replaced by α·s + (1 − α):
    `alpha` 1 leaves it (the distance is the arccos of `procrustes`), 0 whitens it (the arccos
    of Σ ρ / √(rank_x·rank_y), with ρ the canonical correlations). A metric between sets of
    features of any widths: symmetric, with the triangle inequality, and 0 between sets that
    differ by a map to which it is invariant: translations, orthogonal maps, at alpha 1
    isotropic scaling, at alpha 0 every invertible linear map.

    For 0 < alpha < 1 the scale of the features matters, and so does the number of examples, with
    which s grows: α·s is compared with 1, as in the reference (there s² are the eigenvalues of
    XᵀX, not of the covariance). Divide the features by √n, or by their norm, for a value that
    does not depend on n.

    Args:
      x: [n, ...] features of n ≥ 2 examples; flattened to [n, Dx].
      y: [n, ...] features of the same examples.
      alpha: 0 … 1.

    Returns:
      Scalar in radians, 0 … π/2. NaN where the features are constant or hold NaN.

    Raises:
      ValueError: for alpha outside 0 … 1, fewer than 2 examples or lengths that differ. At
        call, also while tracing.

    Numerics: as `procrustes`; directions below the numerical rank are left out of the whitening.
    The arccos is ill-conditioned near 1: a distance below 1e-3 in float32, 1e-7 in float64,
    is rounding error.
    Cost: as `procrustes`.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> both = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> one = both[:, :1]  # half of the variance
    >>> round(float(jnp.degrees(features.shape_distance(both, one))), 1)
    45.0
    """
    return _comparison.between(make_shape_distance(alpha), x, y)


@functools.cache
def make_procrustes() -> Comparison:
    """`procrustes` as a comparison."""
    return _overlaps.comparison(_overlaps.aligned, name="Procrustes similarity", whitens=False)


def make_shape_distance(alpha: float = 1.0) -> Comparison:
    """`shape_distance` as a comparison."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"expected alpha in 0 … 1, got {alpha}")
    return _shape_distance(float(alpha))


@functools.lru_cache(maxsize=256)  # of positional options, so that equal ones share an object
def _shape_distance(alpha: float) -> Comparison:
    def angle(x: Spectrum, y: Spectrum, overlap: Array) -> Array:
        x, y = _overlaps.whitened(x, alpha), _overlaps.whitened(y, alpha)
        cosine = _overlaps.aligned(x, y, overlap)
        return jnp.arccos(jnp.clip(cosine, 0, 1))  # rounding may leave it above 1

    return _overlaps.comparison(angle, name=f"shape distance ({alpha:g})", whitens=alpha < 1)
