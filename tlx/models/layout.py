"""The common parts of all models: depths, names of modules and layers, head, initialisers."""

import inspect
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tlx.core import checks, tree

DEPTHS: dict[int, tuple[str, tuple[int, ...]]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
"""Depth -> kind of block and blocks in each stage (He et al. 2016, table 1)."""

BLOCKS = ("basic", "bottleneck")
STEMS = ("imagenet", "small")
DTYPES = ("float32", "bfloat16", "float64")
HEAD_INITS = ("zeros", "uniform")
EXPANSION = {"basic": 1, "bottleneck": 4}

AFTER_BODY = ("norm", "pooled", "head")
"""Modules between the last feature map and the logits: "pooled" and "logits" are their layers."""

Features = OrderedDict[str, jax.Array]
"""Layer name -> activations [B, ...]; ordered from input to output, also through jit."""


def block_names(stage_sizes: Sequence[int]) -> tuple[str, ...]:
    """Names of the residual blocks in order.

    >>> block_names((2, 1))
    ('stage1_block1', 'stage1_block2', 'stage2_block1')
    """
    return tuple(
        f"stage{stage}_block{block}"
        for stage, size in enumerate(stage_sizes, start=1)
        for block in range(1, size + 1)
    )


def block_shapes(stage_sizes: Sequence[int], width: int) -> tuple[tuple[int, int], ...]:
    """(inner channels, stride) of each residual block, in the order of `block_names`.

    The channels double and the sides halve at the first block of each stage but the first.

    >>> block_shapes((2, 1), 8)
    ((8, 1), (8, 1), (16, 2))
    """
    return tuple(
        (width * 2**stage, 2 if stage > 0 and block == 0 else 1)
        for stage, size in enumerate(stage_sizes)
        for block in range(size)
    )


def check_fields(model: Any) -> None:
    """Raises unless the fields that all models share are in range.

    Args:
      model: has num_classes, stage_sizes, block, width, stem, head_init and dtype.

    Raises:
      ValueError: a value out of range, or a name that is not known.
      TypeError: stage_sizes is not a tuple (a list would make the module unhashable).
    """
    check_stages(model)
    check_numbers(model, {"num_classes": model.num_classes, "width": model.width})
    known = {"block": BLOCKS, "stem": STEMS, "head_init": HEAD_INITS, "dtype": DTYPES}
    check_names(model, known)


def check_stages(model: Any) -> None:
    """Raises unless the model's stage_sizes is a tuple of integers of at least 1, not empty."""
    where = type(model).__name__
    if not isinstance(model.stage_sizes, tuple):
        raise TypeError(
            f"{where}: expected stage_sizes as a tuple of blocks in each stage, "
            f"got {model.stage_sizes!r}; write tuple(...)"
        )
    if not model.stage_sizes:
        raise ValueError(f"{where}: expected stage_sizes of at least one stage, got ()")
    sizes = enumerate(model.stage_sizes)
    check_numbers(model, {f"stage_sizes[{i}]": size for i, size in sizes})


def check_numbers(model: Any, numbers: Mapping[str, Any]) -> None:
    """Raises ValueError unless all are integers of at least 1, naming the field."""
    where = type(model).__name__
    for field, value in numbers.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{where}: expected {field} as an integer of at least 1, got {value!r}"
            )


def check_names(model: Any, known: Mapping[str, Sequence[str]]) -> None:
    """Raises ValueError unless each of these fields has one of its names; names the nearest."""
    for field, names in known.items():
        value = getattr(model, field)
        if value not in names:
            raise ValueError(f"{type(model).__name__}: {checks.unknown(field, value, names)}")


def checked_inputs(inputs: jax.Array, dtype: str) -> jax.Array:
    """The inputs in the dtype of computation, or an error.

    Args:
      inputs: float [B, H, W, channels].
      dtype: "float32", "bfloat16" or "float64" (with jax_enable_x64).

    Returns:
      The same values as `dtype`, [B, H, W, channels].

    Raises:
      ValueError: inputs do not have four axes (at call, also while tracing).
      TypeError: inputs are not floating point, e.g. images not yet normalised.
    """
    if inputs.ndim != 4:
        raise ValueError(
            "expected inputs [batch, height, width, channels], got shape "
            f"{tuple(inputs.shape)}; add the missing axis, as in inputs[..., None] for grey images"
        )
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise TypeError(
            f"expected floating-point inputs, got {inputs.dtype}; normalise the images first"
        )
    return inputs.astype(jnp.dtype(dtype))


def pooled_mean(x: jax.Array) -> jax.Array:
    """Mean over height and width: [B, H, W, C] to [B, C] in float32 or more."""
    return jnp.mean(widened(x), axis=(1, 2))


def widened(x: jax.Array) -> jax.Array:
    """The same values in float32 or more."""
    return x.astype(tree.accumulator(x.dtype))


def torch_uniform(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for weights and biases: U(-1/sqrt(fan_in), 1/sqrt(fan_in)).

    Its variance is 1/(3 fan_in): kaiming_uniform with a = sqrt(5).
    """
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return init


def he_normal(kernel_shape: Sequence[int], gain: float = 1.0) -> nn.initializers.Initializer:
    """Normal with standard deviation gain * sqrt(2 / (C_out * kh * kw)).

    Args:
      kernel_shape: (kh, kw, C_out).
      gain: factor on the standard deviation.

    References:
      He et al. 2015, "Delving deep into rectifiers", eq. 14 (fan-out form).
    """
    return nn.initializers.normal(gain * math.sqrt(2.0 / math.prod(kernel_shape)))


class Backbone(nn.Module):
    """The common interface of all families: names, features by layer, logits as the last layer.

    A family gives `module_names` and `features`, whose order is that of `layer_names`.
    """

    @property
    def module_names(self) -> tuple[str, ...]:
        """First level of the parameter tree, from input to output."""
        raise NotImplementedError

    @property
    def layer_names(self) -> tuple[str, ...]:
        """Keys of `features`, from input to output."""
        body = [name for name in self.module_names if name not in AFTER_BODY]
        return (*body, "pooled", "logits")

    def features(self, inputs: jax.Array, train: bool = False) -> Features:
        """Activations of every layer."""
        raise NotImplementedError

    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        """Logits float32 [B, num_classes].

        With batch normalisation from the batch's statistics if `train`, else from running ones;
        without it `train` changes nothing.
        """
        return self.features(inputs, train)["logits"]


def kept_small(block: type[nn.Module], remat: bool) -> Any:
    """The kind of block, or one of which the gradient keeps the input only (rematerialisation).

    Its inside is computed a second time, a third more work in all, and the memory of activations
    is that of one block and of every block's input. Names and numbers are the same up to rounding.
    T. Chen et al., Training deep nets with sublinear memory cost, 2016.
    """
    if not isinstance(remat, bool):  # 'false' would be true
        raise ValueError(f"remat: expected True or False, got {remat!r}")
    if not remat:
        return block
    # `train`, where a block takes it, is not traced
    takes = len(inspect.signature(block.__call__).parameters)
    return nn.remat(block, static_argnums=tuple(range(2, takes)))


class Head(nn.Module):
    """Linear classifier in float32 or more: [B, D] -> logits [B, num_classes].

    `head_init` "zeros" starts with logits of zero; "uniform" is PyTorch's default for both
    kernel and bias.
    """

    num_classes: int
    head_init: str

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits [B, num_classes] of x [B, D], in the dtype of x."""
        features = x.shape[-1]
        init = nn.initializers.zeros if self.head_init == "zeros" else torch_uniform(features)
        kernel = self.param("kernel", init, (features, self.num_classes), jnp.float32)
        bias = self.param("bias", init, (self.num_classes,), jnp.float32)
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)[None, :]
