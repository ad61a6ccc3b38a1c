"""Moments of a model's activations at its sites, batch by batch, observed or renormalised."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from tlx.core import graph, tree
from tlx.core._chunks import count_points
from tlx.core.evaluation import evaluate_path
from tlx.core.graph import sites
from tlx.core.graph.norms import BatchNorm, batch_norms
from tlx.core.metrics import mask_of
from tlx.core.streams import peek
from tlx.core.types import ApplyFn, Batch, Metric, Params, PathFn

EMPTY = "expected training batches to take statistics from, got a stream without examples"
_ROWS = "rows"


def first_point(path_fn: PathFn, coordinates: Any) -> Params:
    """Parameters at the first coordinate; only their shapes where the path can be traced."""
    count_points(coordinates)
    coordinates = jax.tree.map(jnp.asarray, coordinates)
    if isinstance(path_fn, Partial):
        first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), coordinates)
        return jax.eval_shape(path_fn, first)
    return path_fn(jax.tree.map(lambda x: x[0], coordinates))


@dataclasses.dataclass(frozen=True)
class Observer:
    """The moments of a batch at the sites of a model, each as (rows, mean, variance).

    The sites are the batch normalisations, which normalise by the batch's moments, and with
    `layers` "observe" or "repair" the layers' outputs, with "repair" after these are moved towards
    a goal. The model is applied to each row separately under `vmap` and the sums run over the
    mapped axis, so that it does not matter which axis of an activation holds the rows.
    """

    apply_fn: ApplyFn
    layers: Literal["no", "observe", "repair"] = "no"

    def __call__(self, params: Params, inputs_and_mask: Any) -> dict[str, Any]:
        goal: Any = None
        if self.layers == "repair":
            params, goal = params
        inputs, mask = inputs_and_mask
        row = functools.partial(self._row, params, goal)
        return jax.vmap(row, axis_name=_ROWS, out_axes=None)(inputs, mask)

    def _row(self, params: Params, goal: Any, row: Any, there: Array) -> dict[str, Any]:
        inputs = jax.tree.map(lambda x: x[None], row)
        traced = graph.trace(self.apply_fn, params, inputs)
        norms = batch_norms(traced)
        found: dict[str, Any] = {}
        hooks: dict[graph.Var, graph.Hook] = {}
        for site in sites.layers(traced) if self.layers != "no" else ():
            hooks[site.value] = functools.partial(_at_layer, site, goal, there, found)
        for norm in norms:
            before = hooks.get(norm.site.value)
            leaves = tuple(traced.leaves[leaf] for leaf in (norm.mean, norm.var))
            hooks[norm.site.value] = functools.partial(_at_norm, norm, leaves, there, found, before)
        after = {
            traced.leaves[leaf]: norm.site.value for norm in norms for leaf in (norm.mean, norm.var)
        }
        graph.run(traced, params, inputs, hooks=hooks, order=graph.order_with(traced, after))
        return found


def _at_layer(site: Any, goal: Any, there: Any, found: Any, value: Any, values: Any) -> Any:
    del values
    found[site.name] = _batch_moments(value, site, there)
    if goal is None:
        return value
    own = mean_std({site.name: found[site.name][1:]})
    return _shifted(value, site, own, goal)


def _at_norm(
    norm: BatchNorm, leaves: Any, there: Any, found: Any, before: Any, value: Any, values: Any
) -> Any:
    value = value if before is None else before(value, values)
    found[norm.mean] = _batch_moments(value, norm.site, there)
    for leaf, moment in zip(leaves, as_leaves(norm, found[norm.mean][1:]), strict=True):
        values[leaf] = moment.reshape(values[leaf].shape).astype(values[leaf].dtype)
    return value


def as_leaves(norm: BatchNorm, found: Any) -> tuple[Array, Array]:
    """The values of a normalisation's leaves for (mean, variance)."""
    mean, var = (moment / factor for moment, factor in zip(found, norm.factors, strict=True))
    return mean, var


def _batch_moments(value: Array, site: sites.Site, there: Array) -> tuple[Array, ...]:
    """Number of rows, mean and (biased) variance by channel, of `site.shape`.

    `value` is one row's, under `vmap`; `there` says whether the row counts.
    """
    value = value.astype(tree.accumulator(value.dtype))
    over = tuple(i for i in range(value.ndim) if i not in site.channels)
    each = max(value.size, 1) // max(math.prod(value.shape[i] for i in site.channels), 1)
    count = jax.lax.psum(there.astype(value.dtype), _ROWS)

    def average(x: Array) -> Array:
        total = jax.lax.psum(jnp.sum(jnp.where(there, x, 0), over, keepdims=True), _ROWS)
        return total / (jnp.maximum(count, 1) * each)

    mean = average(value)
    var = average(jnp.square(value - mean))
    order = [sorted(site.channels).index(axis) for axis in site.channels]
    return count, *(
        jnp.transpose(jnp.squeeze(x, over), order).reshape(site.shape) for x in (mean, var)
    )


def moments(
    observer: Observer, path_fn: PathFn, coordinates: Any, source: Any, chunk: Any
) -> dict[str, tuple[Array, Array]]:
    """Site to (mean, variance), each [K, ...], pooled over the batches of a stream."""
    first, source = peek(source)
    if first is None:
        raise ValueError(EMPTY)

    def with_mask() -> Iterator[Batch]:
        for batch in source():
            yield {"inputs": (batch["inputs"], mask_of(batch))}

    params = first_point(path_fn, coordinates)
    like = jax.eval_shape(observer, params, (first["inputs"], mask_of(first)))
    leaves, treedef = jax.tree.flatten(like)
    if not leaves:
        return {}
    metric = _pooled(treedef, tuple((x.shape, str(x.dtype)) for x in leaves))
    found = evaluate_path(observer, metric, path_fn, coordinates, with_mask, chunk=chunk)
    for count, *_ in found.values():
        if not bool((count > 0).all()):
            raise ValueError(EMPTY)
    return {name: (mean, var) for name, (_, mean, var) in found.items()}


@functools.lru_cache(maxsize=64)
def _pooled(treedef: Any, shapes: Any) -> Metric:
    """The monoid of (rows, mean, variance): those of both sets of rows together."""

    def init() -> Any:
        return jax.tree.unflatten(treedef, [jnp.zeros(shape, dtype) for shape, dtype in shapes])

    def merge(s: Any, t: Any) -> Any:
        return {name: _merged(s[name], t[name]) for name in s}

    return Metric(init, lambda state, found, _: merge(state, found), merge, lambda state: state)


def _merged(s: Any, t: Any) -> Any:
    (n, mean_s, var_s), (m, mean_t, var_t) = s, t
    total = jnp.maximum(n + m, 1)
    apart = mean_t - mean_s
    mean = mean_s + apart * (m / total)
    var = (n * var_s + m * var_t) / total + jnp.square(apart) * (n * m / total / total)
    return n + m, mean, var


def mean_std(found: dict[str, Any]) -> tuple[dict[str, Array], dict[str, Array]]:
    return (
        {name: mean for name, (mean, _) in found.items()},
        {name: jnp.sqrt(var) for name, (_, var) in found.items()},
    )


def _shifted(value: Array, site: sites.Site, own: Any, goal: Any) -> Array:
    """The value with its mean and standard deviation replaced by the goal's.

    A channel that is constant is shifted only, and a negative goal (beyond the ends) is 0.
    """
    (mean, std), (to_mean, to_std) = ((m[site.name], s[site.name]) for m, s in (own, goal))
    spreads = std > 16 * jnp.finfo(std.dtype).eps * jnp.abs(mean)  # above rounding
    scale = jnp.where(spreads, jnp.maximum(to_std, 0) / jnp.where(spreads, std, 1), 1)

    def spread(x: Array) -> Array:
        shape = [1] * value.ndim
        for axis in site.channels:
            shape[axis] = value.shape[axis]
        return x.reshape(shape)

    wide = value.astype(scale.dtype)
    return ((wide - spread(mean)) * spread(scale) + spread(to_mean)).astype(value.dtype)


@dataclasses.dataclass(frozen=True)
class Repaired:
    """The model with its layers' outputs renormalised; params are (params, moments, goal)."""

    apply_fn: ApplyFn

    def __call__(self, joint: Any, inputs: Any) -> Any:
        params, own, goal = joint
        traced = graph.trace(self.apply_fn, params, inputs)
        own = mean_std(own)
        hooks = {
            site.value: lambda value, _, site=site: _shifted(value, site, own, goal)
            for site in sites.layers(traced)
        }
        return graph.run(traced, params, inputs, hooks=hooks)[0]
