"""The scores of `transferability` on checked examples, as floats; NaN where undefined."""

import math
import operator
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from tlx.analyses.features.transfer import _class_spectrum, _votes
from tlx.core import checks, tree

Metric = Literal["cosine", "euclidean"]
"""The metric of nearest neighbours: the angle between features, or their distance."""

METRICS: tuple[Metric, ...] = ("cosine", "euclidean")


class Examples(NamedTuple):
    """Features in float64, scaled so that the largest is just below 1, and labels.

    Attributes:
      features: float64 [N, D].
      labels: int [N].
      eps: the precision of a feature, from its original dtype.
      is_defined: whether features are finite and two or more classes have examples.
    """

    features: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]
    eps: float
    is_defined: bool


def examples(features: Any, labels: Any, num_classes: int) -> Examples:
    """Features [N, ...] with labels [N], checked.

    Raises:
      ValueError: for shapes that do not match, or labels outside of 0 … C−1.
      TypeError: for complex features, or labels that are not integers.
    """
    x, y = np.asarray(features), checked_labels(labels, num_classes)
    if x.ndim < 1 or len(x) != len(y):
        raise ValueError(
            f"expected features [N, ...] with a label each, got shapes {x.shape} and {y.shape}"
        )
    if np.iscomplexobj(x):
        raise TypeError(f"expected real features, got dtype {x.dtype}")
    eps = float(jnp.finfo(x.dtype).eps) if tree.is_inexact(x) else 0.0
    x = x.astype(np.float64).reshape(len(x), math.prod(x.shape[1:]))
    largest = np.abs(x).max(initial=0)
    is_finite = bool(np.isfinite(largest))
    if is_finite:  # no score depends on the scale, and squares stay in range
        x = np.ldexp(x, -np.frexp(largest)[1])
    return Examples(x, y, eps, is_finite and num_present(y) > 1)


def checked_labels(labels: Any, num_classes: int) -> Int[np.ndarray, " N"]:
    """Labels [N] on the host.

    Raises:
      ValueError: for another shape, or labels outside of 0 … C−1.
      TypeError: for labels that are not integers.
    """
    y = np.asarray(labels)
    if y.ndim != 1:
        raise ValueError(f"expected labels [N], got shape {y.shape}")
    if not np.issubdtype(y.dtype, np.integer):
        raise TypeError(f"expected labels as integers, got dtype {y.dtype}")
    if outside := int(((y < 0) | (y >= num_classes)).sum()):
        raise ValueError(
            f"expected labels in 0 … {num_classes - 1}, got {outside} examples with others; "
            "check num_classes and the labels"
        )
    return y.astype(np.int64)


def check_neighbors(k: int, metric: str, confidence: float) -> None:
    """Raises for invalid options of the nearest neighbours."""
    if operator.index(k) < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    if metric not in METRICS:
        raise ValueError(checks.unknown("metric", metric, METRICS))
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")


def num_present(labels: Int[np.ndarray, " N"]) -> int:
    """The number of classes that have examples."""
    return len(np.unique(labels))


def log_me(of: Examples) -> float:
    """The mean over classes of the maximal log evidence per example."""
    if not of.is_defined:
        return math.nan
    spectrum = _class_spectrum.spectrum(of.features, of.eps)
    return float(_class_spectrum.log_evidence(spectrum, of.labels).mean())


def h_scores(of: Examples) -> tuple[float, float]:
    """The H-score, plain and shrunk."""
    if not of.is_defined:
        return math.nan, math.nan
    x = of.features - of.features.mean(0)
    return _class_spectrum.h_scores(_class_spectrum.spectrum(x, of.eps), of.labels, x)


def k_nearest(of: Examples, k: int, metric: Metric) -> float:
    """The accuracy of the vote of the k nearest neighbours."""
    if not of.is_defined or k >= len(of.labels):
        return math.nan
    x = of.features
    if metric == "cosine":
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        if not lengths.all():
            return math.nan
        x = x / lengths
    return _votes.leave_one_out(x, of.labels, k)


def leep(source: Float[np.ndarray, "N Z"], labels: Int[np.ndarray, " N"]) -> float:
    """The mean log probability of the labels under the source's predictions."""
    if num_present(labels) < 2 or not np.isfinite(source).all():
        return math.nan
    total, expected = source.sum(0), np.zeros(len(labels))
    for label in np.unique(labels):
        own = source[labels == label]
        given = own.sum(0) / np.where(total > 0, total, 1)  # P(label | z)
        expected[labels == label] = own @ given
    return float(np.log(expected).mean())


def nce(answers: Int[np.ndarray, " N"], labels: Int[np.ndarray, " N"]) -> float:
    """The mean log share of the label among the examples with the same prediction."""
    if num_present(labels) < 2:
        return math.nan
    _, of_answer, alone = np.unique(answers, return_inverse=True, return_counts=True)
    pairs = np.stack([of_answer, np.unique(labels, return_inverse=True)[1]])
    _, place, together = np.unique(pairs, axis=1, return_inverse=True, return_counts=True)
    return float(np.log(together[place.reshape(-1)] / alone[of_answer]).mean())
