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

from tlx.core import _parts, checks, paths, tree
from tlx.core import labels as labels_lib
from tlx.core.evaluate import count_points
from tlx.core.types import ApplyFn, Batch, Labels, Metric, Params, PathFn, Stream


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
      path_fn: coordinate to parameters of the whole model, of which the moving module's are
        taken. Paths from `tlx.core.paths` form those alone, within compiled code; any other
        callable is called once a point, outside, and all that it returns is kept.
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
        leaves of other names, shapes or dtypes than `base` has (each one named).

    Cost: for each batch one forward pass, and for each module K times what depends on it. Memory:
    beside `base` and the path, for one batch the values that the modules read of what comes
    before them, at most all of a forward pass; and the temporaries of a chunk.
    """
    num_points = count_points(coordinates)
    if chunk < 1:
        raise ValueError(f"expected chunk to be at least 1, got {chunk}")
    chosen = labels_lib.unique(labels) if modules is None else tuple(dict.fromkeys(modules))
    names = tuple(
        frozenset(tree.names(labels_lib.select(base, labels, module))) for module in chosen
    )
    coordinates = jax.tree.map(jnp.asarray, coordinates)
    path_fn, coordinates = _traceable(path_fn, coordinates, num_points)
    point = jax.eval_shape(path_fn, jax.tree.map(lambda x: x[0], coordinates))
    checks.same_structure(base, point, ("base", "a point of the path"))
    base = jax.device_put(base)
    first = jax.tree.map(lambda x: jnp.stack([x] * num_points), metric.init())
    states = [jax.tree.map(jnp.copy, first) for _ in chosen]
    for batch in stream():
        placed = jax.device_put(dict(batch))
        plan = _parts.plan(apply_fn, base, placed["inputs"], names)
        carried = dict(zip(plan.carried, _parts.before(plan, base, placed["inputs"]), strict=True))
        for i, part in enumerate(plan.parts):
            own = [carried[var] for var in part.carried]
            points = (path_fn, coordinates)
            states[i] = _after(plan, i, metric, chunk, states[i], points, base, own, placed)
    compute = jax.vmap(metric.compute)
    return {module: compute(state) for module, state in zip(chosen, states, strict=True)}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=4)
def _after(
    plan: _parts.Plan,
    number: int,
    metric: Metric,
    chunk: int,
    states: Any,
    points: tuple[PathFn, Any],
    base: Params,
    carried: list[Any],
    batch: Batch,
) -> Any:
    """The states of a module's points, a batch further."""
    part, of = plan.parts[number], plan.graph
    path_fn, coordinates = points
    given = _parts.known(of, base, batch["inputs"])
    given |= dict(zip(part.carried, carried, strict=True))

    def one(state_and_coordinate: tuple[Any, Any]) -> Any:
        state, coordinate = state_and_coordinate
        point = tree.named_leaves(path_fn(coordinate))
        values = given | {of.leaves[name]: point[name] for name in part.moving}
        _parts.compute(of, part.ops, values)
        return metric.update(state, _parts.outputs(of, values), batch)

    if chunk == 1:
        return jax.lax.map(one, (states, coordinates))
    return jax.lax.map(one, (states, coordinates), batch_size=chunk)


def _traceable(path_fn: PathFn, coordinates: Any, num_points: int) -> tuple[PathFn, Any]:
    """The path and its coordinates such that compiled code can form the points."""
    if isinstance(path_fn, Partial):
        return path_fn, coordinates
    rows = [path_fn(jax.tree.map(lambda x, i=i: x[i], coordinates)) for i in range(num_points)]
    return paths.stacked(rows), jnp.arange(num_points)
