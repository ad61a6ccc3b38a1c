"""A metric where one module at a time moves along a path: all modules in one pass over the data.

Models that differ in one module compute the same up to it. What comes before a module is
computed once for all its points, and the forward pass that gives it once for all modules.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from tlx.core import contracts, host, paths, public, sharding, streams, tree
from tlx.core import labels as labels_lib
from tlx.core._chunks import (
    Chunk,
    asked,
    count_points,
    form,
    initial,
    mapped,
    placed,
    split,
    stacked_results,
)
from tlx.core.evaluation import of_batch
from tlx.core.graph import parts
from tlx.core.types import ApplyFn, Batch, Labels, Metric, Params, PathFn, Stream

__dir__ = public.names(__name__)


@host.only
def evaluate_modules(
    apply_fn: ApplyFn,
    metric: Metric,
    path_fn: PathFn,
    coordinates: Any,
    base: Params,
    labels: Labels,
    stream: Stream,
    *,
    modules: Sequence[str] | None = None,
    chunk: int = 1,
) -> dict[str, Any]:
    """The metric where one module is at the points of a path and all others are at `base`.

    Equal, up to rounding, to `evaluate_path(apply_fn, metric, spliced(path_fn, base, labels,
    module), coordinates, stream)` for each module; it does not depend on chunk, batch size,
    padding or device count.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`; traced once for a structure and shapes.
      metric: see `tlx.core.types.Metric`.
      path_fn: coordinate to parameters of the entire model, of which the moving module's are
        taken. Paths from `tlx.core.paths` are formed in compiled code, and share it; any other
        callable is called once a point and batch, outside.
      coordinates: pytree of arrays [K, ...], one coordinate a row.
      base: pytree of arrays, where the modules stay that do not move.
      labels: pytree of str like `base`: the module of each leaf.
      stream: batches; read once.
      modules: those to move, one at a time; None for all, in the order of their first leaf.
      chunk: points that are applied together (by `vmap`), which takes more memory.

    Returns:
      For each of the M modules the metric's results stacked on a leading axis [K, ...].

    Raises:
      ValueError: if there are no coordinates or their lengths differ, chunk is not positive,
        a module is not known, `labels` has another structure than `base`, or the path gives
        leaves of other names, shapes or dtypes than `base` has (each one named); TypeError for
        a chunk that is no integer; and as `evaluate`.

    Cost: for each batch one forward pass, K points of the path, and for each module K times what
    depends on it. Memory: beside `base` and the path, for one batch the values that the modules
    read of what comes before them, at most all of a forward pass; and the parameters of two chunks.

    >>> import jax.numpy as jnp
    >>> from tlx.core import labels, metrics, paths, streams, sweeps
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["body"] @ params["head"]
    >>> base = {"body": jnp.eye(4), "head": jnp.eye(4)}
    >>> path = paths.line({"body": 9 * jnp.eye(4), "head": -jnp.eye(4)}, base)
    >>> stream = streams.from_arrays(jnp.eye(4), jnp.arange(4), batch_size=4)
    >>> metric, modules = metrics.mean(metrics.accuracy), labels.from_names(base, str)
    >>> at = jnp.array([0.0, 1.0])
    >>> found = sweeps.evaluate_modules(apply_fn, metric, path, at, base, modules, stream)
    >>> {module: accuracies.tolist() for module, accuracies in found.items()}
    {'body': [1.0, 1.0], 'head': [0.0, 1.0]}
    """
    num_points = count_points(coordinates)
    together = int(asked(chunk, or_auto=False))
    chosen = labels_lib.unique(labels) if modules is None else tuple(dict.fromkeys(modules))
    names = tuple(tree.names(labels_lib.select(base, labels, module)) for module in chosen)
    coordinates = jax.tree.map(jnp.asarray, coordinates)
    base = sharding.on_devices(base)
    mesh = sharding.mesh_of((base, paths.arrays(path_fn), coordinates))
    first = jax.tree.map(lambda x: x[0], coordinates)
    point = jax.eval_shape(path_fn, first) if isinstance(path_fn, Partial) else path_fn(first)
    tree.same_structure(base, point, ("base", "a point of the path"))
    parallel = sharding.size(mesh, "points")
    of = Chunk(parallel * min(-(-together // parallel), -(-num_points // parallel)), mesh)
    rows = list(split(coordinates, num_points, of.width))
    states: list[list[Any]] = [[None] * len(rows) for _ in chosen]
    contracts.metric(metric)
    check = contracts.Values(of_batch, apply_fn, metric)
    for batch in streams.checked(stream)():
        check(base, batch)
        here = sharding.on_devices(sharding.place_rows(batch, mesh))
        plan = parts.plan(apply_fn, base, here["inputs"], names)
        values = parts.before(plan, base, here["inputs"])
        carried = dict(zip(plan.carried, values, strict=True))
        own = [[carried[var] for var in part.carried] for part in plan.parts]
        params = None
        for j, points in enumerate(rows):
            params = form(path_fn, points, of, params)
            leaves = tree.named_leaves(params)
            for i, part in enumerate(plan.parts):
                moved = [leaves[name] for name in part.moving]
                new = _after(plan, i, metric, of, moved, base, own[i], here)
                old = states[i][j]
                states[i][j] = new if old is None else _merged(metric, of, old, new)
            if j:  # at most two chunks' parameters are alive, however far dispatch runs ahead
                jax.block_until_ready([of_module[j - 1] for of_module in states])
    empty = initial(metric, of)
    return {
        module: stacked_results(
            metric, [empty if x is None else x for x in of_module], num_points, of
        )
        for module, of_module in zip(chosen, states, strict=True)
    }


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _after(
    plan: parts.Plan,
    number: int,
    metric: Metric,
    chunk: Chunk,
    moved: list[Any],
    base: Params,
    carried: list[Any],
    batch: Batch,
) -> Any:
    """The state of a chunk of a module's points on a batch."""
    part, of = plan.parts[number], plan.graph

    def one(moved: list[Any], base: Params, carried: list[Any], batch: Batch) -> Any:
        values = parts.known(of, base, batch["inputs"])
        values |= dict(zip(part.carried, carried, strict=True))
        values |= {of.leaves[n]: x for n, x in zip(part.moving, moved, strict=True)}
        parts.compute(of, part.ops, values)
        return metric.update(metric.init(), parts.outputs(of, values), batch)

    return placed(mapped(one, chunk, moved, base, carried, batch), chunk)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _merged(metric: Metric, chunk: Chunk, state: Any, new: Any) -> Any:
    """The merged state; separate from `_after`, which is compiled once per module."""
    merged = metric.merge if chunk.width == 1 else jax.vmap(metric.merge)
    return placed(merged(state, new), chunk)
