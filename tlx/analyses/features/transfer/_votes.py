"""The votes of the nearest neighbours for classes, in blocks of rows."""

import math

import numpy as np
from jaxtyping import Float, Int

_EPS = float(np.finfo(np.float64).eps)
_BLOCK = 2**22  # distances at a time: 32 MiB


def leave_one_out(x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"], k: int) -> float:
    """The accuracy of the vote of the k < N nearest neighbours; NaN where all examples coincide.

    Features are of magnitude up to about 1. Examples that tie for the last places share them, and
    classes that tie in votes share the prediction.
    """
    n, x = len(x), x - x.mean(0)
    if np.abs(x).max(initial=0) <= 8 * _EPS:  # only rounding error is left of parallel ones
        return math.nan
    lengths = np.square(x).sum(1)
    right = 0.0
    for rows in np.array_split(np.arange(n), math.ceil(n * n / _BLOCK)):
        squared = lengths[rows, None] + lengths - 2 * x[rows] @ x.T
        rounding = 32 * _EPS * (lengths[rows, None] + lengths)
        squared[np.arange(len(rows)), rows] = np.inf
        votes = _votes(squared, rounding, labels, k)
        is_top = votes >= votes.max(1, keepdims=True) - 1e-9
        right += float((is_top[np.arange(len(rows)), labels[rows]] / is_top.sum(1)).sum())
    return right / n


def _votes(
    squared: Float[np.ndarray, "B N"],
    rounding: Float[np.ndarray, "B N"],
    labels: Int[np.ndarray, " N"],
    k: int,
) -> Float[np.ndarray, "B C"]:
    """How many of the k nearest belong to each class; differences within rounding are ties."""
    beyond = squared - np.partition(squared, k - 1, axis=1)[:, k - 1 : k]
    closer, tied = beyond < -rounding, np.abs(beyond) <= rounding
    share = (k - closer.sum(1)) / tied.sum(1)
    row, column = np.nonzero(closer | tied)
    weight = np.where(closer[row, column], 1, share[row])
    num_classes = int(labels.max()) + 1
    size = len(squared) * num_classes
    return np.bincount(row * num_classes + labels[column], weight, size).reshape(-1, num_classes)
