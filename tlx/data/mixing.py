"""Mixup: convex combinations of the unmasked examples of a batch."""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@functools.partial(jax.jit, static_argnames="alpha")
def mixup(
    key: Array,
    images: Float[Array, "B ..."],
    labels: Float[Array, "B C"],
    alpha: float,
    mask: Bool[Array, " B"] | None = None,
) -> tuple[Float[Array, "B ..."], Float[Array, "B C"]]:
    """Convex combinations of each example and a partner, λ·x + (1 - λ)·x[partner].

    One λ ~ Beta(alpha, alpha) for the entire batch, and one random permutation of its examples as
    the partners, as in the paper's training (alpha 0.7). Cross-entropy against the mixed labels
    equals λ times the loss on the example's label and 1 - λ times that on the partner's.

    Args:
      key: one typed PRNG key.
      images: float [B, ...].
      labels: float [B, C], one-hot or multi-hot.
      alpha: 0 or more (static under jit); 0 returns both arguments as they are.
      mask: bool [B], the rows that are examples; None is all. Those alone are mixed, with each
        other, as they would be without the rest: neither what the other rows hold, nor where
        they are, nor how many, changes anything.

    Returns:
      images and labels, mixed by the same λ and partners, in their dtypes; rows that the mask
      leaves out as they are.

    Raises:
      TypeError: if images or labels are not floating (one-hot them first). While tracing.
      ValueError: if alpha is negative. While tracing.

    References:
      Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization" (2018).
    """
    if alpha < 0:
        raise ValueError(f"expected mixup's alpha of at least 0, got {alpha}")
    for name, value in (("images", images), ("labels", labels)):
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(
                f"expected floating {name} for mixup, got {value.dtype}; normalise images, one-hot "
                "labels"
            )
    if alpha == 0:
        return images, labels
    mask = jnp.ones(images.shape[0], bool) if mask is None else mask
    weight_key, partner_key = jax.random.split(key)
    weight = jax.random.beta(weight_key, alpha, alpha, dtype=jnp.float32)
    partner = partners(partner_key, mask)

    def mix(x: Array) -> Array:
        w = weight.astype(x.dtype)
        mixed = w * x + (1 - w) * jnp.take(x, partner, axis=0)
        return jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), mixed, x)

    return mix(images), mix(labels)


def partners(key: Array, mask: Bool[Array, " B"]) -> Int[Array, " B"]:
    """A random permutation of the n rows that count, as `jax.random.permutation(key, n)`.

    Other rows are paired with themselves. It is drawn as in jax, by sorting random bits, with
    the rows that do not count last.
    """
    size = len(mask)
    count = jnp.sum(mask, dtype=jnp.int32)
    numbers = jnp.arange(size, dtype=jnp.int32)
    is_used = numbers < count
    order = numbers  # of the examples, counted without the other rows
    for _ in range(math.ceil(3 * math.log(max(1, size)) / math.log(2**32 - 1))):
        key, part = jax.random.split(key)
        bits = jax.random.bits(part, (size,), jnp.uint32)
        last = jnp.where(is_used, bits, jnp.uint32(2**32 - 1))
        order = jax.lax.sort_key_val(last, order)[1]  # stable: equal bits leave these last too
    rows = jnp.argsort(~mask, stable=True).astype(jnp.int32)  # the examples, then the others
    drawn = jnp.take(rows, jnp.where(is_used, order, numbers))
    return jnp.zeros(size, jnp.int32).at[rows].set(drawn)
