"""Summaries of learning curves: how fast and how far a run learns.

Curves are clean: accuracies on unaugmented images in evaluation mode, not the running accuracy of
augmented or mixed batches. A step is in any unit (updates, epochs).
Cost: a few reads of the curves, on the host.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from tlx.analyses.function import inference
from tlx.core import host, public, shown

__dir__ = public.names(__name__)


@shown.short
class Point(NamedTuple):
    """One evaluation of a curve.

    Attributes:
      step: float, NaN where there is none.
      value: float, NaN where there is none.
    """

    step: float
    value: float


@shown.short
class Selection(NamedTuple):
    """The cost on test examples of choosing a step on validation examples.

    Attributes:
      step: float, the step that is best on validation, the first of equals.
      value: float, the test value there.
      best_step: float, the step that is best on test.
      best_value: float, the test value there: selected on the examples it is measured on.
      optimism: float, best_value − value; at least 0.
    """

    step: float
    value: float
    best_step: float
    best_value: float
    optimism: float


@shown.short
class Band(NamedTuple):
    """The mean of the curves of S runs at each of T steps, with its interval.

    Attributes:
      mean: float64 [T]; NaN where no run has a value.
      low: float64 [T]; NaN where fewer than two runs have a value.
      high: float64 [T]; likewise.
      n: int64 [T], the number of runs with a value.
    """

    mean: Float[np.ndarray, " T"]
    low: Float[np.ndarray, " T"]
    high: Float[np.ndarray, " T"]
    n: Int[np.ndarray, " T"]


@host.only
def average(step: Any, values: Any) -> float:
    """The plain mean of the evaluations after step 0: the paper's average training accuracy.

    With one evaluation per epoch it is the mean over the epochs 1 … T; the value before training
    does not count. Evaluations have equal weight even if unevenly spaced: see `area_under`.

    Args:
      step: real [T], rising; 0 is before training.
      values: float [T].

    Returns:
      float; NaN where no evaluation is after step 0, or one of them is NaN.

    Raises:
      ValueError: at call, for arrays that are not two equal [T], or steps that do not rise.

    References: Neyshabur, Sedghi, Zhang 2020, figure 3 (right).

    >>> from tlx.analyses.function import learning
    >>> step, accuracy = [0, 1, 2], [0.0, 0.5, 1.0]
    >>> learning.average(step, accuracy), learning.area_under(step, accuracy)
    (0.75, 0.5)
    """
    x, y = _curve(step, values)
    later = y[x > 0]
    return float(later.mean()) if later.size else np.nan


@host.only
def area_under(step: Any, values: Any) -> float:
    """The area under the curve by trapezoids, divided by the range of steps.

    It is the mean of the linearly interpolated curve, so that the spacing of the evaluations does
    not weight them. The first evaluation counts, unlike in `average`.

    Args:
      step: real [T], rising.
      values: float [T].

    Returns:
      float, between the least and the greatest value; NaN for fewer than two evaluations, or if
      a value is NaN.

    Raises:
      ValueError: at call, as `average`.
    """
    x, y = _curve(step, values)
    if len(x) < 2:
        return np.nan
    return float(np.trapezoid(y, x) / (x[-1] - x[0]))


@host.only
def steps_to(step: Any, values: Any, level: float) -> float:
    """The first step at which the linearly interpolated curve reaches a level.

    Args:
      step: real [T], rising.
      values: float [T].
      level: in the unit of the values.

    Returns:
      float; step[0] for a curve that starts at the level or above. Infinity for one that never
      reaches it, so that such runs compare as slower, and a median over runs is finite while most
      of them reach it. NaN if a value before the level is reached is NaN (it may have been
      reached there), for a level of NaN, and without evaluations.

    Raises:
      ValueError: at call, as `average`.

    >>> from tlx.analyses.function import learning
    >>> [learning.steps_to([0, 100, 200], [0.0, 0.5, 0.75], level) for level in (0.25, 0.75, 0.8)]
    [50.0, 200.0, inf]
    """
    x, y = _curve(step, values)
    reached = y >= level
    first = int(np.argmax(reached)) if reached.any() else len(x)
    if not len(x) or np.isnan([level, *y[:first]]).any():
        return np.nan
    if first == len(x):
        return np.inf
    if first == 0:
        return float(x[0])
    low, high = y[first - 1 : first + 1]
    return float(x[first - 1] + (level - low) / (high - low) * (x[first] - x[first - 1]))


@host.only
def best(step: Any, values: Any) -> Point:
    """The greatest value and its step, the first of equals.

    Args:
      step: real [T], rising.
      values: float [T]; NaN is never the greatest.

    Returns:
      `Point`; NaN where all values are.

    Raises:
      ValueError: at call, as `average`.
    """
    x, y = _curve(step, values)
    at = _first_greatest(y)
    return Point(np.nan, np.nan) if at is None else Point(float(x[at]), float(y[at]))


@host.only
def final(step: Any, values: Any) -> Point:
    """The last evaluation, whether it is NaN or not.

    Args:
      step: real [T], rising.
      values: float [T].

    Returns:
      `Point`; NaN without evaluations.

    Raises:
      ValueError: at call, as `average`.
    """
    x, y = _curve(step, values)
    return Point(float(x[-1]), float(y[-1])) if len(x) else Point(np.nan, np.nan)


@host.only
def select(step: Any, validation: Any, test: Any) -> Selection:
    """The test value where the validation curve is best, and where the test curve is best.

    The paper's "best" checkpoints are the best on test examples, which is optimistic: the
    greatest of many noisy values exceeds its value on new examples.

    Args:
      step: real [T], rising.
      validation: float [T], higher is better, of examples other than those of `test`.
      test: float [T].

    Returns:
      `Selection`; NaN where all values of validation or of test are, and its value and optimism
      where test is NaN at the chosen step.

    Raises:
      ValueError: at call, as `average`.

    >>> from tlx.analyses.function import learning
    >>> learning.select([1, 2, 3], validation=[0.5, 0.75, 0.5], test=[0.5, 0.5, 0.625])
    Selection(step=2.0, value=0.5, best_step=3.0, best_value=0.625, optimism=0.125)
    """
    x, y = _curve(step, test)
    chosen = _first_greatest(_curve(step, validation)[1])
    own = best(step, test)
    at = (np.nan, np.nan) if chosen is None else (float(x[chosen]), float(y[chosen]))
    return Selection(*at, *own, own.value - at[1])


@host.only
def band(curves: Any, *, confidence: float = 0.95) -> Band:
    """The mean of several runs' curves and its Student's t interval, step by step.

    The intervals are pointwise: each covers the mean at its step with the given confidence; jointly
    they cover the mean curve less often.

    Args:
      curves: float [S, T], evaluated at the same steps; NaN where a run was not evaluated, which
        is left out there and not counted in n.
      confidence: between 0 and 1.

    Returns:
      `Band`. One run has no interval.

    Raises:
      ValueError: at call, if curves is not [S, T] or confidence is not between 0 and 1.

    >>> from tlx.analyses.function import learning
    >>> found = learning.band([[0.5, 0.75], [0.5, 0.85], [0.5, 0.8]])
    >>> print(found.mean, found.low.round(2), found.high.round(2))
    [0.5 0.8] [0.5 0.68] [0.5 0.92]
    """
    rows = np.asarray(curves, np.float64)
    if rows.ndim != 2:
        raise ValueError(f"expected curves as an array [S, T], got shape {rows.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    found = [
        inference.mean_over_seeds(column[~np.isnan(column)], confidence=confidence)
        for column in rows.T
    ]
    mean, low, high = (
        np.array([getattr(e, name) for e in found], np.float64) for name in ("value", "low", "high")
    )
    return Band(mean, low, high, np.array([e.n for e in found], np.int64))


def _first_greatest(values: Float[np.ndarray, " T"]) -> int | None:
    return None if np.isnan(values).all() else int(np.nanargmax(values))


def _curve(step: Any, values: Any) -> tuple[Float[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    x, y = np.asarray(step, np.float64), np.asarray(values, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"expected steps and values as two [T], got shapes {x.shape}, {y.shape}")
    if not (np.diff(x) > 0).all():
        at = int(np.argmin(np.diff(x) > 0))
        raise ValueError(
            f"expected steps that increase, got {x[at + 1]:g} after {x[at]:g}; sort the "
            "evaluations by step and keep one of each"
        )
    return x, y
