"""Checks of single values; each returns the problem in words, or nothing.

A problem reads "field: expected …, got …; what to do". Checks never raise, whatever
the type of the value, so that all problems of a config can be listed at once.
"""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tlx.core import checks


def number(
    field: str,
    value: Any,
    *,
    low: float,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> list[str]:
    """A problem unless `value` is a finite int or float between `low` and `high`.

    Args:
      field: name of the field, which starts the message.
      value: anything.
      low: smallest value allowed (not allowed itself if `open_low`).
      high: largest value allowed (not allowed itself if `open_high`).
      open_low: whether `low` itself is excluded.
      open_high: whether `high` itself is excluded.
    """
    left = f"above {low:g}" if open_low else f"of at least {low:g}"
    right = "below" if open_high else "at most"
    wanted = f"a number {left}" + ("" if high == math.inf else f" and {right} {high:g}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -math.inf < value < math.inf:  # an int may exceed all floats
        return [f"{field}: expected {wanted}, got {value!r}"]
    if value < low or value > high or (open_low and value == low) or (open_high and value == high):
        return [f"{field}: expected {wanted}, got {value!r}"]
    return []


def single(
    field: str, value: Any, *, low: float, high: float = math.inf, **opens: bool
) -> list[str]:
    """As `number`, of a value that is computed with in float32: there it must not become another.

    That is a bound, 0 (as what is below the smallest normal number does in XLA) or infinity.
    """
    found = number(field, value, low=low, high=high, **opens)
    if found:
        return found
    became = _in_float32(value)
    if became == value or became not in (0.0, low, high, math.inf):
        return []
    remedy = "a smaller one" if became == math.inf else f"one further from {became:g}"
    return [
        f"{field}: expected a number that float32 can hold, got {value!r}, which becomes "
        f"{became:g}; give {remedy}"
    ]


def _in_float32(value: float) -> float:
    try:
        with np.errstate(over="ignore"):
            found = float(np.float32(value))
    except OverflowError:  # of an int
        return math.inf
    return found if abs(found) >= np.finfo(np.float32).tiny else 0.0


def integer(field: str, value: Any, *, low: int, high: int | None = None) -> list[str]:
    """A problem unless `value` is an int between `low` and `high`, both included."""
    wanted = f"an integer of at least {low}" + ("" if high is None else f" and at most {high}")
    if not isinstance(value, int) or isinstance(value, bool):
        return [f"{field}: expected {wanted}, got {value!r}"]
    if value < low or (high is not None and value > high):
        return [f"{field}: expected {wanted}, got {value!r}"]
    return []


def flag(field: str, value: Any) -> list[str]:
    """A problem unless `value` is a bool."""
    if isinstance(value, bool):
        return []
    return [f"{field}: expected True or False, got {value!r}"]


def text(field: str, value: Any) -> list[str]:
    """A problem unless `value` is a str that is not empty."""
    if isinstance(value, str) and value:
        return []
    return [f"{field}: expected a name (a str that is not empty), got {value!r}"]


def choice(field: str, value: Any, known: Sequence[str]) -> list[str]:
    """A problem unless `value` is one of `known`; names the nearest."""
    if isinstance(value, str) and value in known:
        return []
    return [f"{field}: {checks.unknown('value', value, known)}"]


def increasing(field: str, value: Any, *, low: int) -> list[str]:
    """A problem unless `value` is a tuple of increasing integers of at least `low`."""
    wanted = f"a tuple of increasing integers of at least {low}"
    if not isinstance(value, tuple):
        return [f"{field}: expected {wanted}, got {value!r}"]
    for item in value:
        if integer(field, item, low=low):
            return [f"{field}: expected {wanted}, got {item!r} in {value!r}"]
    if any(a >= b for a, b in itertools.pairwise(value)):
        return [f"{field}: expected {wanted}, got {value!r}; sort it and drop repetitions"]
    return []


def names(field: str, value: Any) -> list[str]:
    """A problem unless `value` is a tuple of names (str)."""
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return []
    return [f"{field}: expected a tuple of names of modules, got {value!r}"]


def known(field: str, value: Sequence[str], modules: Sequence[str]) -> list[str]:
    """A problem for each name that no module has, with the nearest that one has."""
    return [f"{field}: {checks.unknown('module', n, modules)}" for n in value if n not in modules]


def rules(field: str, value: Any) -> list[str]:
    """The problems of pairs (regular expression, multiplier of at least 0)."""
    wanted = "a tuple of pairs (regular expression, multiplier)"
    if not isinstance(value, tuple):
        return [f"{field}: expected {wanted}, got {value!r}"]
    found = []
    for i, rule in enumerate(value):
        if not (isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[0], str)):
            found.append(f"{field}[{i}]: expected a pair of {wanted}, got {rule!r}")
            continue
        found += single(f"{field}[{i}]", rule[1], low=0)
        try:
            re.compile(rule[0])
        except re.error as error:
            found.append(f"{field}[{i}]: expected a regular expression, got {rule[0]!r} ({error})")
    return found
