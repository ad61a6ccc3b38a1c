"""Where a loss barrier is highest, and how high: an adaptive search with few evaluations."""

import math
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape.barriers import Kind, barrier, check_kind
from tlx.core import batch_statistics as statistics_lib
from tlx.core import host, paths, public, shown
from tlx.core.types import ApplyFn, Metric, Params, Stream

__dir__ = public.names(__name__)

FINEST = 1e-5
"""The smallest tolerance: closer points are hardly distinct in float32."""

ROUNDING = 2.0**-22
"""The error of alphas in float32."""


@shown.short
class Peak(NamedTuple):
    """The highest point of a barrier, searched adaptively.

    Attributes:
      height: float scalar, the barrier over the points evaluated; NaN if a loss is.
      alpha: float scalar in [0, 1], where it is; NaN with it.
      bracket: float [2], the points evaluated next to `alpha` on either side (`alpha` itself
        at an end of the line), each within the tolerance of it; NaN with it.
      alphas: float [K], all points evaluated, in order, 0 and 1 among them.
      results: the metric's results at them, stacked [K, ...].
      num_points: K; a uniform grid as fine has 1/tolerance + 1.
      num_passes: the number of passes over the data.
      statistics: the source of the batch statistics, as of `line`.
    """

    height: Float[Array, ""]
    alpha: Float[Array, ""]
    bracket: Float[Array, "2"]
    alphas: Float[Array, " K"]
    results: Any
    num_points: int
    num_passes: int
    statistics: str


@host.only
def find_peak(
    apply_fn: ApplyFn,
    metric: Metric,
    params_a: Params,
    params_b: Params,
    stream: Stream,
    *,
    kind: Kind,
    tolerance: float,
    loss_of: Callable[[Any], Any] = operator.itemgetter("loss"),
    num_coarse: int = 9,
    num_refined: int = 4,
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> Peak:
    """The peak of the loss barrier between two models, to a tolerance in alpha, with few points.

    A uniform grid of `num_coarse` points is refined around its highest point: each round is
    one pass over the data with up to `num_refined` points between the highest point and its
    neighbours on either side, until both neighbours are within `tolerance` of it.

    Assumptions: the highest coarse point lies next to the peak, and the curve rises and falls
    once between that point's neighbours. The result is then the peak of the curve, within
    `tolerance` of alpha. A peak narrower than the coarse grid can be missed: raise `num_coarse`
    for such curves. On a plateau the first of equal points counts.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: what to measure, such as `tlx.core.metrics.classification()`.
      params_a: pytree of arrays, at alpha 0.
      params_b: pytree of the same structure, at alpha 1.
      stream: batches of constant shape, read once a round.
      kind: "chord" or "endpoint_mean", see `barrier`.
      tolerance: in alpha, 1e-5 … 1.
      loss_of: the metric's stacked results to the losses [K], lower is better; for accuracy
        `lambda results: -results["accuracy"]`.
      num_coarse: points of the first round, at least 3. Where a uniform grid of spacing
        `tolerance` has no more than twice as many points, that is evaluated instead.
      num_refined: the most points of each later round, at least 2.
      statistics: where the batch statistics of each point come from; see `line`.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `Peak`. The ends are exact, as of `line`. A NaN loss ends the search.

    Raises:
      ValueError: at call, as `line` and `barrier`, and for a tolerance or a number of points
        out of range.

    Cost: about 1 + log(1 / (tolerance·num_coarse)) / log(1 + num_refined/2) passes over the
    data. With the defaults and a tolerance of 0.01, 19 points in 4 passes, where the uniform
    grid has 101 points.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["w"] * (1 - params["w"]) ** 2 * inputs  # largest at 1/3: 4/27
    >>> metric = metrics.mean(lambda outputs, batch: outputs)
    >>> ends, stream = ({"w": 0.0}, {"w": 1.0}), streams.from_arrays(jnp.ones(4), batch_size=4)
    >>> peak = landscape.find_peak(
    ...     apply_fn, metric, *ends, stream, kind="chord", tolerance=0.001, loss_of=lambda x: x
    ... )
    >>> round(float(peak.alpha), 2), round(float(peak.height), 3), peak.num_points  # of 1001
    (0.33, 0.148, 27)
    """
    check_kind(kind)
    _check_numbers(tolerance, num_coarse, num_refined)
    path_fn = paths.line(params_a, params_b)
    uniform = math.ceil((1 - ROUNDING) / tolerance) + 1
    new = np.linspace(0, 1, uniform if uniform <= 2 * num_coarse else num_coarse)
    alphas, results, num_passes = np.zeros(0, np.float32), None, 0
    while True:
        new = new.astype(np.float32)
        found, rule = statistics_lib.along(
            apply_fn,
            metric,
            path_fn,
            new,
            stream,
            source=statistics,
            ends=(params_a, params_b),
            chunk=chunk,
        )
        num_passes += 1
        order = np.argsort(np.concatenate([alphas, new]))
        alphas = np.concatenate([alphas, new])[order]
        results = found if results is None else _merged(results, found, order)
        top = barrier(alphas, loss_of(results), kind=kind)
        bracket = _bracket(alphas, float(top.alpha))
        new = _between(bracket, tolerance, num_refined)
        if not len(new):
            break
    return Peak(
        top.height,
        top.alpha,
        jnp.asarray(bracket[[0, 2]]),
        jnp.asarray(alphas),
        results,
        len(alphas),
        num_passes,
        rule,
    )


def _check_numbers(tolerance: float, num_coarse: int, num_refined: int) -> None:
    if not FINEST <= tolerance <= 1:
        raise ValueError(f"expected a tolerance in {FINEST:g} … 1, got {tolerance}")
    if num_coarse < 3 or num_refined < 2:
        raise ValueError(
            "expected num_coarse of at least 3 and num_refined of at least 2, got "
            f"{num_coarse} and {num_refined}"
        )


def _merged(results: Any, found: Any, order: np.ndarray) -> Any:
    """Old and new points' results, in the order of alpha."""
    return jax.tree.map(lambda x, y: jnp.concatenate([x, y])[order], results, found)


def _bracket(alphas: np.ndarray, alpha: float) -> np.ndarray:
    """The point before `alpha`, it and the point after; NaN for NaN."""
    if math.isnan(alpha):
        return np.full(3, np.nan, np.float32)
    at = int(np.searchsorted(alphas, np.float32(alpha)))
    return alphas[[max(at - 1, 0), at, min(at + 1, len(alphas) - 1)]]


def _between(bracket: np.ndarray, tolerance: float, num_refined: int) -> np.ndarray:
    """Equally spaced points on each side of the bracket that is wider than the tolerance."""
    left, alpha, right = bracket.astype(np.float64)
    sides = [(a, b) for a, b in ((left, alpha), (alpha, right)) if b - a > tolerance + ROUNDING]
    points = [np.zeros(0)]
    for a, b in sides:
        parts = min(1 + num_refined // len(sides), math.ceil((b - a - ROUNDING) / tolerance))
        points.append(np.linspace(a, b, parts + 1)[1:-1])
    return np.concatenate(points)
