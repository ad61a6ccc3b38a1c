"""Training trajectories: which way a run went, in the plane in which it varies most."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float

from tlx.analyses.landscape._checks import finite_params, rounding
from tlx.core import batch_statistics as statistics_lib
from tlx.core import host, paths, public, shown, tree
from tlx.core.entries import blocks, from_entries
from tlx.core.types import ApplyFn, Metric, Params, PathFn, Stream

__dir__ = public.names(__name__)

BLOCK = 2**20
"""The most entries of all checkpoints that are widened to float64 at once."""


@shown.short
class Components(NamedTuple):
    """The principal components of T checkpoints about their mean.

    Attributes:
      mean: pytree of parameters, the origin.
      directions: the first two components as pytrees, of norm 1 and orthogonal.
      coordinates: float [T, T − 1], the checkpoints along all components, of falling variance;
        the first two are their projections on the plane.
      explained: float [T − 1], the share of the variance along each; sums to 1.
      residuals: float [T], the distance of each checkpoint from its projection.
    """

    mean: Params
    directions: tuple[Params, Params]
    coordinates: Float[Array, "T T-1"]
    explained: Float[Array, " T-1"]
    residuals: Float[Array, " T"]

    @property
    def path_fn(self) -> PathFn:
        """The plane: coordinate [x, y] to mean + x·first + y·second."""
        return paths.plane(self.mean, *self.directions)


@shown.short
class TrajectoryResult(NamedTuple):
    """A metric at the checkpoints and at their projections.

    Attributes:
      results: the metric's results at the checkpoints, each stacked [T, ...].
      projected: those at the checkpoints' projections on the plane, each stacked [T, ...].
        If they are far from `results`, a surface over the plane does not show the losses of
        the run.
      statistics: the source of the batch statistics: "none" (the model has none),
        "re-estimated" or "interpolated".
    """

    results: Any
    projected: Any
    statistics: str


@host.only
def principal_components(checkpoints: Sequence[Params]) -> Components:
    """The principal components of a sequence of checkpoints.

    With X [T, P] the checkpoints less their mean, from the eigenvectors of the Gram matrix
    XXᵀ [T, T]; nothing of size P × P is formed. The sign of a component is such that the last
    checkpoint has no negative coordinate. Every floating leaf counts, batch statistics
    included, though no more than their variance, and of complex ones the real and imaginary parts.

    Args:
      checkpoints: T ≥ 3 pytrees of one structure, in the order of training (the order only
        decides the signs).

    Returns:
      `Components`. Components in which nothing varies have coordinates of about 0.

    Raises:
      ValueError: at call, for fewer than three checkpoints, checkpoints that differ in
        structure, shape, dtype or in a leaf that is not floating, or that hold a NaN or an infinity
        which is not the same in all (every such leaf named), or that lie on one line or point,
        up to the rounding of their dtypes.

    Numerics: sums in float64 on the host, whatever the dtype; mean and directions are rounded
    to the leaves' dtypes.
    Cost: 2·T²·P + 6·T·P flops; memory for three models and a block besides the checkpoints.

    References: H. Li, Z. Xu, G. Taylor, C. Studer, T. Goldstein, Visualizing the loss
    landscape of neural nets, 2018, section 7.2 (there about the last checkpoint).

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> corners = ([0, 0, 7], [4, 0, 7], [4, 2, 7], [0, 2, 7])  # of a rectangle, 4 by 2
    >>> run = [{"w": jnp.array(w, float)} for w in corners]
    >>> found = landscape.principal_components(run)
    >>> print(found.mean["w"], found.explained.round(3))  # 4² : 2² is 0.8 : 0.2
    [2. 1. 7.] [0.8 0.2 0. ]
    """
    if len(checkpoints) < 3:
        raise ValueError(
            f"expected at least three checkpoints for a plane, got {len(checkpoints)}; evaluate "
            "the line between two (interpolation.line)"
        )
    paths.hull(checkpoints)  # its checks
    finite_params({f"checkpoints[{i}]": params for i, params in enumerate(checkpoints)})
    columns = list(zip(*map(jax.tree.leaves, checkpoints), strict=True))
    floating = [leaves for leaves in columns if tree.is_inexact(leaves[0])]
    values, vectors = _eigen(_gram(floating, len(checkpoints)))
    if not np.sqrt(values[1]) > np.linalg.norm([float(rounding(p)) for p in checkpoints]):
        raise ValueError(
            "expected checkpoints that span a plane, got checkpoints within "
            f"{np.sqrt(values[1]):.3g} of one line, which is within rounding. Evaluate the line "
            "between the first and the last (interpolation.line)."
        )
    coordinates = vectors * np.sqrt(values)[None]
    weights = vectors[:, :2] / np.sqrt(values[:2])[None]
    parts = [_combined(leaves, weights) for leaves in columns]
    structure = jax.tree.structure(checkpoints[0])
    mean, first, second = (jax.tree.unflatten(structure, part) for part in zip(*parts, strict=True))
    residuals = np.sqrt(np.square(coordinates[:, 2:]).sum(1))
    as_float = functools.partial(jnp.asarray, dtype=jnp.result_type(float))
    return Components(
        mean,
        (first, second),
        as_float(coordinates),
        as_float(values / values.sum()),
        as_float(residuals),
    )


@host.only
def trajectory(
    apply_fn: ApplyFn,
    metric: Metric,
    checkpoints: Sequence[Params],
    components: Components,
    stream: Stream,
    *,
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> TrajectoryResult:
    """The metric at the checkpoints and at their projections, in one pass over the data.

    The surface around them is `planes.grid` on `components.path_fn`, with axes from
    `planes.cover(components.coordinates[:, :2])`.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: what to measure, such as `tlx.core.metrics.classification()`.
      checkpoints: T pytrees of parameters.
      components: `principal_components(checkpoints)`.
      stream: batches of constant shape.
      statistics: where the batch statistics of each point come from: a stream of training
        batches, from which they are re-estimated at each point; "interpolate": those of the
        checkpoints, and for a projection those that the plane gives; None: for a model
        without any, an error for one that has them.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `TrajectoryResult`.

    Raises:
      ValueError: at call, if the components are of another number of checkpoints or of
        another structure (every leaf named).

    Cost: one pass over the data, 2·T forward passes a batch.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses.landscape import trajectories
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["w"]
    >>> corners = ([2, 1, 0.5], [-2, 1, -0.5], [-2, -1, 0.5], [2, -1, -0.5])  # a bent rectangle
    >>> run = [{"w": jnp.array(w, float)} for w in corners]
    >>> stream = streams.from_arrays(jnp.eye(3), jnp.zeros(3), batch_size=3)  # loss ‖w‖² / 3
    >>> plane = trajectories.principal_components(run)
    >>> found = trajectories.trajectory(apply_fn, metrics.regression(), run, plane, stream)
    >>> print(found.results["loss"].round(2), found.projected["loss"].round(2))
    [1.75 1.75 1.75 1.75] [1.67 1.67 1.67 1.67]
    """
    num = len(checkpoints)
    if num != len(components.coordinates):
        raise ValueError(
            f"expected the components of these {num} checkpoints, got those of "
            f"{len(components.coordinates)}; call principal_components on them"
        )
    tree.same_structure(checkpoints[0], components.mean, ("checkpoints[0]", "components.mean"))
    paths.hull(checkpoints)  # its checks
    path_fn = Partial(_checkpoint_or_projection, tuple(checkpoints), components.path_fn)
    which = np.r_[np.arange(num), np.full(num, num)].astype(np.int32)
    places = jnp.tile(components.coordinates[:, :2], (2, 1))
    found, rule = statistics_lib.along(
        apply_fn, metric, path_fn, (which, places), stream, source=statistics, chunk=chunk
    )
    results, projected = (
        jax.tree.map(lambda r, rows=rows: r[rows], found)
        for rows in (slice(None, num), slice(num, None))
    )
    return TrajectoryResult(results, projected, rule)


def _checkpoint_or_projection(
    checkpoints: tuple[Params, ...], plane: PathFn, coordinate: tuple[Array, Array]
) -> Params:
    """The checkpoint of that number, exactly; for their count, the point of the plane."""
    which, place = coordinate
    choices = [functools.partial(lambda p: p, p) for p in checkpoints]
    return jax.lax.switch(which, [*choices, lambda: plane(place)])


def _gram(columns: Sequence[Sequence[Any]], num: int) -> np.ndarray:
    """The Gram matrix [T, T] of the checkpoints less their mean."""
    gram = np.zeros((num, num))
    for leaves in columns:
        for _, block in _blocks(leaves):
            gram += block @ block.T
    return gram


def _eigen(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The T − 1 largest eigenvalues, falling, and their eigenvectors [T, T − 1]."""
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[:0:-1], vectors[:, :0:-1]
    signs = np.where(vectors[-1] < 0, -1, 1)
    return np.maximum(values, 0), vectors * signs[None]


def _blocks(leaves: Sequence[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One leaf in blocks of entries: the checkpoints' mean and their deviations [T, entries]."""
    for rows in blocks(leaves, BLOCK):
        still = tree.constant(list(rows))
        values = np.where(still[None], 0, rows)
        mean = values.mean(0)
        yield np.where(still, rows[0], mean), values - mean[None]


def _combined(leaves: Sequence[Any], weights: np.ndarray) -> tuple[Any, Any, Any]:
    """The mean of the checkpoints, and the sums of their deviations by the two weights."""
    if not tree.is_inexact(leaves[0]):
        return (leaves[0],) * 3
    blocks = [np.vstack([mean, weights.T @ block]) for mean, block in _blocks(leaves)]
    rows = np.concatenate([np.zeros((3, 0)), *blocks], axis=1)
    first, second, third = (from_entries(row, leaves[0]) for row in rows)
    return first, second, third
