"""Measures of two sets of features as functions of their spectra and an overlap matrix.

With the singular value decomposition U S Vᵀ of the centred features X [n, D], each measure of
the family is a function of the two S and of M = U_xᵀ U_y; projection weighted CCA needs V as
well. The same functions apply to the features themselves and to streamed
moments, where S and V are eigenvalues and eigenvectors of the scatter matrix and
M = S_x⁻¹ V_xᵀ (Σ z wᵀ) V_y S_y⁻¹.

Directions below the numerical rank do not count: from features those with
s ≤ (min(n, D) + 16)·eps·s_max, from moments those with s² ≤ (D + 16)·eps·s²_max, in both at
most n − 1, the rank left by centring. The usual max(n, D)·eps would grow with the number of
examples: with 50,000 of them it drops, in float32, all values below 0.6% of the largest.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlx.analyses.features.similarity import _second_moments
from tlx.analyses.features.similarity._comparison import Comparison
from tlx.analyses.features.similarity.kernels import centred
from tlx.core import scale
from tlx.core.tree import unit_scale

_HIGHEST = jax.lax.Precision.HIGHEST


class Spectrum(NamedTuple):
    """Singular values in decreasing order, in units of 2^exponent; zeros below the numerical rank.

    Attributes:
      s: float [r].
      exponent: int32 scalar.
      v: float [D, r], the right singular vectors; None where the measure does not need them.
    """

    s: Float[Array, " r"]
    exponent: Int[Array, ""]
    v: Float[Array, "D r"] | None

    def kept(self) -> Bool[Array, " r"]:
        """Which directions count; all of them if the spectrum is NaN."""
        return self.s != 0

    def rank(self) -> Float[Array, ""]:
        """The number of directions that count."""
        return _number(self.kept(), self.s)


class Decomposed(NamedTuple):
    """Features [n, D] as left singular vectors u [n, r] (zero below the rank) and a spectrum."""

    u: Float[Array, "n r"]
    spectrum: Spectrum


OfSpectra = Callable[[Spectrum, Spectrum, Float[Array, "rx ry"]], Float[Array, ""]]
"""A measure: (spectrum of x, spectrum of y, overlap M) -> float scalar."""


def comparison(measure: OfSpectra, *, name: str, whitens: bool, right: bool = False) -> Comparison:
    """The comparison that a measure of spectra defines, with its form from moments.

    Args:
      measure: of two spectra and their overlap. Call once for each measure and options: a
        comparison is equal only to itself.
      name: its name in messages.
      whitens: see `_second_moments.FromMoments`.
      right: whether the measure uses the right singular vectors.
    """

    def compare(x: Decomposed, y: Decomposed) -> Array:
        return measure(x.spectrum, y.spectrum, dot(x.u.T, y.u))

    def from_moments(x: _Scattered, y: _Scattered, cross: _second_moments.Cross) -> Array:
        return measure(x.spectrum, y.spectrum, dot(dot(x.whitener.T, cross.scatter), y.whitener))

    made = Comparison(
        prepare=lambda features: decomposed(features, right=right),
        compare=compare,
        reorder=lambda prepared, order: prepared._replace(u=prepared.u[order]),
        least=2,
        name=name,
    )
    form = _second_moments.FromMoments(
        lambda layer: _scattered(layer, right=right), from_moments, whitens=whitens
    )
    return made._replace(from_moments=form)


def decomposed(features: Float[Array, "n D"], *, right: bool) -> Decomposed:
    """The thin decomposition of centred features.

    Cost: about 6·n·D·min(n, D) flops, n·min(n, D) numbers kept, and D·min(n, D) if `right`.
    """
    z, exponent = unit_scale(centred(features))
    u, s, vt = svd(z)
    keep = _above_rounding(s, len(z) - 1)
    spectrum = Spectrum(jnp.where(keep, s, 0), exponent, _columns(vt.T, keep) if right else None)
    return Decomposed(_columns(u, keep), spectrum)


@jax.custom_jvp
def svd(matrix: Float[Array, "n m"]) -> tuple[Array, Array, Array]:
    """The thin singular value decomposition, with a derivative where singular values are 0."""
    u, s, vt = jnp.linalg.svd(matrix, full_matrices=False)
    return u, s, vt


@svd.defjvp
def _svd_jvp(primals: Any, tangents: Any) -> Any:
    """As JAX's, but that directions of no length do not turn into each other.

    Features of several dead units have several such directions. They are arbitrary and in no
    measure, but the rate at which they turn is infinite, which would make all derivatives NaN.
    """
    (matrix,), (change,) = primals, tangents
    u, s, vt = svd(matrix)
    inner = dot(dot(u.T, change), vt.T)
    none = s <= (len(s) + 16) * jnp.finfo(s.dtype).eps * s[0]
    still = (none[:, None] & none[None]) | jnp.eye(len(s), dtype=bool)
    gaps = (s[None] - s[:, None]) * (s[None] + s[:, None])
    turn = jnp.where(still, 0, 1 / jnp.where(still, 1, gaps))
    inverse = jnp.where(none, 0, 1 / jnp.where(none, 1, s))[None]
    left, right = inner * s[None], s[:, None] * inner
    outside_u, outside_v = dot(change, vt.T) - dot(u, inner), dot(change.T, u) - dot(vt.T, inner.T)
    d_u = dot(u, turn * (left + left.T)) + outside_u * inverse
    d_v = dot(vt.T, turn * (right + right.T)) + outside_v * inverse
    return (u, s, vt), (d_u, jnp.diagonal(inner), d_v.T)


class _Scattered(NamedTuple):
    """A spectrum from moments, with V S⁻¹ [D, D], which maps rows to left singular vectors."""

    whitener: Float[Array, "D D"]
    spectrum: Spectrum


def _scattered(layer: _second_moments.Layer, *, right: bool) -> _Scattered:
    rising, v = jnp.linalg.eigh(layer.scatter)
    squares, v = rising[::-1], v[:, ::-1]
    keep = _above_rounding(squares, layer.examples - 1)
    s = jnp.sqrt(jnp.where(keep, squares, 0))
    v = _columns(v, keep)
    whitener = v / jnp.where(keep, s, 1)[None, :]
    return _Scattered(whitener, Spectrum(s, layer.exponent, v if right else None))


def _above_rounding(values: Array, most: Array | int) -> Array:
    """Which of decreasing values count: those above rounding error, at most `most` of them.

    Written so that NaN counts and shows in the result.
    """
    tolerance = (len(values) + 16) * jnp.finfo(values.dtype).eps * values[0]
    return ~(values <= tolerance) & (jnp.arange(len(values), dtype=values.dtype) < most)


def _columns(matrix: Array, keep: Array) -> Array:
    return jnp.where(keep[None, :], matrix, 0)


def mean_cca(x: Spectrum, y: Spectrum, overlap: Array) -> Array:
    """The mean of the canonical correlations."""
    return _nuclear(overlap) / jnp.minimum(x.rank(), y.rank())


def projection_weighted(x: Spectrum, y: Spectrum, overlap: Array) -> Array:
    """The canonical correlations, weighted by how much of x's features their directions explain."""
    assert x.v is not None
    a, rho, _ = svd(overlap)
    held = jnp.abs(dot(a.T * x.s[None, :], x.v.T)).sum(1)
    place = jnp.arange(len(rho), dtype=rho.dtype)
    weights = jnp.where(place < jnp.minimum(x.rank(), y.rank()), held, 0)
    return (weights * rho).sum() / weights.sum()


def explained(x: Spectrum, y: Spectrum, overlap: Array) -> Array:
    """The share of y's variance explained by a least-squares fit from x."""
    share = jnp.square(overlap * y.s[None, :]).sum() / jnp.square(y.s).sum()
    return jnp.where(x.rank() == 0, jnp.nan, share)


def aligned(x: Spectrum, y: Spectrum, overlap: Array) -> Array:
    """The cosine of the angle between x and y after the best orthogonal map."""
    product = _nuclear(x.s[:, None] * overlap * y.s[None, :])
    return product / (jnp.linalg.norm(x.s) * jnp.linalg.norm(y.s))


def leading(spectrum: Spectrum, variance: float) -> Array:
    """The mask of the fewest leading directions with this share of Σ s²; all for a share of 1."""
    if variance == 1:
        return spectrum.kept()
    squares = jnp.square(spectrum.s)
    before = jnp.cumsum(squares) - squares
    return spectrum.kept() & ~(before >= variance * squares.sum())


def restricted(x: Spectrum, y: Spectrum, overlap: Array, *, variance: float) -> Array:
    """Mean CCA between the leading directions of both."""
    keep_x, keep_y = leading(x, variance), leading(y, variance)
    inside = jnp.where(keep_x[:, None] & keep_y[None, :], overlap, 0)
    return _nuclear(inside) / jnp.minimum(_number(keep_x, x.s), _number(keep_y, y.s))


def whitened(spectrum: Spectrum, alpha: float) -> Spectrum:
    """Singular values α·s + (1 − α) in the units of the features, up to a common factor."""
    s, e = spectrum.s, spectrum.exponent
    if alpha in (0, 1):  # independent of the scale
        values = s if alpha else jnp.ones_like(s)
    else:  # in units of 2^e or of 1, whichever is larger
        factor, unit = (scale.power_of_two(jnp.minimum(part, 0)) for part in (e, -e))
        values = alpha * factor * s + (1 - alpha) * unit
    values = jnp.where(jnp.isnan(s), s, values)
    return spectrum._replace(s=jnp.where(spectrum.kept(), values, 0))


def _number(kept: Array, like: Array) -> Array:
    return jnp.sum(kept, dtype=like.dtype)


def _nuclear(matrix: Array) -> Array:
    return jnp.linalg.svd(matrix, compute_uv=False).sum()


def dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_HIGHEST)
