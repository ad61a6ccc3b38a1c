"""The scores of `transferability` for the layers of a model, from a stream."""

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy import special

from tlx.analyses.features.similarity import _features
from tlx.analyses.features.transfer import _class_scores
from tlx.analyses.features.transfer._class_scores import Metric
from tlx.analyses.features.transfer.probes import POOLINGS, Pooling
from tlx.core import checks, host, intervals, sharding, shown, streams, undefined
from tlx.core.metrics import mask_of
from tlx.core.types import FeatureFn, Params, Stream


@shown.short
class Scores(NamedTuple):
    """The scores of L layers of a model on N examples; see each score for when it is NaN.

    Attributes:
      layers: their names, in the requested order or that of the forward pass.
      log_me: float [L]; see `log_me`.
      h_score: float [L], plain; see `h_score`.
      shrunk_h_score: float [L], with "ledoit_wolf".
      k_nearest: float [L], 0 … 1; see `k_nearest`.
      low: float [L], the lower ends of its intervals.
      high: float [L], the upper ends.
      leep: scalar; see `leep`. NaN unless `source_logits` is given.
      nce: scalar, from the source's largest logit; see `nce`. NaN likewise.
      num_features: int32 [L], D.
      num_examples: int32 scalar, N.
    """

    layers: tuple[str, ...]
    log_me: Float[Array, " L"]
    h_score: Float[Array, " L"]
    shrunk_h_score: Float[Array, " L"]
    k_nearest: Float[Array, " L"]
    low: Float[Array, " L"]
    high: Float[Array, " L"]
    leep: Float[Array, ""]
    nce: Float[Array, ""]
    num_features: Int[Array, " L"]
    num_examples: Int[Array, ""]


@host.only
def scores(
    feature_fn: FeatureFn,
    params: Params,
    stream: Stream,
    *,
    num_classes: int,
    layers: Sequence[str] | None = None,
    source_logits: str | None = None,
    spatial: Pooling = "pool",
    k: int = 10,
    metric: Metric = "cosine",
    confidence: float = 0.95,
) -> Scores:
    """All scores of the layers of a pretrained model, from one pass over examples of a target.

    Args:
      feature_fn: `(params, inputs) -> {layer: array [B, ...]}`.
      params: its parameters.
      stream: batches with `labels` int [B], 0 … C−1. Masked rows change nothing.
      num_classes: C.
      layers: the layers to score; None for all.
      source_logits: the layer that holds the logits [B, Z] of the source's classes, for LEEP
        and NCE.
      spatial: "flatten" [B, H, W, D] to [B, H·W·D], or "pool" over positions to [B, D].
      k: of the nearest neighbours.
      metric: of the nearest neighbours.
      confidence: of their intervals.

    Returns:
      `Scores`. Batch size, padding and order change only the last bits.

    Raises:
      ValueError: for an empty stream, batches without labels or with several an example,
        unknown layers or options, and labels outside of 0 … C−1 (after the pass, except for
        those of the first batch).
      TypeError: for labels that are not integers, or a feature function that returns no
        mapping.

    Numerics: as each score's.
    Cost: one pass, with all layers' features held on the host; then the cost of each score.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses.features.transfer import transferability
    >>> from tlx.core import streams
    >>> def layers(params, inputs):
    ...     return {"inputs": inputs, "product": inputs[:, :1] * inputs[:, 1:]}
    >>> inputs = jnp.tile(jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]), (5, 1))
    >>> stream = streams.from_arrays(inputs, jnp.tile(jnp.array([1, 0, 0, 1]), 5), batch_size=8)
    >>> found = transferability.scores(layers, {}, stream, num_classes=2, k=4)
    >>> dict(zip(found.layers, found.h_score.round(3).tolist(), strict=True))
    {'inputs': 0.0, 'product': 1.0}
    """
    _class_scores.check_neighbors(k, metric, confidence)
    if spatial not in POOLINGS:
        raise ValueError(checks.unknown("spatial", spatial, POOLINGS))
    first, stream = streams.peek(stream)
    if first is None:
        raise ValueError("expected a stream with at least one batch, got none")
    if "labels" not in first:
        raise ValueError(f"expected batches with 'labels', got the keys {sorted(first)}")
    _class_scores.checked_labels(
        np.asarray(first["labels"])[np.asarray(mask_of(first))], num_classes
    )
    known = _features.layers(feature_fn, params, first, name="feature_fn")
    names = tuple(known if layers is None else layers)
    wanted = names if source_logits is None else (*names, source_logits)
    for name in wanted:
        if name not in known:
            raise ValueError(checks.unknown("layer", name, known))
    every, labels = _collected(feature_fn, params, stream, layers=wanted, spatial=spatial)
    y = _class_scores.checked_labels(labels, num_classes)
    answers = (math.nan, math.nan) if source_logits is None else _of_source(every[-1], y)
    rows, found = every[: len(names)], []
    for layer in rows:
        given = _class_scores.examples(layer, y, num_classes)
        near = _class_scores.k_nearest(given, k, metric)
        found.append((_class_scores.log_me(given), *_class_scores.h_scores(given), near))
    log_me, plain, shrunk, share = np.array(found).reshape(len(names), 4).T
    low, high = intervals.wilson(share, len(y), confidence)
    return Scores(
        layers=names,
        log_me=_array(log_me),
        h_score=_array(plain),
        shrunk_h_score=_array(shrunk),
        k_nearest=_array(share),
        low=_array(low),
        high=_array(high),
        leep=_array(answers[0]),
        nce=_array(answers[1]),
        num_features=jnp.asarray([layer.shape[1] for layer in rows], jnp.int32),
        num_examples=jnp.asarray(len(y), jnp.int32),
    )


def _array(values: Any) -> Array:
    return undefined.array(values)


def _of_source(logits: Float[np.ndarray, "N Z"], labels: np.ndarray) -> tuple[float, float]:
    """LEEP and NCE."""
    if not np.isfinite(logits).all():
        return math.nan, math.nan
    probabilities = special.softmax(logits.astype(np.float64), axis=1)
    leep = _class_scores.leep(probabilities, labels)
    return leep, _class_scores.nce(logits.argmax(1), labels)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _rows(
    feature_fn: FeatureFn, layers: tuple[str, ...], spatial: Pooling, params: Params, inputs: Any
) -> list[Array]:
    """The layers' rows [B, D]."""
    found = feature_fn(params, inputs)
    every = jnp.ones(jax.tree.leaves(inputs)[0].shape[:1], bool)
    return [_features.arrange(found[name], every, spatial)[0] for name in layers]


def _collected(
    feature_fn: FeatureFn,
    params: Params,
    stream: Stream,
    *,
    layers: tuple[str, ...],
    spatial: Pooling,
) -> tuple[list[np.ndarray], np.ndarray]:
    """The layers' rows [N, D] and the labels [N] of all examples."""
    params = sharding.on_devices(params)
    parts, labels = [], []
    mesh = sharding.mesh_of(params)
    for batch in stream():
        mask = np.asarray(mask_of(batch))
        inputs = sharding.place_rows(batch, mesh)["inputs"]
        rows = sharding.to_host(_rows(feature_fn, layers, spatial, params, inputs))
        parts.append([layer[mask] for layer in rows])
        labels.append(np.asarray(batch["labels"])[mask])
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)], np.concatenate(labels)
