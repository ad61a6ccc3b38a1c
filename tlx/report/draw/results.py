"""Results of the similarity analyses as they come, in memory, for figures: numpy only."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tlx.report.draw.layers import Steps

_WANTED = (
    "expected a result with layers_x, layers_y and values [Lx, Ly], such as "
    "tlx.analyses.features.similarity.cka_matrix.cka_matrix returns"
)


class Matrix(NamedTuple):
    """The layers of two models, and arrays [Lx, Ly] about each pair of them.

    `low` and `high` are NaN where there is no interval.
    """

    rows: list[str]
    columns: list[str]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def same_layer(self) -> tuple[list[str], np.ndarray]:
        """The layers that both models have, [L], and [3, L]: value, low, high.

        Raises:
          ValueError: there is none.
        """
        names = [n for n in self.rows if n in self.columns]
        if not names:
            raise ValueError(
                f"expected layers that both models have; got {', '.join(self.rows)} and "
                f"{', '.join(self.columns)}. Draw all against all instead: figures.heat_map"
            )
        at = ([self.rows.index(n) for n in names], [self.columns.index(n) for n in names])
        return names, np.stack([part[at] for part in (self.values, self.low, self.high)])


def matrix(result: Any) -> Matrix:
    """A result's arrays on the host.

    Raises:
      TypeError: it lacks layers_x, layers_y or values.
      ValueError: the values are not [Lx, Ly].
    """
    lacks = [n for n in ("layers_x", "layers_y", "values") if not hasattr(result, n)]
    if lacks:
        raise TypeError(f"{_WANTED}; a {type(result).__name__} lacks {', '.join(lacks)}")
    rows, columns = (list(map(str, getattr(result, f"layers_{side}"))) for side in "xy")
    values = np.asarray(result.values, np.float64)
    if values.shape != (len(rows), len(columns)) or not values.size:
        raise ValueError(
            f"{_WANTED}; got values {values.shape} of {len(rows)} and {len(columns)} layers"
        )
    low, high = (_like(values, getattr(result, name, None)) for name in ("low", "high"))
    return Matrix(rows, columns, values, low, high)


def _like(values: np.ndarray, ends: Any) -> np.ndarray:
    found = np.nan if ends is None else np.asarray(ends, np.float64)
    return np.broadcast_to(found, values.shape)


def trajectory(steps: Sequence[float], results: Any, names: Sequence[str] | None) -> Steps:
    """The same layers' values by step, from a result a step or from an array [K, L].

    Raises:
      TypeError: an array without names; or as `matrix`.
      ValueError: not one result or row a step, not one name a column, or steps that do not
        increase from 0 or more; or as `matrix` and `Matrix.same_layer`.
    """
    at = np.asarray(list(steps))
    is_array = hasattr(results, "shape")
    if is_array and names is None:
        raise TypeError("expected names, one a column of the array [K, L] of values; got None")
    if is_array:
        named = list(map(str, names or ()))
        parts = np.stack([_like(np.asarray(results, np.float64), e) for e in (results, None, None)])
    else:
        named, parts = _by_step([matrix(r) for r in results], names)
    value, low, high = parts
    if value.shape != (at.size, len(named)) or not value.size:
        raise ValueError(
            f"expected values [K, L] of {at.size} steps and {len(named)} names, got {value.shape}"
        )
    if (at < 0).any() or (np.diff(at) <= 0).any():
        raise ValueError(f"expected steps that increase from 0 or more, got {at.tolist()}")
    return Steps(named, at, value, low, high)


def _by_step(found: list[Matrix], names: Sequence[str] | None) -> tuple[list[str], np.ndarray]:
    each = [dict(zip(own, parts.T, strict=True)) for own, parts in (m.same_layer() for m in found)]
    shared = [n for n in (each[0] if each else ()) if all(n in other for other in each)]
    wanted = shared if names is None else list(map(str, names))
    unknown = [n for n in wanted if n not in shared]
    if unknown:
        raise ValueError(f"no layer {', '.join(unknown)} in all results; there are {shared}")
    parts = np.array([[own[n] for n in wanted] for own in each])
    return wanted, np.moveaxis(parts.reshape(len(each), len(wanted), 3), -1, 0)
