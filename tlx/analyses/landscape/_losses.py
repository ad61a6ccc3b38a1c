"""The losses of each example at points between models, from which intervals are bootstrapped."""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from jaxtyping import Array, Float

from tlx.core import batch_statistics as statistics_lib
from tlx.core import checks, metrics
from tlx.core.types import ApplyFn, Metric, PathFn, PerExampleFn, Stream

LOSSES: Mapping[str, PerExampleFn] = MappingProxyType(
    {"loss": metrics.softmax_cross_entropy, "error": metrics.error}
)
"""The losses of a classifier: its cross-entropy in nats and its 0-1 error."""


def along(
    apply_fn: ApplyFn,
    losses: Mapping[str, PerExampleFn],
    path_fn: PathFn,
    coordinates: Any,
    stream: Stream,
    *,
    num_examples: int | None,
    statistics: Any,
    chunk: int | Literal["auto"],
) -> tuple[dict[str, Float[Array, "K N"]], str]:
    """Each loss of each example at each point, in one pass, and the rule for batch statistics.

    Raises:
      ValueError: if the number of examples is neither given nor known, or the stream has more.
    """
    size = num_examples if num_examples is not None else getattr(stream, "num_examples", None)
    if size is None:
        raise ValueError(
            "expected num_examples= for intervals over examples, got None and a stream without "
            "num_examples"
        )
    metric = _collected(tuple(losses.items()), size)
    found, rule = statistics_lib.along(
        apply_fn, metric, path_fn, coordinates, stream, source=statistics, chunk=chunk
    )
    return found, rule


def means(values: Any) -> Float[np.ndarray, " K"]:
    """The means of values [K, N] over the examples seen (NaN columns are unseen), in float64."""
    values = np.asarray(values, np.float64)
    seen = ~np.isnan(values).all(0)
    if not seen.any():
        return np.full(len(values), np.nan)
    return values[:, seen].mean(1)


def tolerances(losses: Mapping[str, PerExampleFn], given: Mapping[str, float]) -> dict[str, float]:
    """The tolerance of each loss, checked."""
    for name in given:
        if name not in losses:
            raise ValueError(checks.unknown("loss", name, losses))
    missing = [name for name in losses if name not in given]
    if missing or not losses:
        raise ValueError(
            f"expected a tolerance for each of the losses {', '.join(losses) or '(none given)'}, "
            f"got none for {', '.join(missing) or 'a loss'}"
        )
    for name, value in given.items():
        if not value >= 0:
            raise ValueError(f"expected a tolerance of {name} of at least 0, got {value}")
    return {name: float(given[name]) for name in losses}


@functools.lru_cache(maxsize=256)
def mean_of_each(losses: tuple[tuple[str, PerExampleFn], ...]) -> Metric:
    """The means of the losses by name."""
    return metrics.combine({name: metrics.mean(fn) for name, fn in losses})


@functools.lru_cache(maxsize=256)
def _collected(losses: tuple[tuple[str, PerExampleFn], ...], num_examples: int) -> Metric:
    """The losses of each example by name; an example beyond their number is an error."""
    return metrics.combine({name: metrics.collect(fn, num_examples) for name, fn in losses})
