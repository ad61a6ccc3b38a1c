"""Evaluation of a metric: for one model, or along a path for many in one pass over the data."""

import functools
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from tlx.core import tree
from tlx.core.types import ApplyFn, Batch, Metric, Params, PathFn, Stream

GROUP_BYTES = 256 * 2**20
"""Batches kept on the device at once, so that the parameters of a point serve them all."""

CHUNK_BYTES = 2**30
"""The most that `chunk="auto"` spends on the parameters of the points of one chunk."""


def evaluate(apply_fn: ApplyFn, metric: Metric, params: Params, stream: Stream) -> Any:
    """The metric of one model over a stream.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`. Compiled once per function object,
        metric and shapes: pass the same objects again to share it.
      metric: see `tlx.core.types.Metric`.
      params: pytree of arrays.
      stream: batches of constant shape.

    Returns:
      The metric's results; for an empty stream those of `metric.init()`.

    Cost: one pass over the data, one forward pass a batch.
    """
    params = jax.device_put(params)
    state = metric.init()
    for batch in stream():
        state = _update(apply_fn, metric, state, params, dict(batch))
    return metric.compute(state)


def evaluate_path(
    apply_fn: ApplyFn,
    metric: Metric,
    path_fn: PathFn,
    coordinates: Any,
    stream: Stream,
    *,
    chunk: int | Literal["auto"] = "auto",
) -> Any:
    """The metric at many points of a path, in one pass over the data.

    Equal, up to rounding, to a loop of `evaluate(apply_fn, metric, path_fn(c), stream)`; it
    does not depend on chunk, batch size, padding or device count.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`.
      metric: see `tlx.core.types.Metric`.
      path_fn: coordinate to parameters. Paths from `tlx.core.paths` share compiled code;
        any other callable is called once per point and group of batches, outside jit.
      coordinates: pytree of arrays [K, ...], one coordinate a row.
      stream: batches of constant shape; read once, each batch moved to the device once.
      chunk: points whose parameters are formed and applied together (by `vmap`). Wider can
        be faster on accelerators and costs memory; on CPU a width of 1 is best, since
        vectorised convolution kernels become grouped convolutions. "auto" is 1 on CPU;
        elsewhere it times 1, 2, 4, … on the first batch until a point gets no cheaper,
        with chunk parameters of at most `CHUNK_BYTES`, and remembers that.

    Returns:
      The metric's results stacked on a leading axis [K, ...].

    Raises:
      ValueError: if there are no coordinates, their lengths differ, or chunk is not positive.

    Cost: K forward passes a batch; the parameters of a point are formed once for each group
    of batches (`GROUP_BYTES`). Memory: one group, and the parameters of two chunks.
    """
    num_points = _num_points(coordinates)
    coordinates = jax.tree.map(jnp.asarray, coordinates)
    if chunk != "auto" and chunk < 1:
        raise ValueError(f"expected chunk to be 'auto' or at least 1, got {chunk}")
    width = 0
    states: list[Any] = []
    for group in _groups(stream()):
        if not width and chunk == "auto":
            width = _auto_chunk(apply_fn, metric, path_fn, coordinates, group[0])
        elif not width:
            width = min(int(chunk), num_points)
        chunks = list(_chunks(coordinates, num_points, width))
        states = states or [_init(metric, width) for _ in chunks]
        params = None
        for i, points in enumerate(chunks):
            params = _form(path_fn, points, width, params)
            for batch in group:
                states[i] = _step(width)(apply_fn, metric, states[i], params, batch)
            if i:  # at most two chunks' parameters are alive, however far dispatch runs ahead
                jax.block_until_ready(states[i - 1])
    if not states:
        return _results(metric, [metric.init()] * num_points, num_points, 1)
    return _results(metric, states, num_points, width)


def _fold(apply_fn: ApplyFn, metric: Metric, state: Any, params: Params, batch: Batch) -> Any:
    return metric.update(state, apply_fn(params, batch["inputs"]), batch)


def _fold_chunk(apply_fn: ApplyFn, metric: Metric, state: Any, params: Params, batch: Any) -> Any:
    one = functools.partial(_fold, apply_fn, metric)
    return jax.vmap(one, in_axes=(0, 0, None))(state, params, batch)


_update = jax.jit(_fold, static_argnums=(0, 1))
_update_chunk = jax.jit(_fold_chunk, static_argnums=(0, 1))


def _step(width: int) -> Any:
    return _update if width == 1 else _update_chunk


def _init(metric: Metric, width: int) -> Any:
    state = metric.init()
    return state if width == 1 else jax.tree.map(lambda x: jnp.stack([x] * width), state)


@functools.partial(jax.jit, static_argnums=2, donate_argnums=3, keep_unused=True)
def _form_traced(path_fn: PathFn, points: Any, width: int, old: Params) -> Params:
    del old  # its memory is taken: fresh memory for each point costs three times the arithmetic
    if width == 1:
        return path_fn(jax.tree.map(lambda x: x[0], points))
    return jax.vmap(path_fn)(points)


def _form(path_fn: PathFn, points: Any, width: int, old: Params = None) -> Params:
    """The parameters of a chunk, with a leading axis where its width is above 1.

    `old` are those of the chunk before, which are gone afterwards.
    """
    if isinstance(path_fn, Partial):
        return _form_traced(path_fn, points, width, old)
    rows = [path_fn(jax.tree.map(lambda x, i=i: x[i], points)) for i in range(width)]
    return jax.device_put(rows[0]) if width == 1 else tree.stack(rows)


def _results(metric: Metric, states: list[Any], num_points: int, width: int) -> Any:
    if width > 1:
        rows = jax.tree.map(lambda *xs: jnp.concatenate(xs)[:num_points], *states)
    else:
        rows = jax.tree.map(lambda *xs: jnp.stack(xs), *states)
    return jax.vmap(metric.compute)(rows)


def _num_points(coordinates: Any) -> int:
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(coordinates)}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(coordinates)]
        raise ValueError(
            "expected coordinates as arrays with one leading axis of at least one point, "
            f"got shapes {shapes}"
        )
    return lengths.pop()[0]


def _chunks(coordinates: Any, num_points: int, width: int) -> Iterator[Any]:
    """Slices of constant width; the last is filled with repeats of the last point."""
    for start in range(0, num_points, width):
        rows = jnp.minimum(jnp.arange(start, start + width), num_points - 1)
        yield jax.tree.map(lambda x, rows=rows: x[rows], coordinates)


def _groups(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    group: list[Batch] = []
    size = 0
    for batch in batches:
        placed = jax.device_put(dict(batch))
        group.append(placed)
        size += sum(leaf.nbytes for leaf in jax.tree.leaves(placed))
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


_chosen: dict[Any, int] = {}


def _auto_chunk(
    apply_fn: ApplyFn, metric: Metric, path_fn: PathFn, coordinates: Any, batch: Batch
) -> int:
    device = next(iter(jax.tree.leaves(batch)[0].devices()))
    if device.platform == "cpu":
        return 1
    num_points = _num_points(coordinates)
    one = _form(path_fn, jax.tree.map(lambda x: x[:1], coordinates), 1)
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves((one, batch)))
    key = (apply_fn, metric, shapes, device.device_kind, num_points)
    if key not in _chosen:
        _chosen[key] = fastest_width(apply_fn, metric, one, batch, num_points)
    return _chosen[key]


def fastest_width(
    apply_fn: ApplyFn, metric: Metric, params: Params, batch: Batch, most: int
) -> int:
    """The number of points, 1, 2, 4, … up to `most`, at which a point of a chunk is cheapest.

    Times each width (twice, the first for compilation) and stops at the first that does not
    cut the time of a point by 5 %.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`.
      metric: what each point folds.
      params: parameters of one point; a chunk is timed on copies of them.
      batch: a batch of the stream, on the device.
      most: the number of points there are.

    Returns:
      A power of two, at least 1, whose parameters take at most `CHUNK_BYTES`.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    best, best_seconds = 1, float("inf")
    width = 1
    while width <= most and width * size <= max(CHUNK_BYTES, size):
        state = _init(metric, width)
        copies = params if width == 1 else tree.stack([params] * width)
        jax.block_until_ready(_step(width)(apply_fn, metric, state, copies, batch))
        start = time.perf_counter()
        jax.block_until_ready(_step(width)(apply_fn, metric, state, copies, batch))
        seconds = (time.perf_counter() - start) / width
        if seconds > 0.95 * best_seconds:
            break
        best, best_seconds = width, seconds
        width *= 2
    return best
