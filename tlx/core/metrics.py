"""Metrics as monoids of pure functions; see `tlx.core.types.Metric` for the laws."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from tlx.core import _cross_entropy, contracts, public, streams, tree
from tlx.core.contracts import mask_of as mask_of
from tlx.core.types import Batch, Metric, PerExampleFn, Stream

__dir__ = public.names(__name__)


def softmax_cross_entropy(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """The negative log-likelihood of the label in nats, from logits [B, C] and int labels [B].

    NaN where the label is not in 0 … C−1, which the analyses refuse. Computed in float32 or more.

    Raises:
      ValueError, TypeError: for other shapes and dtypes; see `contracts.class_labels`.
    """
    return _negative_log_likelihood(*contracts.class_labels(outputs, batch))


def _negative_log_likelihood(logits: Array, labels: Array) -> Array:
    """Of labels [...] from logits [..., C]; NaN for a label of no class."""
    logits = logits.astype(tree.accumulator(logits.dtype))
    valid = (labels >= 0) & (labels < logits.shape[-1])
    safe = jnp.where(valid, labels, 0)
    return jnp.where(valid, _cross_entropy.from_logits(logits, safe), jnp.nan)


def accuracy(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """1 where the largest logit is the label's, else 0; the first of equal logits counts.

    NaN where the label is not in 0 … C−1, which the analyses refuse; 0 where a logit is NaN.

    Raises as `softmax_cross_entropy`.
    """
    return _is_right(*contracts.class_labels(outputs, batch))


def _is_right(logits: Array, labels: Array) -> Array:
    correct = (jnp.argmax(logits, -1) == labels) & ~jnp.isnan(logits).any(-1)
    valid = (labels >= 0) & (labels < logits.shape[-1])
    return jnp.where(valid, correct.astype(jnp.float32), jnp.nan)


def error(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """The 0-1 error: 1 − `accuracy`."""
    return 1 - accuracy(outputs, batch)


def sigmoid_cross_entropy(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """Binary cross-entropy in nats, averaged over the C labels: logits and labels 0/1 [B, C].

    Raises:
      ValueError, TypeError: for other shapes and dtypes; see `contracts.binary_labels`.
    """
    logits, labels = contracts.binary_labels(outputs, batch)
    logits = logits.astype(tree.accumulator(logits.dtype))
    labels = labels.astype(logits.dtype)
    return jnp.mean(_cross_entropy.from_binary_logits(logits, labels), -1)


def sigmoid_accuracy(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """The share of the C labels on the right side of probability ½ (logit 0 counts as 1).

    Raises as `sigmoid_cross_entropy`.
    """
    logits, labels = contracts.binary_labels(outputs, batch)
    right = (logits >= 0) == (labels > 0)
    return jnp.mean((right & ~jnp.isnan(logits)).astype(jnp.float32), -1)


def sigmoid_error(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """The share of the C labels on the wrong side: 1 − `sigmoid_accuracy`."""
    return 1 - sigmoid_accuracy(outputs, batch)


@functools.lru_cache(maxsize=256)
def mean(per_example: PerExampleFn) -> Metric:
    """The mean of a per-example function: a float scalar, NaN where there are no examples.

    Raises while tracing if the function does not return a floating value for each row.

    Args:
      per_example: `(outputs, batch) -> float [B]`. Pass the same function object again to
        share compiled code.

    >>> import jax.numpy as jnp
    >>> from tlx.core import evaluate, metrics, streams
    >>> metric = metrics.mean(lambda outputs, batch: outputs.max(1))  # the largest logit
    >>> stream = streams.from_arrays(jnp.eye(4), batch_size=3)
    >>> float(evaluate(lambda params, inputs: inputs, metric, {}, stream))
    1.0
    """
    joint = _means((("mean", per_example),))
    return joint._replace(compute=lambda state: joint.compute(state)["mean"])


@functools.cache
def classification() -> Metric:
    """Softmax cross-entropy and top-1 accuracy of logits [B, C] on integer labels [B].

    Results: `loss` (nats, mean), `accuracy` (0 … 1) and `count` (int32 examples); the first
    two are NaN for an empty stream or a label out of range.

    >>> import jax.numpy as jnp
    >>> from tlx.core import evaluate, metrics, streams
    >>> stream = streams.from_arrays(jnp.zeros((8, 4)), jnp.arange(8) % 4, batch_size=8)
    >>> found = evaluate(lambda params, logits: logits, metrics.classification(), {}, stream)
    >>> round(float(found["loss"]), 3), float(found["accuracy"])  # chance: ln 4 and 1/4
    (1.386, 0.25)
    """
    return _means((("loss", softmax_cross_entropy), ("accuracy", accuracy)))


@functools.cache
def multilabel() -> Metric:
    """Binary cross-entropy and accuracy at probability ½ of logits [B, C] on 0/1 labels [B, C].

    Results: `loss` (nats, mean over examples and labels), `accuracy` (0 … 1), `count`.
    """
    return _means((("loss", sigmoid_cross_entropy), ("accuracy", sigmoid_accuracy)))


def squared_error(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """(output − label)² for outputs and labels [B], or its mean over what follows [B, ...].

    Raises:
      ValueError, TypeError: for shapes that differ; see `contracts.targets`.
    """
    return jnp.mean(jnp.square(_apart(outputs, batch)), -1)


def absolute_error(outputs: Any, batch: Batch) -> Float[Array, " B"]:
    """|output − label| for outputs and labels [B], or its mean over what follows [B, ...].

    Raises as `squared_error`.
    """
    return jnp.mean(jnp.abs(_apart(outputs, batch)), -1)


def _apart(outputs: Any, batch: Batch) -> Float[Array, "B D"]:
    outputs, labels = contracts.targets(outputs, batch)
    outputs = outputs.astype(tree.accumulator(outputs.dtype))
    return (outputs - labels.astype(outputs.dtype)).reshape(len(outputs), -1)


@functools.cache
def regression() -> Metric:
    """Mean squared and mean absolute error of outputs [B, ...] on real labels of that shape.

    Results: `loss` (the mean of `squared_error`, so the unit of the labels squared), `mae` (of
    `absolute_error`) and `count` (int32 examples); the first two are NaN for an empty stream.
    """
    return _means((("loss", squared_error), ("mae", absolute_error)))


@functools.lru_cache(maxsize=256)
def ratio(numerator: PerExampleFn, weight: PerExampleFn) -> Metric:
    """Σ numerator / Σ weight over the examples: a weighted mean, a float scalar.

    For numerators that already contain their weight, such as a sum over the positions of a sequence
    with their number as the weight. `as_mean` is the counterpart for analyses that take a
    per-example function.

    Args:
      numerator: `(outputs, batch) -> float [B]`.
      weight: `(outputs, batch) -> float [B]`, at least 0. Where it is 0 the numerator changes
        nothing; NaN where it is negative.

    Returns:
      The metric; its result is NaN where the weights sum to 0, and for an empty stream. Pass the
      same function objects again to share compiled code.
    """
    joint = _ratios((("ratio", numerator),), weight)
    return joint._replace(compute=lambda state: joint.compute(state)["ratio"])


@functools.lru_cache(maxsize=256)
def tokens(ignore: int | None = None) -> Metric:
    """Softmax cross-entropy and top-1 accuracy over the positions of sequences.

    Logits are [B, T, C] and integer labels [B, T]. Every position counts the same, whichever
    sequence it is in.

    Args:
      ignore: the label of positions that do not count, such as −100 or the padding's; None if
        all do. Masked rows do not count anyway.

    Results: `loss` (nats, mean over positions), `accuracy` (0 … 1), `count` (int32 sequences)
    and `positions` (float, those that count); the first two are NaN where none does.
    """
    named = (("loss", _Tokens("loss", ignore)), ("accuracy", _Tokens("right", ignore)))
    return _ratios(named, _Tokens("number", ignore), called="positions")


def token_losses(stream: Stream, ignore: int | None = None) -> dict[str, PerExampleFn]:
    """The `losses=` of sequences for criticality and basins; `["loss"]` also for curvature.

    Their means over the examples of the stream are those of `tokens`: each is a sequence's sum
    over its positions, divided by the mean number of positions of a sequence.

    Args:
      stream: the one on which they will be evaluated; read once, no model is applied.
      ignore: as in `tokens`.

    Returns:
      `loss` in nats and the 0-1 `error`. Raises as `as_mean`.
    """
    number = _Tokens("number", ignore)
    factor = _mean_weight(number, stream)
    return {
        "loss": _Scaled(_Tokens("loss", ignore), number, factor),
        "error": _Scaled(_Tokens("wrong", ignore), number, factor),
    }


def as_mean(numerator: PerExampleFn, weight: PerExampleFn, stream: Stream) -> PerExampleFn:
    """A per-example function whose plain mean over a stream is `ratio(numerator, weight)`.

    Analyses of a mean loss (curvature, sharpness, basins, criticality, PAC-Bayes) take a function
    [B]; this is numerator / w̄ with w̄ the mean weight of the stream's examples.

    Args:
      numerator: as in `ratio`.
      weight: as in `ratio`, of the batch alone: it is called with None as the outputs.
      stream: the one on which it will be evaluated; read once, no model is applied.

    Raises:
      ValueError: if the weights sum to 0 or one of them is negative or NaN.
    """
    return _Scaled(numerator, weight, _mean_weight(weight, stream))


def _mean_weight(weight: PerExampleFn, stream: Stream) -> float:
    total, count = 0.0, 0
    for batch in streams.checked(stream)():
        values = np.asarray(contracts.per_example(weight, None, batch), np.float64)
        values = values[np.asarray(mask_of(batch))]
        if not (values >= 0).all():
            raise ValueError(f"expected weights of at least 0, got {values[~(values >= 0)][0]}")
        total, count = total + values.sum(), count + len(values)
    if not 0 < total < np.inf:
        raise ValueError(f"expected weights with a positive sum, got {total} of {count} examples")
    return float(total / count)


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """numerator / mean weight; equal instances share compiled code."""

    numerator: PerExampleFn
    weight: PerExampleFn
    mean_weight: float

    def __call__(self, outputs: Any, batch: Batch) -> Float[Array, " B"]:
        values = contracts.per_example(self.numerator, outputs, batch)
        counts = contracts.per_example(self.weight, None, batch) > 0
        return jnp.where(counts, values, 0) / self.mean_weight


@dataclasses.dataclass(frozen=True)
class _Tokens:
    """Sums over the positions of each sequence that count: [B]."""

    of: Literal["loss", "right", "wrong", "number"]
    ignore: int | None

    def __call__(self, outputs: Any, batch: Batch) -> Float[Array, " B"]:
        if self.of == "number":
            labels = contracts.token_labels(batch)
            return jnp.sum(self._counts(labels), -1, dtype=jnp.int32).astype(jnp.result_type(float))
        logits, labels = contracts.class_labels(outputs, batch, tokens=True, ignored=self.ignore)
        if self.of == "loss":
            values = _negative_log_likelihood(logits, labels)
        else:
            right = _is_right(logits, labels)
            values = right if self.of == "right" else 1 - right
        return jnp.sum(jnp.where(self._counts(labels), values, 0), -1)

    def _counts(self, labels: Array) -> Bool[Array, "B T"]:
        return jnp.ones(labels.shape, bool) if self.ignore is None else labels != self.ignore


def _ratios(
    named: tuple[tuple[str, PerExampleFn], ...], weight: PerExampleFn, called: str = "weight"
) -> Metric:
    """Σ of each by name over Σ weight, and Σ weight under the name `called`."""

    def where_it_counts(fn: PerExampleFn) -> PerExampleFn:
        def counted(outputs: Any, batch: Batch) -> Array:
            weights = contracts.per_example(weight, outputs, batch)
            values = contracts.per_example(fn, outputs, batch)
            return jnp.where(weights > 0, values, jnp.where(weights == 0, 0, jnp.nan))

        return counted

    sums = _sums((*((name, where_it_counts(fn)) for name, fn in named), (called, weight)))

    def compute(state: Any) -> dict[str, Array]:
        ratios = {name: _over(state[name], state[called]) for name, _ in named}
        return ratios | {called: state[called], "count": state["count"]}

    return sums._replace(compute=compute)


def rows_of(batch: Batch, num_examples: int) -> Array:
    """Each row's number in the set (int32); `num_examples`, which is dropped, for masked rows."""
    if "index" not in batch:
        raise ValueError(
            "expected batches with 'index' int32 [B], the number of each example, got the keys "
            f"{sorted(batch)}; tlx.core.streams.from_arrays adds it"
        )
    contracts.require(batch["index"], contracts.below(num_examples))
    return jnp.where(mask_of(batch), jnp.asarray(batch["index"], jnp.int32), num_examples)


def _sums(named: tuple[tuple[str, PerExampleFn], ...]) -> Metric:
    """The sums of per-example functions by name, and under "count" the number of examples."""

    def init() -> dict[str, Array]:
        zero = jnp.zeros((), jnp.result_type(float))
        return {name: zero for name, _ in named} | {"count": jnp.zeros((), jnp.int32)}

    def update(state: Any, outputs: Any, batch: Batch) -> dict[str, Array]:
        mask = mask_of(batch)
        new = {"count": state["count"] + jnp.sum(mask, dtype=jnp.int32)}
        for name, fn in named:
            values = contracts.per_example(fn, outputs, batch).astype(state[name].dtype)
            new[name] = state[name] + jnp.sum(jnp.where(mask, values, 0))
        return new

    return Metric(init, update, lambda s, t: jax.tree.map(jnp.add, s, t), lambda state: state)


def _means(named: tuple[tuple[str, PerExampleFn], ...]) -> Metric:
    def compute(state: Any) -> dict[str, Array]:
        return {name: _over(state[name], state["count"]) for name, _ in named} | {
            "count": state["count"]
        }

    return _sums(named)._replace(compute=compute)


def _over(total: Array, number: Array) -> Array:
    """A quotient that is NaN where there is nothing to divide by."""
    some = jnp.where(number > 0, number, 1).astype(total.dtype)
    return jnp.where(number > 0, total / some, jnp.nan)


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


@functools.lru_cache(maxsize=256)
def collect(per_example: PerExampleFn, num_examples: int) -> Metric:
    """The per-example values themselves, in the stream's order: float [num_examples].

    Each row is put at its batch's `index`, so any order of batches and of merging gives the
    same array. Examples never seen are NaN. Pass the stream's `num_examples`: analyses refuse an
    example with a larger index, `update` alone drops it.

    Raises:
      ValueError: while tracing, if the batches carry no `index`, and as `contracts.per_example`.
    """

    def init() -> tuple[Array, Array]:
        return jnp.zeros(num_examples), jnp.zeros(num_examples, bool)

    def update(state: Any, outputs: Any, batch: Batch) -> tuple[Array, Array]:
        values, seen = state
        rows = rows_of(batch, num_examples)
        new = contracts.per_example(per_example, outputs, batch).astype(values.dtype)
        return values.at[rows].set(new, mode="drop"), seen.at[rows].set(True, mode="drop")

    def merge(s: Any, t: Any) -> tuple[Array, Array]:
        return jnp.where(t[1], t[0], s[0]), s[1] | t[1]

    def compute(state: Any) -> Array:
        return jnp.where(state[1], state[0], jnp.nan)

    return Metric(init, update, merge, compute)
