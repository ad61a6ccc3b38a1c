"""Batches on the devices of a mesh: rows split over `data`, in one process or several."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tlx.core import sharding, streams
from tlx.core.types import Batch, Metric, Stream

KEPT_BYTES = 256 * 2**20
"""Evaluation sets of at most this many bytes stay on the devices between passes."""

USED = ("inputs", "labels", "mask")


def require_divisible(batch_size: int, mesh: Mesh, parts: int = 1) -> None:
    """Raises unless the devices divide each of the parts of a training batch.

    Raises:
      ValueError: naming the numbers.
    """
    if batch_size % (mesh.size * parts):
        of = f" times accumulate ({parts})" if parts > 1 else ""
        raise ValueError(
            f"data.batch_size: expected a multiple of the {mesh.size} devices{of}, got "
            f"{batch_size}; change it, or train on fewer devices (mesh=make_mesh(devices[:n]))"
        )


def train_feed(batches: Iterator[Batch], mesh: Mesh) -> Iterator[dict[str, Any]]:
    """Training batches as global arrays, the next on its way while a step is computed.

    Steps and transfers are dispatched asynchronously, so that no batch has to be kept ahead.

    Args:
      batches: those of this process, with 1 / processes of the rows of each batch.
      mesh: with one axis `data`.

    Returns:
      The same without what a step does not use. Row order: those of process 0, of 1, ….
    """
    for batch in batches:
        used = {name: batch[name] for name in USED}
        if jax.process_count() == 1:
            yield jax.device_put(used, NamedSharding(mesh, PartitionSpec("data")))
        else:
            yield sharding.shard_batch(used, mesh)


def eval_feed(stream: Stream, mesh: Mesh) -> Stream:
    """This process's rows, on its devices, of a stream that each process reads completely.

    Rows are padded to a multiple of the devices. Small sets are placed once and kept
    (`KEPT_BYTES`).
    """
    rows = NamedSharding(local_mesh(mesh), PartitionSpec("data"))
    kept: list[dict[str, Any]] = []
    is_complete = [False]

    def start() -> Iterator[Batch]:
        if is_complete[0]:
            yield from kept
            return
        kept.clear()
        size = 0
        for batch in stream():
            placed = jax.device_put(_own_rows(batch, mesh), rows)
            size += sum(leaf.nbytes for leaf in jax.tree.leaves(placed))
            if size <= KEPT_BYTES:
                kept.append(placed)
            else:
                kept.clear()
            yield placed
        is_complete[0] = 0 < size <= KEPT_BYTES

    return start


def local_mesh(mesh: Mesh) -> Mesh:
    """The mesh of this process's devices."""
    if jax.process_count() == 1:
        return mesh
    index = jax.process_index()
    return sharding.make_mesh([d for d in mesh.devices.flat if d.process_index == index])


def local_copy(tree: Any, mesh: Mesh) -> Any:
    """Replicated global arrays as arrays of this process's devices alone."""
    if jax.process_count() == 1:
        return tree
    everywhere = NamedSharding(local_mesh(mesh), PartitionSpec())
    return jax.tree.map(lambda leaf: jax.device_put(leaf.addressable_data(0), everywhere), tree)


def merged(metric: Metric, state: Any) -> Any:
    """The metric's state over the examples of all processes, from that of each, on the host."""
    state = jax.device_get(state)
    if jax.process_count() == 1:
        return state
    of_all = multihost_utils.process_allgather(state)
    parts = [jax.tree.map(lambda x, i=i: x[i], of_all) for i in range(jax.process_count())]
    return jax.device_get(functools.reduce(metric.merge, parts))


def _own_rows(batch: Batch, mesh: Mesh) -> dict[str, Any]:
    used = {name: batch[name] for name in (*USED, "index") if name in batch}
    rows = len(batch["inputs"])
    padded = streams.pad_batch(used, -(-rows // mesh.size) * mesh.size)
    index, count = jax.process_index(), jax.process_count()
    return {name: np.split(np.asarray(x), count)[index] for name, x in padded.items()}
