"""Parts of networks of tokens: patches, linear maps, layer normalisation."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tlx.core import tree

NORMAL = nn.initializers.truncated_normal(0.02)
"""Normal of standard deviation 0.02, truncated at two of them: these networks' initialiser."""


class Linear(nn.Module):
    """x @ kernel + bias over the last axis; kernel float32 [C, features], bias [features]."""

    features: int
    kernel_init: nn.initializers.Initializer = NORMAL

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[..., C] -> [..., features], in the dtype of x."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        return x @ kernel.astype(x.dtype) + _row(bias, x)


class Patches(nn.Module):
    """A convolution whose stride is its size; kernel float32 [size, size, C, features] and bias.

    As one matrix product. Rows and columns that do not fill a patch are not read.
    """

    features: int
    size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H // size, W // size, features], in the dtype of x."""
        size, channels = self.size, x.shape[-1]
        shape = (size, size, channels, self.features)
        kernel = self.param("kernel", NORMAL, shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        rows, columns = x.shape[1] // size, x.shape[2] // size
        x = x[:, : rows * size, : columns * size]
        x = x.reshape(-1, rows, size, columns, size, channels).swapaxes(2, 3)
        x = x.reshape(-1, rows, columns, size * size * channels)
        return x @ kernel.reshape(-1, self.features).astype(x.dtype) + _row(bias, x)


def _row(bias: jax.Array, like: jax.Array) -> jax.Array:
    return bias.astype(like.dtype).reshape((1,) * (like.ndim - 1) + (-1,))


def layer_norm(x: jax.Array, *, name: str) -> jax.Array:
    """Mean 0 and variance 1 over the last axis, then scale and bias; in float32 or more.

    The variance is that of the centred values, and 1e-6 is added to it.
    """
    wide = tree.accumulator(x.dtype)
    norm = nn.LayerNorm(epsilon=1e-6, dtype=wide, use_fast_variance=False, name=name)
    return norm(x.astype(wide)).astype(x.dtype)


def mlp(x: jax.Array, inner: int) -> jax.Array:
    """Two linear maps, "mlp1" and "mlp2", with the exact gelu between them."""
    out = nn.gelu(Linear(inner, name="mlp1")(x), approximate=False)
    return Linear(x.shape[-1], name="mlp2")(out)
