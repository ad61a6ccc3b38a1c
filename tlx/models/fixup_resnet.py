"""Fixup ResNets: residual networks without normalisation layers.

References:
  Zhang, Dauphin, Ma 2019, "Fixup initialization: residual learning without normalization".
  Neyshabur, Sedghi, Zhang 2020, "What is being transferred in transfer learning?", section 2.
"""

from collections import OrderedDict

import flax.linen as nn
import jax
import jax.numpy as jnp

from tlx.models import conv, layout


class FixupResNet(layout.Backbone):
    """Fixup ResNet: float [B, H, W, channels] -> logits float32 [B, num_classes].

    There are no batch statistics, so parameters are the entire state and linear interpolation
    needs no re-estimation. Row i of the output depends on row i of the input alone.

    The parameter tree is `<module>/...` with the modules of `module_names`: "stem" (`conv/kernel`,
    `bias1`), each block (`conv1/kernel`, `bias1a`, ..., `scale`, and `downsample/kernel` where the
    shape changes), "pooled" (`bias2`, the scalar that is added before the classifier) and "head"
    (`kernel`, `bias`). Biases and scales of the body are scalars of shape (1,).

    Attributes:
      num_classes: number of logits, at least 1.
      stage_sizes: blocks in each stage; any number of stages.
      block: "basic" (two 3x3 convolutions) or "bottleneck" (1x1, 3x3 with the stride, 1x1).
      width: channels of the first stage inside a block; they double with each stage.
      stem: "imagenet" (7x7, stride 2, then max pooling 3x3 with stride 2) or "small"
        (3x3, stride 1, no pooling), for images of about 32x32.
      head_init: "zeros" or "uniform" (PyTorch's default, the paper's "nzfc").
      dtype: of the computation; parameters, pooled features and logits are float32.
      remat: compute the inside of each block again for its gradient instead of keeping it.

    Raises:
      ValueError: a field out of range (at construction); inputs without four axes (at call).
      TypeError: inputs that are not floating point.
    """

    num_classes: int
    stage_sizes: tuple[int, ...] = (2, 2, 2, 2)
    block: str = "basic"
    width: int = 64
    stem: str = "imagenet"
    head_init: str = "zeros"
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        layout.check_fields(self)
        super().__post_init__()

    @property
    def module_names(self) -> tuple[str, ...]:
        """First level of the parameter tree, from input to output."""
        return ("stem", *layout.block_names(self.stage_sizes), "pooled", "head")

    @nn.compact
    def features(self, inputs: jax.Array, train: bool = False) -> layout.Features:
        """Activations of every layer.

        Args:
          inputs: float [B, H, W, channels].
          train: ignored; accepted so that all models are called in the same way.

        Returns:
          `layer_names` -> array: "stem" and the blocks [B, H', W', C'] in the dtype of the
          computation, after their last relu; "pooled" float32 [B, D], what the head reads;
          "logits" float32 [B, num_classes].
        """
        del train
        found: layout.Features = OrderedDict()
        x = Stem(self.width, self.stem, name="stem")(layout.checked_inputs(inputs, self.dtype))
        found["stem"] = x
        block = layout.kept_small(Bottleneck if self.block == "bottleneck" else Basic, self.remat)
        names = layout.block_names(self.stage_sizes)
        shapes = layout.block_shapes(self.stage_sizes, self.width)
        for name, (width, stride) in zip(names, shapes, strict=True):
            x = block(width, stride, len(names), name=name)(x)
            found[name] = x
        found["pooled"] = Pooled(name="pooled")(x)
        found["logits"] = layout.Head(self.num_classes, self.head_init, name="head")(
            found["pooled"]
        )
        return found


class Stem(nn.Module):
    """First convolution, scalar bias, relu and, for "imagenet", max pooling."""

    width: int
    kind: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, channels] -> [B, H/4, W/4, width], or [B, H, W, width] for "small"."""
        size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
        init = layout.torch_uniform(size * size * x.shape[-1])
        x = conv.Conv(self.width, size, stride, init, name="conv")(x)
        x = nn.relu(_plus(self, "bias1", x))
        return conv.max_pool(x) if self.kind == "imagenet" else x


class Basic(nn.Module):
    """Two 3x3 convolutions; the first has the stride, the last starts at zero."""

    width: int
    stride: int
    num_blocks: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H/stride, W/stride, width]."""
        init = layout.he_normal((3, 3, self.width), self.num_blocks**-0.5)
        biased = _plus(self, "bias1a", x)
        out = conv.Conv(self.width, 3, self.stride, init, name="conv1")(biased)
        out = _plus(self, "bias2a", nn.relu(_plus(self, "bias1b", out)))
        out = conv.Conv(self.width, 3, 1, nn.initializers.zeros, name="conv2")(out)
        out = _plus(self, "bias2b", _times(self, "scale", out))
        return nn.relu(out + _shortcut(x, biased, self.width, self.stride))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions; the last, four times wider, starts at 0."""

    width: int
    stride: int
    num_blocks: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, H, W, C] -> [B, H/stride, W/stride, 4 width]."""
        gain, wide = self.num_blocks**-0.25, 4 * self.width
        biased = _plus(self, "bias1a", x)
        init = layout.he_normal((1, 1, self.width), gain)
        out = conv.Conv(self.width, 1, 1, init, name="conv1")(biased)
        out = _plus(self, "bias2a", nn.relu(_plus(self, "bias1b", out)))
        init = layout.he_normal((3, 3, self.width), gain)
        out = conv.Conv(self.width, 3, self.stride, init, name="conv2")(out)
        out = _plus(self, "bias3a", nn.relu(_plus(self, "bias2b", out)))
        out = conv.Conv(wide, 1, 1, nn.initializers.zeros, name="conv3")(out)
        out = _plus(self, "bias3b", _times(self, "scale", out))
        return nn.relu(out + _shortcut(x, biased, wide, self.stride))


class Pooled(nn.Module):
    """Mean over height and width, plus the scalar `bias2`: [B, H, W, C] -> float32 [B, C]."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """What the head reads, float32 [B, C]."""
        return _plus(self, "bias2", layout.pooled_mean(x))


def _shortcut(x: jax.Array, biased: jax.Array, features: int, stride: int) -> jax.Array:
    """The block's input, or a strided 1x1 convolution where the shape changes.

    The convolution reads the input after `bias1a`, the identity the input itself, as in the
    authors' code.
    """
    if stride == 1 and x.shape[-1] == features:
        return x
    init = layout.he_normal((1, 1, features))
    return conv.Conv(features, 1, stride, init, name="downsample")(biased)


def _plus(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    bias = module.param(name, nn.initializers.zeros, (1,), jnp.float32)
    return x + bias.astype(x.dtype).reshape((1,) * x.ndim)


def _times(module: nn.Module, name: str, x: jax.Array) -> jax.Array:
    scale = module.param(name, nn.initializers.ones, (1,), jnp.float32)
    return x * scale.astype(x.dtype).reshape((1,) * x.ndim)
