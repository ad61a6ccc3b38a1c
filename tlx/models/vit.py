"""Vision transformer.

References:
  Dosovitskiy et al. 2021, "An image is worth 16x16 words: transformers for image recognition at
  scale"; S/16 is that of Touvron et al. 2021, "Training data-efficient image transformers".
"""

from collections import OrderedDict

import flax.linen as nn
import jax
import jax.numpy as jnp

from tlx.models import layout
from tlx.models.tokens import NORMAL, Linear, Patches, layer_norm, mlp


class ViT(layout.Backbone):
    """Vision transformer: float [B, H, W, channels] -> logits float32 [B, num_classes].

    The positions are a table for `grid` x `grid` patches. For images of another number of patches
    it is resized (bicubic, smoothed where it shrinks), so that the same weights read images of
    any size, and fine-tuning may use another than pretraining. There is no dropout.

    Parameters are `<module>/...` with the modules of `module_names`: "stem" (`conv`: `kernel`
    [patch, patch, channels, width] and `bias`; `class_token` [1, 1, width]; `positions`
    [1, 1 + grid², width], that of the class token first), each block (`norm1`, `qkv` with the
    queries', keys' and values' columns side by side, each head's together, `out`, `norm2`,
    `mlp1`, `mlp2`), "norm" and "head".

    Attributes:
      num_classes: number of logits, at least 1.
      patch: side of a patch in pixels.
      width: of a token.
      depth: number of blocks.
      heads: of attention; a divisor of width.
      mlp: inner width of the blocks' networks; None: 4 times `width`.
      grid: patches along a side of the images that the positions are made for: 224 / 16.
      head_init: "zeros" or "uniform" (PyTorch's default for linear layers).
      dtype: of the computation; parameters, pooled features and logits are float32, and attention
        weights are taken in float32.
      remat: compute the inside of each block again for its gradient instead of keeping it.

    Raises:
      ValueError: a field out of range (at construction); inputs without four axes, or with sides
        that are not multiples of `patch` (at call).
      TypeError: inputs that are not floating point.
    """

    num_classes: int
    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int | None = None
    grid: int = 14
    head_init: str = "zeros"
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        fields = ("num_classes", "patch", "width", "depth", "heads", "grid")
        layout.check_numbers(self, {field: getattr(self, field) for field in fields})
        if self.mlp is not None:
            layout.check_numbers(self, {"mlp": self.mlp})
        layout.check_names(self, {"head_init": layout.HEAD_INITS, "dtype": layout.DTYPES})
        if self.width % self.heads:
            raise ValueError(
                f"ViT: expected heads that divide width {self.width}, got {self.heads}"
            )
        super().__post_init__()

    @property
    def module_names(self) -> tuple[str, ...]:
        """First level of the parameter tree, from input to output."""
        return ("stem", *self._blocks, "norm", "head")

    @property
    def _blocks(self) -> tuple[str, ...]:
        return tuple(f"block{number}" for number in range(1, self.depth + 1))

    @nn.compact
    def features(self, inputs: jax.Array, train: bool = False) -> layout.Features:
        """Activations of every layer.

        Args:
          inputs: float [B, H, W, channels].
          train: changes nothing.

        Returns:
          `layer_names` -> array: "stem" and the blocks [B, 1 + patches, width], the class token
          first, in the dtype of the computation; "pooled" float32 [B, width], the normalised
          class token, which the head reads; "logits" float32 [B, num_classes].
        """
        del train
        found: layout.Features = OrderedDict()
        x = layout.checked_inputs(inputs, self.dtype)
        if any(side % self.patch or not side for side in x.shape[1:3]):
            raise ValueError(
                f"ViT reads images whose sides are multiples of its patches of {self.patch} "
                f"pixels, got {x.shape[1]} x {x.shape[2]}; resize or pad them (data.fit)."
            )
        found["stem"] = x = _Stem(self.width, self.patch, self.grid, name="stem")(x)
        block = layout.kept_small(_Block, self.remat)
        for name in self._blocks:
            x = block(self.heads, self.mlp or 4 * self.width, name=name)(x)
            found[name] = x
        found["pooled"] = layer_norm(layout.widened(x[:, 0]), name="norm")
        found["logits"] = layout.Head(self.num_classes, self.head_init, name="head")(
            found["pooled"]
        )
        return found


class _Stem(nn.Module):
    """Patches as tokens, the class token before them, and positions."""

    width: int
    patch: int
    grid: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, channels] -> [B, 1 + H W / patch², width]."""
        x = Patches(self.width, self.patch, name="conv")(x)
        batch, rows, columns, width = x.shape
        token = self.param("class_token", nn.initializers.zeros, (1, 1, width), jnp.float32)
        shape = (1, 1 + self.grid**2, width)
        table = self.param("positions", NORMAL, shape, jnp.float32)
        token = jnp.broadcast_to(token.astype(x.dtype), (batch, 1, width))
        x = jnp.concatenate((token, x.reshape(batch, rows * columns, width)), axis=1)
        return x + _resized(table, self.grid, (rows, columns)).astype(x.dtype)


def _resized(table: jax.Array, grid: int, sides: tuple[int, int]) -> jax.Array:
    """The positions [1, 1 + grid², D] for rows x columns patches; as they are for grid x grid."""
    if sides == (grid, grid):
        return table
    first, rest = table[:, :1], table[:, 1:].reshape(grid, grid, -1)
    rest = jax.image.resize(rest, (*sides, rest.shape[-1]), method="bicubic", antialias=True)
    return jnp.concatenate((first, rest.reshape(1, sides[0] * sides[1], -1)), axis=1)


class _Block(nn.Module):
    """Attention, then a network of each token; each reads normalised tokens and is added."""

    heads: int
    inner: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, T, width] -> [B, T, width]."""
        batch, length, width = x.shape
        qkv = Linear(3 * width, name="qkv")(layer_norm(x, name="norm1"))
        qkv = qkv.reshape(batch, length, 3, self.heads, width // self.heads)
        # it takes the weights of bfloat16 in float32, by a promotion that strict mode refuses
        with jax.numpy_dtype_promotion("standard"):
            seen = jax.nn.dot_product_attention(*(qkv[:, :, part] for part in range(3)))
        x = x + Linear(width, name="out")(seen.reshape(batch, length, width))
        return x + mlp(layer_norm(x, name="norm2"), self.inner)
