"""MobileNetV2: inverted residual blocks with depthwise convolutions and batch normalisation.

References:
  Sandler, Howard, Zhu, Zhmoginov, Chen 2018, "MobileNetV2: inverted residuals and linear
  bottlenecks", table 2.
"""

import math
from collections import OrderedDict

import flax.linen as nn
import jax

from tlx.models import layout
from tlx.models.depthwise import Depthwise
from tlx.models.normed import batch_norm, conv_norm

STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks and stride of the first block, of each stage."""

FIRST, LAST = 32, 1280
"""Channels of the stem, and of the features before the head."""


def channels(number: int, width: float) -> int:
    """A number of channels times the width, to a multiple of 8, at most a tenth below.

    >>> channels(24, 0.35)
    8
    """
    scaled = number * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class MobileNetV2(layout.Backbone):
    """MobileNetV2: float [B, H, W, channels] -> logits float32 [B, num_classes].

    Batch statistics are as those of `tlx.models.ResNet`. The dropout before the head is left out:
    evaluation is the same, and training is a function of weights and batch.

    Parameters and batch statistics are `<module>/...` with the modules of `module_names`: "stem"
    (`conv`, `norm`), each block (`expand` but in the first, `depthwise`, `project`, each with its
    `…_norm`), "last" (`conv`, `norm`) and "head" (`kernel`, `bias`; parameters only).

    Attributes:
      num_classes: number of logits, at least 1.
      stages: expansion, channels, blocks and stride of each stage; any number of stages.
      width: factor on all channels, above 0; the last 1,280 do not shrink.
      head_init: "zeros" or "uniform" (PyTorch's default for linear layers).
      dtype: of the computation; parameters, statistics, pooled features and logits are float32.
      remat: compute the inside of each block again for its gradient instead of keeping it.

    Raises:
      ValueError: a field out of range (at construction); inputs without four axes (at call).
      TypeError: inputs that are not floating point; stages that are not tuples.
    """

    num_classes: int
    stages: tuple[tuple[int, int, int, int], ...] = STAGES
    width: float = 1.0
    head_init: str = "zeros"
    dtype: str = "float32"
    remat: bool = False

    def __post_init__(self) -> None:
        _check(self)
        super().__post_init__()

    @property
    def module_names(self) -> tuple[str, ...]:
        """First level of the parameter tree, from input to output."""
        return ("stem", *self._blocks, "last", "head")

    @property
    def _blocks(self) -> tuple[str, ...]:
        return layout.block_names([stage[2] for stage in self.stages])

    @nn.compact
    def features(self, inputs: jax.Array, train: bool = False) -> layout.Features:
        """Activations of every layer.

        Args:
          inputs: float [B, H, W, channels].
          train: use, and take into "batch_stats", the statistics of the batch.

        Returns:
          `layer_names` -> array: "stem", the blocks and "last" [B, H', W', C'] in the dtype of
          the computation; "pooled" float32 [B, D], what the head reads; "logits" float32
          [B, num_classes].
        """
        found: layout.Features = OrderedDict()
        x = layout.checked_inputs(inputs, self.dtype)
        x = _Outer(channels(FIRST, self.width), 3, 2, name="stem")(x, train)
        found["stem"] = x
        names, kind = iter(self._blocks), layout.kept_small(_Block, self.remat)
        for expansion, features, blocks, stride in self.stages:
            for block in range(blocks):
                name = next(names)
                made = kind(
                    channels(features, self.width), expansion, 1 if block else stride, name=name
                )
                x = found[name] = made(x, train)
        last = channels(LAST, max(1.0, self.width))
        found["last"] = x = _Outer(last, 1, 1, name="last")(x, train)
        found["pooled"] = layout.pooled_mean(x)
        found["logits"] = layout.Head(self.num_classes, self.head_init, name="head")(
            found["pooled"]
        )
        return found


def _check(model: MobileNetV2) -> None:
    where = type(model).__name__
    stages = model.stages
    if not isinstance(stages, tuple) or not all(isinstance(stage, tuple) for stage in stages):
        raise TypeError(f"{where}: expected stages as a tuple of tuples, got {stages!r}")
    good = [len(s) == 4 and all(isinstance(n, int) and n >= 1 for n in s) for s in stages]
    if not stages or not all(good):
        raise ValueError(
            f"{where}: expected each of stages as (expansion, channels, blocks, stride), integers "
            f"of at least 1, got {stages}"
        )
    if not isinstance(model.width, int | float) or not 0 < model.width < math.inf:
        raise ValueError(f"{where}: expected width as a number above 0, got {model.width!r}")
    layout.check_numbers(model, {"num_classes": model.num_classes})
    layout.check_names(model, {"head_init": layout.HEAD_INITS, "dtype": layout.DTYPES})


class _Outer(nn.Module):
    """Convolution, normalisation and relu6: the first and the last of the body."""

    features: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        return nn.relu6(conv_norm(x, self.features, self.size, stride=self.stride, train=train))


class _Block(nn.Module):
    """1x1 to more channels, 3x3 within each channel, 1x1 to few; added where the shape is kept."""

    features: int
    expansion: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[B, H, W, C] -> [B, H/stride, W/stride, features]."""
        inner, out = self.expansion * x.shape[-1], x
        if self.expansion != 1:
            out = nn.relu6(conv_norm(out, inner, 1, train=train, names=("expand", "expand_norm")))
        init = layout.he_normal((3, 3, 1))
        out = Depthwise(init, stride=self.stride, name="depthwise")(out)
        out = nn.relu6(batch_norm(out, train=train, name="depthwise_norm"))
        out = conv_norm(out, self.features, 1, train=train, names=("project", "project_norm"))
        return x + out if self.stride == 1 and x.shape[-1] == self.features else out
