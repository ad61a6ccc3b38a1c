"""Values of records as numbers, words, estimates, and arrays of the shape that is expected.

A field that a record leaves undefined is a scalar NaN: it is 0 examples, no words, and NaN at every
place of an array.
"""

import numpy as np

from tlx.records import Record
from tlx.report.words.numbers import Estimate

Shape = tuple[int, ...]
Scalar = float | np.ndarray


def is_known(value: np.ndarray) -> bool:
    """Whether a result is there: all but the scalar NaN."""
    found = np.asarray(value)
    return bool(found.ndim or found.dtype.kind not in "fc" or np.isfinite(found))


def whole(value: np.ndarray) -> int:
    """A scalar result as int; 0 where it is undefined."""
    found = float(value)
    return int(found) if np.isfinite(found) else 0


def word(value: np.ndarray) -> str:
    """A result that is a word; "" where it is undefined."""
    return str(value) if is_known(value) else ""


def words(values: np.ndarray) -> list[str]:
    """A result that is a list of words; none where it is undefined."""
    return [str(found) for found in np.atleast_1d(values)] if is_known(values) else []


def array(values: np.ndarray, shape: Shape) -> np.ndarray:
    """A result as float64 [shape]; NaN where it is undefined, or of another size."""
    found = np.asarray(values, np.float64)
    return found.reshape(shape) if found.size == np.prod(shape) else np.full(shape, np.nan)


def counts(values: np.ndarray, shape: Shape, nothing: int = 0) -> np.ndarray:
    """A result as int64 [shape]; `nothing` where it is undefined."""
    found = array(values, shape)
    return np.where(np.isfinite(found), found, nothing).astype(np.int64)


def ends(shape: Shape, *values: np.ndarray) -> np.ndarray:
    """A result and the ends of its interval, [3, shape]."""
    return np.stack([array(value, shape) for value in values])


def estimate(value: Scalar, low: Scalar, high: Scalar, *, n: int) -> Estimate:
    """A number with its interval, where both its ends are known."""
    ends = float(low), float(high)
    return Estimate(float(value), n=n, interval=ends if np.isfinite(ends).all() else None)


def share(value: Scalar, low: Scalar, high: Scalar, *, n: int) -> Estimate:
    """A share; of its interval by Student's t what lies in 0 … 1 (others are no shares)."""
    found = estimate(value, low, high, n=n)
    if found.interval is None:
        return found
    return found._replace(interval=(max(found.interval[0], 0.0), min(found.interval[1], 1.0)))


def confidence_of(record: Record) -> float:
    """The level of a record's intervals; NaN where it has none."""
    level = record.options.get("confidence")
    return float(level) if isinstance(level, int | float) else float("nan")
