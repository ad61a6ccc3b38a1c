"""Whether two models make the same mistakes, class by class.

Two models fine-tuned from one start agree in their mistakes more than their accuracy
explains; two models trained from scratch do less (Neyshabur, Sedghi, Zhang 2020, 3.3).
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tlx.analyses._pair import Pair
from tlx.core import evaluate
from tlx.core.metrics import mask_of
from tlx.core.types import ApplyFn, Batch, Metric, Params, Stream


class Mistakes(NamedTuple):
    """The mistakes of two models on the same examples.

    Per class (of the label), C classes; of a class without examples the counts are 0 and the
    rates NaN. For each class `common + only_a + only_b + neither` is `num_examples`.

    Attributes:
      common: int32 [C], examples that both models get wrong (their wrong answers may differ).
      only_a: int32 [C], examples that a alone gets wrong.
      only_b: int32 [C], examples that b alone gets wrong.
      neither: int32 [C], examples that both get right.
      num_examples: int32 [C], examples.
      common_rate: float [C], common / num_examples.
      only_a_rate: float [C], only_a / num_examples.
      only_b_rate: float [C], only_b / num_examples.
      kappa_by_class: float [C], `kappa` within each class.
      accuracy_a: float scalar over all examples, 0 … 1.
      accuracy_b: float scalar over all examples, 0 … 1.
      kappa: float scalar −1 … 1 over all examples: agreement in being right beyond what the
        two accuracies give by chance.
    """

    common: Int[Array, " C"]
    only_a: Int[Array, " C"]
    only_b: Int[Array, " C"]
    neither: Int[Array, " C"]
    num_examples: Int[Array, " C"]
    common_rate: Float[Array, " C"]
    only_a_rate: Float[Array, " C"]
    only_b_rate: Float[Array, " C"]
    kappa_by_class: Float[Array, " C"]
    accuracy_a: Float[Array, ""]
    accuracy_b: Float[Array, ""]
    kappa: Float[Array, ""]


def mistakes(
    apply_fn_a: ApplyFn,
    params_a: Params,
    apply_fn_b: ApplyFn,
    params_b: Params,
    stream: Stream,
    *,
    num_classes: int,
) -> Mistakes:
    """The common mistakes of two classifiers and each one's own, in one pass over the data.

    With p the accuracies, c_obs the share of examples on which both are right or both wrong
    and c_exp = p_a·p_b + (1 − p_a)(1 − p_b) that share by chance,
    kappa = (c_obs − c_exp) / (1 − c_exp), and 1 where c_obs is 1.

    Args:
      apply_fn_a: pure `(params, inputs) -> logits [B, C]`; the largest is the answer (the
        first of equals), and a row with a NaN is wrong.
      params_a: parameters of the first model.
      apply_fn_b: as `apply_fn_a`, for the second model.
      params_b: parameters of the second model.
      stream: batches with `labels` int [B], 0 … C−1.
      num_classes: C.

    Returns:
      `Mistakes`; exchanging the models exchanges `only_a` and `only_b` and leaves the rest.
      Without examples the rates, accuracies and kappa are NaN.

    Raises:
      ValueError: if a label is outside 0 … C−1 (after the pass), or the logits are not
        [B, C] (while tracing).

    Numerics: int32 counts, exact below 2^31 examples; ratios in float32 or more.
    Cost: one pass, a forward pass of each model a batch.

    References: J. Cohen, A coefficient of agreement for nominal scales, 1960; R. Geirhos, K.
    Meding, F. Wichmann, Beyond accuracy: quantifying trial-by-trial behaviour of CNNs and
    humans by measuring error consistency, 2020, equation 1.
    """
    pair = Pair(apply_fn_a, apply_fn_b)
    cells = evaluate(pair, metric(num_classes), (params_a, params_b), stream)
    return _summary(cells, num_classes)


def mistakes_from_predictions(
    labels: Any, predictions_a: Any, predictions_b: Any, *, num_classes: int
) -> Mistakes:
    """The same as `mistakes`, from stored predictions.

    Args:
      labels: int [N], 0 … C−1.
      predictions_a: int [N], the first model's classes; any other value is a wrong answer.
      predictions_b: int [N], the second model's classes.
      num_classes: C.

    Returns:
      `Mistakes`.

    Raises:
      ValueError: if the arrays are not vectors of one length or a label is outside 0 … C−1
        (under `jax.jit` labels cannot be read: there such examples are in no count).
      TypeError: if an array is not of integers.
    """
    given = {"labels": labels, "predictions_a": predictions_a, "predictions_b": predictions_b}
    arrays = {name: jnp.asarray(value) for name, value in given.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or arrays["labels"].ndim != 1:
        raise ValueError(f"expected three vectors of one length [N], got shapes {shapes}")
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise TypeError(f"expected {name} as integers, got {array.dtype}")
    truth = arrays["labels"]
    wrong = [arrays[name] != truth.astype(arrays[name].dtype) for name in list(given)[1:]]
    cells = _count(truth, wrong[0], wrong[1], jnp.ones(truth.shape, bool), num_classes)
    return _summary(cells, num_classes)


@functools.cache
def metric(num_classes: int) -> Metric:
    """The counting as a metric on outputs (logits_a [B, C], logits_b [B, C]).

    Results: int32 [C + 1, 4], for each label the examples that neither, b alone, a alone and
    both models get wrong; the last row counts the examples whose label is not in 0 … C−1.
    """
    if num_classes < 1:
        raise ValueError(f"expected num_classes of at least 1, got {num_classes}")

    def init() -> Array:
        return jnp.zeros((num_classes + 1, 4), jnp.int32)

    def update(state: Array, outputs: tuple[Array, Array], batch: Batch) -> Array:
        labels = jnp.asarray(batch["labels"])
        wrong = [_wrong(logits, labels, num_classes) for logits in outputs]
        return state + _count(labels, wrong[0], wrong[1], mask_of(batch), num_classes)

    return Metric(init, update, jnp.add, lambda state: state)


def _wrong(logits: Array, labels: Array, num_classes: int) -> Array:
    if logits.shape != (*labels.shape, num_classes):
        raise ValueError(
            f"expected logits [B, C] = {(*labels.shape, num_classes)} for labels of shape "
            f"{labels.shape}, got {logits.shape}; is num_classes={num_classes} the model's?"
        )
    answers = jnp.argmax(logits, -1).astype(labels.dtype)
    return (answers != labels) | jnp.isnan(logits).any(-1)


@functools.partial(jax.jit, static_argnums=4)
def _count(labels: Array, wrong_a: Array, wrong_b: Array, mask: Array, num_classes: int) -> Array:
    row = jnp.where((labels >= 0) & (labels < num_classes), labels, num_classes)
    cell = 4 * row.astype(jnp.int32) + 2 * wrong_a.astype(jnp.int32) + wrong_b.astype(jnp.int32)
    cell = jnp.where(mask, cell, 4 * (num_classes + 1))  # beyond the end, so dropped
    flat = jnp.zeros(4 * (num_classes + 1), jnp.int32).at[cell].add(1, mode="drop")
    return flat.reshape(num_classes + 1, 4)


def _summary(cells: Array, num_classes: int) -> Mistakes:
    if not isinstance(cells, jax.core.Tracer) and (outside := int(np.asarray(cells)[-1].sum())):
        raise ValueError(
            f"expected labels in 0 … {num_classes - 1}, but {outside} examples have others; "
            "check num_classes and the labels"
        )
    return _from_counts(cells[:-1])


@jax.jit
def _from_counts(cells: Int[Array, "C 4"]) -> Mistakes:
    neither, only_b, only_a, common = cells.T
    count = cells.sum(-1)
    total = cells.sum(0)
    examples = total.sum()
    return Mistakes(
        common=common,
        only_a=only_a,
        only_b=only_b,
        neither=neither,
        num_examples=count,
        common_rate=_ratio(common, count),
        only_a_rate=_ratio(only_a, count),
        only_b_rate=_ratio(only_b, count),
        kappa_by_class=_kappa(cells),
        accuracy_a=_ratio(total[0] + total[1], examples),
        accuracy_b=_ratio(total[0] + total[2], examples),
        kappa=_kappa(total),
    )


def _ratio(part: Array, whole: Array) -> Array:
    dtype = jnp.result_type(float)
    return jnp.where(whole > 0, part.astype(dtype) / jnp.maximum(whole, 1).astype(dtype), jnp.nan)


def _kappa(cells: Array) -> Array:
    """Kappa from [..., 4] counts, in the form whose numerator has no 1 − c_exp to cancel."""
    whole = cells.sum(-1)
    right, only_b, only_a, both = (_ratio(part, whole) for part in jnp.moveaxis(cells, -1, 0))
    expected_to_differ = (right + only_b) * (only_b + both) + (right + only_a) * (only_a + both)
    apart = expected_to_differ > 0
    kappa = 2 * (right * both - only_a * only_b) / jnp.where(apart, expected_to_differ, 1)
    kappa = jnp.where(only_a + only_b == 0, 1, kappa)
    return jnp.where(whole > 0, kappa, jnp.nan)
