"""Placement on devices: one mesh, whose axes are `data`, `points` and `model`.

What is computed where follows from where the arrays are that a function is given. Parameters that
`place` puts on a mesh are split over `model`, leaf by leaf; every analysis then splits the rows of
each batch over `data` and `model` and the points of a path (coordinates, seeds, checkpoints) over
`points`, and its results are those of one device up to rounding. Arrays that are placed otherwise,
on a mesh of one's own, stay as they are.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tlx.core import contracts, public
from tlx.core.types import Batch

__dir__ = public.names(__name__)

T = TypeVar("T")

AXES = ("data", "points", "model")
"""Of a mesh: rows of batches, points of a path, and with the rows the values of each leaf."""

SMALL = 4096
"""Leaves of fewer values are whole on each device: their transfer would take longer than a read."""

Rule = Callable[[tuple[int, ...], Mesh], PartitionSpec]
"""`(shape, mesh) -> spec`: how a leaf of parameters is split."""


def make_mesh(
    devices: Sequence[jax.Device] | None = None, *, points: int = 1, model: int = 1
) -> Mesh:
    """A mesh with the axes `data`, `points` and `model`, of automatic type.

    Args:
      devices: all devices of all processes by default.
      points: devices, or groups of them, that are at different points at the same time.
      model: devices over which each leaf of the parameters is split; `data` has the rest.

    Raises:
      ValueError: if there are no devices, or points times model does not divide their number.
    """
    devices = jax.devices() if devices is None else list(devices)
    if not devices or min(points, model) < 1 or len(devices) % (points * model):
        raise ValueError(
            f"expected devices, and points and model of at least 1 whose product divides their "
            f"number, got {len(devices)} devices, {points} and {model}"
        )
    if len(set(devices)) < len(devices):
        raise ValueError(f"expected each device once, got {devices}")
    shape = (len(devices) // (points * model), points, model)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=devices)


def largest_axis(shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
    """The rule that splits a leaf over `model` along its longest axis that can be split.

    Of equals the last. Leaves below `SMALL` values, or without such an axis, are whole everywhere.
    """
    parts = mesh.shape.get("model", 1)
    fitting = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or not fitting or np.prod(shape) < SMALL:
        return PartitionSpec()
    axis = max(fitting, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*[None] * axis, "model")


def place(tree: T, mesh: Mesh, rule: Rule = largest_axis) -> T:
    """The arrays on the mesh, each leaf split by the rule; within compiled code, too.

    Every process passes the same values.

    Args:
      tree: pytree of arrays.
      mesh: from `make_mesh`, or any with an axis `model`.
      rule: how a leaf of some shape is split.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.core import sharding
    >>> mesh = sharding.make_mesh(model=len(jax.devices()))
    >>> placed = sharding.place({"kernel": jnp.zeros((64, 128))}, mesh)
    >>> placed["kernel"].sharding.spec[-1]
    'model'
    """
    return jax.tree.map(lambda x: put(x, NamedSharding(mesh, rule(np.shape(x), mesh))), tree)


def replicate(tree: T, mesh: Mesh) -> T:
    """The arrays whole on each device of the mesh; every process must pass the same values."""
    return place(tree, mesh, lambda shape, mesh: PartitionSpec())


def put(leaf: Any, where: NamedSharding) -> jax.Array:
    """An array at a place; every process that has a part of it passes the same values."""
    if isinstance(leaf, jax.core.Tracer):
        return jax.lax.with_sharding_constraint(leaf, where)
    is_global = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
    if is_global or where.is_fully_addressable:
        return jax.device_put(leaf, where)
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = put(jax.random.key_data(leaf), where)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, where, lambda index: value[index])


def on_devices(tree: T) -> T:
    """The arrays on devices: those that are stay where they are, others go to the default one."""
    leaves, treedef = jax.tree.flatten(tree)
    others = [i for i, leaf in enumerate(leaves) if not isinstance(leaf, jax.Array)]
    placed = jax.device_put([leaves[i] for i in others])
    for i, leaf in zip(others, placed, strict=True):
        leaves[i] = leaf
    found: T = jax.tree.unflatten(treedef, leaves)
    return found


def mesh_of(tree: Any) -> Mesh | None:
    """The mesh that arrays were placed on; None where all are on one device or none is placed.

    Raises:
      ValueError: if they are on several.
    """
    found: Mesh | None = None
    for leaf in jax.tree.leaves(tree):
        if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer):
            continue
        if not isinstance(leaf.sharding, NamedSharding) or leaf.sharding.mesh.size == 1:
            continue
        mesh = leaf.sharding.mesh
        assert isinstance(mesh, Mesh)  # of an array that has values
        if found is not None and mesh != found:
            raise ValueError(
                f"expected arrays on one mesh, got {dict(found.shape)} and {dict(mesh.shape)} "
                "over other devices or axes; place all on one: tlx.core.sharding.place(tree, mesh)"
            )
        found = mesh
    return found


def size(mesh: Mesh | None, axis: str) -> int:
    """The devices along an axis that is there and automatic, else 1."""
    return mesh.shape[axis] if mesh is not None and axis in _automatic(mesh) else 1


def _automatic(mesh: Mesh) -> list[str]:
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return [name for name, kind in kinds if kind == AxisType.Auto]


def row_axes(mesh: Mesh) -> tuple[str, ...]:
    """The axes over which rows of batches are split."""
    return tuple(name for name in ("data", "model") if name in _automatic(mesh))


def row_parts(mesh: Mesh) -> int:
    """The parts into which rows of batches are split."""
    return math.prod(mesh.shape[name] for name in row_axes(mesh))


def place_rows(batch: Batch, mesh: Mesh | None) -> dict[str, Any]:
    """A batch whose rows are split over the mesh, if its devices divide them; else whole on each.

    What is placed on several devices already stays there, and all does without a mesh. Every
    process passes the same rows.
    """
    if mesh is None:
        return dict(batch)
    is_split = contracts.num_rows(batch["inputs"]) % row_parts(mesh) == 0

    def placed(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and len(leaf.sharding.device_set) > 1:
            return leaf
        spec = PartitionSpec(row_axes(mesh)) if is_split and np.ndim(leaf) else PartitionSpec()
        return put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(placed, dict(batch))


def constrain(tree: T, mesh: Mesh | None, spec: PartitionSpec | None = None) -> T:
    """Within compiled code: the values placed so, whole on each device by default."""
    if mesh is None or len(_automatic(mesh)) < len(mesh.axis_names):
        return tree
    return place(tree, mesh, lambda shape, mesh: spec or PartitionSpec())


def places(tree: Any) -> tuple[NamedSharding, ...]:
    """Where each leaf is on a mesh, to compile with; none on one device."""
    if mesh_of(tree) is None:
        return ()
    return tuple(leaf.sharding for leaf in jax.tree.leaves(tree))


def at_places(tree: T, of: tuple[NamedSharding, ...]) -> T:
    """Within compiled code: the leaves at `places`, of a tree like this one."""
    leaves, treedef = jax.tree.flatten(tree)
    placed = map(put, leaves, of) if of else leaves
    found: T = jax.tree.unflatten(treedef, placed)
    return found


def to_host(tree: Any) -> Any:
    """The arrays as numpy's; in all processes alike, of those that are split over processes too."""

    def whole(leaf: Any) -> Any:
        is_here = not isinstance(leaf, jax.Array) or leaf.is_fully_addressable
        if is_here or leaf.is_fully_replicated:
            return leaf
        return _whole(NamedSharding(leaf.sharding.mesh, PartitionSpec()))(leaf)

    return jax.device_get(jax.tree.map(whole, tree))


@functools.lru_cache(maxsize=64)
def _whole(everywhere: NamedSharding) -> Any:
    return jax.jit(lambda leaf: leaf, out_shardings=everywhere)


def shard_batch(batch: Batch, mesh: Mesh) -> dict[str, Any]:
    """A global batch from this process's rows, split over `data` and `model`.

    Args:
      batch: arrays [B_local, ...]; process p holds rows p·B_local … of the global batch. A scalar
        among the inputs is for all rows, and replicated.
      mesh: from `make_mesh`.

    Returns:
      Arrays [B_local · processes, ...], split along the first axis.

    Raises:
      ValueError: if the devices do not divide the rows, or the mesh does not split them over all
        processes.
    """
    parts, split = row_parts(mesh), NamedSharding(mesh, PartitionSpec(row_axes(mesh)))
    if jax.process_count() > 1 and parts != mesh.size:
        raise ValueError(
            "expected a mesh that splits rows over all its devices, since each process has others, "
            f"got {dict(mesh.shape)}; make it by make_mesh, without points"
        )
    rows = contracts.num_rows(batch["inputs"]) * jax.process_count()
    if rows % parts:
        raise ValueError(
            f"expected a batch divisible by {parts} devices, got {rows} rows; "
            "change the batch size or the number of devices"
        )

    def place(rows: Any) -> Any:
        if not np.ndim(rows):
            return replicate(rows, mesh)
        return jax.make_array_from_process_local_data(split, np.asarray(rows))

    return jax.tree.map(place, dict(batch))
