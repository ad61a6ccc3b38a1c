"""Placement on devices: one `data` axis; parameters replicated, rows of a batch split."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tlx.core import contracts, public
from tlx.core.types import Batch

__dir__ = public.names(__name__)


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh with one axis `data` over the devices (all devices of all processes by default)."""
    devices = jax.devices() if devices is None else list(devices)
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """The arrays replicated on each device of the mesh; every process must pass the same values."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> jax.Array:
        is_global = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        if is_global or jax.process_count() == 1:
            return jax.device_put(leaf, everywhere)
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = place(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        value = np.asarray(leaf)
        return jax.make_array_from_callback(value.shape, everywhere, lambda index: value[index])

    return jax.tree.map(place, tree)


def shard_batch(batch: Batch, mesh: Mesh) -> dict[str, Any]:
    """A global batch from this process's rows, split over the `data` axis.

    Args:
      batch: arrays [B_local, ...]; process p holds rows p·B_local … of the global batch. A scalar
        among the inputs is for all rows, and replicated.
      mesh: from `make_mesh`.

    Returns:
      Arrays [B_local · processes, ...], split along the first axis.

    Raises:
      ValueError: if the devices do not divide the rows.
    """
    split = NamedSharding(mesh, PartitionSpec("data"))
    rows = contracts.num_rows(batch["inputs"]) * jax.process_count()
    if rows % mesh.size:
        raise ValueError(
            f"expected a batch divisible by {mesh.size} devices, got {rows} rows; "
            "change the batch size or the number of devices"
        )

    def place(array: Any) -> jax.Array:
        if not np.ndim(array):
            return replicate(array, mesh)
        return jax.make_array_from_process_local_data(split, np.asarray(array))

    return jax.tree.map(place, dict(batch))
