"""Paths: functions from a coordinate to parameters.

Each is a `jax.tree_util.Partial`, so that its end points are arguments and not constants
of the compiled code: paths of one kind between any parameters share one compilation. Any
other callable from a coordinate to parameters is a path too.
"""

import itertools
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from tlx.core import contracts, host, public, tree
from tlx.core import labels as labels_lib
from tlx.core.types import Labels, Params, PathFn

__dir__ = public.names(__name__)

ROW = 256
"""Numbers that are drawn from one key where noise is added to parameters."""

ALONE = 2**24
"""Leaves of as many numbers are drawn by themselves: no two of them need be whole at a time."""


def line(params_a: Params, params_b: Params) -> PathFn:
    """The straight line: coordinate t ↦ (1 − t)·a + t·b, exact at 0 and 1.

    Coordinates below 0 or above 1 extrapolate. A value that is the same at both ends, an infinity
    or NaN, stays as it is at every coordinate.

    Raises:
      ValueError: naming every leaf that differs in shape or dtype, or that is not floating
        and differs in value, since a line between counters has no meaning.

    >>> from tlx.core import paths
    >>> path_fn = paths.line({"kernel": 0.0}, {"kernel": 8.0})
    >>> [float(path_fn(t)["kernel"]) for t in (0.0, 0.25, 1.0, 1.5)]
    [0.0, 2.0, 8.0, 12.0]
    """
    tree.same_structure(params_a, params_b)
    tree.same_integers(params_a, params_b)
    return Partial(tree.lerp, params_a, params_b)


def plane(origin: Params, u: Params, v: Params) -> PathFn:
    """The plane: coordinate [x, y] ↦ origin + x·u + y·v, for two directions u and v."""
    tree.same_structure(origin, u, ("origin", "u"))
    tree.same_structure(origin, v, ("origin", "v"))
    return Partial(_plane, origin, u, v)


def hull(vertices: Sequence[Params]) -> PathFn:
    """The affine hull of m models: coordinate w [m], weights that sum to 1, ↦ Σ wᵢ·θᵢ.

    Exact at every vertex (a weight of 1, the others 0): a vertex of weight 0 contributes nothing,
    even if it holds NaN. An infinity or NaN that all vertices hold stays at any weights. Weights
    that are not negative give the convex hull, others extrapolate. The sum of the weights is not
    checked; products and sums are in float32 or more. Leaves that are not floating are the first
    vertex's.
    """
    _alike(vertices, "vertices", at_least=1)
    return Partial(_hull, tuple(vertices))


def polygon(vertices: Sequence[Params]) -> PathFn:
    """The chain of lines through the vertices, each segment an equal share of [0, 1].

    Exact at every vertex i/(n−1), whatever floating dtype it is computed in: a coordinate within
    two of its eps (relative) of a vertex is the vertex. Beyond 0 and 1 the outer segments are
    extrapolated; each is a `line`.
    """
    _alike(vertices, "vertices", at_least=2)
    return Partial(_polygon, tuple(vertices))


def bezier(controls: Sequence[Params]) -> PathFn:
    """The Bézier curve of the control points; three of them give a quadratic one.

    Exact at 0 (the first) and 1 (the last). Computed by de Casteljau's algorithm.
    """
    _alike(controls, "controls", at_least=2)
    return Partial(_bezier, tuple(controls))


def spliced(path_fn: PathFn, base: Params, labels: Labels, moving: Iterable[str] | str) -> PathFn:
    """The path on which only some modules move; the others stay at `base`, bit for bit.

    Args:
      path_fn: the path that the moving modules take.
      base: where all other modules stay.
      labels: the modules of `base`.
      moving: the labels that move.

    Raises:
      ValueError: if a label in `moving` is not used.
    """
    moving = {moving} if isinstance(moving, str) else set(moving)
    labels_lib.select(base, labels, moving)
    return Partial(
        _Splice(tuple(label in moving for label in jax.tree.leaves(labels))), path_fn, base
    )


def noisy(path_fn: PathFn) -> PathFn:
    """The path with Gaussian noise: coordinate (c, sigma, key) ↦ path(c) + sigma·N(0, I).

    Noise is added to floating leaves, each with its own key (folded in by the crc32
    of its name), so that a leaf's noise does not depend on which others there are.
    """
    return Partial(_noisy, path_fn)


def shifted(path_fn: PathFn, direction: Params) -> PathFn:
    """The path shifted along a direction: coordinate (c, s) ↦ path(c) + s·direction.

    For noise that is drawn once and used at many points and scales s.
    """
    return Partial(_shifted, path_fn, direction)


def traceable(path_fn: PathFn) -> PathFn:
    """The path as a `Partial`; any other callable is wrapped, the values it holds as constants."""
    return path_fn if isinstance(path_fn, Partial) else Partial(path_fn)


@jax.jit
def _at(path_fn: PathFn, coordinate: Any) -> Params:
    return path_fn(coordinate)


def at(path_fn: PathFn, coordinate: Any) -> Params:
    """The point at a coordinate, formed in compiled code that paths of one kind share."""
    return _at(traceable(path_fn), coordinate)


def points(params: Sequence[Params]) -> PathFn:
    """A path through separate models: coordinate i ↦ params[i], to evaluate several in one pass.

    The coordinate must be concrete (an index), so use this as the outermost path. Each model comes
    with all its leaves, including those that are not floating. The path raises ValueError for a
    coordinate that is the number of no model.
    """
    _alike(params, "params", at_least=1, integers=False)
    return _Points(tuple(params))


@dataclass(frozen=True, eq=False)
class _Points:
    """See `points`."""

    models: tuple[Params, ...]

    def __call__(self, i: Any) -> Params:
        host.check("a path of tlx.core.paths.points", coordinate=i)
        if int(i) != i or not 0 <= i < len(self.models):
            raise ValueError(
                f"expected a coordinate of points as one of 0 … {len(self.models) - 1}, the number "
                f"of a model, got {i}"
            )
        return self.models[int(i)]


def arrays(path_fn: PathFn) -> Any:
    """The arrays of which a path is made, as a pytree; none of a callable of other kinds."""
    if isinstance(path_fn, _Points):
        return path_fn.models
    return path_fn if isinstance(path_fn, Partial) else ()


def standard_normal(key: Any, params: Params) -> Params:
    """N(0, I) in the shapes of the floating leaves, in float32 or wider; other leaves are as given.

    The noise of `noisy`: each leaf has its own key, derived from its name; a complex number has
    variance 1 in both parts.
    """
    contracts.typed_key(key)
    noise = _standard_normal(key, params)

    def leaf(name: str, value: Any) -> Any:
        if name not in noise:
            return value
        dtype = tree.accumulator(jnp.result_type(value))
        return tree.rounded(noise[name], jax.ShapeDtypeStruct((), dtype))

    return tree.map_named(leaf, params)


def stacked(params: Sequence[Params]) -> PathFn:
    """`points` for compiled code: the models are copied into one stack.

    The coordinate may be traced, so that this can be part of another path.
    """
    _alike(params, "params", at_least=1, integers=False)
    return Partial(_row, tree.stack(params))


def members(stack: Params) -> PathFn:
    """A path through models on one leading axis, seeds or samples: coordinate i ↦ model i.

    As `vmap` over seeds or a sampler returns them; nothing is copied, and the coordinate may be
    traced. All S at once: `evaluate_path(apply_fn, metric, members(stack), np.arange(S), stream)`;
    for what takes models one by one see `tree.unstack`. Beyond the last one every number is NaN.

    Raises:
      ValueError: for leaves without a leading axis, or of different lengths.

    >>> import jax.numpy as jnp
    >>> from tlx.core import evaluate_path, metrics, paths, streams
    >>> def apply_fn(params, inputs):
    ...     return params["slope"] * inputs
    >>> stream = streams.from_arrays(jnp.ones(8), jnp.ones(8), batch_size=4)
    >>> path_fn = paths.members({"slope": jnp.array([1.0, 2.0, 4.0])})  # three models
    >>> found = evaluate_path(apply_fn, metrics.regression(), path_fn, jnp.arange(3), stream)
    >>> found["loss"].tolist()
    [0.0, 1.0, 9.0]
    """
    tree.stack_size(stack)
    return Partial(_row, stack)


def _plane(origin: Params, u: Params, v: Params, xy: Float[Array, " 2"]) -> Params:
    return tree.add(tree.add(origin, u, xy[0]), v, xy[1])


def _shifted(path_fn: PathFn, direction: Params, coordinate: tuple[Any, Any]) -> Params:
    inner, scale = coordinate
    return tree.add(path_fn(inner), direction, scale)


def _polygon(vertices: tuple[Params, ...], t: Float[Array, ""]) -> Params:
    first, rest = _segment(t, len(vertices) - 1)

    def leaf(*corners: Any) -> Any:
        if not tree.is_inexact(corners[0]):
            return corners[0]
        chosen = jnp.asarray(corners[0])
        for i, corner in enumerate(corners[1:], 1):
            chosen = jnp.where(i == first, corner, chosen)
        return chosen

    before, after = (jax.tree.map(leaf, *part) for part in (vertices[:-1], vertices[1:]))
    return tree.lerp(before, after, rest)


def _segment(t: Any, segments: int) -> tuple[Array, Array]:
    """The index of the segment and the position on it, 0 … 1; exactly 0 or 1 at a vertex."""
    t = jnp.asarray(t) if tree.is_inexact(t) else jnp.asarray(t, float)
    eps = float(jnp.finfo(t.dtype).eps)
    at = t.astype(tree.accumulator(t.dtype)) * segments
    vertex = jnp.round(at)
    at = jnp.where(jnp.abs(at - vertex) <= 2 * eps * jnp.abs(vertex), vertex, at)
    first = jnp.clip(jnp.floor(at), 0, segments - 1)
    return first, at - first


def _hull(vertices: tuple[Params, ...], weights: Float[Array, " m"]) -> Params:
    def leaf(*corners: Any) -> Any:
        if not tree.is_inexact(corners[0]):
            return corners[0]
        numbers = tree.moving(*corners)
        wide = numbers[0].dtype
        total = jnp.zeros((), wide)
        for i, corner in enumerate(numbers):
            weight = weights[i].astype(wide)
            total = jnp.where(weight == 0, 0, weight * corner) + total  # no NaN from other vertices
        own = [tree.reals(corner) for corner in corners]
        return tree.rounded(jnp.where(tree.constant(own), own[0], total), corners[0])

    return jax.tree.map(leaf, *vertices)


def _bezier(controls: tuple[Params, ...], t: Float[Array, ""]) -> Params:
    while len(controls) > 1:
        controls = tuple(tree.lerp(a, b, t) for a, b in itertools.pairwise(controls))
    return controls[0]


@dataclass(frozen=True)
class _Splice:
    """Static choice of the moving leaves; equal choices share compiled code."""

    moving: tuple[bool, ...]

    def __call__(self, path_fn: PathFn, base: Params, coordinate: Any) -> Params:
        leaves, treedef = jax.tree.flatten(base)
        moved = jax.tree.leaves(path_fn(coordinate))
        chosen = [m if move else b for m, b, move in zip(moved, leaves, self.moving, strict=True)]
        return jax.tree.unflatten(treedef, chosen)


def _noisy(path_fn: PathFn, coordinate: tuple[Any, Any, Any]) -> Params:
    inner, sigma, key = coordinate
    params = path_fn(inner)
    noise = _standard_normal(key, params)

    def leaf(name: str, value: Any) -> Any:
        if name not in noise:
            return value
        numbers = tree.reals(value)
        return tree.rounded(numbers + jnp.asarray(sigma, numbers.dtype) * noise[name], value)

    return tree.map_named(leaf, params)


def _standard_normal(key: Any, params: Params) -> dict[str, Array]:
    """Noise for the `reals` of each floating leaf by name.

    Drawn in rows of `ROW` numbers, each row from its leaf's key and its index; for all leaves at
    once but those of `ALONE`: XLA takes a fifth of a second to compile each separate draw.
    """
    together: dict[Any, dict[str, Any]] = {}
    for name, leaf in tree.named_leaves(params).items():
        if tree.is_inexact(leaf):
            numbers = jax.eval_shape(tree.reals, leaf)
            alone = name if numbers.size >= ALONE else None
            together.setdefault((numbers.dtype, alone), {})[name] = numbers
    noise: dict[str, Array] = {}
    for (dtype, _), leaves in together.items():
        rows = [-(-leaf.size // ROW) for leaf in leaves.values()]
        names = np.repeat([zlib.crc32(name.encode()) for name in leaves], rows)
        numbers = np.concatenate([np.arange(n) for n in rows])
        of_leaf = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(names, jnp.uint32))
        of_row = jax.vmap(jax.random.fold_in)(of_leaf, jnp.asarray(numbers, jnp.uint32))
        drawn = jax.vmap(lambda k, dtype=dtype: jax.random.normal(k, (ROW,), dtype))(of_row)
        parts = jnp.split(drawn, np.cumsum(rows)[:-1])
        noise |= {
            name: part.reshape(-1)[: leaf.size].reshape(leaf.shape)
            for (name, leaf), part in zip(leaves.items(), parts, strict=True)
        }
    return noise


def _row(stack: Params, i: Any) -> Params:
    return jax.tree.map(
        lambda x: jnp.asarray(x).at[i].get(mode="fill", wrap_negative_indices=False), stack
    )


def _alike(params: Sequence[Params], name: str, *, at_least: int, integers: bool = True) -> None:
    if len(params) < at_least:
        raise ValueError(f"expected at least {at_least} {name}, got {len(params)}")
    for i, other in enumerate(params[1:], 1):
        tree.same_structure(params[0], other, (f"{name}[0]", f"{name}[{i}]"))
        if integers:
            tree.same_integers(params[0], other)
