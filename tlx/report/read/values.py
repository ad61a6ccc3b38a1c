"""Values of records as estimates, and as arrays of the shape that is expected."""

import numpy as np

from tlx.records import Record
from tlx.report.read.selection import option
from tlx.report.words.numbers import Estimate


def number(record: Record, name: str) -> float:
    """A scalar result as float; NaN where the record has none of the name."""
    return float(np.asarray(record.results.get(name, np.nan)))


def whole(record: Record, name: str) -> int:
    """A scalar result as int; 0 where there is none."""
    value = number(record, name)
    return int(value) if np.isfinite(value) else 0


def interval(record: Record, name: str) -> tuple[float, float] | None:
    """The results `<name>_low` and `<name>_high`; None without both."""
    low, high = number(record, f"{name}_low"), number(record, f"{name}_high")
    return (low, high) if np.isfinite([low, high]).all() else None


def estimate(record: Record, name: str, *, ends: str | None = None) -> Estimate:
    """A scalar result with its interval, which is named by `ends` if not by `name`."""
    n = whole(record, "count")
    return Estimate(number(record, name), n=n, interval=interval(record, ends or name))


def of_ends(ends: np.ndarray, n: int) -> Estimate:
    value, low, high = map(float, ends)
    known = bool(np.isfinite([low, high]).all())
    return Estimate(value, n=n, interval=(low, high) if known else None)


def share(ends: np.ndarray, n: int) -> Estimate:
    """A share; of its interval by Student's t what lies in 0 … 1 (others are no shares)."""
    found = of_ends(ends, n)
    if found.interval is None:
        return found
    return found._replace(interval=(max(found.interval[0], 0.0), min(found.interval[1], 1.0)))


def names(record: Record, name: str) -> list[str]:
    return [str(word) for word in np.atleast_1d(record.results.get(name, []))]


def array(record: Record, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A result as float64 [shape]; NaN where the record has none of the name."""
    if name not in record.results:
        return np.full(shape, np.nan)
    return np.asarray(record.results[name], np.float64)


def counts(record: Record, name: str, shape: tuple[int, ...], nothing: int = 0) -> np.ndarray:
    values = array(record, name, shape)
    return np.where(np.isfinite(values), values, nothing).astype(np.int64)


def ends(record: Record, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A result and the ends of its interval, [3, shape]; `x_mean` has `x_low`."""
    stem = name.removesuffix("_mean")
    return np.stack([array(record, n, shape) for n in (name, f"{stem}_low", f"{stem}_high")])


def level(record: Record) -> float:
    level = option(record, "confidence")
    return float(level) if isinstance(level, int | float) else float("nan")


def sized(record: Record, name: str, size: int) -> np.ndarray:
    """A result as float64 [size]; NaN where the record has none, or of another size."""
    value = np.asarray(record.results.get(name, np.nan), np.float64)
    return np.array(np.broadcast_to(value.ravel() if value.size in (1, size) else np.nan, size))
