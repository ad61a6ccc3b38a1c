"""P-T and RI-T on the plain target: where they end, how fast they learn, and what is higher."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tlx.report import measures
from tlx.report.measures import Records
from tlx.report.measures_sweeps import Learning, Sweep, learning, sweep
from tlx.report.numbers import Estimate
from tlx.report.verdicts import above_zero, order

KINDS = ("P-T", "RI-T")


class Plain(NamedTuple):
    """P-T and RI-T on the plain target, by kind; and whether P-T is higher, as a verdict.

    Attributes:
        final: test accuracy after the last step.
        speed: average training accuracy.
        rates: the learning rate of these runs; NaN where unknown.
        ends_higher, learns_faster: of P-T against RI-T; "" where unknown.
    """

    final: dict[str, Estimate]
    speed: dict[str, Estimate]
    rates: dict[str, float]
    ends_higher: str
    learns_faster: str


def plain(records: Records) -> Plain:
    """Returns P-T and RI-T on the plain target.

    From a sweep that has both there: at the chosen rates, and the verdicts by the intervals of
    the differences. Without, from the runs at the study's rate: by their intervals over seeds,
    which may not overlap, or with too few runs for those by two binomial standard errors.
    """
    records = measures.listed(records)
    for axis in ("shuffle", "train_size", "target"):
        found = sweep(records, axis)
        at = _plain_value(found) if found else None
        if found and at is not None:
            return _of_sweep(found, at)
    runs = measures.curves(records)
    final = {kind: measures.final(runs, kind) for kind in KINDS}
    speed = {kind: measures.speed(runs, kind) for kind in KINDS}
    rates = {kind: next((c.rate for c in runs if c.kind == kind), np.nan) for kind in KINDS}
    grouped = learning(records)
    groups = [group(grouped, kind, rates[kind]) for kind in KINDS] if grouped else []
    over_seeds = [grouped.final_of(g) for g in groups if grouped and g is not None]
    if len(over_seeds) == len(KINDS) and all(e.interval for e in over_seeds):
        final = dict(zip(KINDS, over_seeds, strict=True))
    return Plain(final, speed, rates, order(*final.values()), order(*speed.values()))


def group(found: Learning, kind: str, rate: float) -> int | None:
    """Returns which group is of a kind and a rate; the kind's first if no rate is given.

    None where there is none.
    """
    own = [g for g, name in enumerate(found.kinds) if name == kind]
    if not np.isfinite(rate):
        return own[0] if own else None
    return next((g for g in own if np.isclose(found.rates[g], rate)), None)


def _plain_value(found: Sweep) -> int | None:
    """Returns which value is the plain target; None where P-T or RI-T is not known there."""
    if found.plain not in found.values:
        return None
    at = found.values.index(found.plain)
    return at if all(found.final_of(kind, at).known for kind in KINDS) else None


def _of_sweep(found: Sweep, at: int) -> Plain:
    return Plain(
        {kind: found.final_of(kind, at) for kind in KINDS},
        {kind: found.average_of(kind, at) for kind in KINDS},
        {kind: found.rate_of(kind, at) for kind in KINDS},
        above_zero(found.difference_of(at)),
        above_zero(found.speed_of(at)),
    )
