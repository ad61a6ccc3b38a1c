"""Mode connectivity: whether a curve of low loss, trained for that, joins two models.

Two minima with a loss barrier on the straight line between them are often connected by a curve
without one: a polygon or a Bézier curve whose inner control points are trained so that a
random point of the curve has a low loss.

References: T. Garipov, P. Izmailov, D. Podoprikhin, D. Vetrov, A. Wilson, Loss surfaces, mode
connectivity, and fast ensembling of DNNs, 2018, section 3; F. Draxler, K. Veschgini, M.
Salmhofer, F. Hamprecht, Essentially no barriers in neural network energy landscape, 2018.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape import _descent, _hull
from tlx.core import batch_statistics as statistics_lib
from tlx.core import checks, contracts, host, metrics, paths, public, sharding, shown, undefined
from tlx.core.evaluation import losses_of_batch
from tlx.core.types import ApplyFn, Metric, Params, PathFn, PerExampleFn, Stream

__dir__ = public.names(__name__)

PATHS: dict[str, Callable[[Sequence[Params]], PathFn]] = {
    "bezier": paths.bezier,
    "polygon": paths.polygon,
}
"""The kinds of curve, by name: control points to path."""

PANELS = 32
"""The parts of a curve in the quadrature of its length, with 8 nodes each."""


class Optimizer(Protocol):
    """Any pair of pure functions like those of optax; the same pair shares compiled code."""

    @property
    def init(self) -> Callable[[Any], Any]:
        """`params -> state`."""

    @property
    def update(self) -> Callable[..., tuple[Any, Any]]:
        """`(gradients, state, params) -> (updates, state)`; the updates are added."""


@shown.short
class Curve(NamedTuple):
    """A curve between two models, with the state of its training.

    Attributes:
      kind: "bezier" or "polygon".
      controls: the control points, two ends and at least one inner one, in order. A polygon
        passes through all of them, each segment an equal share of [0, 1].
      opt_state: the optimiser's state; None before training.
      step: steps trained so far.
      position: batches already used of the current pass over the training data.
    """

    kind: Literal["bezier", "polygon"] | str
    controls: tuple[Params, ...]
    opt_state: Any = None
    step: int = 0
    position: int = 0


@shown.short
class CurveResult(NamedTuple):
    """A curve, measured at K points.

    Attributes:
      ts: float [K], evenly spaced from 0 to 1, the coordinate of the curve.
      losses: float [K], mean loss.
      results: the metric's results, stacked on a leading axis [K, ...]; None without one.
      barrier: float scalar, the largest of l(t) − [(1 − t)·l(0) + t·l(1)] over the points;
        never negative, NaN if a loss is NaN.
      peak: float scalar, the first t at which it is reached; NaN likewise.
      length: float scalar, of the curve in the space of parameters (all floating leaves).
      chord: float scalar, the distance between its ends.
      statistics: the source of the batch statistics: "none" (the model has none),
        "re-estimated", "interpolated", "a" or "b".
    """

    ts: Float[Array, " K"]
    losses: Float[Array, " K"]
    results: Any
    barrier: Float[Array, ""]
    peak: Float[Array, ""]
    length: Float[Array, ""]
    chord: Float[Array, ""]
    statistics: str


def straight(
    params_a: Params,
    params_b: Params,
    *,
    kind: Literal["bezier", "polygon"] | str = "bezier",
    num_inner: int = 1,
) -> Curve:
    """The straight line as a curve with evenly spaced inner control points, to be trained.

    Args:
      params_a: pytree of arrays, the curve's point at 0.
      params_b: pytree of the same structure, at 1.
      kind: "bezier" (one inner control point: a quadratic) or "polygon".
      num_inner: control points between the ends, at least 1.

    Raises:
      ValueError: at call, for models that differ in structure or in leaves that are not
        floating, another kind, or no inner control point.

    Cost: a point of the line for each inner control point; no forward pass.
    """
    if num_inner < 1:
        raise ValueError(f"expected at least one inner control point, got {num_inner}")
    line = paths.line(params_a, params_b)
    inner = (paths.at(line, i / (num_inner + 1)) for i in range(1, num_inner + 1))
    curve = Curve(kind, (params_a, *inner, params_b))
    path(curve)
    return curve


def path(curve: Curve) -> PathFn:
    """The curve as a path: coordinate t in [0, 1] to parameters, exact at both ends.

    Raises:
      ValueError: for a kind that is not known, or control points that differ in structure.
    """
    if curve.kind not in PATHS:
        raise ValueError(checks.unknown("kind of curve", curve.kind, PATHS))
    if len(curve.controls) < 3:
        raise ValueError(f"expected at least 3 control points, got {len(curve.controls)}")
    return PATHS[curve.kind](curve.controls)


@host.only
def train(
    apply_fn: ApplyFn,
    loss: PerExampleFn,
    curve: Curve,
    stream: Stream,
    *,
    optimizer: Optimizer,
    num_steps: int,
    key: Array,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Curve, Float[Array, " S"]]:
    """The curve with its inner control points trained; the ends stay exactly as they are.

    Step s draws t ~ U(0, 1) and descends the gradient of the mean loss of a batch at the
    curve's point t, which lowers the expected loss of a random point.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      loss: per-example loss that can be differentiated.
      curve: from `straight`, an earlier call, or `Curve(kind, controls)`.
      stream: training batches of constant shape, repeated as often as needed.
      optimizer: a pair `init`, `update`, such as an optax transformation. It sees a tuple
        with one tree for each inner control point, in which leaves that are not trained are
        None: those that are not floating, and batch statistics.
      num_steps: S, the number of steps.
      key: typed PRNG key. The t of step s depends on the key and s alone.
      progress: called after each step with its number (from 1) and loss; blocks until it is done.

    Returns:
      (curve, losses). Training can continue from that curve, with the same key, as if it had not
      stopped. `losses` float [S] are those of the batches at the points drawn, NaN for a
      batch without examples. Batch statistics of the control points are left as they are: a
      model that has them is trained with those on the path, in evaluation mode.

    Raises:
      ValueError: at call, as `path`, for a number of steps that is negative or a stream without
        batches.

    Cost: a forward and a backward pass of one batch a step. Memory: three times the inner
    control points, and the optimiser's state.

    References: Garipov et al. 2018, equation 2.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return (params["w"] ** 2).sum() * inputs
    >>> a, middle, b = ({"w": jnp.array(w)} for w in ([1.0, 0.0], [0.0, 0.1], [-1.0, 0.0]))
    >>> task = (apply_fn, metrics.squared_error)
    >>> stream = streams.from_arrays(jnp.ones(4), jnp.ones(4), batch_size=4)
    >>> start = landscape.connectivity.Curve("bezier", (a, middle, b))  # nearly straight
    >>> curve, _ = landscape.connectivity.train(
    ...     *task, start, stream, optimizer=optax.adam(0.05), num_steps=200, key=jax.random.key(0)
    ... )
    >>> before, after = (landscape.evaluate_curve(*task, c, stream) for c in (start, curve))
    >>> round(float(before.barrier), 1), float(after.barrier) < 0.1
    (1.0, True)
    """
    contracts.typed_key(key)
    path(curve)
    if num_steps < 0:
        raise ValueError(f"expected num_steps of at least 0, got {num_steps}")
    step_fn = _descent.Step(apply_fn, loss, PATHS[curve.kind], optimizer.update)
    batches = _descent.repeated(stream, curve.position)
    position, batch = next(batches)
    start, *inner, end = curve.controls
    moving, still = _descent.split(apply_fn, inner, batch)
    opt_state = optimizer.init(moving) if curve.opt_state is None else curve.opt_state
    moving, opt_state = jax.tree.map(jnp.array, (moving, opt_state))  # copies: steps take them
    losses: list[Array] = []
    mesh = sharding.mesh_of(curve.controls)
    check = contracts.Values(losses_of_batch, apply_fn, loss)
    for step in range(curve.step, curve.step + num_steps):
        if losses:
            position, batch = next(batches)
        check(start, batch)
        placed = sharding.place_rows(batch, mesh)
        moving, opt_state, value = _descent.descend(
            step_fn, moving, opt_state, (start, still, end), placed, key, step
        )
        losses.append(value)
        jax.block_until_ready(losses[-2:][0])  # dispatch runs one step ahead, not an entire pass
        if progress is not None:
            progress(step + 1, float(value))
    trained = curve._replace(
        controls=(start, *_descent.join(moving, still), end),
        opt_state=opt_state,
        step=curve.step + num_steps,
        position=position if losses else curve.position,
    )
    return trained, jnp.stack(losses) if losses else jnp.zeros(0)


@host.only
def evaluate_curve(
    apply_fn: ApplyFn,
    loss: PerExampleFn,
    curve: Curve,
    stream: Stream,
    *,
    metric: Metric | None = None,
    num_points: int = 21,
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> CurveResult:
    """The loss and a metric along a curve in one pass, its barrier and its length.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      loss: per-example loss, lower is better.
      curve: from `straight` (then the barrier is the line's) or `train`.
      stream: batches of constant shape.
      metric: what else to measure, such as `tlx.core.metrics.classification()`.
      num_points: K, at least 2.
      statistics: where the batch statistics of each point come from: a stream of training
        batches, from which they are re-estimated at each point; "interpolate": those that
        the path gives; "a" or "b": those of an end; None: for a model without any, an error
        for one that has them.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `CurveResult`; NaN losses and barrier for an empty stream.

    Raises:
      ValueError: at call, as `path`, or for fewer than 2 points.

    Numerics: lengths from the Gram matrix of the control points (float32 or wider sums), by
    quadrature in float64: relative error about 1e-6, 1e-4 for a curve that turns back on
    itself.
    Cost: one pass over the data, K forward passes a batch.
    """
    path_fn = path(curve)
    if num_points < 2:
        raise ValueError(f"expected num_points of at least 2, the ends, got {num_points}")
    ts = jnp.linspace(0, 1, num_points)
    ends = (curve.controls[0], curve.controls[-1])
    found, rule = statistics_lib.along(
        apply_fn, _both(loss, metric), path_fn, ts, stream,
        source=statistics, ends=ends, chunk=chunk,
    )  # fmt: skip
    losses = found["loss"]
    barrier, peak = _barrier(ts, losses)
    length, chord = _lengths(curve)
    return CurveResult(
        ts=ts,
        losses=losses,
        results=found.get("metric"),
        barrier=barrier,
        peak=peak,
        length=undefined.array(length),
        chord=undefined.array(chord),
        statistics=rule,
    )


@jax.jit
def _barrier(ts: Array, losses: Array) -> tuple[Array, Array]:
    rise = losses - ((1 - ts) * losses[0] + ts * losses[-1]).astype(losses.dtype)
    barrier = jnp.max(rise)  # at least 0, as at both ends; NaN if any value is
    return barrier, jnp.where(jnp.isnan(barrier), jnp.nan, ts[jnp.argmax(rise)])


@functools.lru_cache(maxsize=256)
def _both(loss: PerExampleFn, metric: Metric | None) -> Metric:
    named = {"loss": metrics.mean(loss)}
    return metrics.combine(named if metric is None else {**named, "metric": metric})


def _lengths(curve: Curve) -> tuple[float, float]:
    """The length of the curve and the distance of its ends."""
    of_gram = _hull.gram(curve.controls)
    steps = np.diff(np.eye(len(of_gram)), axis=0)  # from each control point to the next
    chord = float(_hull.lengths(of_gram, steps.sum(0)))
    if curve.kind == "polygon":
        return float(_hull.lengths(of_gram, steps).sum()), chord
    degree = len(steps)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    panels = np.arange(PANELS)[:, None]
    t = ((panels + (nodes + 1) / 2) / PANELS).reshape(-1, 1)
    i = np.arange(degree)
    binomial = np.array([math.comb(degree - 1, k) for k in i])
    velocity = degree * (binomial * t**i * (1 - t) ** (degree - 1 - i)) @ steps
    speed = _hull.lengths(of_gram, velocity).reshape(PANELS, -1)
    return float((speed @ weights).sum() / (2 * PANELS)), chord
