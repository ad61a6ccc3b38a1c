"""Chunks: the points of a path whose parameters are formed and applied together."""

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jax.tree_util import Partial

from tlx.core import host, paths, public, sharding, tree, undefined
from tlx.core.types import Metric, Params, PathFn

__dir__ = public.names(__name__)


class Chunk(NamedTuple):
    """How many points are computed together, and where.

    What belongs to points has a leading axis [width], except in a chunk of one.

    Attributes:
      width: points; one, or a multiple of the mesh's `points`.
      mesh: where the parameters are; None: on one device.
    """

    width: int
    mesh: Mesh | None = None

    @property
    def parts(self) -> int:
        """The devices, or groups of them, among which the points are shared out."""
        return sharding.size(self.mesh, "points") if self.width > 1 else 1


def asked(chunk: Any, *, or_auto: bool) -> int | Literal["auto"]:
    """The points that a caller wants together, as an int; or "auto", where that is allowed.

    Raises:
      ValueError: below 1, or another string.
      TypeError: no integer.
    """
    if or_auto and isinstance(chunk, str) and chunk == "auto":
        return "auto"
    wanted = "'auto' or an integer of at least 1" if or_auto else "an integer of at least 1"
    message = f"expected chunk to be {wanted}, got {chunk!r}"
    try:
        number = operator.index(chunk)
    except TypeError:
        kind = ValueError if isinstance(chunk, str) else TypeError
        raise kind(message) from None
    if number < 1:
        raise ValueError(message)
    return number


def mapped(fn: Callable[..., Any], chunk: Chunk, moving: Any, *shared: Any) -> Any:
    """`fn(of one point, *shared)` for each point of a chunk; within compiled code."""
    if chunk.width == 1:
        return fn(moving, *shared)
    in_axes = (0, *[None] * len(shared))
    if chunk.parts == 1:
        return jax.vmap(fn, in_axes)(moving, *shared)

    def own(moving: Any, *shared: Any) -> Any:
        if chunk.width > chunk.parts:
            return jax.vmap(fn, in_axes)(moving, *shared)
        one = fn(jax.tree.map(lambda x: x[0], moving), *shared)  # not vmap, slow for convolutions
        return jax.tree.map(lambda x: jnp.asarray(x)[None], one)

    points, everywhere = PartitionSpec("points"), PartitionSpec()
    return jax.shard_map(
        own,
        mesh=chunk.mesh,
        in_specs=(points, *[everywhere] * len(shared)),
        out_specs=points,
        axis_names={"points"},
        check_vma=False,  # scans in models begin with constants, which are the same at all points
    )(moving, *shared)


def placed(states: Any, chunk: Chunk) -> Any:
    """States of a chunk, each whole on every device that has its point; within compiled code."""
    spec = PartitionSpec("points") if chunk.parts > 1 else None
    return sharding.constrain(states, chunk.mesh, spec)


def initial(metric: Metric, chunk: Chunk) -> Any:
    """The state of a chunk before any batch."""
    state = metric.init()
    if chunk.width == 1:
        return state
    return jax.tree.map(lambda x: jnp.asarray(np.stack([np.asarray(x)] * chunk.width)), state)


@functools.partial(jax.jit, static_argnums=2, donate_argnums=3, keep_unused=True)
def _form_traced(path_fn: PathFn, points: Any, chunk: Chunk, old: Params) -> Params:
    del old  # its memory is reused: fresh memory for each point costs three times the arithmetic
    if chunk.width == 1:
        points = jax.tree.map(lambda x: x[0], points)
    return mapped(lambda point, path_fn: paths.at(path_fn, point), chunk, points, path_fn)


def form(path_fn: PathFn, points: Any, chunk: Chunk, old: Params = None) -> Params:
    """The parameters of a chunk; `old` are donated."""
    if isinstance(path_fn, Partial):
        old = _unread(path_fn, points, chunk) if old is None else old
        formed = _form_traced(path_fn, points, chunk, old)
    else:
        rows = [path_fn(jax.tree.map(lambda x, i=i: x[i], points)) for i in range(chunk.width)]
        formed = sharding.on_devices(rows[0]) if chunk.width == 1 else _stacked(rows, chunk)
    host.check("tlx.core.evaluate_path", point=formed)  # of a path that holds a traced array
    return formed


def _unread(path_fn: PathFn, points: Any, chunk: Chunk) -> Params:
    """Memory for a chunk, so that the first is formed by the same compiled code as the others."""
    if chunk.mesh is not None:
        return None  # how the points are split is known when they are formed
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), points)
    like = jax.eval_shape(paths.at, path_fn, one)
    if any(jnp.issubdtype(x.dtype, jax.dtypes.extended) for x in jax.tree.leaves(like)):
        return None  # random keys are not made of zeros
    shape = () if chunk.width == 1 else (chunk.width,)
    return jax.tree.map(lambda x: jax.device_put(np.zeros((*shape, *x.shape), x.dtype)), like)


def _stacked(rows: list[Params], chunk: Chunk) -> Params:
    return tree.stack(rows) if chunk.parts == 1 else _stacked_on_mesh(rows, chunk)


@functools.partial(jax.jit, static_argnums=1)
def _stacked_on_mesh(rows: list[Params], chunk: Chunk) -> Params:
    def one(leaf: Any) -> Any:
        rest = [PartitionSpec.UNCONSTRAINED] * (leaf.ndim - 1)
        return sharding.constrain(leaf, chunk.mesh, PartitionSpec("points", *rest))

    return jax.tree.map(one, tree.stack(rows))


def stacked_results(metric: Metric, states: list[Any], num_points: int, chunk: Chunk) -> Any:
    """The results of all points, from the states of their chunks."""
    joined = np.stack if chunk.width == 1 else np.concatenate  # on the host: nothing is compiled
    rows = jax.tree.map(lambda *xs: joined(xs)[:num_points], *sharding.to_host(states))
    return undefined.allowed(_results)(metric, rows)


_results = jax.jit(lambda metric, states: jax.vmap(metric.compute)(states), static_argnums=0)


def count_points(coordinates: Any) -> int:
    """The number of coordinates, K; ValueError if there is none or their lengths differ."""
    lengths = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(coordinates)}
    if len(lengths) != 1 or lengths == {()} or lengths == {(0,)}:
        shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(coordinates)]
        raise ValueError(
            "expected coordinates as arrays with one leading axis of at least one point, "
            f"got shapes {shapes}"
        )
    return lengths.pop()[0]


def split(coordinates: Any, num_points: int, width: int) -> Iterator[Any]:
    """Slices of constant width; the last is padded with repeats of the last point."""
    coordinates = jax.tree.map(_on_host, coordinates)  # where slicing takes microseconds
    for start in range(0, num_points, width):
        rows = np.minimum(np.arange(start, start + width), num_points - 1)
        yield jax.tree.map(lambda x, rows=rows: x[rows], coordinates)


def _on_host(x: Any) -> Any:
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return x if is_key or not x.is_fully_addressable else np.asarray(x)
