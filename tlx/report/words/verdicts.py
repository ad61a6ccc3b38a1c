"""The one comparison that stands behind every claim of a page.

Two estimates with intervals, or one and a threshold, give "yes", "no" or "open" (`above`). What
a sentence claims and what a claim of the paper is held against comes from there: without an
interval there is no verdict.
"""

import math
from collections.abc import Iterable
from typing import Literal

from tlx.analyses.function import inference
from tlx.report.words.kinds import pair
from tlx.report.words.numbers import Estimate, difference

Verdict = Literal["yes", "no", "open"]

AGREES = "as in the paper"
DIFFERS = "not as in the paper"
OPEN = "too close to call"
NO_INTERVAL = "no interval"

# A pair is said to have no barrier where the whole interval of its accuracy barrier is at most so
# much (a fraction), and that of the rise of its loss above the chord (nats).
ACCURACY_TOLERANCE = 0.02
LOSS_TOLERANCE = 0.05

# What is called little of an accuracy, a fraction: a module that costs no more can be done
# without, a start that ends no more below another is as good.
LITTLE = 0.01

LEAST_Z = 3.0
"""Standard deviations under random pairing below which a value may be chance."""

ZERO = Estimate(0.0, interval=(0.0, 0.0))
"""What a difference is held against."""

P_T = pair("P-T", "P-T")
RI_T = pair("RI-T", "RI-T")
MIXED = pair("P-T", "RI-T")


def above(one: Estimate, other: Estimate | float) -> Verdict:
    """Whether one number lies above another, as far as their intervals tell.

    An interval is the recorded one, else two standard errors to both sides (of two estimates
    with errors only: of their difference). Two means over runs are compared by Welch's interval of
    their difference.

    Args:
      one: what was measured.
      other: what was measured elsewhere; or a threshold, the largest value that is not above.

    Returns:
      "yes" where the whole interval of `one` (of two means over runs, that of their difference)
      lies above; "no" where the whole of it lies below that of `other`, or at or below the
      threshold; else "open": also where a number or
      an interval is unknown, not finite, or has its ends the wrong way round.
    """
    if isinstance(other, Estimate):
        if one.interval is None and other.interval is None:
            one, other = difference(one, other), ZERO
        elif math.isfinite(one.degrees) and math.isfinite(other.degrees):
            one, other = _welch(one, other), ZERO
        (low, high), (least, most) = ends(one), ends(other)
        return "yes" if low > most else "no" if high < least else "open"
    low, high = ends(one) if math.isfinite(other) else _UNKNOWN
    return "yes" if low > other else "no" if high <= other else "open"


def _welch(one: Estimate, other: Estimate) -> Estimate:
    means = [inference.Estimate(e.value, *ends(e), e.error, e.n, e.degrees) for e in (one, other)]
    found = inference.difference_of_means(*means)
    return Estimate(found.value, found.error, found.n, (found.low, found.high))


_UNKNOWN = (math.nan, math.nan)


def ends(estimate: Estimate) -> tuple[float, float]:
    """The interval of an estimate, as `above` takes it; NaN twice where it has none."""
    low, high = _UNKNOWN
    if estimate.interval is not None:
        low, high = estimate.interval
    elif estimate.error > 0:
        low, high = estimate.value - 2 * estimate.error, estimate.value + 2 * estimate.error
    is_one = all(map(math.isfinite, (estimate.value, low, high))) and low <= high
    return (low, high) if is_one else _UNKNOWN


def decided(found: Verdict, expected: Verdict = "yes") -> str:
    """What a verdict makes of a claim of the paper, which expects it."""
    return OPEN if found == "open" else AGREES if found == expected else DIFFERS


def order(higher: Estimate, lower: Estimate) -> str:
    """Whether one estimate lies above the other, as the paper has it (see `above`).

    NO_INTERVAL where one of them has none; "" where one is unknown.
    """
    if not (higher.known and lower.known):
        return ""
    if any(math.isnan(ends(estimate)[0]) for estimate in (higher, lower)):
        return NO_INTERVAL
    return decided(above(higher, lower))


def above_zero(difference: Estimate) -> str:
    """Whether a difference lies above 0, as the paper has it; as `order`."""
    return order(difference, ZERO)


def together(verdicts: Iterable[str]) -> str:
    """What several verdicts make of one claim: one that differs decides, then an open."""
    found = set(verdicts)
    return next((v for v in (DIFFERS, OPEN, NO_INTERVAL, AGREES) if v in found), "")


def of_all(verdicts: Iterable[Verdict], expected: Verdict) -> str:
    """What the verdicts on several pairs make of a claim about any pair."""
    return together(decided(v, expected) for v in verdicts)
