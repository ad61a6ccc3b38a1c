"""Barriers on the line between two models."""

from typing import NamedTuple

from tlx.records import Record
from tlx.report.read.lines import dip, nearest
from tlx.report.read.selection import Records, by_pair
from tlx.report.read.values import estimate, number
from tlx.report.words.kinds import Pair
from tlx.report.words.numbers import Estimate, mean
from tlx.report.words.verdicts import DIP_TOLERANCE, LOSS_TOLERANCE, Verdict, above


class Barrier(NamedTuple):
    """A kind of pair on the line between its models, averaged over its pairs.

    `each` says of every pair by its own intervals whether there is a barrier.
    """

    loss: Estimate
    endpoint_mean: Estimate
    accuracy: Estimate
    ends: Estimate
    middle: Estimate
    each: tuple[Verdict, ...]

    @property
    def num_pairs(self) -> int:
        """How many pairs there are."""
        return len(self.each)


def barriers(records: Records) -> dict[Pair, Barrier]:
    """The barriers by kind of pair."""
    return {k: _barrier(found) for k, found in by_pair(records, "interpolation").items()}


def _barrier(found: list[Record]) -> Barrier:
    return Barrier(
        mean([estimate(r, "barrier_chord") for r in found]),
        mean([Estimate(number(r, "barrier_endpoint_mean")) for r in found]),
        mean([dip(r) for r in found]),
        mean([nearest(r, alpha) for r in found for alpha in (0.0, 1.0)]),
        mean([nearest(r, 0.5) for r in found]),
        tuple(_has_barrier(r) for r in found),
    )


def _has_barrier(record: Record) -> Verdict:
    """There is one if accuracy or loss shows it, and none if neither does."""
    either = {
        above(dip(record), DIP_TOLERANCE),
        above(estimate(record, "barrier_chord"), LOSS_TOLERANCE),
    }
    return "yes" if "yes" in either else "open" if "open" in either else "no"
