"""What happens between two models: a metric along the line of parameters, and its barrier.

A line between two models that share a basin stays as low as its ends; between two that
do not, the loss rises to a barrier (Neyshabur, Sedghi, Zhang 2020, section 3.4).
"""

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.core import checks, evaluate_path, paths, tree
from tlx.core.types import ApplyFn, Metric, Params, Stream

KINDS = ("chord", "endpoint_mean")
"""The kinds of barrier; see `barrier`."""


class LineResult(NamedTuple):
    """A metric along a line.

    Attributes:
      alphas: float [K], the points: 0 is a, 1 is b.
      results: the metric's results, each stacked on a leading axis [K, ...].
    """

    alphas: Float[Array, " K"]
    results: Any


class Barrier(NamedTuple):
    """The barrier along a line.

    Attributes:
      height: float scalar in the unit of the loss; NaN if a loss on the path is.
      alpha: float scalar in [0, 1], the first point that has this height; NaN with it.
    """

    height: Float[Array, ""]
    alpha: Float[Array, ""]


def line(
    apply_fn: ApplyFn,
    metric: Metric,
    params_a: Params,
    params_b: Params,
    stream: Stream,
    *,
    alphas: Any,
    chunk: int | Literal["auto"] = "auto",
) -> LineResult:
    """The metric at points (1 − alpha)·a + alpha·b, in one pass over the data.

    Every floating leaf moves, the head and batch statistics included (a model with batch
    statistics is thus evaluated with interpolated ones).

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: what to measure, such as `tlx.core.metrics.classification()`.
      params_a: pytree of arrays, at alpha 0.
      params_b: pytree of the same structure, at alpha 1.
      stream: batches of constant shape.
      alphas: float [K], finite; below 0 or above 1 extrapolates.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `LineResult`. The ends are exact: at alpha 0 and 1 the parameters are a's and b's to
      the bit. For an empty stream the results are those of no examples.

    Raises:
      ValueError: at call, if the parameters differ in structure, shape or dtype (every leaf
        named) or in a leaf that is not floating, or if `alphas` is not a finite vector.

    Cost: one pass over the data, K forward passes a batch.
    """
    points = paths.line(params_a, params_b)
    alphas = _vector("alphas", alphas)
    if not isinstance(alphas, jax.core.Tracer) and not bool(jnp.isfinite(alphas).all()):
        raise ValueError(f"expected finite alphas, got {np.asarray(alphas).tolist()}")
    results = evaluate_path(apply_fn, metric, points, alphas, stream, chunk=chunk)
    return LineResult(alphas, results)


def barrier(alphas: Any, losses: Any, *, kind: Literal["chord", "endpoint_mean"] | str) -> Barrier:
    """How far the loss rises on the line above what its ends promise.

    With l(alpha) the loss and the maximum over the given points in [0, 1], ends included:

    - "chord": max over alpha of l(alpha) − [(1 − alpha)·l(0) + alpha·l(1)]. Never negative;
      0 (at alpha 0) where the path stays on or below the chord.
    - "endpoint_mean": max over alpha of l(alpha) − [l(0) + l(1)] / 2. At least
      |l(0) − l(1)| / 2, so ends of unequal loss show as a barrier: compare like with like.

    A loss is lower-is-better. For accuracy pass −accuracy or 1 − accuracy (both give the
    same barrier): the height is then the fall of accuracy below its ends.

    Args:
      alphas: float [K], increasing, 0 and 1 among them. Points beyond them are ignored:
        a barrier lies between its ends.
      losses: float [K].
      kind: "chord" or "endpoint_mean".

    Returns:
      `Barrier`, computed in float32 or more. NaN losses on [0, 1] give NaN for both fields,
      an infinite one between finite ends gives an infinite height.

    Raises:
      ValueError: at call, for another kind, lengths that differ, or alphas that do not
        increase or lack 0 or 1 (under `jax.jit` values cannot be read: there the result is
        NaN if 0 or 1 is missing).

    >>> barrier([0.0, 0.5, 1.0], [1.0, 4.0, 3.0], kind="chord")
    Barrier(height=Array(2., dtype=float32), alpha=Array(0.5, dtype=float32))
    """
    if kind not in KINDS:
        raise ValueError(checks.unknown("kind of barrier", kind, KINDS))
    alphas, losses = _vector("alphas", alphas), _vector("losses", losses)
    if alphas.shape != losses.shape:
        raise ValueError(
            f"expected one loss for each alpha, got {alphas.size} alphas and {losses.size} losses"
        )
    _check_alphas(alphas)
    wide = jnp.promote_types(alphas.dtype, losses.dtype)
    return _barrier(alphas.astype(wide), losses.astype(wide), kind)


@functools.partial(jax.jit, static_argnums=2)
def _barrier(alphas: Array, losses: Array, kind: str) -> Barrier:
    left, right = _at(alphas, losses, 0), _at(alphas, losses, 1)
    if kind == "chord":
        reference = (1 - alphas) * left + alphas * right
    else:
        reference = jnp.broadcast_to((left + right) / 2, alphas.shape)
    inside = (alphas >= 0) & (alphas <= 1)
    above = jnp.where(inside, losses - reference, -jnp.inf)
    height = jnp.max(above)  # NaN if any is
    first = alphas[jnp.argmax(above)]
    return Barrier(height, jnp.where(jnp.isnan(height), height, first))


def _vector(name: str, values: Any) -> Array:
    values = jnp.asarray(values)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"expected {name} as a vector [K] of numbers, got shape {values.shape}")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(jnp.result_type(float))
    return values.astype(tree.accumulator(values.dtype))


def _at(alphas: Array, losses: Array, end: int) -> Array:
    here = alphas == end
    return jnp.where(here.any(), losses[jnp.argmax(here)], jnp.nan)


def _check_alphas(alphas: Array) -> None:
    if isinstance(alphas, jax.core.Tracer):
        return
    values = np.asarray(alphas)
    if not (np.diff(values) > 0).all():
        raise ValueError(f"expected alphas that increase, got {values.tolist()}; sort them")
    missing = [end for end in (0, 1) if end not in values]
    if missing:
        raise ValueError(
            "a barrier is measured against both ends: expected 0 and 1 among the alphas, "
            f"{' and '.join(map(str, missing))} missing; got {values.tolist()}"
        )
