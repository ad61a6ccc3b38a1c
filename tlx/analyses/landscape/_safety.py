"""Whether an average of models is as good as the models; public as `averaging.safety`."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape import _losses
from tlx.core import contracts, host, intervals, paths, shown, undefined
from tlx.core.types import ApplyFn, Params, PerExampleFn, Stream


@shown.short
class Estimate(NamedTuple):
    """A number with its interval.

    Attributes:
      value: float scalar.
      low: float scalar, the lower end.
      high: float scalar, the upper end.
    """

    value: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]


@shown.short
class Safety(NamedTuple):
    """Whether an average of m models is as good as the models, for each of several losses.

    Attributes:
      verdict: whether the average is, in all losses, no worse than the mean of the models.
      losses: loss name to float [m], the models' mean losses.
      soup: loss name to float scalar, the average's mean loss.
      above_mean: loss name to the average's loss minus the weighted mean of the models'
        losses: the loss barrier at that point, negative where averaging helps.
      above_best: loss name to the average's loss minus that of the best model.
      no_worse_than_mean: loss name to verdict, whether `above_mean` is within the tolerance.
      no_worse_than_best: loss name to verdict, whether `above_best` is.
      statistics: the source of the batch statistics; see `averaging.GreedySoup`.
    """

    verdict: intervals.Verdict
    losses: dict[str, Float[Array, " m"]]
    soup: dict[str, Float[Array, ""]]
    above_mean: dict[str, Estimate]
    above_best: dict[str, Estimate]
    no_worse_than_mean: dict[str, intervals.Verdict]
    no_worse_than_best: dict[str, intervals.Verdict]
    statistics: str


@host.only
def safety(
    apply_fn: ApplyFn,
    models: Sequence[Params],
    stream: Stream,
    *,
    tolerances: Mapping[str, float],
    key: Array,
    losses: Mapping[str, PerExampleFn] = _losses.LOSSES,
    weights: Any = None,
    num_examples: int | None = None,
    confidence: float = 0.95,
    num_resamples: int = 1000,
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> Safety:
    """Whether averaging models is safe: the average's loss against theirs, with intervals.

    If the loss is convex between the models, the average is no worse than the mean of their
    losses; a rise above that is a loss barrier between them.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      models: one or more pytrees of one structure.
      stream: the examples to evaluate on, with `index`.
      tolerances: for each loss the largest rise that counts as none, in its unit, at least 0.
      key: typed PRNG key, for the bootstrap.
      losses: per-example losses by name, lower is better.
      weights: float [m] that sum to 1; None for equal weights.
      num_examples: the number of examples; None takes the stream's `num_examples`.
      confidence: of the percentile-bootstrap intervals over examples, between 0 and 1.
      num_resamples: of the bootstrap.
      statistics: as of `averaging.greedy_soup`.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `Safety`. Values are NaN and verdicts "open" for an empty stream or NaN losses.

    Raises:
      ValueError: at call, for models that differ, weights that do not sum to 1, losses
        without a tolerance, or an unknown number of examples.

    Cost: one pass over the data, m + 1 forward passes a batch. Memory: a float for each
    loss, model and example.

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
    ...     found = landscape.safety(apply_fn, pair, stream, **limits, key=jax.random.key(0))
    ...     print(found.verdict, found.above_mean["loss"].value.round(2))
    yes 0.0
    no 1.0
    """
    contracts.typed_key(key)
    limits = _losses.tolerances(losses, tolerances)
    intervals.percentile_interval(jnp.zeros(1), confidence)  # raises for others before any work
    path_fn = paths.hull(models)
    shares = _shares(weights, len(models))
    points = jnp.asarray(np.concatenate([np.eye(len(models)), shares[None]]), float)
    values, rule = _losses.along(
        apply_fn, losses, path_fn, points, stream,
        num_examples=num_examples, statistics=statistics, chunk=chunk,
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = {name: {} for name in Safety._fields[1:-1]}
    for name, limit in limits.items():
        own = _losses.means(values[name])
        samples = intervals.resampled_means(values[name], num_resamples=num_resamples, key=key)
        found["losses"][name], found["soup"][name] = (
            undefined.array(part) for part in (own[:-1], own[-1])
        )
        for field, above in (("mean", _above_mean), ("best", _above_best)):
            ends = intervals.percentile_interval(above(np.asarray(samples), shares), confidence)
            value = above(own, shares)
            found[f"above_{field}"][name] = Estimate(undefined.array(value), *ends)
            found[f"no_worse_than_{field}"][name] = intervals.verdict(*ends, limit)
    verdicts = list(found["no_worse_than_mean"].values())
    return Safety(intervals.worst(verdicts), **found, statistics=rule)


def _above_mean(losses: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """From losses [..., m + 1], the average's last."""
    return losses[..., -1] - losses[..., :-1] @ shares


def _above_best(losses: np.ndarray, shares: np.ndarray) -> np.ndarray:
    del shares
    return losses[..., -1] - losses[..., :-1].min(-1)


def _shares(weights: Any, num_models: int) -> np.ndarray:
    if weights is None:
        return np.full(num_models, 1 / num_models)
    shares = np.asarray(weights, np.float64)
    if shares.shape != (num_models,) or not abs(shares.sum() - 1) < 1e-4:
        raise ValueError(
            f"expected {num_models} weights that sum to 1, got {np.asarray(weights).tolist()}"
        )
    return shares
