"""What a metric is between and around models: on a plane through three, or two directions.

Any path with coordinates [x, y] is a plane to `grid`:

- `through(a, b, c).path_fn`, the plane of three models, in an orthonormal basis;
- `paths.plane(params, u, v)`, the slice through a model along two directions (see
  `tlx.analyses.landscape.directions`), x and y in units of u and v;
- `components.path_fn`, the plane in which a trajectory varies most (see
  `tlx.analyses.landscape.trajectories`).
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from tlx.analyses.landscape._checks import finite_params, finite_vector, rounding
from tlx.core import batch_statistics as statistics_lib
from tlx.core import host, paths, public, shown, tree
from tlx.core.scale import times_power
from tlx.core.types import ApplyFn, Metric, Params, PathFn, Stream

__dir__ = public.names(__name__)


@shown.short
class Plane(NamedTuple):
    """The plane through three models.

    The basis is orthonormal: the first model is the origin, the first axis points to the
    second model, and the third model is on the side of positive y. Distances in the plane
    are distances between parameters.

    Attributes:
      models: the three pytrees of parameters.
      coordinates: float [3, 2], where they are: (0, 0), (‖b − a‖, 0) and (x, y) with y > 0.
    """

    models: tuple[Params, Params, Params]
    coordinates: Float[Array, "3 2"]

    @property
    def path_fn(self) -> PathFn:
        """Coordinate [x, y] to parameters; exactly the models at their coordinates."""
        return Partial(_on_plane, paths.hull(self.models), self.coordinates)


@shown.short
class Grid(NamedTuple):
    """A metric on a grid of a plane, and at marked points of it.

    Attributes:
      xs: float [Kx], the first coordinate.
      ys: float [Ky], the second.
      results: the metric's results, each stacked [Ky, Kx, ...]: row i is at ys[i].
      marks: float [M, 2], the marked points.
      at_marks: the metric's results at them, each stacked [M, ...].
      statistics: the source of the batch statistics: "none" (the model has none),
        "re-estimated" or "interpolated".
    """

    xs: Float[Array, " Kx"]
    ys: Float[Array, " Ky"]
    results: Any
    marks: Float[Array, "M 2"]
    at_marks: Any
    statistics: str


@shown.short
class Projection(NamedTuple):
    """A model's nearest point in a plane.

    Attributes:
      coordinates: float [2], in the plane's basis.
      distance: float scalar, from the model to that point: 0 in the plane.
    """

    coordinates: Float[Array, "2"]
    distance: Float[Array, ""]


@host.only
def through(params_a: Params, params_b: Params, params_c: Params) -> Plane:
    """The plane through three models, with their coordinates in an orthonormal basis.

    The basis is that of Gram and Schmidt: u = (b − a) / ‖b − a‖, and v the unit vector along
    c − a − ⟨c − a, u⟩·u. A point of the plane is the sum of the models by its barycentric
    weights, which are exactly 1, 0 and 0 at a model.

    Args:
      params_a: pytree of arrays. Every floating leaf counts, batch statistics included, of
        complex ones the real and imaginary parts. An infinity or NaN in all three stays.
      params_b: pytree of the same structure.
      params_c: pytree of the same structure.

    Returns:
      `Plane`.

    Raises:
      ValueError: at call, if the models differ in structure, shape, dtype or in a leaf that
        is not floating, or holds a NaN or an infinity that the others do not (every such leaf
        named), or lie on one line, up to the rounding of their dtypes.

    Numerics: products and sums in float32 or more, orthogonalised twice; coordinates to
    about 1e-6 of the largest.

    Cost: some reads of the three models; no forward pass.

    References: T. Garipov, P. Izmailov, D. Podoprikhin, D. Vetrov, A. Wilson, Loss surfaces,
    mode connectivity, and fast ensembling of DNNs, 2018 (figure 1 is such a plane).

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> a, b, c = ({"w": jnp.array(w)} for w in ([0.0, 0.0], [3.0, 0.0], [0.0, -4.0]))
    >>> plane = landscape.planes.through(a, b, c)
    >>> plane.coordinates.tolist()
    [[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]
    >>> plane.path_fn(jnp.array([3.0, 4.0]))["w"].tolist()
    [3.0, -4.0]
    """
    models = (params_a, params_b, params_c)
    for name, other in (("params_b", params_b), ("params_c", params_c)):
        tree.same_structure(params_a, other, ("params_a", name))
    paths.hull(models)  # its checks
    side, x, y, floor = map(float, _triangle(*models))
    floor = max(floor, float(np.linalg.norm([float(rounding(params)) for params in models])))
    if not np.isfinite([side, x, y, floor]).all():
        finite_params(dict(zip(("params_a", "params_b", "params_c"), models, strict=True)))
    if not side > floor:
        raise ValueError(
            f"expected params_a and params_b to differ, got a distance of {side:.3g}, which is "
            "within rounding: with params_c they span no plane"
        )
    if not y > floor:
        raise ValueError(
            "expected three models that span a plane, got models on one line: params_c is "
            f"{y:.3g} from that through params_a and params_b, which is within rounding. "
            "Evaluate the line instead (interpolation.line)."
        )
    dtype = jnp.result_type(float)
    return Plane(models, jnp.asarray([[0, 0], [side, 0], [x, y]], dtype))


def project(plane: Plane, params: Params) -> Projection:
    """The point of a plane through three models that is nearest to another model.

    Args:
      plane: from `through`.
      params: pytree of the structure of its models.

    Returns:
      `Projection`. The point's parameters are `plane.path_fn(coordinates)`.

    Raises:
      ValueError: at call, naming every leaf that differs from the plane's models.

    Cost: some reads of the four models; no forward pass.
    """
    tree.same_structure(plane.models[0], params, ("the plane's first model", "params"))
    return _project(plane, params)


@host.only
def cover(points: Any, *, num: int = 21, margin: float = 0.2) -> tuple[Array, Array]:
    """The axes of a grid that covers points of a plane with a margin.

    Args:
      points: float [M, 2], such as `plane.coordinates`.
      num: points of each axis, at least 2.
      margin: added on every side, as a share of the larger side of the points' box.

    Returns:
      xs [num] and ys [num], float, equally spaced.

    Raises:
      ValueError: if the points are not finite [M, 2], or num or margin is out of range.
    """
    points = np.asarray(points, np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise ValueError(f"expected finite points [M, 2], got shape {points.shape}")
    if num < 2 or not margin >= 0:
        raise ValueError(
            f"expected num of at least 2 and a margin of at least 0, got {num} and {margin}"
        )
    low, high = points.min(0), points.max(0)
    wide = margin * (high - low).max()
    xs, ys = np.linspace(low - wide, high + wide, num).T
    dtype = jnp.result_type(float)
    return jnp.asarray(xs, dtype), jnp.asarray(ys, dtype)


@host.only
def grid(
    apply_fn: ApplyFn,
    metric: Metric,
    path_fn: PathFn,
    stream: Stream,
    *,
    xs: Any,
    ys: Any,
    marks: Any = None,
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> Grid:
    """The metric on a grid of a plane and at marked points of it, in one pass over the data.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: what to measure, such as `tlx.core.metrics.classification()`; several in the
        same pass by `metrics.combine({"mean": …, "each": …})`.
      path_fn: coordinate [x, y] to parameters; see the module's text.
      stream: batches of constant shape.
      xs: float [Kx], finite; with `ys` from `cover`, or any others.
      ys: float [Ky], finite.
      marks: float [M, 2], further points to evaluate, such as `plane.coordinates`: a model is
        rarely on the grid. None for none.
      statistics: where the batch statistics of each point come from: a stream of training
        batches, from which they are re-estimated at each point; "interpolate": those that
        the plane gives; None: for a model without any, an error for one that has them.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `Grid`. Marked models of a plane from `through` have exactly those models' results.

    Raises:
      ValueError: at call, if xs or ys is not a finite vector or marks are not finite [M, 2].

    Cost: one pass over the data, Kx·Ky + M forward passes a batch; memory for the results of
    all points and the parameters of two.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, paths, streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["w"]
    >>> plane = paths.plane(*({"w": jnp.array(w)} for w in ([0.0, 0.0], [1.0, 0.0], [0.0, 2.0])))
    >>> stream = streams.from_arrays(jnp.eye(2), jnp.zeros(2), batch_size=2)  # loss ‖w‖² / 2
    >>> found = landscape.planes.grid(
    ...     apply_fn, metrics.regression(), plane, stream, xs=[-1, 0, 1], ys=[0, 1]
    ... )
    >>> found.results["loss"].tolist()
    [[0.5, 0.0, 0.5], [2.5, 2.0, 2.5]]
    """
    xs, ys = finite_vector("xs", xs), finite_vector("ys", ys)
    marks = jnp.zeros((0, 2), xs.dtype) if marks is None else jnp.asarray(marks, xs.dtype)
    if marks.ndim != 2 or marks.shape[1] != 2 or not bool(jnp.isfinite(marks).all()):
        raise ValueError(f"expected marks as finite points [M, 2], got shape {marks.shape}")
    points = jnp.stack(jnp.meshgrid(xs, ys.astype(xs.dtype)), -1).reshape(-1, 2)
    results, rule = statistics_lib.along(
        apply_fn,
        metric,
        path_fn,
        jnp.concatenate([points, marks]),
        stream,
        source=statistics,
        chunk=chunk,
    )
    shape = (len(ys), len(xs))
    on_grid = jax.tree.map(lambda r: r[: len(points)].reshape(*shape, *r.shape[1:]), results)
    at_marks = jax.tree.map(lambda r: r[len(points) :], results)
    return Grid(xs, ys, on_grid, marks, at_marks, rule)


def _on_plane(hull: PathFn, corners: Array, xy: Array) -> Params:
    """The hull's point at barycentric weights that are exactly 1, 0, 0 at a corner."""
    x, y = xy.astype(corners.dtype)
    third = _ratio(y, corners[2, 1])
    second = _ratio(x - third * corners[2, 0], corners[1, 0])
    return hull(jnp.stack([1 - second - third, second, third]))


def _ratio(x: Array, y: Array) -> Array:
    """The quotient, exactly 1 for equal numbers on any device."""
    return jnp.where(x == y, jnp.ones((), x.dtype), x / y)


@jax.jit
def _triangle(a: Params, b: Params, c: Params) -> Float[Array, "4"]:
    """‖b − a‖, the coordinates of c, and the distance that rounding the products can cause."""
    (ab, ac), exponent = tree.unit_scale((_from(a, b), _from(a, c)))
    square = tree.dot(ab, ab)
    slope, rest = _split(ac, ab, square)
    side = jnp.sqrt(square)
    largest = jnp.maximum(side, jnp.sqrt(tree.dot(ac, ac)))
    lengths = jnp.stack([side, slope * side, jnp.sqrt(tree.dot(rest, rest)), 1e-6 * largest])
    return times_power(lengths, exponent)


@jax.jit
def _project(plane: Plane, params: Params) -> Projection:
    a, b, c = plane.models
    (u, ac), unit = tree.unit_scale((_from(a, b), _from(a, c)))
    vector, own = tree.unit_scale(_from(a, params))
    square = tree.dot(u, u)
    _, v = _split(ac, u, square)
    x, rest = _split(vector, u, square)
    y, rest = _split(rest, v, tree.dot(v, v))
    lengths = jnp.stack([plane.coordinates[1, 0], plane.coordinates[2, 1]])
    along = times_power(jnp.stack([x, y]), own - unit).astype(lengths.dtype)
    return Projection(along * lengths, times_power(jnp.sqrt(tree.dot(rest, rest)), own))


def _from(origin: Params, params: Params) -> Params:
    """The difference, its `reals`."""

    def leaf(a: Any, b: Any) -> Any:
        if not tree.is_inexact(a):
            return a
        start, end = tree.moving(a, b)
        return end - start

    return jax.tree.map(leaf, origin, params)


def _split(vector: Params, axis: Params, square: Array) -> tuple[Array, Params]:
    """The component of the vector along the axis, and the rest, orthogonal to it.

    Of numbers near 1, by `unit_scale`, so that squares stay in the range of floats: a side of the
    plane is no shorter than 1e-6 of the other. `square` is that of the axis.
    """
    first = tree.dot(vector, axis) / square
    rest = tree.add(vector, axis, -first)
    second = tree.dot(rest, axis) / square  # what rounding left
    return first + second, tree.add(rest, axis, -second)
