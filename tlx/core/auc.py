"""The area under the ROC curve over an entire set, as a metric."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tlx.core import metrics, public
from tlx.core.types import Batch, Metric

__dir__ = public.names(__name__)


def area_under_roc(
    scores: Float[Array, "N L"], targets: Bool[Array, "N L"], mask: Bool[Array, " N"]
) -> Float[Array, " L"]:
    """The area under the ROC curve of each label: P(score of a positive > of a negative).

    Ties count one half, so it is the Mann-Whitney statistic U / (positives · negatives), exact
    for the entire set and independent of its order.

    Args:
      scores: float [N, L], higher for a positive; any monotone function of them gives the same.
      targets: bool [N, L].
      mask: bool [N]; rows where it is False change nothing.

    Returns:
      float [L] in 0 to 1; NaN for a label without a positive or without a negative, or with a
      NaN among its scores.

    Numerics: counts are exact integers; the mean over positives is summed in the default float,
    within 1e-6. Cost: a sort of N numbers for each label.

    References:
      J. Hanley, B. McNeil, The meaning and use of the area under a receiver operating
      characteristic (ROC) curve, Radiology 143, 1982.
    """

    def one(score: Array, target: Array) -> Array:
        positive, negative = mask & target, mask & ~target
        order = jnp.argsort(score)
        score, positive, negative = score[order], positive[order], negative[order]
        ones = negative.astype(jnp.int32)
        before = jnp.cumsum(ones)
        # where a run of equal scores begins and ends
        first = jnp.searchsorted(score, score, side="left")
        last = jnp.searchsorted(score, score, side="right") - 1
        below = before[first] - ones[first]
        total = jnp.sum(ones)
        number = jnp.sum(positive, dtype=jnp.int32)
        real = jnp.result_type(float)
        half = (below + before[last]).astype(real) / (2 * jnp.maximum(total, 1)).astype(real)
        area = jnp.sum(jnp.where(positive, half, 0)) / jnp.maximum(number, 1).astype(real)
        is_defined = (total > 0) & (number > 0) & ~jnp.any((positive | negative) & jnp.isnan(score))
        return jnp.where(is_defined, area, jnp.nan)

    return jax.vmap(one, in_axes=(1, 1))(scores, targets)


@functools.lru_cache(maxsize=64)
def ranking(num_examples: int, num_labels: int) -> Metric:
    """How well logits [B, L] rank each of several labels [B, L], over an entire set.

    Results: `auc` (mean of the areas under the ROC curves of the labels, see `area_under_roc`;
    labels for which it is undefined are left out, NaN if all are), `auc_of_label` float [L], and
    those of `metrics.multilabel`.

    Batches carry `index`, as `metrics.collect` needs it. State: the logits and labels of all
    examples, 5 bytes for each of num_examples · num_labels.
    """
    means = metrics.multilabel()

    def init() -> Any:
        shape = (num_examples, num_labels)
        return means.init(), jnp.zeros(shape), jnp.zeros(shape, bool), jnp.zeros(num_examples, bool)

    def update(state: Any, outputs: Any, batch: Batch) -> Any:
        sums, scores, targets, seen = state
        rows = metrics.rows_of(batch, num_examples)
        if jnp.shape(outputs)[1:] != (num_labels,):
            raise ValueError(
                f"expected logits [B, {num_labels}] by num_labels={num_labels}, got "
                f"{list(jnp.shape(outputs))}"
            )
        return (
            means.update(sums, outputs, batch),
            scores.at[rows].set(jnp.asarray(outputs).astype(scores.dtype), mode="drop"),
            targets.at[rows].set(jnp.asarray(batch["labels"]).astype(bool), mode="drop"),
            seen.at[rows].set(True, mode="drop"),
        )

    def merge(s: Any, t: Any) -> Any:
        own = t[3][:, None]
        scores, targets = jnp.where(own, t[1], s[1]), jnp.where(own, t[2], s[2])
        return means.merge(s[0], t[0]), scores, targets, s[3] | t[3]

    def compute(state: Any) -> dict[str, Array]:
        sums, scores, targets, seen = state
        areas = area_under_roc(scores, targets, seen)
        return {
            **means.compute(sums),
            "auc": jnp.nanmean(areas),
            "auc_of_label": areas,
        }

    return Metric(init, update, merge, compute)
