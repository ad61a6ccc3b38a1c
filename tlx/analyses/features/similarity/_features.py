"""Features of examples as the similarity measures take them, and the layers of a model."""

import functools
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tlx.core import checks, contracts
from tlx.core.types import Batch, FeatureFn, Params

Spatial = Literal["flatten", "pool", "positions"]
"""The treatment of the axes between the first (examples) and the last (channels).

- "flatten": an example is the vector of all its values, [B, P·C].
- "pool": it is the mean over its positions, [B, C].
- "positions": each position of each example is an example, [B·P, C]; the positions of one
  image are not independent of each other.
"""

SPATIAL: tuple[Spatial, ...] = ("flatten", "pool", "positions")


def matrices(x: Any, y: Any, *, least: int, name: str) -> tuple[Array, Array]:
    """Two sets of features [n, ...] on the same examples as [n, Dx] and [n, Dy].

    Returns:
      Both in float32, or float64 where either is (bfloat16, integers and bools become float32).

    Raises:
      ValueError: for lengths that differ, scalars, or fewer than `least` examples.
      TypeError: for complex features. At call, also while tracing.
    """
    x, y = _on_host_or_device(x), _on_host_or_device(y)
    if x.ndim < 1 or y.ndim < 1 or len(x) != len(y):
        raise ValueError(
            f"expected features [n, ...] of the same examples, got shapes {x.shape} and {y.shape}"
        )
    if len(x) < least:
        raise ValueError(f"expected at least {least} examples for {name}, got {len(x)}")
    return matrix(x), matrix(y)


def matrix(features: Any) -> Float[Array, "n D"]:
    """Features [n, ...] as [n, D] in the accumulation dtype (float64 where that is enabled)."""
    x = _on_host_or_device(features)
    if jnp.iscomplexobj(x):
        raise TypeError(f"expected real features, got dtype {x.dtype}")
    return x.reshape(len(x), math.prod(x.shape[1:])).astype(jnp.result_type(float))


def _on_host_or_device(features: Any) -> Any:
    """Arrays of numpy as they are: to convert them by jax.numpy is a program for each shape.

    Integers of 64 bits, which are other numbers on the device, as floats.
    """
    if not isinstance(features, np.ndarray):
        return jnp.asarray(features)
    is_wide = features.dtype.kind in "iu" and features.dtype.itemsize == 8
    return features.astype(np.float64) if is_wide else features


def arrange(
    features: Array, mask: Bool[Array, " B"], spatial: Spatial
) -> tuple[Float[Array, "R D"], Bool[Array, " R"]]:
    """A layer's features [B, ...] as rows of a matrix, and which rows count; see `Spatial`."""
    x = features if jnp.issubdtype(features.dtype, jnp.floating) else matrix_like(features)
    if spatial == "flatten" or x.ndim < 3:
        return x.reshape(len(x), math.prod(x.shape[1:])), mask
    x = x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])
    if spatial == "pool":
        return x.astype(jnp.result_type(float)).mean(1), mask
    return x.reshape(-1, x.shape[-1]), jnp.repeat(mask, x.shape[1])


def matrix_like(features: Array) -> Array:
    """The features with integers and bools in the accumulation dtype; the shape is unchanged."""
    return matrix(features).reshape(features.shape)


@functools.lru_cache(maxsize=128)  # the same object again, so that traces are reused
def ordered(feature_fn: FeatureFn) -> FeatureFn:
    """A feature function whose result keeps its order through tracing."""

    def in_order(params: Params, inputs: Any) -> OrderedDict[str, Array]:
        features = feature_fn(params, inputs)
        if not isinstance(features, Mapping):
            raise TypeError(
                "expected a feature function to return a mapping of layer names to arrays, "
                f"got {type(features).__name__}"
            )
        return OrderedDict(features)

    return in_order


def layers(
    feature_fn: FeatureFn, params: Params, batch: Batch, *, name: str, least: int = 1
) -> OrderedDict[str, jax.ShapeDtypeStruct]:
    """The layers with their shapes and dtypes, checked; nothing is computed.

    Args:
      feature_fn: `(params, inputs) -> {layer: array [B, ...]}`.
      params: its parameters.
      batch: a batch of the stream.
      name: the function's name in messages.
      least: the smallest number of rows of a batch.

    Raises:
      ValueError: for a batch of too few rows, no layers, or layers without the batch axis.
      TypeError: if the function returns no mapping.
    """
    inputs = batch["inputs"]
    rows = contracts.num_rows(inputs)
    if rows < least:
        raise ValueError(
            f"expected batches of at least {least} rows, got {rows}; raise the batch size"
        )
    found: Any = jax.eval_shape(ordered(feature_fn), params, inputs)
    if not found:
        raise ValueError(f"expected {name} to return at least one layer, got none")
    wrong = [f"{key} {v.shape}" for key, v in found.items() if v.shape[:1] != (rows,)]
    if wrong:
        raise ValueError(
            f"expected each layer of {name} as [B, ...] with B = {rows}, got {', '.join(wrong)}"
        )
    return found


def check_spatial(spatial: str) -> None:
    """Raises ValueError for an unknown treatment of positions."""
    if spatial not in SPATIAL:
        raise ValueError(checks.unknown("spatial", spatial, SPATIAL))


def identical(a: Params, b: Params) -> bool:
    """Whether two trees hold the very same arrays."""
    left, right = jax.tree.leaves(a), jax.tree.leaves(b)
    return len(left) == len(right) and all(x is y for x, y in zip(left, right, strict=True))
