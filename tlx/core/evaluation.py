"""Evaluation of a metric: for one model, or along a path for many in one pass over the data."""

import dataclasses
import functools
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from tlx.core import _chunks as chunks
from tlx.core import contracts, host, paths, public, sharding, streams, tree, undefined
from tlx.core.types import ApplyFn, Batch, Metric, Params, PathFn, PerExampleFn, Stream

__dir__ = public.names(__name__)

GROUP_BYTES = 256 * 2**20
"""Batches kept on the device at once, so that the parameters of a point serve them all."""

PATIENCE_SECONDS = 5.0
"""`chunk="auto"` tries widths once a function's points have taken this long one at a time."""

TRIAL_SECONDS = 20.0
"""`chunk="auto"` begins no trial of a width after this time, compilation included."""

ROW_SECONDS = 0.02
"""The time that a trial's row of calls should take, so that what is timed is not noise."""

MOST_POINTS = 64
"""The largest width that `chunk="auto"` tries."""

CHUNK_BYTES = 4 * 2**30
"""`chunk="auto"` takes no width above 1 that needs more: parameters twice and temporaries."""


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

    Raises:
      ValueError, TypeError: before anything is compiled, for malformed batches (see
        `streams.Checked`) and for outputs and labels that the metric does not accept; during the
        pass for labels out of range.

    Cost: one pass over the data, one forward pass a batch.

    >>> import jax.numpy as jnp
    >>> from tlx.core import evaluate, metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["kernel"]
    >>> stream = streams.from_arrays(jnp.eye(4), jnp.array([0, 1, 2, 0]), batch_size=3)
    >>> results = evaluate(apply_fn, metrics.classification(), {"kernel": jnp.eye(4)}, stream)
    >>> float(results["accuracy"]), int(results["count"])  # the last label is another
    (0.75, 4)
    """
    contracts.metric(metric)
    params = sharding.on_devices(params)
    state = metric.init()
    check = contracts.Values(of_batch, apply_fn, metric)
    mesh = sharding.mesh_of(params)
    for batch in streams.checked(stream)():
        check(params, batch)
        placed = sharding.place_rows(batch, mesh)
        state = _update(apply_fn, metric, chunks.Chunk(1, mesh), state, params, placed)
    return undefined.allowed(metric.compute)(state)


def of_batch(apply_fn: ApplyFn, metric: Metric, params: Params, batch: Batch) -> Any:
    """The metric's state after one batch."""
    return metric.update(metric.init(), apply_fn(params, batch["inputs"]), batch)


def losses_of_batch(apply_fn: ApplyFn, loss: PerExampleFn, params: Params, batch: Batch) -> Any:
    """The loss of each row of a batch, checked."""
    return contracts.per_example(loss, apply_fn(params, batch["inputs"]), batch)


@host.only
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
        be faster where a point is too small for the device, and costs memory; convolutions
        with vectorised kernels become grouped ones, which are slow, most of all on CPU.
        "auto" measures it once for a function, shapes and kind of device, when the points so
        far and those of this call's first batches take more than `PATIENCE_SECONDS`: see
        `fastest_width`. Results do not depend on it.

    Returns:
      The metric's results stacked on a leading axis [K, ...].

    Raises:
      ValueError: if there are no coordinates, their lengths differ, or chunk is neither "auto" nor
        positive; TypeError for one that is no integer; and as `evaluate`.

    Cost: K forward passes a batch; the parameters of a point are formed once for each group
    of batches (`GROUP_BYTES`). Memory: one group, and the parameters of two chunks.

    >>> import jax.numpy as jnp
    >>> from tlx.core import evaluate_path, metrics, paths, streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["kernel"]
    >>> stream = streams.from_arrays(jnp.eye(4), jnp.arange(4), batch_size=4)
    >>> right = jnp.eye(4)
    >>> path = paths.line({"kernel": right[::-1]}, {"kernel": right})  # from all wrong
    >>> found = evaluate_path(
    ...     apply_fn, metrics.classification(), path, jnp.array([0, 0.4, 0.6, 1]), stream
    ... )
    >>> found["accuracy"].tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    contracts.metric(metric)
    num_points = chunks.count_points(coordinates)
    coordinates = jax.tree.map(jnp.asarray, coordinates)
    chunk = chunks.asked(chunk, or_auto=True)
    chunk_of = functools.partial(_chunk, apply_fn, metric, path_fn, coordinates, chunk)
    mesh = sharding.mesh_of((paths.arrays(path_fn), coordinates))
    states: list[Any] = []
    check = contracts.Values(of_batch, apply_fn, metric)
    of: chunks.Chunk | None = None
    for group in _groups(streams.checked(stream)(), mesh):
        of = of or chunk_of(group, mesh)
        parts = list(chunks.split(coordinates, num_points, of.width))
        states = states or [chunks.initial(metric, of) for _ in parts]
        params = None
        for i, points in enumerate(parts):
            params = chunks.form(path_fn, points, of, params)
            if not i:
                _check_group(check, params, of.width, group)
            for batch in group:
                states[i] = _update(apply_fn, metric, of, states[i], params, batch)
            if i:  # at most two chunks' parameters are alive, however far dispatch is ahead
                jax.block_until_ready(states[i - 1])
    if of is None:
        one = chunks.Chunk(1)
        return chunks.stacked_results(metric, [metric.init()] * num_points, num_points, one)
    return chunks.stacked_results(metric, states, num_points, of)


def _chunk(
    apply_fn: ApplyFn,
    metric: Metric,
    path_fn: PathFn,
    coordinates: Any,
    chunk: int | Literal["auto"],
    group: list[Batch],
    mesh: Mesh | None,
) -> chunks.Chunk:
    """As many points as were asked for, on each of the devices among which they are shared out."""
    parts = sharding.size(mesh, "points")
    most = -(-chunks.count_points(coordinates) // parts)
    if chunk != "auto":
        width = min(-(-chunk // parts), most)
    elif most == 1 or (mesh is not None and mesh.is_multi_process):
        width = 1  # what processes measure differs
    else:
        one = chunks.form(path_fn, next(chunks.split(coordinates, 1, 1)), chunks.Chunk(1, mesh))
        width = _auto_width(apply_fn, metric, one, group, most)
    return chunks.Chunk(parts * width, mesh)


def _check_group(check: contracts.Values, params: Params, width: int, group: list[Batch]) -> None:
    if width > 1:
        params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), params)
    for batch in group:
        check(params, batch)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _update(
    apply_fn: ApplyFn, metric: Metric, chunk: chunks.Chunk, state: Any, params: Params, batch: Batch
) -> Any:
    """The states of a chunk after one more batch."""

    def one(moving: Any, batch: Batch) -> Any:
        state, params = moving
        return metric.update(state, apply_fn(params, batch["inputs"]), batch)

    return chunks.placed(chunks.mapped(one, chunk, (state, params), batch), chunk)


def _groups(batches: Iterable[Batch], mesh: Mesh | None) -> Iterator[list[Batch]]:
    group: list[Batch] = []
    size = 0
    for batch in batches:
        placed = sharding.on_devices(sharding.place_rows(batch, mesh))
        group.append(placed)
        size += sum(leaf.nbytes for leaf in jax.tree.leaves(placed))
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


@dataclasses.dataclass
class _Pace:
    """What `chunk="auto"` has measured of a function at some shapes, in seconds."""

    single: float | None = None
    spent: float = 0.0
    width: int | None = None


@functools.lru_cache(maxsize=64)  # functions and shapes; one that is dropped is measured anew
def _pace(apply_fn: ApplyFn, shapes: tuple[Any, ...], device_kind: str) -> _Pace:
    return _Pace()


def _auto_width(
    apply_fn: ApplyFn, metric: Metric, one: Params, group: list[Batch], most: int
) -> int:
    device = next(iter(jax.tree.leaves(group[0])[0].devices()))
    shapes = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves((one, group[0])))
    pace = _pace(apply_fn, shapes, device.device_kind)
    if pace.single is None:
        pace.single = _seconds(apply_fn, metric, one, group[0], 1)
    pace.spent += pace.single * most * len(group)
    if pace.width is None and pace.spent > PATIENCE_SECONDS:
        pace.width = fastest_width(apply_fn, metric, one, group[0], MOST_POINTS)
    num_chunks = -(-most // (pace.width or 1))
    return -(-most // num_chunks)  # as wide as chosen at most, and none half empty


def fastest_width(
    apply_fn: ApplyFn, metric: Metric, params: Params, batch: Batch, most: int
) -> int:
    """The number of points, 1, 2, 4, … up to `most`, at which a point of a chunk is cheapest.

    Each width is timed. The trials stop after the second in a row that does not cut the time of a
    point by 5 %, after the first that is far slower, before one that needs more than
    `CHUNK_BYTES`, and at the latest after `TRIAL_SECONDS`.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`.
      metric: what is evaluated at each point.
      params: parameters of one point; a chunk is timed on copies of them.
      batch: a batch of the stream, on the device.
      most: the largest width to try.

    Returns:
      A power of two, at least 1.

    Cost: a compilation and some runs for each width that is tried.
    """
    begun = time.perf_counter()
    best, best_seconds = 1, _seconds(apply_fn, metric, params, batch, 1)
    width = 2
    while width <= min(most, 4 * best) and time.perf_counter() - begun < TRIAL_SECONDS:
        if _bytes(apply_fn, metric, params, batch, width) > CHUNK_BYTES:
            break
        seconds = _seconds(apply_fn, metric, params, batch, width) / width
        if seconds > 1.5 * best_seconds:
            break
        if seconds < 0.95 * best_seconds:
            best, best_seconds = width, seconds
        width *= 2
    return best


def _seconds(apply_fn: ApplyFn, metric: Metric, params: Params, batch: Any, width: int) -> float:
    """Seconds that a chunk takes on a batch, in the fastest of several rows of calls.

    The first call compiles; the calls of a row are awaited together, as those of a path are.
    """
    copies = params if width == 1 else tree.stack([params] * width)
    chunk = chunks.Chunk(width)
    state = _update(apply_fn, metric, chunk, chunks.initial(metric, chunk), copies, batch)
    jax.block_until_ready(state)
    best, calls = float("inf"), 1
    for _ in range(4):
        start = time.perf_counter()
        for _ in range(calls):
            state = _update(apply_fn, metric, chunk, state, copies, batch)
        jax.block_until_ready(state)
        best = min(best, (time.perf_counter() - start) / calls)
        if best > ROW_SECONDS:
            break  # long enough not to be noise
        calls = min(32, max(calls, int(ROW_SECONDS / best)))
    return best


def _bytes(apply_fn: ApplyFn, metric: Metric, params: Params, batch: Any, width: int) -> int:
    """The bytes of a chunk on the device: parameters of two chunks, and XLA's temporaries."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    if 2 * width * size > CHUNK_BYTES:
        return 2 * width * size  # before anything is allocated or compiled
    copies = tree.stack([params] * width)
    chunk = chunks.Chunk(width)
    lowered = _update.lower(apply_fn, metric, chunk, chunks.initial(metric, chunk), copies, batch)
    memory = lowered.compile().memory_analysis()  # the call reuses this compilation
    return 2 * width * size + (memory.temp_size_in_bytes if memory is not None else 0)
