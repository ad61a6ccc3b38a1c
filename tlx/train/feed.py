"""Batches on the devices of a mesh, their rows split, in one process or several."""

from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tlx.core import sharding, streams
from tlx.core.types import Batch, Stream

KEPT_BYTES = 256 * 2**20
"""Evaluation sets of at most this many bytes stay on the devices between passes."""

USED = ("inputs", "labels", "mask")


def require_divisible(batch_size: int, mesh: Mesh, parts: int = 1) -> None:
    """Raises unless the devices divide each of the parts of a training batch, and all have rows.

    Raises:
      TypeError: it is no mesh.
      ValueError: naming the axes or the numbers.
    """
    if not isinstance(mesh, Mesh):
        raise TypeError(
            "expected a mesh, made by tlx.core.sharding.make_mesh, got " + type(mesh).__name__
        )
    if sharding.row_parts(mesh) != mesh.size:
        axes = zip(mesh.shape.items(), mesh.axis_types, strict=True)
        said = ", ".join(f"{name} of {size} ({kind})" for (name, size), kind in axes)
        raise ValueError(
            "expected a mesh to train on whose axes are data and model, of automatic type, got "
            f"{said}; make it by tlx.core.sharding.make_mesh, without points"
        )
    if batch_size % (mesh.size * parts):
        of = f" times accumulate ({parts})" if parts > 1 else ""
        raise ValueError(
            f"data.batch_size: expected a multiple of the {mesh.size} devices{of}, got "
            f"{batch_size}; change it, or train on fewer devices (mesh=make_mesh(devices[:n]))"
        )


def row_processes(mesh: Mesh) -> tuple[int, ...]:
    """The process of each of the parts into which rows are split, in their order."""
    where = NamedSharding(mesh, PartitionSpec(sharding.row_axes(mesh)))
    places = where.devices_indices_map((sharding.row_parts(mesh),))
    found: list[Any] = sorted(places, key=lambda device: places[device][0].start or 0)
    return tuple(device.process_index for device in found)


def train_feed(batches: Iterator[Batch], mesh: Mesh) -> Iterator[dict[str, Any]]:
    """Training batches as global arrays, the next on its way while a step is computed.

    Steps and transfers are dispatched asynchronously, so that no batch has to be kept ahead.

    Args:
      batches: those of this process, with 1 / processes of the rows of each batch.
      mesh: from `make_mesh`.

    Returns:
      The same without what a step does not use. Rows are in the order of the mesh's devices, those
      of a process in its own order (`row_processes`).
    """
    for batch in batches:
        used = {name: batch[name] for name in USED}
        if jax.process_count() == 1:
            yield sharding.place_rows(used, mesh)
        else:
            yield sharding.shard_batch(used, mesh)


def eval_feed(stream: Stream, mesh: Mesh) -> Stream:
    """A stream that each process reads completely, on the devices of all.

    Rows are padded to a multiple of the devices. Small sets are placed once and kept
    (`KEPT_BYTES`).
    """
    kept: list[Batch] | None = None

    def start() -> Iterator[Batch]:
        nonlocal kept
        if kept is not None:
            yield from kept
            return
        own: list[Batch] = []  # passes may be under way at the same time
        size = 0
        for batch in stream():
            placed = sharding.place_rows(_padded(batch, mesh), mesh)
            size += sum(leaf.nbytes for leaf in jax.tree.leaves(placed)) // jax.process_count()
            if size <= KEPT_BYTES:
                own.append(placed)
            else:
                own.clear()
            yield placed
        if 0 < size <= KEPT_BYTES:
            kept = own

    return start


def _padded(batch: Batch, mesh: Mesh) -> dict[str, Any]:
    used = {name: batch[name] for name in (*USED, "index") if name in batch}
    return streams.pad_batch(used, -(-len(batch["inputs"]) // mesh.size) * mesh.size)
