"""Centred kernel alignment (CKA): the similarity of two sets of features, for any kernel.

With K, L the Gram matrices of two sets of features on the same n examples,
CKA = ⟨K~, L~⟩ / (‖K~‖ ‖L~‖). The estimator determines ~:

- "biased": both sides centred, K~ = HKH (HSIC₀). Positive even between independent
  features, more so the fewer examples there are for the features' dimension.
- "debiased": U-centred without the diagonal, so that ⟨K~, L~⟩ / (n(n − 3)) is the
  unbiased HSIC₁. Zero on average between independent features, hence often negative.
- "feature_corrected": debiased, and also corrected for the features being a sample of more
  (some of a population's neurons, a few channels of a wide layer): in each norm the products
  of a feature with itself are left out. For the linear kernel. A set compared with itself does
  not have the value 1: the two samples of features coincide, and the value exceeds 1.

References: S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network
representations revisited, 2019; L. Song et al., Feature selection via dependence
maximization, 2012, eq. 5; G. Székely, M. Rizzo, Partial distance correlation, 2014, eq. 2.5
and 3.2; C. Chun, A. Canatar, S. Chung, D. Lee, Estimating neural representation alignment
from sparsely sampled inputs and features, 2025; T. Cui, Y. Kumar, P. Marttinen, S. Kaski,
Deconfounded representation similarity for comparison of neural networks, 2022.
"""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tlx.analyses.features.similarity import _comparison, _features, _hsic, _second_moments, kernels
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.analyses.features.similarity.kernels import Kernel
from tlx.core import checks, host, public, tree, undefined

__dir__ = public.names(__name__)

Estimator = Literal["debiased", "biased", "feature_corrected"]

ESTIMATORS: tuple[Estimator, ...] = ("debiased", "biased", "feature_corrected")
"""The estimators of CKA; see the module's text."""

_DECONFOUNDED = ("debiased", "biased")


def cka(
    x: Any, y: Any, *, kernel: Kernel | None = None, estimator: Estimator = "debiased"
) -> Float[Array, ""]:
    """The CKA of two sets of features on the same n examples.

    Symmetric. It has the invariances of the kernel: with the linear one to orthogonal maps,
    isotropic scaling and translation of either set.

    Args:
      x: [n, ...] features of n ≥ 4 examples; flattened to [n, Dx].
      y: [n, ...] features of the same examples.
      kernel: one of `tlx.analyses.features.similarity.kernels`; None is the linear one.
      estimator: "debiased", "biased" or "feature_corrected"; see the module's text.

    Returns:
      Scalar: "biased" 0 … 1 (for the kernels here), "debiased" −1 … 1 (negative values are
      kept), "feature_corrected" unbounded. NaN where the features are constant or hold NaN,
      and where a corrected norm is not positive.

    Raises:
      ValueError: for fewer than 4 examples, lengths that differ, another estimator, or
        "feature_corrected" with a kernel that is not linear. At call, also while tracing.

    Numerics: float32 or more, products at the highest precision, features shifted by their
    first row and centred before any product, so that an offset of 100 times the spread costs
    no accuracy; values to about 1e-5 in float32, whatever the features' scale.
    Cost: 2n²(Dx + Dy) flops and n² floats a set; where the kernel is linear or cosine and
    n > 1.5 D, 2n(Dx² + Dy² + Dx·Dy) flops and n·D floats.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> x = jax.random.normal(jax.random.key(0), (50, 3))
    >>> rotation, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (3, 3)))
    >>> round(float(features.cka(x, 5 * x @ rotation + 7)), 3)
    1.0
    """
    return _comparison.between(make_cka(kernel or kernels.linear(), estimator), x, y)


def distance_correlation(
    x: Any, y: Any, *, estimator: Literal["debiased", "biased"] = "debiased"
) -> Float[Array, ""]:
    """The squared distance correlation of two sets of features on the same n examples.

    Zero, for the population, only where the two are independent.

    Args:
      x: [n, ...] features of n ≥ 4 examples.
      y: [n, ...] features of the same examples.
      estimator: "biased" is the original dCor², 0 … 1; "debiased" the bias-corrected R*.

    Returns, Raises, Numerics, Cost: as `cka`, of which this is the one with `kernels.distance()`.
    """
    return cka(x, y, kernel=kernels.distance(), estimator=estimator)


@undefined.allowed
def deconfounded_cka(
    x: Any, y: Any, confounder: Any, *, estimator: Literal["debiased", "biased"] = "debiased"
) -> Float[Array, ""]:
    """The linear CKA of two sets of features after a third set is regressed out of both.

    From each centred Gram matrix its projection onto that of the confounder (usually the inputs)
    is subtracted, K~ − (⟨K~, K~₀⟩ / ‖K~₀‖²) K~₀, and the CKA is of the residuals: with r the
    CKA of a pair, (r_xy − r_x0 r_y0) / √((1 − r_x0²)(1 − r_y0²)). Cui et al. regress the
    entries of matrices that are not U-centred; here both are centred first, which makes the
    result the partial correlation of Székely and Rizzo, and no intercept is needed.

    Args:
      x: [n, ...] features of n ≥ 4 examples.
      y: [n, ...] features of the same examples.
      confounder: [n, ...], of the same examples.
      estimator: "debiased" or "biased".

    Returns:
      Scalar, −1 … 1. NaN where one of the three is constant, and where the confounder explains x
      or y entirely.

    Raises:
      ValueError: as `cka`.

    Cost: as `cka` of three pairs.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> inputs, own_x, own_y = jax.random.normal(jax.random.key(0), (3, 200, 4))
    >>> x = jnp.concatenate([inputs, own_x], 1)  # each the inputs, and features of its own
    >>> y = jnp.concatenate([inputs, own_y], 1)
    >>> float(features.cka(x, y)) > 0.4, abs(float(features.deconfounded_cka(x, y, inputs))) < 0.1
    (True, True)
    """
    if estimator not in _DECONFOUNDED:
        raise ValueError(checks.unknown("estimator", estimator, _DECONFOUNDED))
    pairs = ((x, y), (x, confounder), (y, confounder))
    return partial_correlation(*(cka(*pair, estimator=estimator) for pair in pairs))


@undefined.allowed
@jax.jit
def partial_correlation(xy: Array, x0: Array, y0: Array) -> Array:
    """(r_xy − r_x0 r_y0) / √((1 − r_x0²)(1 − r_y0²)); NaN where one of the r_·0 is ±1."""
    rounding = 32 * float(jnp.finfo(xy.dtype).eps)
    left_x, left_y = 1 - jnp.square(x0), 1 - jnp.square(y0)
    defined = (left_x > rounding) & (left_y > rounding)
    return jnp.where(
        defined, (xy - x0 * y0) / jnp.sqrt(jnp.where(defined, left_x * left_y, 1)), jnp.nan
    )


def make_cka(kernel: Kernel, estimator: Estimator) -> Comparison:
    """The comparison behind `cka`."""
    if estimator not in ESTIMATORS:
        raise ValueError(checks.unknown("estimator", estimator, ESTIMATORS))
    if estimator == "feature_corrected" and not kernel.is_linear:
        raise ValueError(
            "expected the linear kernel with the estimator 'feature_corrected', got "
            f"{kernel.name}: only there is the kernel a sum over features"
        )
    return _make_cka(kernel, estimator)


@functools.lru_cache(maxsize=256)  # of positional options, so that equal ones share an object
def _make_cka(kernel: Kernel, estimator: Estimator) -> Comparison:
    corrected = estimator == "feature_corrected"

    def prepare(x: Array) -> tuple[Any, _hsic.Norms]:
        n, dims = x.shape
        everything = jnp.ones(n, bool)
        form = _hsic.rows_of if kernel.rows is not None and n > 1.5 * dims else _hsic.grams
        side = form(kernel, [x], everything, corrected)
        return side, _hsic.norms(side)

    def compare(x: tuple[Any, _hsic.Norms], y: tuple[Any, _hsic.Norms]) -> Array:
        found = _hsic.cross(x[0], y[0])
        return _hsic.ratio(found, x[1], y[1], estimator).reshape(())

    def reorder(prepared: tuple[Any, _hsic.Norms], order: Array) -> tuple[Any, _hsic.Norms]:
        return _hsic.reordered(prepared[0], order), prepared[1]

    name = f"CKA ({kernel.name}, {estimator})"
    comparison = Comparison(prepare, compare, reorder, _hsic.LEAST_ROWS, name)
    if kernel.is_linear and estimator != "feature_corrected":
        return comparison._replace(from_moments=_second_moments.linear_cka(estimator))
    return comparison


@host.only
def make_deconfounded_cka(
    confounder: Any, estimator: Literal["debiased", "biased"] = "debiased"
) -> Comparison:
    """`deconfounded_cka` as a comparison, for a permutation test of it.

    It holds the Gram matrix of the confounder, n² floats, and is compiled anew for each confounder.
    It is tied to these n examples, so no subset of them can be drawn.
    """
    if estimator not in _DECONFOUNDED:
        raise ValueError(checks.unknown("estimator", estimator, _DECONFOUNDED))
    given, _ = _features.matrices(
        confounder, confounder, least=_hsic.LEAST_ROWS, name="deconfounded CKA"
    )
    of_confounder = _centred_gram(given, estimator)

    def prepare(x: Array) -> Array:
        if len(x) != len(given):
            raise ValueError(
                f"expected the {len(given)} examples of the confounder, got {len(x)}; subsets are "
                "not supported (pass num_resamples=0 to evidence)"
            )
        gram = _centred_gram(x, estimator)
        left = gram - (gram * of_confounder).sum() * of_confounder
        return _at_length_one(left, jnp.ones((), left.dtype))

    return Comparison(
        prepare,
        lambda x, y: (x * y).sum(),
        _comparison.pairs,
        _hsic.LEAST_ROWS,
        f"deconfounded CKA ({estimator})",
    )


@functools.partial(jax.jit, static_argnums=1)
def _centred_gram(x: Array, estimator: str) -> Float[Array, "n n"]:
    """The centred Gram matrix scaled to norm 1; NaN where it is zero."""
    z = tree.unit_scale(kernels.centred(x))[0]
    gram = jnp.matmul(z, z.T, precision=jax.lax.Precision.HIGHEST)
    total = jnp.sqrt(jnp.square(gram).sum())
    if estimator == "debiased":
        n = jnp.asarray(len(z), z.dtype)
        gram = _hsic.u_centred(gram[None], jnp.ones(len(z), bool), n)[0][0]
    return _at_length_one(gram, total)


def _at_length_one(matrix: Array, scale: Array) -> Array:
    """A matrix over its norm; NaN where the norm is only rounding error of numbers of `scale`."""
    length = jnp.sqrt(jnp.square(matrix).sum())
    nothing = length <= 32 * float(jnp.finfo(matrix.dtype).eps) * scale
    return matrix / jnp.where(nothing, jnp.nan, length)
