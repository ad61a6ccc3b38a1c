"""Linear probes: how well a linear classifier can read the target from each layer of a model.

Probes of one target on the layers of P, P-T and RI-T show at what depth the features suit it,
before and after fine-tuning.

References: G. Alain, Y. Bengio, Understanding intermediate layers using linear classifier
probes, 2016; and those of the ridge and of its choice in `_ridge`.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from tlx.analyses.features.similarity import _features
from tlx.analyses.features.transfer import _ridge
from tlx.core import (
    checks,
    contracts,
    host,
    intervals,
    public,
    sharding,
    shown,
    streams,
    undefined,
)
from tlx.core.metrics import mask_of
from tlx.core.types import Batch, FeatureFn, Params, Stream

__dir__ = public.names(__name__)

Pooling = Literal["flatten", "pool"]
"""The treatment of positions; see `tlx.analyses.features.similarity.cka_matrix.cka_matrix`."""

POOLINGS: tuple[Pooling, ...] = ("flatten", "pool")

RIDGES: tuple[float, ...] = tuple(10.0**power for power in range(-6, 3))
"""The ridge strengths to choose from for each layer, 10⁻⁶ … 10² times its mean variance."""


@shown.short
class Probes(NamedTuple):
    """The linear probes of L layers of a model.

    Attributes:
      layers: their names, in the requested order or that of the forward pass.
      accuracy: float [L], 0 … 1, on the test examples. NaN without examples of either kind,
        for a layer with a NaN or an infinity in an example's features, and, all layers, for
        targets that are not finite and labels that are not in 0 … C−1.
      low: float [L], the lower end of the Wilson interval of the accuracy over test examples
        (conservative with several labels an example); NaN where the accuracy is.
      high: float [L], the upper end.
      ridge: float [L], the chosen strength, one of `ridges`; NaN where features or targets are
        constant, or there is no fit.
      num_features: int32 [L], D, the number of features of the layer.
      num_train: int32 scalar, training examples.
      num_test: int32 scalar, test examples.
      num_classes: C.
      spatial: "flatten" or "pool".
    """

    layers: tuple[str, ...]
    accuracy: Float[Array, " L"]
    low: Float[Array, " L"]
    high: Float[Array, " L"]
    ridge: Float[Array, " L"]
    num_features: Int[Array, " L"]
    num_train: Int[Array, ""]
    num_test: Int[Array, ""]
    num_classes: int
    spatial: str


class _Task(NamedTuple):
    """The features and options of the probes; hashable, so that compiled code is reused."""

    feature_fn: FeatureFn
    layers: tuple[str, ...]
    spatial: Pooling
    num_classes: int
    is_multilabel: bool


@host.only
def linear_probes(
    feature_fn: FeatureFn,
    params: Params,
    train: Stream,
    test: Stream,
    *,
    num_classes: int,
    spatial: Pooling = "pool",
    layers: Sequence[str] | None = None,
    ridges: Sequence[float] = RIDGES,
    confidence: float = 0.95,
) -> Probes:
    """The test accuracy of a least-squares classifier on the features of each layer.

    For a layer with rows x and targets y (one-hot), W and b minimise over the training examples
    Σ‖xW + b − y‖² + λ‖W‖², with λ = ridge·n·v, v the mean variance over the min(D, n − 1)
    directions in which the rows can vary. The ridge among `ridges` minimises the generalised
    cross-validation of the squared error: leave-one-out over training examples, in closed form,
    with the mean leverage in place of each example's. The predicted class is the largest output,
    the first of equals; so constant features give the most frequent class.

    Args:
      feature_fn: `(params, inputs) -> {layer: array [B, ...]}`.
      params: its parameters.
      train: batches with `labels`, int [B] in 0 … C−1, or float [B, C] with 0 or 1 for each of C
        separate labels; there outputs of at least ½ predict 1, and the accuracy is the share of
        correct labels. Masked rows change nothing.
      test: likewise, of the same kind. May be empty.
      num_classes: C, at least 1. Classes may be missing from either stream.
      spatial: "flatten" [B, H, W, C] to [B, H·W·C], or "pool" over positions to [B, C].
      layers: the layers to probe; None for all.
      ridges: strengths to choose from, above 0; a single one is used as given.
      confidence: of the interval, between 0 and 1.

    Returns:
      `Probes`. Batch size, padding and order change only the last bits. As the ridges go to 0,
      accuracies are invariant to invertible affine maps of a layer's features if n > D; at any
      ridge to rotation, translation and scale.

    Raises:
      ValueError: an empty training stream (the layers are known from the first batch), batches
        without labels or with those of another number of classes or kind, labels [B, C] other
        than 0 and 1, test features of another size, an unknown layer or spatial, ridges or a
        confidence out of range, features that lack the batch axis.
      TypeError: labels [B] that are not integers, or a feature function that returns no mapping.

    Numerics: sums, solution and outputs in float64 on the host, about each layer's mean: an
      offset of any size that the features' dtype resolves costs no accuracy.
    Cost: a pass over each stream. A layer takes 2nD·min(n, D) + 9·min(n, D)³ flops on the host
      and holds the n training examples' features while n ≤ D, else 8·D² bytes: pool, or name
      layers, where that is too much.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import features
    >>> from tlx.core import streams
    >>> def layers(params, inputs):
    ...     return {"inputs": inputs, "product": inputs[:, :1] * inputs[:, 1:]}
    >>> inputs = jnp.tile(jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]), (5, 1))
    >>> is_equal = jnp.tile(jnp.array([1, 0, 0, 1]), 5)  # of no linear function of the inputs
    >>> stream = streams.from_arrays(inputs, is_equal, batch_size=8)
    >>> found = features.linear_probes(layers, {}, stream, stream, num_classes=2)
    >>> dict(zip(found.layers, found.accuracy.tolist(), strict=True))
    {'inputs': 0.5, 'product': 1.0}
    """
    _check_options(num_classes, spatial, ridges, confidence)
    first, train = streams.peek(train)
    if first is None:
        raise ValueError("expected a training stream with at least one batch, got none")
    is_multilabel = _is_multilabel(first, num_classes, "train")
    known = _features.layers(feature_fn, params, first, name="feature_fn")
    names = tuple(known if layers is None else layers)
    for name in names:
        if name not in known:
            raise ValueError(checks.unknown("layer", name, known))
    task = _Task(feature_fn, names, spatial, num_classes, is_multilabel)
    dims = _dims(task, params, first)
    test_first, test = streams.peek(test)
    if test_first is not None:
        _check_test(task, dims, params, test_first)
    params = sharding.on_devices(params)
    fits, num_train = _fits(task, params, train, ridges)
    accuracy, num_test = _accuracy(task, params, test, fits)
    low, high = intervals.wilson(accuracy, num_test, confidence)
    ridge = np.array([math.nan if fit is None else fit.strength for fit in fits])
    return Probes(
        layers=names,
        accuracy=undefined.array(accuracy),
        low=undefined.array(low),
        high=undefined.array(high),
        ridge=undefined.array(ridge),
        num_features=jnp.asarray(dims, jnp.int32),
        num_train=jnp.asarray(num_train, jnp.int32),
        num_test=jnp.asarray(num_test, jnp.int32),
        num_classes=num_classes,
        spatial=spatial,
    )


def _check_options(
    num_classes: int, spatial: str, ridges: Sequence[float], confidence: float
) -> None:
    if num_classes < 1:
        raise ValueError(f"expected num_classes of at least 1, got {num_classes}")
    if spatial not in POOLINGS:
        raise ValueError(checks.unknown("spatial", spatial, POOLINGS))
    if not ridges or not all(math.isfinite(ridge) and ridge > 0 for ridge in ridges):
        raise ValueError(f"expected at least one ridge, all finite and above 0, got {ridges}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")


def _is_multilabel(batch: Batch, num_classes: int, name: str) -> bool:
    """Whether labels are [B, C], checked."""
    if "labels" not in batch:
        raise ValueError(f"expected batches of {name} with 'labels', got the keys {sorted(batch)}")
    labels = np.asarray(batch["labels"])
    if labels.ndim == 1 and not np.issubdtype(labels.dtype, np.integer):
        raise TypeError(
            f"expected labels [B] of {name} as integers, got dtype {labels.dtype}; "
            "several labels an example have the shape [B, C]"
        )
    if labels.ndim != 1 and labels.shape[1:] != (num_classes,):
        raise ValueError(
            f"expected labels of {name} as [B], or as [B, {num_classes}] by num_classes, "
            f"got shape {labels.shape}"
        )
    return labels.ndim == 2


def _check_test(task: _Task, dims: list[int], params: Params, batch: Batch) -> None:
    if _is_multilabel(batch, task.num_classes, "test") != task.is_multilabel:
        kinds = ("[B, C] in train and [B]", "[B] in train and [B, C]")
        raise ValueError(
            "expected labels of one kind in train and test, "
            f"got {kinds[not task.is_multilabel]} in test"
        )
    both = zip(task.layers, dims, _dims(task, params, batch), strict=True)
    lines = [f"  {name}: {a} in train, {b} in test" for name, a, b in both if a != b]
    if lines:
        raise ValueError("expected as many features in test as in train:\n" + "\n".join(lines))


def _dims(task: _Task, params: Params, batch: Batch) -> list[int]:
    rows: Any = jax.eval_shape(functools.partial(_rows, task), params, batch["inputs"])
    return [layer.shape[1] for layer in rows]


@functools.partial(jax.jit, static_argnums=0)
def _rows(task: _Task, params: Params, inputs: Any) -> list[Array]:
    """The layers' rows [B, D]."""
    found = task.feature_fn(params, inputs)
    every = jnp.ones(jax.tree.leaves(inputs)[0].shape[:1], bool)
    rows = [_features.arrange(found[name], every, task.spatial) for name in task.layers]
    return [layer for layer, _ in rows]


def _examples(
    task: _Task, params: Params, stream: Stream
) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """For each batch the layers' rows and the targets [B, C], of unmasked rows only."""
    mesh = sharding.mesh_of(params)
    for batch in stream():
        mask = np.asarray(mask_of(batch))
        rows = sharding.to_host(_rows(task, params, sharding.place_rows(batch, mesh)["inputs"]))
        if _is_multilabel(batch, task.num_classes, "each pass") != task.is_multilabel:
            raise ValueError("expected labels of one kind in all batches, got [B] and [B, C]")
        labels = np.asarray(batch["labels"])[mask]
        if task.is_multilabel:
            contracts.zero_or_one(labels, np.flatnonzero(mask))
        yield [layer[mask] for layer in rows], _targets(labels, task.num_classes)


def _targets(labels: np.ndarray, num_classes: int) -> Float[np.ndarray, "B C"]:
    if labels.ndim == 2:
        return labels.astype(np.float64)
    is_known = (labels >= 0) & (labels < num_classes)
    one_hot = labels[:, None] == np.arange(num_classes)
    return np.where(is_known[:, None], one_hot.astype(np.float64), np.nan)


def _fits(
    task: _Task, params: Params, stream: Stream, ridges: Sequence[float]
) -> tuple[list[_ridge.Fit | None], int]:
    """The regression of each layer, None where there is none, and the number of examples."""
    held: list[_ridge.Examples | None] = [_ridge.Examples() for _ in task.layers]
    count = 0
    for rows, targets in _examples(task, params, stream):
        count += len(targets)
        held = [_ridge.add(*one, targets) for one in zip(held, rows, strict=True)]
    fits = []
    while held:  # the memory of a layer is freed before the next is solved
        examples = held.pop(0)
        fits.append(None if examples is None else _ridge.solve(examples, ridges))
    return fits, count


def _accuracy(
    task: _Task, params: Params, stream: Stream, fits: Sequence[_ridge.Fit | None]
) -> tuple[Float[np.ndarray, " L"], int]:
    """The accuracy of each layer, and the number of examples."""
    right, count = np.zeros(len(fits)), 0
    for rows, targets in _examples(task, params, stream):
        count += len(targets)
        right += [_right(task, *one, targets) for one in zip(fits, rows, strict=True)]
    return right / count if count else np.full(len(fits), np.nan), count


def _right(task: _Task, fit: _ridge.Fit | None, rows: np.ndarray, targets: np.ndarray) -> float:
    """The number of correct examples; with several labels, the share of correct ones counts."""
    if fit is None or not (np.isfinite(rows).all() and np.isfinite(targets).all()):
        return math.nan
    outputs = fit(rows)
    if task.is_multilabel:
        return float(np.sum(np.mean((outputs >= 0.5) == (targets >= 0.5), 1)))
    return float(np.sum(outputs.argmax(1) == targets.argmax(1)))
