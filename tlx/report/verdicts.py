"""What an answer is: a sentence, and whether the paper's claims held here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tlx.report.kinds import pair
from tlx.report.numbers import Estimate, apart

AGREES = "as in the paper"
DIFFERS = "not as in the paper"
OPEN = "too close to call"

# A pair is said to have no barrier where its accuracy dips by no more than two standard
# errors and its loss rises above the chord by no more than this (nats).
LOSS_TOLERANCE = 0.05

P_T = pair("P-T", "P-T")
RI_T = pair("RI-T", "RI-T")
MIXED = pair("P-T", "RI-T")


class Check(NamedTuple):
    """A claim of the paper, and whether it held here."""

    claim: str
    verdict: str


class Answer(NamedTuple):
    """What was found, in a sentence or two and in one short one (None: no data)."""

    sentence: str | None
    short: str | None = None
    checks: tuple[Check, ...] = ()

    @property
    def verdict(self) -> str:
        """The claims taken together."""
        return together([c.verdict for c in self.checks])


NOTHING = Answer(None)


def order(higher: Estimate, lower: Estimate) -> str:
    """Returns whether one estimate lies above the other, as the paper has it; "" if unknown.

    By their intervals, which may not overlap, where both have one; else by two standard errors.
    """
    if not (higher.known and lower.known):
        return ""
    if higher.interval is not None and lower.interval is not None:
        if higher.interval[0] > lower.interval[1]:
            return AGREES
        return DIFFERS if higher.interval[1] < lower.interval[0] else OPEN
    z = apart(higher, lower)
    if math.isnan(z):  # no errors known: the values decide
        return AGREES if higher.value > lower.value else DIFFERS
    return OPEN if abs(z) < 2 else AGREES if z > 0 else DIFFERS


def above_zero(difference: Estimate) -> str:
    """Returns whether a difference lies above 0, as the paper has it, by its interval.

    Open where the interval has 0 in it, and where there is none; "" if unknown.
    """
    if not difference.known:
        return ""
    low, high = difference.interval or (-math.inf, math.inf)
    return AGREES if low > 0 else DIFFERS if high < 0 else OPEN


def together(verdicts: Sequence[str]) -> str:
    """Returns what several verdicts make of one claim: one that differs decides, then an open."""
    return next((v for v in (DIFFERS, OPEN, AGREES) if v in verdicts), "")


def capital(sentence: str) -> str:
    """Returns the sentence with a capital first letter."""
    return sentence[0].upper() + sentence[1:]
