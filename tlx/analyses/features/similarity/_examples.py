"""The features of all layers of two models over a pass: those of all examples, or their moments."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from tlx.analyses.features.similarity import _features, _second_moments
from tlx.analyses.features.similarity._features import Spatial
from tlx.core import sharding
from tlx.core.metrics import mask_of
from tlx.core.pair import Pair
from tlx.core.types import Batch, FeatureFn, Metric, Params, Stream


class Layer(NamedTuple):
    """A layer: its name, the number of columns, and the number of rows per example."""

    name: str
    dim: int
    positions: int


class Source(NamedTuple):
    """The source of the rows; `fn` gives the features of both models, of one if they are equal."""

    fn: Callable[[Any, Any], Any]
    params: Any
    x: tuple[Layer, ...]
    y: tuple[Layer, ...]
    is_one: bool
    spatial: Spatial


class Held(NamedTuple):
    """What was kept of a pass: moments, or, if these are None, batches of rows for `joined`."""

    batches: list[Any]
    moments: _second_moments.Moments | None
    num_examples: int


def source_of(
    feature_fn_x: FeatureFn,
    params_x: Params,
    feature_fn_y: FeatureFn,
    params_y: Params,
    first: Batch,
    spatial: Spatial,
) -> Source:
    """Both models with their layers; nothing is computed.

    Raises:
      ValueError, TypeError: as `_features.layers`.
    """

    def layers(feature_fn: FeatureFn, params: Params, name: str) -> tuple[Layer, ...]:
        found = _features.layers(feature_fn, params, first, name=name)
        mask = jax.eval_shape(mask_of, first)
        shapes = {
            key: jax.eval_shape(lambda z, m: _features.arrange(z, m, spatial)[0], layer, mask).shape
            for key, layer in found.items()
        }
        return tuple(Layer(key, d, rows // mask.size) for key, (rows, d) in shapes.items())

    x = layers(feature_fn_x, params_x, "feature_fn_x")
    ordered_x = _features.ordered(feature_fn_x)
    if feature_fn_x == feature_fn_y and _features.identical(params_x, params_y):
        return Source(ordered_x, sharding.on_devices(params_x), x, x, True, spatial)
    y = layers(feature_fn_y, params_y, "feature_fn_y")
    pair = Pair(ordered_x, _features.ordered(feature_fn_y))
    return Source(pair, sharding.on_devices((params_x, params_y)), x, y, False, spatial)


def read(source: Source, stream: Stream, *, moments: bool, at_once: bool) -> Held:
    """One pass over the data.

    Args:
      source: the models.
      stream: the batches.
      moments: whether to switch to moments as soon as they take no more memory than the rows
        of the examples so far; for layers with equally many positions.
      at_once: whether to take moments from the first batch on.
    """
    fold = _fold_of(source) if moments else None
    batches: list[Any] = []
    state, num = None, jnp.zeros((), jnp.int32)
    mesh = sharding.mesh_of(source.params)
    for given in stream():
        batch = sharding.place_rows(given, mesh)
        mask = mask_of(batch)
        rows = _rows(source.fn, source.spatial, source.params, batch["inputs"], mask)
        num = num + jnp.sum(mask, dtype=jnp.int32)
        if state is None:
            batches.append(sharding.to_host(rows))
            if fold is not None and (at_once or _moments_are_less(source, int(num))):
                state = _init(fold)
        if fold is not None and state is not None:
            for part in batches or [rows]:
                state = _fold(fold, source.is_one, state, part)
            batches = []
    found = None if fold is None or state is None else fold.compute(state)
    return Held(batches, found, int(num))


def _fold_of(source: Source) -> Metric:
    x, y = (tuple((str(i), layer.dim) for i, layer in enumerate(z)) for z in (source.x, source.y))
    return _second_moments.metric(x, None if source.is_one else y)


def _moments_are_less(source: Source, num_examples: int) -> bool:
    """Whether the rows of so many examples take more memory than moments, and suffice for them.

    The debiased measures subtract the contribution of the Gram matrices' diagonals, about D/n of
    the total.
    """
    x, y = ([layer.dim for layer in z] for z in (source.x, source.y))
    num = num_examples * source.x[0].positions
    rows = num * (sum(x) if source.is_one else sum(x) + sum(y))
    return num >= 4 * max(*x, *y) and rows >= sum(x) * sum(y) + sum(d * d for d in (*x, *y))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _rows(fn: Any, spatial: Spatial, params: Any, inputs: Any, mask: Array) -> Any:
    """For each model (one or two) and layer, its rows and which of them count."""
    outputs = fn(params, inputs)
    models = [outputs] if isinstance(outputs, Mapping) else outputs
    return [
        [_features.arrange(features, mask, spatial) for features in model.values()]
        for model in models
    ]


@functools.partial(jax.jit, static_argnums=0)
def _init(fold: Metric) -> Any:
    return fold.init()


@functools.partial(jax.jit, static_argnums=(0, 1))
def _fold(fold: Metric, is_one: bool, state: Any, rows: Any) -> Any:
    outputs = [{str(i): layer for i, (layer, _) in enumerate(model)} for model in rows]
    return fold.update(state, outputs[0] if is_one else outputs, {"mask": rows[0][0][1]})


def joined(batches: list[Any], model: int, layer: int) -> np.ndarray:
    """A layer's rows [n, D] of all batches, without those that do not count."""
    parts = []
    for batch in batches:
        rows, mask = batch[model][layer]
        parts.append(rows[mask])
        batch[model][layer] = None  # only one layer at a time is held twice
    return np.concatenate(parts)
