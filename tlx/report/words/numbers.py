"""Numbers as a page prints them: with the digits that their interval supports."""

import math
from collections.abc import Sequence
from typing import NamedTuple

NO_DATA = "no data"

MOST = 6
"""Decimals at the most."""


class Estimate(NamedTuple):
    """A measured number.

    Attributes:
      value: NaN where it is undefined.
      error: one standard error, in the value's unit; NaN where none is known.
      n: examples behind it; 0 where unknown.
      interval: the ends of a confidence interval; None where none is known.
      degrees: of freedom, of an interval over runs by `error`; NaN of another one.
    """

    value: float
    error: float = math.nan
    n: int = 0
    interval: tuple[float, float] | None = None
    degrees: float = math.nan

    @property
    def known(self) -> bool:
        """Whether there is a value."""
        return math.isfinite(self.value)


UNKNOWN = Estimate(math.nan)


def proportion(value: float, n: int) -> Estimate:
    """A proportion of `n` examples with its binomial standard error.

    The error is sqrt(p(1-p)/n), with p = (np + 1) / (n + 2) inside the root, so that it
    is not 0 at p = 0 or 1. NaN where `n` < 1 or `value` is not a number.
    """
    if n < 1 or not math.isfinite(value):
        return Estimate(float(value), math.nan, max(int(n), 0))
    inner = (value * n + 1) / (n + 2)
    return Estimate(float(value), math.sqrt(inner * (1 - inner) / n), int(n))


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of the known ones; its error is the mean error.

    Runs are measured on the same examples, so their errors are not independent, and
    averaging over runs does not lessen them. An interval goes from the mean lower to the
    mean upper end, where all have one. UNKNOWN where none is known.
    """
    known = [e for e in estimates if e.known]
    if not known:
        return UNKNOWN
    count = len(known)
    error = sum(e.error for e in known) / count
    ends = [e.interval for e in known if e.interval is not None]
    interval = None
    if len(ends) == count:
        interval = (sum(low for low, _ in ends) / count, sum(high for _, high in ends) / count)
    return Estimate(sum(e.value for e in known) / count, error, min(e.n for e in known), interval)


def difference(one: Estimate, other: Estimate) -> Estimate:
    """One number less another, with the error of independent ones."""
    error = math.hypot(one.error, other.error)
    return Estimate(one.value - other.value, error, min(one.n, other.n))


def decimals(error: float) -> int:
    """How many decimals an error supports: one digit of it, two if it starts with 1."""
    exponent = math.floor(math.log10(error))
    if round(error / 10**exponent) == 10:  # 0.096 is 0.10
        exponent += 1
    leading = error / 10**exponent
    return max(0, -exponent + (1 if leading < 1.95 else 0))


def text(
    estimate: Estimate, scale: float = 1.0, *, error: bool = True, most: int | None = None
) -> str:
    """The value as "96.4 ± 0.6", times `scale`, to the digits of its error.

    "96.4 [95.8, 97.0]" where it has an interval, with `most` decimals at the most. Three
    significant digits where neither is known, "no data" where the value is not.
    """
    if not estimate.known:
        return NO_DATA
    value, spread = estimate.value * scale, abs(estimate.error * scale)
    if estimate.interval is not None and all(map(math.isfinite, estimate.interval)):
        low, high = (scale * end for end in estimate.interval)
        places = min(decimals((high - low) / 2), MOST) if high > low else most
        if places is not None and most is not None:
            places = min(places, most)
        cells = [
            significant(v) if places is None else _minus(f"{v:.{places}f}")
            for v in (value, low, high)
        ]
        return f"{cells[0]} [{cells[1]}, {cells[2]}]" if error else cells[0]
    if not (math.isfinite(spread) and spread > 0):
        return significant(value)
    places = min(decimals(spread), MOST)
    number = _minus(f"{value:.{places}f}")
    return f"{number} ± {spread:.{places}f}" if error else number


def percent(estimate: Estimate, *, error: bool = True) -> str:
    """A fraction as "96.4 ± 0.6%"."""
    number = text(estimate, 100.0, error=error)
    return number if number == NO_DATA else f"{number}%"


def significant(value: float, digits: int = 3) -> str:
    """A number to so many significant digits, without an exponent; NaN: "no data"."""
    if not math.isfinite(value):
        return NO_DATA
    if abs(value) < 5e-7:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return _minus(f"{value:,.{min(places, MOST)}f}")


def level(confidence: float) -> str:
    """The level of an interval, e.g. "95%"; "" where it is unknown."""
    return f"{100 * confidence:g}%" if math.isfinite(confidence) else ""


def count(n: int, noun: str, *, words: bool = True) -> str:
    """A number of things, e.g. "1,297 images", "two runs"; `words=False` gives "2 runs"."""
    names = ("no", "one", "two", "three", "four", "five", "six")
    number = names[n] if words and n < len(names) else f"{n:,}"
    return f"{number} {noun if n == 1 else noun + 's'}"


def chance(p: float) -> str:
    """An adjusted p-value in words, e.g. "adjusted p = 0.013"."""
    return f"adjusted p {'' if p < 0.001 else '= '}{p_value(p)}"


def in_points(difference: Estimate) -> str:
    """A difference of accuracies in percentage points, to one decimal if alone."""
    if difference.interval is not None or not difference.known:
        return f"{text(difference, 100.0)} points" if difference.known else NO_DATA
    return f"{100 * difference.value:.1f} points".replace("-", "−")


def p_value(p: float) -> str:
    """A p-value to three decimals, "<0.001" below that; "" where it is undefined."""
    if not math.isfinite(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def points(difference: Estimate) -> str:
    """A difference in percentage points, without the unit."""
    if difference.known and difference.interval is None:
        return f"{100 * difference.value:.1f}".replace("-", "−")
    return text(difference, 100.0, most=1)


def as_fraction(drop: Estimate) -> Estimate:
    """A drop in percent as a fraction."""
    low, high = drop.interval or (0.0, 0.0)
    ends = (low / 100, high / 100) if drop.interval else None
    return Estimate(drop.value / 100, n=drop.n, interval=ends)


def _minus(number: str) -> str:
    if number.startswith("-") and not any(c in "123456789" for c in number):
        number = number[1:]  # -0.0
    return number.replace("-", "−")
