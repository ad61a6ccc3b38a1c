"""What several models answer on the same examples, and how confident they are.

One pass gives everything that the comparisons of mistakes need, without logits: a few numbers per
model and example. With several labels an example, each label is a separate judgement, with two
possible answers; else an example is one judgement. So both kinds have the same form.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tlx.core import contracts, host, public, sharding, shown, streams, tree
from tlx.core.metrics import mask_of
from tlx.core.types import ApplyFn, Batch, Params, Stream

__dir__ = public.names(__name__)

NO_ANSWER = -1
"""The answer of a model whose outputs for a judgement contain a NaN."""

ROUNDING = 0.01
"""How far from 1 the probabilities of an example may sum, as those stored in 16 bits do."""


@shown.short
class Predictions(NamedTuple):
    """The answers of M models in J judgements on each of N examples, in the stream's order.

    J is 1 where an example has one label, of C classes; with several labels, 0 or 1 each, J is
    C, their number. Where the outputs for a judgement contain a NaN there is no answer, which
    counts as wrong, and the other numbers are NaN.

    Attributes:
      answers: int32 [M, N, J], the class, or 0 or 1; or `NO_ANSWER`.
      right: bool [M, N, J], whether the answer is the label.
      probability: float [M, N, J], of the label, 0 … 1.
      confidence: float [M, N, J], the probability of the answer, 0 … 1.
      margin: float [M, N, J], probability of the label − the largest other one, −1 … 1;
        not above 0 where wrong (with several labels if the threshold is ½).
      overlap: float [M, M, N, J], the probability that two models give the same answer when
        each draws it from its probabilities: Σₖ pᵢ(k)·pⱼ(k).
      labels: int32 [N, J].
      num_classes: C.
      threshold: the probability from which on a label is predicted as 1; None where an example
        has one label.
      numbers: int32 [N], the number of each example in its data: the batches' `index`, else
        its position in the stream, counting masked rows (which are left out).
    """

    answers: Int[Array, "M N J"]
    right: Bool[Array, "M N J"]
    probability: Float[Array, "M N J"]
    confidence: Float[Array, "M N J"]
    margin: Float[Array, "M N J"]
    overlap: Float[Array, "M M N J"]
    labels: Int[Array, "N J"]
    num_classes: int
    threshold: float | None
    numbers: Int[Array, " N"]

    @property
    def classes(self) -> Int[Array, "N J"]:
        """The class of each judgement, 0 … C−1: the label, or with several labels its index."""
        if self.threshold is None:
            return self.labels
        return jnp.broadcast_to(jnp.arange(self.num_classes), self.labels.shape)

    @property
    def num_answers(self) -> int:
        """The possible answers of a judgement, K: C, or 2 with several labels an example."""
        return self.num_classes if self.threshold is None else 2


@host.only
def collect(
    models: Sequence[tuple[ApplyFn, Params]], stream: Stream, *, threshold: float = 0.5
) -> Predictions:
    """The answers of M classifiers and their probabilities, in one pass over the data.

    Labels [B] are classes, and probabilities the softmax of logits [B, C]; the answer is the
    largest logit, the first of equals. Labels [B, C] are C separate labels, and
    probabilities the sigmoids of logits [B, C].

    Args:
      models: M of `(apply_fn, params)`, at least one; their architectures may differ.
      stream: batches with `labels`, int [B] in 0 … C−1, or [B, C] of 0 and 1. Masked rows are
        left out.
      threshold: with labels [B, C], the probability from which on the answer is 1, between
        0 and 1; else of no effect.

    Returns:
      `Predictions`; those of a model do not depend on the other models, up to the last bits of
      overlaps. With all rows masked N is 0.

    Raises:
      ValueError: before the pass for no models, an empty stream (C is known from the first
        batch), batches without labels, logits of a shape that does not fit the labels or the
        other models, fewer than two classes, a threshold out of range; in the pass for a label
        out of range.
      TypeError: for labels [B] that are not integers.

    Numerics: probabilities in float32 or more, NaN in a row [C] with a logit of +inf. At
      threshold ½ the answer is 1 from logit 0 on, exactly.
    Cost: one pass, a forward pass of each model a batch. Memory: (4M + M²)·N·J numbers.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses.function import predictions
    >>> from tlx.core import streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["kernel"]
    >>> stream = streams.from_arrays(jnp.eye(3), jnp.array([0, 1, 1]), batch_size=2)
    >>> models = [(apply_fn, {"kernel": scale * jnp.eye(3)}) for scale in (1.0, 100.0)]
    >>> found = predictions.collect(models, stream)
    >>> found.right[..., 0].tolist() == 2 * [[True, True, False]]  # the same answers
    True
    >>> found.confidence[..., 0].round(2).tolist()[1]
    [1.0, 1.0, 1.0]
    """
    _check_threshold(threshold)
    first, stream = streams.peek(stream)
    if first is None:
        raise ValueError("expected a stream with at least one batch, got none")
    if "labels" not in first:
        raise ValueError(f"expected batches with 'labels', got the keys {sorted(first)}")
    is_multilabel = _is_multilabel(first["labels"])
    outputs = [jax.eval_shape(fn, params, first["inputs"]) for fn, params in models]
    for found in outputs:
        contracts.check_array(found, "logits")
    shapes = [found.shape for found in outputs]
    num_classes = _check_shapes(shapes, np.shape(first["labels"]), is_multilabel, "logits")
    cut = float(np.log(threshold) - np.log1p(-threshold)) if is_multilabel else None
    models = [(apply_fn, sharding.on_devices(params)) for apply_fn, params in models]
    parts, numbers, place = [], [], 0
    for batch in stream():
        parts.append(_of_batch(models, batch, num_classes, cut))
        mask = np.asarray(mask_of(batch))
        number = batch.get("index", np.arange(place, place + len(mask)))
        numbers.append(np.asarray(number, np.int32)[mask])
        place += len(mask)
    found = [jnp.asarray(np.concatenate(x, axis=-2)) for x in zip(*parts, strict=True)]
    kept = threshold if is_multilabel else None
    return _result(found, num_classes, kept, np.concatenate(numbers))


@host.only
def from_probabilities(
    probabilities: Sequence[Any], labels: Any, *, threshold: float = 0.5
) -> Predictions:
    """The same as `collect`, from stored probabilities.

    Args:
      probabilities: M arrays float [N, C], or one [M, N, C]: of each class, summing to 1; or
        with labels [N, C] of each label. A row with a NaN has no answer.
      labels: int [N] in 0 … C−1, or [N, C] of 0 and 1.
      threshold: as in `collect`.

    Returns:
      `Predictions`.

    Raises:
      ValueError: for no models, models whose numbers of rows or classes differ from the labels',
        fewer than two classes, labels out of range, or values that are not probabilities.
      TypeError: for labels [N] that are not integers.

    Numerics: answers from the probabilities as they are given, the rest in float32 or more.

    Cost: 2·M²·N·C flops for the overlaps; memory as `collect`, and M·N·C probabilities.

    >>> from tlx.analyses.function import predictions
    >>> of_model = [[0.75, 0.25], [0.5, 0.5], [0.25, 0.75]]
    >>> found = predictions.from_probabilities([of_model], [0, 1, 1])
    >>> found.right[0, :, 0].tolist(), found.margin[0, :, 0].tolist()
    ([True, False, True], [0.5, 0.0, 0.5])
    """
    _check_threshold(threshold)
    is_multilabel = _is_multilabel(labels)
    given = [np.asarray(p) for p in probabilities]
    shapes = [p.shape for p in given]
    num_classes = _check_shapes(shapes, np.shape(labels), is_multilabel, "probabilities")
    _check_labels(np.asarray(labels), num_classes)
    for number, p in enumerate(given):
        _check_probabilities(p, number, is_multilabel)
    scores = np.stack(given)
    wide = jnp.asarray(scores.astype(tree.accumulator(scores.dtype)))
    spread = jnp.stack([1 - wide, wide], -1) if is_multilabel else wide[:, :, None]
    kept = threshold if is_multilabel else None
    answers = _answers(np, scores, kept)
    rows = np.asarray(labels).astype(np.int32).reshape(answers.shape[1:])
    numbers = np.arange(len(rows), dtype=np.int32)
    return _result(_judged(answers, spread, rows), num_classes, kept, numbers)


def _result(
    arrays: Sequence[Array], num_classes: int, threshold: float | None, index: np.ndarray
) -> Predictions:
    found: Any = (*arrays, num_classes, threshold, jnp.asarray(index))
    return Predictions(*found)


def _of_batch(
    models: Sequence[tuple[ApplyFn, Params]], batch: Batch, num_classes: int, cut: float | None
) -> list[np.ndarray]:
    """The arrays of `Predictions` for the rows of a batch that are examples."""
    mask = np.asarray(mask_of(batch))
    labels = np.asarray(batch["labels"])
    _check_labels(labels[mask], num_classes)
    mesh = sharding.mesh_of([params for _, params in models])
    inputs = sharding.on_devices(sharding.place_rows(batch, mesh)["inputs"])
    logits = [_outputs(apply_fn, params, inputs) for apply_fn, params in models]
    safe = np.where(mask.reshape(-1, *[1] * (labels.ndim - 1)), labels, 0).astype(np.int32)
    found = sharding.to_host(_of_logits(logits, safe.reshape(len(mask), -1), cut))
    return [array[..., mask, :] for array in found]


@functools.partial(jax.jit, static_argnums=0)
def _outputs(apply_fn: ApplyFn, params: Params, inputs: Any) -> Array:
    return apply_fn(params, inputs)


@functools.partial(jax.jit, static_argnums=2)
def _of_logits(outputs: list[Array], labels: Array, cut: float | None) -> tuple[Array, ...]:
    logits = jnp.stack([x.astype(jnp.result_type(float)) for x in outputs])
    answers = _answers(jnp, logits, cut)
    if cut is None:
        spread = jax.nn.softmax(logits)[:, :, None]
    else:
        spread = jnp.stack([jax.nn.sigmoid(-logits), jax.nn.sigmoid(logits)], -1)
    return _judged(answers, spread, labels)


def _answers(xp: Any, scores: Any, cut: float | None) -> Any:
    """int32 [M, N, J] from scores [M, N, C], with numpy or jax.numpy as `xp`."""
    if cut is None:
        found, is_broken = xp.argmax(scores, -1)[..., None], xp.isnan(scores).any(-1)[..., None]
    else:
        found, is_broken = scores >= cut, xp.isnan(scores)
    return xp.where(is_broken, NO_ANSWER, found.astype(np.int32))


@jax.jit
def _judged(
    answers: Int[Array, "M N J"], spread: Float[Array, "M N J K"], labels: Int[Array, "N J"]
) -> tuple[Array, ...]:
    """The arrays of `Predictions`, in their order, from the probabilities of all K answers."""
    has_answer = answers != NO_ANSWER
    spread = jnp.where(has_answer[..., None], spread, jnp.nan)
    is_label = jax.nn.one_hot(labels, spread.shape[-1], dtype=bool)
    of_label = jnp.where(is_label[None], spread, 0).sum(-1)
    chosen = jnp.maximum(answers, 0)[..., None]
    confidence = jnp.take_along_axis(spread, chosen, -1)[..., 0]
    others = jnp.where(is_label[None], -jnp.inf, spread).max(-1)
    highest = jax.lax.Precision.HIGHEST
    overlap = jnp.einsum("anjk,bnjk->abnj", spread, spread, precision=highest)
    right = answers == labels[None]
    return answers, right, of_label, confidence, of_label - others, overlap, labels


def _is_multilabel(labels: Any) -> bool:
    """Whether labels are [N, C], checked."""
    labels = np.asarray(labels)
    if labels.ndim not in (1, 2):
        raise ValueError(f"expected labels as [N], or as [N, C] of 0 and 1, got {labels.shape}")
    if labels.ndim == 1 and not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"expected labels [N] as integers, got dtype {labels.dtype}; "
            "several labels an example have the shape [N, C]"
        )
    return labels.ndim == 2


def _check_shapes(
    shapes: list[tuple[int, ...]], labels: tuple[int, ...], is_multilabel: bool, name: str
) -> int:
    """The number of classes, C; the `name` of each model must be [N, C] with that of the first."""
    if not shapes:
        raise ValueError("expected at least one model, got none")
    wanted = labels if is_multilabel else (*labels, *shapes[0][1:])
    lines = [f"  model {i}: {shape}" for i, shape in enumerate(shapes) if shape != wanted]
    if lines or len(wanted) != 2:
        raise ValueError(
            f"expected {name} [N, C] of all models for labels of shape {labels}"
            + (f", as {wanted}, got\n" + "\n".join(lines) if lines else f", got {wanted}")
        )
    if wanted[1] < 2 and not is_multilabel:
        raise ValueError(
            f"expected {name} of at least two classes, got shape {wanted}; a single output "
            "for a label of 0 and 1 takes labels [N, 1]"
        )
    return wanted[1]


def _check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise ValueError(f"expected a threshold between 0 and 1, got {threshold}")


def _check_labels(labels: np.ndarray, num_classes: int) -> None:
    is_known = (labels == 0) | (labels == 1)
    if labels.ndim == 1:
        is_known = (labels >= 0) & (labels < num_classes)
    if not is_known.all():
        wanted = f"in 0 … {num_classes - 1}" if labels.ndim == 1 else "of 0 and 1"
        raise ValueError(
            f"expected labels {wanted}, got {np.sum(~is_known)} with other values, such as "
            f"{labels[~is_known][0]}; mask such examples out"
        )


def _check_probabilities(p: np.ndarray, number: int, is_multilabel: bool) -> None:
    """Raises where the outputs of a model cannot be probabilities; NaN passes."""
    if ((p < 0) | (p > 1)).any():
        raise ValueError(
            f"expected probabilities of model {number} in 0 … 1, got "
            f"{np.nanmin(p):.4g} … {np.nanmax(p):.4g}; pass logits through softmax or sigmoid"
        )
    if not is_multilabel and (abs(p.sum(-1, dtype=np.float64) - 1) > ROUNDING).any():
        raise ValueError(
            f"expected probabilities of model {number} that sum to 1 over the classes, got others; "
            "several labels an example take labels [N, C]"
        )
