"""Differences of accuracies and their p-values in words."""

import numpy as np

from tlx.report.words.numbers import NO_DATA, Estimate, text


def chance(p: float) -> str:
    """An adjusted p-value in words, e.g. `"adjusted p = 0.013"`."""
    return f"adjusted p {'' if p < 0.001 else '= '}{p_value(p)}"


def in_points(difference: Estimate) -> str:
    """A difference of accuracies in percentage points, to one decimal if alone."""
    if difference.interval is not None or not difference.known:
        return f"{text(difference, 100.0)} points" if difference.known else NO_DATA
    return f"{100 * difference.value:.1f} points".replace("-", "−")


def p_value(p: float) -> str:
    """A p-value to three decimals, "<0.001" below that; "" where it is undefined."""
    if not np.isfinite(p):
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
