"""Cross-entropy from logits, accurate in value and first two derivatives even when saturated.

Where one class has nearly all of the probability, the remainder is below the rounding of 1:
computed as 1 − p, or as a difference of two numbers near 1, it is pure rounding error long before
it leaves the range of floats. Here the remainder is a sum over the other classes, and the
Hessian-vector product uses differences from the most probable class.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


@jax.custom_jvp
def from_logits(logits: Float[Array, "*B C"], labels: Int[Array, "*B"]) -> Float[Array, "*B"]:
    """The negative log-likelihood of the label in nats, log Σ exp(z) − z_label.

    Args:
      logits: float [..., C], in whose dtype it is computed.
      labels: int [...], each in 0 … C−1 (not checked).

    Returns:
      float [...], at least 0; NaN where a logit is NaN or +inf, or all are −inf.

    Numerics: value, gradient p − e_label and Hessian diag(p) − p·pᵀ are accurate to the rounding of
      the logits' differences, entry by entry, as long as p is a normal number: in float32
      down to a margin of 87 nats.
    """
    gaps, rest = _against_the_largest(logits)
    return jnp.log1p(rest) - jnp.take_along_axis(gaps, labels[..., None], -1)[..., 0]


@from_logits.defjvp
def _from_logits_jvp(primals: Any, tangents: Any) -> Any:
    logits, labels = primals
    return from_logits(logits, labels), jnp.sum(_slope(logits, labels) * tangents[0], -1)


@jax.custom_jvp
def _slope(logits: Array, labels: Array) -> Float[Array, "*B C"]:
    """The gradient: p, less the sum of the others for the label."""
    p = _softmax(logits)
    is_label = jax.nn.one_hot(labels, p.shape[-1], dtype=bool)
    others = jnp.sum(jnp.where(is_label, 0, p), -1, keepdims=True)
    return jnp.where(is_label, -others, p)


@_slope.defjvp
def _slope_jvp(primals: Any, tangents: Any) -> Any:
    logits, labels = primals
    return _slope(logits, labels), _curved(logits, tangents[0])


@jax.custom_jvp
def _softmax(logits: Array) -> Float[Array, "*B C"]:
    gaps, rest = _against_the_largest(logits)
    return jnp.exp(gaps) / (1 + rest)[..., None]


@_softmax.defjvp
def _softmax_jvp(primals: Any, tangents: Any) -> Any:
    return _softmax(primals[0]), _curved(primals[0], tangents[0])


def _curved(logits: Array, vector: Array) -> Float[Array, "*B C"]:
    """The Hessian times a vector: p·(u − Σ p·u) of its differences u to the largest class's.

    The same for any constant that is added to the vector; with this one, Σ p·u has no term of
    the class whose p is nearly 1.
    """
    largest = jnp.argmax(logits, -1)
    is_largest = jax.nn.one_hot(largest, logits.shape[-1], dtype=bool)
    u = jnp.where(is_largest, 0, vector - jnp.take_along_axis(vector, largest[..., None], -1))
    p = _softmax(logits)
    return p * (u - jnp.sum(p * u, -1, keepdims=True))


def _against_the_largest(logits: Array) -> tuple[Float[Array, "*B C"], Float[Array, "*B"]]:
    """The logits less the largest, and the sum of the exponentials of all but (one of) those."""
    gaps = logits - jnp.max(logits, -1, keepdims=True)
    below = jnp.where(gaps < 0, jnp.exp(gaps), 0).sum(-1)
    return gaps, below + ((gaps == 0).sum(-1, dtype=jnp.int32) - 1).astype(gaps.dtype)


@jax.custom_jvp
def from_binary_logits(
    logits: Float[Array, "*B"], labels: Float[Array, "*B"]
) -> Float[Array, "*B"]:
    """The binary cross-entropy in nats of each logit, log(1 + exp(z)) − label·z.

    Args:
      logits: float [...], in whose dtype it is computed.
      labels: float [...] of that dtype, 0 or 1; between them for a mixture.

    Returns:
      float [...], at least 0; NaN where a logit is.

    Numerics: as `from_logits`, for labels 0 and 1.
    """
    # not label·z of a class that is ruled out: 0 times infinity
    between = jnp.maximum(logits, 0) - labels * jnp.where(labels == 0, 0, logits)
    above = jnp.where(labels == 1, jnp.maximum(-logits, 0), between)
    return jnp.log1p(_smaller(logits)) + above


@from_binary_logits.defjvp
def _from_binary_logits_jvp(primals: Any, tangents: Any) -> Any:
    logits, labels = primals
    along = _binary_slope(logits, labels) * tangents[0]
    along -= jnp.where(jnp.isinf(logits), 0, logits) * tangents[1]
    return from_binary_logits(logits, labels), along


@jax.custom_jvp
def _binary_slope(logits: Array, labels: Array) -> Float[Array, "*B"]:
    """The gradient s(z) − label, as (1 − label) − s(−z) for a positive logit."""
    e = _smaller(logits)
    least = e / (1 + e)
    return jnp.where(logits > 0, (1 - labels) - least, least - labels)


@_binary_slope.defjvp
def _binary_slope_jvp(primals: Any, tangents: Any) -> Any:
    logits, labels = primals
    e = _smaller(logits)
    return _binary_slope(logits, labels), e / jnp.square(1 + e) * tangents[0] - tangents[1]


def _smaller(logits: Array) -> Array:
    """exp(−|z|): the smaller of the two classes' odds."""
    return jnp.exp(-jnp.abs(logits))
