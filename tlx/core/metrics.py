"""Metrics as monoids of pure functions; see `tlx.core.types.Metric` for the laws."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from tlx.core import _cross_entropy, tree
from tlx.core.types import Batch, Metric, PerExampleFn


def mask_of(batch: Batch) -> Bool[Array, " B"]:
    """The batch's mask; all True for a batch without one."""
    if "mask" in batch:
        return jnp.asarray(batch["mask"])
    return jnp.ones(jax.tree.leaves(batch["inputs"])[0].shape[:1], bool)


def softmax_cross_entropy(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """The negative log-likelihood of the label in nats, from logits [B, C] and int labels [B].

    NaN where the label is not in 0 … C−1. Computed in float32 or more.
    """
    labels = jnp.asarray(batch["labels"])
    logits = jnp.asarray(outputs)
    logits = logits.astype(tree.accumulator(logits.dtype))
    valid = (labels >= 0) & (labels < logits.shape[-1])
    safe = jnp.where(valid, labels, 0)
    return jnp.where(valid, _cross_entropy.from_logits(logits, safe), jnp.nan)


def accuracy(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """1 where the largest logit is the label's, else 0; the first of equal logits counts.

    NaN where the label is not in 0 … C−1; 0 where a logit is NaN.
    """
    labels = jnp.asarray(batch["labels"])
    logits = jnp.asarray(outputs)
    correct = (jnp.argmax(logits, -1) == labels) & ~jnp.isnan(logits).any(-1)
    valid = (labels >= 0) & (labels < logits.shape[-1])
    return jnp.where(valid, correct.astype(jnp.float32), jnp.nan)


def error(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """The 0-1 error: 1 − `accuracy`."""
    return 1 - accuracy(outputs, batch)


def sigmoid_cross_entropy(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """Binary cross-entropy in nats, averaged over the C labels: logits and labels 0/1 [B, C]."""
    logits = jnp.asarray(outputs)
    logits = logits.astype(tree.accumulator(logits.dtype))
    labels = jnp.asarray(batch["labels"]).astype(logits.dtype)
    return jnp.mean(_cross_entropy.from_binary_logits(logits, labels), -1)


def sigmoid_accuracy(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """The share of the C labels on the right side of probability ½ (logit 0 counts as 1)."""
    logits = jnp.asarray(outputs)
    right = (logits >= 0) == (jnp.asarray(batch["labels"]) > 0)
    return jnp.mean((right & ~jnp.isnan(logits)).astype(jnp.float32), -1)


def sigmoid_error(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """The share of the C labels on the wrong side: 1 − `sigmoid_accuracy`."""
    return 1 - sigmoid_accuracy(outputs, batch)


@functools.cache
def mean(per_example: PerExampleFn) -> Metric:
    """The mean of a per-example function: a float scalar, NaN where there are no examples.

    Args:
      per_example: `(outputs, batch) -> float [B]`. Pass the same function object again to
        share compiled code.
    """
    joint = _means((("mean", per_example),))
    return joint._replace(compute=lambda state: joint.compute(state)["mean"])


@functools.cache
def classification() -> Metric:
    """Softmax cross-entropy and top-1 accuracy of logits [B, C] on integer labels [B].

    Results: `loss` (nats, mean), `accuracy` (0 … 1) and `count` (int32 examples); the first
    two are NaN for an empty stream or a label out of range.
    """
    return _means((("loss", softmax_cross_entropy), ("accuracy", accuracy)))


@functools.cache
def multilabel() -> Metric:
    """Binary cross-entropy and accuracy at probability ½ of logits [B, C] on 0/1 labels [B, C].

    Results: `loss` (nats, mean over examples and labels), `accuracy` (0 … 1), `count`.
    """
    return _means((("loss", sigmoid_cross_entropy), ("accuracy", sigmoid_accuracy)))


def area_under_roc(
    scores: Float[Array, "N L"], targets: Bool[Array, "N L"], mask: Bool[Array, " N"]
) -> Float[Array, " L"]:
    """The area under the ROC curve of each label: P(score of a positive > of a negative).

    Ties count one half, so it is the Mann-Whitney statistic U / (positives · negatives), exact
    for the whole set and the same for any order.

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


@functools.cache
def ranking(num_examples: int, num_labels: int) -> Metric:
    """How well logits [B, L] rank each of several labels [B, L], over a whole set.

    Results: `auc` (mean of the areas under the ROC curves of the labels, see `area_under_roc`;
    labels that have none are left out, NaN where none has one), `auc_of_label` float [L], and
    those of `multilabel`.

    Batches carry `index`, as `collect` needs it. State: the logits and labels of all examples,
    5 bytes for each of num_examples · num_labels.
    """
    means = multilabel()

    def init() -> Any:
        shape = (num_examples, num_labels)
        return means.init(), jnp.zeros(shape), jnp.zeros(shape, bool), jnp.zeros(num_examples, bool)

    def update(state: Any, outputs: Any, batch: Batch) -> Any:
        sums, scores, targets, seen = state
        rows = _rows_of(batch, num_examples)
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


def _rows_of(batch: Batch, num_examples: int) -> Array:
    """Each row's number in the set; `num_examples`, which is dropped, for masked rows."""
    if "index" not in batch:
        raise ValueError(
            "this metric needs batches with 'index' int32 [B], the number of each example; "
            f"got the keys {sorted(batch)}. tlx.core.streams.from_arrays adds it."
        )
    return jnp.where(mask_of(batch), jnp.asarray(batch["index"]), num_examples)


def _means(named: tuple[tuple[str, PerExampleFn], ...]) -> Metric:
    def init() -> dict[str, Array]:
        zero = jnp.zeros((), jnp.result_type(float))
        return {name: zero for name, _ in named} | {"count": jnp.zeros((), jnp.int32)}

    def update(state: Any, outputs: Any, batch: Batch) -> dict[str, Array]:
        mask = mask_of(batch)
        new = {"count": state["count"] + jnp.sum(mask, dtype=jnp.int32)}
        for name, fn in named:
            values = fn(outputs, batch).astype(state[name].dtype)
            new[name] = state[name] + jnp.sum(jnp.where(mask, values, 0))
        return new

    def compute(state: Any) -> dict[str, Array]:
        count = state["count"]
        some = jnp.maximum(count, 1)
        return {
            name: jnp.where(count > 0, state[name] / some.astype(state[name].dtype), jnp.nan)
            for name, _ in named
        } | {"count": count}

    return Metric(init, update, lambda s, t: jax.tree.map(jnp.add, s, t), compute)


def combine(metrics: Mapping[str, Metric]) -> Metric:
    """Several metrics in one pass; the results are a dict by the same names."""
    metrics = dict(metrics)
    return Metric(
        init=lambda: {name: m.init() for name, m in metrics.items()},
        update=lambda s, outputs, batch: {
            name: m.update(s[name], outputs, batch) for name, m in metrics.items()
        },
        merge=lambda s, t: {name: m.merge(s[name], t[name]) for name, m in metrics.items()},
        compute=lambda s: {name: m.compute(s[name]) for name, m in metrics.items()},
    )


@functools.cache
def collect(per_example: PerExampleFn, num_examples: int) -> Metric:
    """The per-example values themselves, in the stream's order: float [num_examples].

    Each row is put at its batch's `index`, so any order of batches and of merging gives the
    same array. Examples never seen are NaN; an index at or beyond `num_examples` is dropped
    (padding carries such an index), so pass the stream's `num_examples`.

    Raises:
      ValueError: while tracing, if the batches carry no `index`.
    """

    def init() -> tuple[Array, Array]:
        return jnp.zeros(num_examples), jnp.zeros(num_examples, bool)

    def update(state: Any, outputs: Any, batch: Batch) -> tuple[Array, Array]:
        values, seen = state
        rows = _rows_of(batch, num_examples)
        new = per_example(outputs, batch).astype(values.dtype)
        return values.at[rows].set(new, mode="drop"), seen.at[rows].set(True, mode="drop")

    def merge(s: Any, t: Any) -> tuple[Array, Array]:
        return jnp.where(t[1], t[0], s[0]), s[1] | t[1]

    def compute(state: Any) -> Array:
        return jnp.where(state[1], state[0], jnp.nan)

    return Metric(init, update, merge, compute)
