"""ResNet v1 with batch normalisation.

References:
  He, Zhang, Ren, Sun 2016, "Deep residual learning for image recognition"; the stride of a
  bottleneck is on its 3x3 convolution ("v1.5", the form of today's pretrained weights).
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax

from tlx.models import conv, layout
from tlx.models.normed import conv_norm


class ResNet(layout.Backbone):
    """ResNet v1: float [B, H, W, channels] -> logits float32 [B, num_classes].

    In evaluation mode (`train=False`) row i of the output depends on row i of the input alone.
    With `train=True` the statistics are those of the batch, and the collection "batch_stats" must
    be mutable: it takes the running mean and variance, `0.9 old + 0.1 batch` (biased variance).

    Parameters and batch statistics are `<module>/...` with the modules of `module_names`: "stem"
    (`conv`, `norm`), each block (`conv1`, `norm1`, ..., and `downsample`, `downsample_norm` where
    the shape changes) and "head" (`kernel`, `bias`; parameters only).

    Attributes:
      num_classes: number of logits, at least 1.
      stage_sizes: blocks in each stage; any number of stages.
      block: "basic" (two 3x3 convolutions) or "bottleneck" (1x1, 3x3 with the stride, 1x1).
      width: channels of the first stage inside a block; they double with each stage.
      stem: "imagenet" (7x7, stride 2, then max pooling 3x3 with stride 2) or "small"
        (3x3, stride 1, no pooling), for images of about 32x32.
      head_init: "zeros" or "uniform" (PyTorch's default).
      dtype: of the computation; parameters, statistics, pooled features and logits are float32.
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
        return ("stem", *layout.block_names(self.stage_sizes), "head")

    @nn.compact
    def features(self, inputs: jax.Array, train: bool = False) -> layout.Features:
        """Activations of every layer.

        Args:
          inputs: float [B, H, W, channels].
          train: use, and take into "batch_stats", the statistics of the batch.

        Returns:
          `layer_names` -> array: "stem" and the blocks [B, H', W', C'] in the dtype of the
          computation, after their last relu; "pooled" float32 [B, D], what the head reads;
          "logits" float32 [B, num_classes].
        """
        found: layout.Features = OrderedDict()
        x = layout.checked_inputs(inputs, self.dtype)
        x = Stem(self.width, self.stem, name="stem")(x, train)
        found["stem"] = x
        block = layout.kept_small(Bottleneck if self.block == "bottleneck" else Basic, self.remat)
        names = layout.block_names(self.stage_sizes)
        shapes = layout.block_shapes(self.stage_sizes, self.width)
        for name, (width, stride) in zip(names, shapes, strict=True):
            x = block(width, stride, name=name)(x, train)
            found[name] = x
        found["pooled"] = layout.pooled_mean(x)
        found["logits"] = layout.Head(self.num_classes, self.head_init, name="head")(
            found["pooled"]
        )
        return found


class Stem(nn.Module):
    """First convolution, normalisation, relu and, for "imagenet", max pooling."""

    width: int
    kind: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, channels] -> [B, H/4, W/4, width], or [B, H, W, width] for "small"."""
        size, stride = (7, 2) if self.kind == "imagenet" else (3, 1)
        x = nn.relu(
            conv_norm(x, self.width, size, stride=stride, train=train, names=("conv", "norm"))
        )
        return conv.max_pool(x) if self.kind == "imagenet" else x


class Basic(nn.Module):
    """Two 3x3 convolutions; the first has the stride."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H/stride, W/stride, width]."""
        normed = partial(conv_norm, train=train)
        out = normed(x, self.width, 3, stride=self.stride, names=("conv1", "norm1"))
        out = normed(nn.relu(out), self.width, 3, names=("conv2", "norm2"))
        return nn.relu(out + _shortcut(x, self.width, self.stride, normed))


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions, the last four times wider."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H/stride, W/stride, 4 width]."""
        normed = partial(conv_norm, train=train)
        wide = 4 * self.width
        out = nn.relu(normed(x, self.width, 1, names=("conv1", "norm1")))
        out = nn.relu(normed(out, self.width, 3, stride=self.stride, names=("conv2", "norm2")))
        out = normed(out, wide, 1, names=("conv3", "norm3"))
        return nn.relu(out + _shortcut(x, wide, self.stride, normed))


def _shortcut(
    x: jax.Array, features: int, stride: int, normed: Callable[..., jax.Array]
) -> jax.Array:
    """The identity, or a strided and normalised 1x1 convolution where the shape changes."""
    if stride == 1 and x.shape[-1] == features:
        return x
    return normed(x, features, 1, stride=stride, names=("downsample", "downsample_norm"))
