"""Whether models lie in one basin of the loss, and how flat and how wide it is.

References: B. Neyshabur, H. Sedghi, C. Zhang, What is being transferred in transfer
learning?, 2020, definition 3.1 and section 3.4; J. Frankle, G. Dziugaite, D. Roy, M.
Carbin, Linear mode connectivity and the lottery ticket hypothesis, 2020, section 2.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape import _hull, _losses, _pair_barriers
from tlx.core import batch_statistics as statistics_lib
from tlx.core import contracts, host, intervals, paths, public, shown, undefined
from tlx.core.types import ApplyFn, Params, PerExampleFn, Stream

__dir__ = public.names(__name__)

LOSSES = _losses.LOSSES
"""The losses of a classifier: "loss", cross-entropy in nats, and "error", the 0-1 error."""


@shown.short
class Condition(NamedTuple):
    """The rise of the loss at the border of a set, at T values of delta.

    Attributes:
      excess: float [T], the expected loss minus mu.
      error: float [T], its standard error over the draws.
      reached: T verdicts whether excess ≥ 2·epsilon; "open" within two standard errors (of
        the difference, epsilon's included), and where it is NaN.
    """

    excess: Float[Array, " T"]
    error: Float[Array, " T"]
    reached: tuple[intervals.Verdict, ...]


@shown.short
class Basin(NamedTuple):
    """A convex set of models as an (epsilon, delta)-basin.

    Attributes:
      mu: float scalar, the mean loss over the set.
      mu_error: float scalar, its standard error over the draws.
      epsilon: float scalar, the mean absolute deviation of the loss from mu over the set.
      epsilon_error: float scalar, its standard error (mu's included).
      deltas: float [T], the scan.
      noise: condition 2, Gaussian noise of expected squared norm delta² at the border.
      beyond: condition 3, steps of length |N(0, delta²)| outward from the set.
      delta: float scalar, the first of `deltas` at which both conditions say "yes"; NaN if
        none does.
      statistics: the source of the batch statistics: "none", "re-estimated" or "interpolated".
    """

    mu: Float[Array, ""]
    mu_error: Float[Array, ""]
    epsilon: Float[Array, ""]
    epsilon_error: Float[Array, ""]
    deltas: Float[Array, " T"]
    noise: Condition
    beyond: Condition
    delta: Float[Array, ""]
    statistics: str


@host.only
def basin(
    apply_fn: ApplyFn,
    loss: PerExampleFn,
    models: Sequence[Params],
    stream: Stream,
    *,
    deltas: Any,
    key: Array,
    num_draws: int = 64,
    dilation: float = 1.0,
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> Basin:
    """The flatness of the loss on the convex hull of models and its rise outside, in one pass.

    S is the simplex with the m models as corners, dilated about its centre, w, w₁ and w₂ are
    uniform on S and f is where the ray from w₁ through w₂ leaves S. S is an
    (epsilon, delta)-basin of the loss l if, with mu = E l(w),

    1. E |l(w) − mu| ≤ epsilon (here epsilon is that expectation);
    2. E [l(f + v) − mu] ≥ 2·epsilon for v ~ N(0, (delta²/P)·I), P the floating leaves' entries;
    3. E [l(f + |v|·(f − w₁)/‖f − w₁‖) − mu] ≥ 2·epsilon for v ~ N(0, delta²).

    Larger noise and distance raise the loss more, so a scan shows from which delta on 2 and 3
    hold. The same draws are used for every delta. With two models S is a line segment and f one of
    its ends. If the loss is constant everything is 0, and 2 and 3 hold at any delta.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      loss: per-example loss, lower is better, such as `LOSSES["error"]` (the published
        values of epsilon have the size of 0-1 errors).
      models: two or more pytrees of one structure, of which none lies in the affine hull of
        the others (only then are weights from Dirichlet(1, …, 1) uniform on S).
      stream: the examples on which l is the mean loss.
      deltas: float [T], increasing, from 0, distances between parameters (all floating
        leaves). The published ones are multiples of 0.01·√P.
      key: typed PRNG key.
      num_draws: D of w and of (w₁, w₂, v), at least 2. Standard errors fall as 1/√D.
      dilation: the size of S relative to the hull; 1 is the hull itself.
      statistics: where the batch statistics of each point come from: a stream of training
        batches, from which they are re-estimated at each point; "interpolate": those that
        the path gives, noise included; None: for a model without any, an error for one that
        has them.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `Basin`. Its errors are over the draws. The finite set of examples is a second source of
      error: run on disjoint parts of the data with the same key, and compare. For an empty
      stream, or where a loss is NaN, the values are NaN and the verdicts "open".

    Raises:
      ValueError: at call, for fewer than two models, models that differ in structure, are
        equal or affinely dependent, deltas that do not increase from 0 or more, fewer than
        2 draws, or a dilation that is not positive.

    Numerics: points in float32 or more, statistics over draws in float64.
    Cost: one pass over the data, D·(1 + 2T) forward passes a batch.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return (params["u"] + params["v"]) * inputs
    >>> models = [{"u": 1.0, "v": 0.0}, {"u": 0.0, "v": 1.0}]  # on the valley u + v = 1
    >>> stream = streams.from_arrays(jnp.ones(4), jnp.ones(4), batch_size=4)
    >>> found = landscape.basin(
    ...     apply_fn, metrics.squared_error, models, stream, deltas=[1.0], key=jax.random.key(0)
    ... )
    >>> [round(float(x), 3) for x in (found.mu, found.epsilon, found.beyond.excess[0])]
    [0.0, 0.0, 0.0]
    >>> float(found.noise.excess[0]) > 0.1  # across the valley the loss rises
    True
    """
    contracts.typed_key(key)
    scan = _hull.scan(models, deltas, key, num_draws=num_draws, dilation=dilation)
    each = {"loss": loss}
    return _basins(apply_fn, each, models, stream, scan, statistics=statistics, chunk=chunk)["loss"]


@shown.short
class SameBasin(NamedTuple):
    """Whether models lie in one basin, with the evidence.

    The G groups are all pairs of models, and for three and more also all of them together. A
    group's barrier is the largest rise of the loss above the chord (the average of the models'
    losses with the point's weights) on the line of a pair or at the centre of all.

    Attributes:
      verdict: "yes" if all barriers are within their tolerances, "no" if one is not, "open"
        if the intervals leave that undecided.
      deciding: the loss name and group with that verdict whose barrier is highest, in units of
        the tolerance.
      groups: G tuples of indices of models.
      barriers: loss name to float [G]; never negative, NaN where a loss is NaN.
      low: loss name to float [G], the lower ends of the intervals.
      high: loss name to float [G], their upper ends.
      verdicts: loss name to G verdicts.
      losses: loss name to float [m], the models' mean losses.
      basins: loss name to `Basin`, the epsilon and delta of the models' hull.
      statistics: the source of the batch statistics; see `Basin`.
    """

    verdict: intervals.Verdict
    deciding: tuple[str, tuple[int, ...]]
    groups: tuple[tuple[int, ...], ...]
    barriers: dict[str, Float[Array, " G"]]
    low: dict[str, Float[Array, " G"]]
    high: dict[str, Float[Array, " G"]]
    verdicts: dict[str, tuple[intervals.Verdict, ...]]
    losses: dict[str, Float[Array, " m"]]
    basins: dict[str, Basin]
    statistics: str


@host.only
def same_basin(
    apply_fn: ApplyFn,
    models: Sequence[Params],
    stream: Stream,
    *,
    tolerances: Mapping[str, float],
    deltas: Any,
    key: Array,
    losses: Mapping[str, PerExampleFn] = LOSSES,
    num_points: int = 9,
    num_draws: int = 64,
    dilation: float = 1.0,
    num_examples: int | None = None,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> SameBasin:
    """Whether two or more models lie in one basin of the loss, with the evidence.

    They do if no loss rises above its chord by more than its tolerance, on the line between
    any two and, for three or more, at the centre of all. Percentile-bootstrap intervals over
    the examples give the confidence (sampling noise increases a maximum: choose tolerances
    above it). The hull's epsilon and delta describe the basin and do not affect the verdict.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      models: two or more pytrees of one structure; see `basin`.
      stream: the examples to evaluate on, with `index`; read twice.
      tolerances: for each loss the largest rise that counts as none, in its unit, at least 0.
        For the 0-1 error 0.02 is usual (Frankle et al. 2020).
      deltas: float [T], the scan of `basin`.
      key: typed PRNG key.
      losses: per-example losses by name, lower is better; all of them must pass.
      num_points: evenly spaced inner points on the line of each pair.
      num_draws: of `basin`.
      dilation: of `basin`.
      num_examples: the number of examples; None takes the stream's `num_examples`.
      confidence: of the intervals, between 0 and 1.
      num_resamples: of the bootstrap.
      statistics: of `basin`.
      chunk: of `basin`.

    Returns:
      `SameBasin`. The verdict is "open" where losses are NaN, and for an empty stream.

    Raises:
      ValueError: at call, as `basin`, and for losses without a tolerance or unknown ones, an
        unknown number of examples, no points, or a confidence outside of 0 … 1.

    Cost: a pass with m(m − 1)/2·`num_points` + m (+ 1) forward passes a batch, and `basin`'s.
    Memory: a float for each loss, point of the first pass and example.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["first"] * params["second"] * inputs
    >>> a, b, c = ({"first": x, "second": 1 / x} for x in (1.0, 1.25, -1.0))  # the same function
    >>> stream = streams.from_arrays(jnp.ones(8), jnp.ones(8), batch_size=8)
    >>> limits = {"losses": {"loss": metrics.squared_error}, "tolerances": {"loss": 0.1}}
    >>> for pair in ([a, b], [a, c]):
    ...     found = landscape.same_basin(
    ...         apply_fn, pair, stream, **limits, deltas=[1.0], key=jax.random.key(0)
    ...     )
    ...     print(found.verdict, found.barriers["loss"].round(2))
    yes [0.]
    no [1.]
    """
    contracts.typed_key(key)
    limits = _losses.tolerances(losses, tolerances)
    intervals.percentile_interval(jnp.zeros(1), confidence)  # raises for others before any work
    if num_points < 1:
        raise ValueError(f"expected at least one point on the line of a pair, got {num_points}")
    key_basin, key_examples = jax.random.split(key)
    scan = _hull.scan(models, deltas, key_basin, num_draws=num_draws, dilation=dilation)
    groups = _pair_barriers.pairs_and_centre(len(models), num_points)
    weights = _array(_pair_barriers.coordinates(len(models), groups))
    values, rule = _losses.along(
        apply_fn, losses, paths.hull(models), weights, stream,
        num_examples=num_examples, statistics=statistics, chunk=chunk,
    )  # fmt: skip
    found = _pair_barriers.judged(
        values, groups, limits,
        confidence=confidence, num_resamples=num_resamples, key=key_examples,
    )  # fmt: skip
    return SameBasin(
        **found,
        groups=tuple(groups),
        losses={name: _array(_losses.means(v)[: len(models)]) for name, v in values.items()},
        basins=_basins(apply_fn, losses, models, stream, scan, statistics=statistics, chunk=chunk),
        statistics=rule,
    )


def _basins(
    apply_fn: ApplyFn,
    losses: Mapping[str, PerExampleFn],
    models: Sequence[Params],
    stream: Stream,
    scan: _hull.Scan,
    *,
    statistics: Any,
    chunk: int | Literal["auto"],
) -> dict[str, Basin]:
    path_fn = paths.noisy(paths.hull(models))
    found, rule = statistics_lib.along(
        apply_fn, _losses.mean_of_each(tuple(losses.items())), path_fn, scan.coordinates, stream,
        source=statistics, chunk=chunk,
    )  # fmt: skip
    return {name: _summary(np.asarray(found[name]), scan, rule) for name in losses}


def _summary(losses: np.ndarray, scan: _hull.Scan, rule: str) -> Basin:
    """From the losses at the points of a scan; errors by the influence of each draw."""
    by_draw = losses.astype(np.float64).reshape(-1, scan.num_draws)
    inside, (noise, beyond) = by_draw[0], np.split(by_draw[1:], 2)
    mu = inside.mean()
    on_mu = inside - mu
    epsilon = np.abs(on_mu).mean()
    on_epsilon = np.abs(on_mu) - epsilon - np.sign(on_mu).mean() * on_mu

    def condition(at: np.ndarray) -> Condition:
        excess = at.mean(1) - mu
        error = np.hypot(_error(at), _error(on_mu))
        margin, spread = excess - 2 * epsilon, np.hypot(_error(at), _error(on_mu + 2 * on_epsilon))
        verdicts = (
            intervals.verdict(-m - 2 * s, -m + 2 * s, 0)
            for m, s in zip(margin, spread, strict=True)
        )
        return Condition(_array(excess), _array(error), tuple(verdicts))

    of_noise, of_beyond = condition(noise), condition(beyond)
    both = [n == b == "yes" for n, b in zip(of_noise.reached, of_beyond.reached, strict=True)]
    return Basin(
        mu=_array(mu),
        mu_error=_array(_error(on_mu)),
        epsilon=_array(epsilon),
        epsilon_error=_array(_error(on_epsilon)),
        deltas=_array(scan.deltas),
        noise=of_noise,
        beyond=of_beyond,
        delta=_array(scan.deltas[both.index(True)] if any(both) else np.nan),
        statistics=rule,
    )


def _array(values: Any) -> Array:
    return undefined.array(values)


def _error(draws: np.ndarray) -> Any:
    """The standard error of the mean over the last axis."""
    return draws.std(-1, ddof=1) / math.sqrt(draws.shape[-1])
