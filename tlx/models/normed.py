"""Batch normalisation, and a convolution with it, as all models have them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tlx.models import conv, layout


def conv_norm(
    x: jax.Array,
    features: int,
    size: int,
    *,
    train: bool,
    names: tuple[str, str] = ("conv", "norm"),
    stride: int = 1,
) -> jax.Array:
    """Convolution, then batch normalisation; `names` are those of the two submodules."""
    init = layout.he_normal((size, size, features))
    x = conv.Conv(features, size, stride, init, name=names[0])(x)
    return batch_norm(x, train=train, name=names[1])


def batch_norm(x: jax.Array, *, train: bool, name: str) -> jax.Array:
    """By the batch's statistics if `train`, else by running ones; in float32, in x's dtype."""
    norm = nn.BatchNorm(
        use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=jnp.float32, name=name
    )
    return norm(x.astype(jnp.float32)).astype(x.dtype)
