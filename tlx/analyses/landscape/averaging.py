"""Whether models can be averaged: model soups, lines to a fine-tuned model, and their safety.

Models in one basin can be averaged into a model that is as good or better, at the cost of
one; models in different basins cannot. Batch statistics in the returned averages are averages
too: `tlx.core.batch_statistics.reestimate` re-estimates them for the averaged weights.

References: M. Wortsman, G. Ilharco, S. Gadre et al., Model soups: averaging weights of
multiple fine-tuned models improves accuracy without increasing inference time, 2022; M.
Wortsman, G. Ilharco, J. Kim et al., Robust fine-tuning of zero-shot models, 2022 (WiSE-FT).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.analyses.landscape import _losses
from tlx.analyses.landscape._checks import finite_vector
from tlx.analyses.landscape._safety import Estimate, Safety, safety
from tlx.core import batch_statistics as statistics_lib
from tlx.core import host, paths, public, shown, undefined
from tlx.core.types import ApplyFn, Metric, Params, Stream

__dir__ = public.names(__name__)

__all__ = [
    "LOSSES",
    "Estimate",
    "GreedySoup",
    "Safety",
    "WiseFt",
    "greedy_soup",
    "safety",
    "uniform_soup",
    "wise_ft",
]

LOSSES = _losses.LOSSES
"""The losses of a classifier: "loss", cross-entropy in nats, and "error", the 0-1 error."""


@shown.short
class GreedySoup(NamedTuple):
    """A greedy soup of m models, and how it was built.

    Attributes:
      params: the average of the models kept.
      weights: float [m], 1/n for each of the n models kept, else 0.
      order: m indices of models, from the best score to the worst: the order of the trials.
      kept: the indices of the models kept, in that order.
      model_scores: float [m], the scores of the models, by index.
      trial_scores: float [m], in the order of trial: the score of the soup with that model.
      score: float scalar, that of the soup; never below the best of `model_scores`.
      statistics: the source of the batch statistics: "none" (the models have none),
        "re-estimated" or "interpolated".
    """

    params: Params
    weights: Float[Array, " m"]
    order: tuple[int, ...]
    kept: tuple[int, ...]
    model_scores: Float[Array, " m"]
    trial_scores: Float[Array, " m"]
    score: Float[Array, ""]
    statistics: str


@shown.short
class WiseFt(NamedTuple):
    """The linear interpolation from a pretrained to a fine-tuned model, on several targets.

    Attributes:
      alphas: float [K]: 0 is the pretrained model, 1 the fine-tuned one.
      results: target name to the metric's results, each stacked on a leading axis [K, ...].
      statistics: the source of the batch statistics: "none", "re-estimated", "interpolated",
        "a" (the pretrained model's) or "b".
    """

    alphas: Float[Array, " K"]
    results: dict[str, Any]
    statistics: str


def uniform_soup(models: Sequence[Params]) -> Params:
    """The average of m models: Σ θᵢ / m, leaf by leaf, in float32 or more.

    The average of one model is exactly that model. Leaves that are not floating are kept.

    Raises:
      ValueError: for no models, or models that differ in structure, shape or dtype (every
        leaf named) or in leaves that are not floating.

    Cost: 2·m flops a parameter; no forward pass.

    >>> from tlx.analyses import landscape
    >>> float(landscape.uniform_soup([{"w": 1.0}, {"w": 3.0}])["w"])
    2.0
    """
    return paths.at(paths.hull(models), _uniform(len(models), range(len(models))))


@host.only
def greedy_soup(
    apply_fn: ApplyFn,
    metric: Metric,
    models: Sequence[Params],
    stream: Stream,
    *,
    score: Callable[[Any], Any],
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> GreedySoup:
    """The greedy soup: models are added in the order of their scores if the score does not drop.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: what to measure, such as `tlx.core.metrics.classification()`.
      models: one or more pytrees of one structure.
      stream: held-out examples. They select the soup, so its score on them is optimistic.
      score: the metric's results to a scalar, higher is better, such as
        `lambda results: results["accuracy"]`.
      statistics: where the batch statistics of each model and average come from: a stream of
        training batches, from which they are re-estimated; "interpolate": the averages of
        the models'; None: for models without any, an error for ones that have them.
      chunk: models at a time; see `tlx.core.evaluate_path`.

    Returns:
      `GreedySoup`. Of equal scores the first model comes first. A NaN score ranks below all
      others, and its model is never added.

    Raises:
      ValueError: at call, for no models or models that differ; after the first pass, if no
        model has a score (an empty stream).

    Cost: m passes over the data, the first with m forward passes a batch, the others with
    one: each trial depends on the one before.

    References: Wortsman et al. 2022 (Model soups), recipe 1.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["w"] * inputs
    >>> models = [{"w": 9.0}, {"w": 0.5}, {"w": 1.5}]
    >>> stream = streams.from_arrays(jnp.ones(4), jnp.ones(4), batch_size=4)  # best: 1
    >>> soup = landscape.greedy_soup(
    ...     apply_fn, metrics.regression(), models, stream, score=lambda results: -results["loss"]
    ... )
    >>> soup.kept, float(soup.params["w"]), soup.model_scores.tolist()
    ((1, 2), 1.0, [-64.0, -0.25, -0.25])
    """
    path_fn = paths.hull(models)
    num_models = len(models)

    def scores(weights: Any) -> tuple[np.ndarray, str]:
        results, rule = statistics_lib.along(
            apply_fn, metric, path_fn, jnp.asarray(weights, float), stream,
            source=statistics, chunk=chunk,
        )  # fmt: skip
        rows = (jax.tree.map(lambda x, i=i: x[i], results) for i in range(len(weights)))
        return np.array([float(score(row)) for row in rows]), rule

    of_models, rule = scores(np.eye(num_models))
    if np.isnan(of_models).all():
        raise ValueError(
            "expected a score that is a number for at least one model, got NaN for all"
        )
    order = np.argsort(np.where(np.isnan(of_models), np.inf, -of_models), kind="stable").tolist()
    kept, trials = order[:1], [of_models[order[0]]]
    best = trials[0]
    for candidate in order[1:]:
        trials.append(scores(_uniform(num_models, [*kept, candidate])[None])[0][0])
        if trials[-1] >= best:
            kept, best = [*kept, candidate], trials[-1]
    weights = _uniform(num_models, kept)
    return GreedySoup(
        params=paths.at(path_fn, weights),
        weights=weights,
        order=tuple(order),
        kept=tuple(kept),
        model_scores=undefined.array(of_models),
        trial_scores=undefined.array(trials),
        score=undefined.array(best),
        statistics=rule,
    )


@host.only
def wise_ft(
    apply_fn: ApplyFn,
    metric: Metric,
    pretrained: Params,
    finetuned: Params,
    targets: Mapping[str, Stream],
    *,
    alphas: Any,
    statistics: Stream | str | None = None,
    chunk: int | Literal["auto"] = "auto",
) -> WiseFt:
    """The metric from a pretrained model to a fine-tuned one, on several targets.

    A point in between often retains most of the accuracy on one target and loses little on the
    others. Both models are evaluated on all targets, so their heads must have the same classes.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: what to measure, such as `tlx.core.metrics.classification()`.
      pretrained: pytree of arrays, at alpha 0.
      finetuned: pytree of the same structure, at alpha 1.
      targets: target name to its stream; any number of them.
      alphas: float [K], finite; the mixing coefficient.
      statistics: where the batch statistics of each point come from: a stream of training
        batches, from which they are re-estimated (once for each target); "interpolate": those
        that the line gives; "a" or "b": the pretrained's or the fine-tuned's; None: for a
        model without any, an error for one that has them.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `WiseFt`. The ends are exact.

    Raises:
      ValueError: at call, for no targets, models that differ, or alphas that are no finite
        vector.

    Cost: one pass over each target, K forward passes a batch.

    References: Wortsman et al. 2022 (Robust fine-tuning), section 4.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["w"] * inputs
    >>> one = jnp.ones(4)
    >>> targets = {
    ...     "old": streams.from_arrays(one, 0 * one, batch_size=4),
    ...     "new": streams.from_arrays(one, 2 * one, batch_size=4),
    ... }
    >>> found = landscape.wise_ft(
    ...     apply_fn, metrics.regression(), {"w": 0.0}, {"w": 2.0}, targets, alphas=[0, 0.5, 1]
    ... )
    >>> {name: results["loss"].tolist() for name, results in found.results.items()}
    {'old': [0.0, 1.0, 4.0], 'new': [4.0, 1.0, 0.0]}
    """
    if not targets:
        raise ValueError("expected at least one target, got none")
    alphas = finite_vector("alphas", alphas)
    line = paths.line(pretrained, finetuned)
    results = {}
    for name, stream in targets.items():
        results[name], rule = statistics_lib.along(
            apply_fn, metric, line, alphas, stream,
            source=statistics, ends=(pretrained, finetuned), chunk=chunk,
        )  # fmt: skip
    return WiseFt(alphas, results, rule)


def _uniform(num_models: int, kept: Sequence[int]) -> Array:
    weights = np.zeros(num_models)
    weights[list(kept)] = 1 / max(len(kept), 1)
    return jnp.asarray(weights, float)
