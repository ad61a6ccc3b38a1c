"""ConvNeXt: convolutions of large windows within each channel, and a network of each pixel.

References:
  Liu, Mao, Wu, Feichtenhofer, Darrell, Xie 2022, "A ConvNet for the 2020s".
"""

from collections import OrderedDict

import flax.linen as nn
import jax
import jax.numpy as jnp

from tlx.models import layout
from tlx.models.depthwise import Depthwise
from tlx.models.tokens import NORMAL, Patches, layer_norm, mlp

PATCH = 4
"""Side of the stem's patches."""

LAYER_SCALE = 1e-6
"""The initial value of the factors on the blocks' branches."""


class ConvNeXt(layout.Backbone):
    """ConvNeXt: float [B, H, W, channels] -> logits float32 [B, num_classes].

    The stochastic depth of the paper's training is left out: evaluation is the same, and training
    is a function of weights and batch.

    Parameters are `<module>/...` with the modules of `module_names`: "stem" (`conv`, `norm`),
    each block (`depthwise`, `norm`, `mlp1`, `mlp2` and `layer_scale` [C]; before them
    `downsample_norm` and `downsample` in the first of each stage but the first), "norm" and
    "head". All `kernel` have a `bias` beside them.

    Attributes:
      num_classes: number of logits, at least 1.
      stage_sizes: blocks in each stage; any number of stages.
      width: channels of the first stage; they double with each stage.
      head_init: "zeros" or "uniform" (PyTorch's default for linear layers).
      dtype: of the computation; parameters, pooled features and logits are float32.
      remat: compute the inside of each block again for its gradient instead of keeping it.

    Raises:
      ValueError: a field out of range (at construction); inputs without four axes, or too small
        for the stages (at call).
      TypeError: inputs that are not floating point; stage_sizes that is not a tuple.
    """

    num_classes: int
    stage_sizes: tuple[int, ...] = (3, 3, 9, 3)
    width: int = 96
    head_init: str = "zeros"
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        layout.check_stages(self)
        layout.check_numbers(self, {"num_classes": self.num_classes, "width": self.width})
        layout.check_names(self, {"head_init": layout.HEAD_INITS, "dtype": layout.DTYPES})
        super().__post_init__()

    @property
    def module_names(self) -> tuple[str, ...]:
        """First level of the parameter tree, from input to output."""
        return ("stem", *layout.block_names(self.stage_sizes), "norm", "head")

    @nn.compact
    def features(self, inputs: jax.Array, train: bool = False) -> layout.Features:
        """Activations of every layer.

        Args:
          inputs: float [B, H, W, channels].
          train: changes nothing.

        Returns:
          `layer_names` -> array: "stem" and the blocks [B, H', W', C'] in the dtype of the
          computation; "pooled" float32 [B, D], the normalised means, which the head reads;
          "logits" float32 [B, num_classes].
        """
        del train
        found: layout.Features = OrderedDict()
        x = layout.checked_inputs(inputs, self.dtype)
        least = PATCH * 2 ** (len(self.stage_sizes) - 1)
        if min(x.shape[1:3]) < least:
            raise ValueError(
                f"expected images of at least {least} x {least} pixels for a ConvNeXt of "
                f"{len(self.stage_sizes)} stages, got {x.shape[1]} x {x.shape[2]}; use larger "
                "ones, or fewer stages"
            )
        found["stem"] = x = _Stem(self.width, name="stem")(x)
        names = layout.block_names(self.stage_sizes)
        shapes = layout.block_shapes(self.stage_sizes, self.width)
        block = layout.kept_small(_Block, self.remat)
        for name, (width, stride) in zip(names, shapes, strict=True):
            found[name] = x = block(width, stride, name=name)(x)
        found["pooled"] = layer_norm(layout.pooled_mean(x), name="norm")
        found["logits"] = layout.Head(self.num_classes, self.head_init, name="head")(
            found["pooled"]
        )
        return found


class _Stem(nn.Module):
    """Patches, normalised."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, channels] -> [B, H // 4, W // 4, width]."""
        return layer_norm(Patches(self.width, PATCH, name="conv")(x), name="norm")


class _Block(nn.Module):
    """7x7 within each channel, then a network of each pixel, scaled and added."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H // stride, W // stride, width]."""
        if self.stride > 1:
            x = layer_norm(x, name="downsample_norm")
            x = Patches(self.width, self.stride, name="downsample")(x)
        out = Depthwise(NORMAL, size=7, use_bias=True, name="depthwise")(x)
        out = mlp(layer_norm(out, name="norm"), 4 * self.width)
        start = nn.initializers.constant(LAYER_SCALE)
        scale = self.param("layer_scale", start, (self.width,), jnp.float32)
        return x + out * scale.astype(x.dtype).reshape(1, 1, 1, -1)
