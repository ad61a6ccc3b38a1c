"""The answer about the target: how much data it has, and how far it is from the source."""

from __future__ import annotations

import math

from tlx.report import measures_starts, measures_sweeps
from tlx.report.answers_starts import points
from tlx.report.measures import Records
from tlx.report.measures_starts import Domains
from tlx.report.measures_sweeps import Sweep
from tlx.report.numbers import Estimate, count, percent, significant
from tlx.report.verdicts import (
    AGREES,
    DIFFERS,
    NOTHING,
    OPEN,
    Answer,
    Check,
    above_zero,
    order,
    together,
)


def amount(records: Records) -> Answer:
    """How much data, how far a domain?"""
    sizes, targets = (measures_sweeps.sweep(records, axis) for axis in ("train_size", "target"))
    far = measures_starts.domains(records)
    said = [_by_size(sizes) if sizes else "", _by_target(targets, far) if targets else ""]
    checks = []
    if targets:
        gains = [measures_starts.difference(targets, i) for i in range(len(targets.values))]
        checks = [
            Check("P-T ends above RI-T on every target", _all(gains)),
            Check("pretraining brings more where the target resembles the source",
                  _resembles(targets, far)),
        ]  # fmt: skip
    said = [sentence for sentence in said if sentence]
    found = tuple(check for check in checks if check.verdict)
    return Answer(" ".join(said), said[0], found) if said else NOTHING


def _by_size(found: Sweep) -> str:
    """What pretraining brings with the fewest and with the most images."""
    known = [i for i in range(len(found.values)) if found.difference_of(i).known]
    known.sort(key=lambda i: int(found.train_size[i]))
    if not known:
        return ""
    few, many = known[0], known[-1]
    one, other = (measures_starts.difference(found, i) for i in (few, many))
    images = count(int(found.train_size[few]), "training image", words=False)
    first = f"With {images} {_gain(found, few)}"
    if few == many:
        return f"{first}."
    lead = {
        AGREES: "Pretraining brings more with the fewest training images than with the most",
        DIFFERS: "Pretraining brings less with the fewest training images than with the most",
    }.get(order(one, other), _NOT_TOLD.format("fewer training images"))
    return f"{lead}. {first}, with {found.train_size[many]:,} it is {points(other)}."


_NOT_TOLD = "Pretraining does not bring measurably more with {}"


def _by_target(found: Sweep, far: Domains | None) -> str:
    """What pretraining brings on the nearest and on the farthest target."""
    ends = _ends(found, far)
    if ends is None or far is None:
        best = [i for i in range(len(found.values)) if found.difference_of(i).known]
        parts = [
            f"{points(measures_starts.difference(found, i))} on {found.values[i]}" for i in best
        ]
        return f"The accuracy of P-T less that of RI-T is {', '.join(parts)}." if parts else ""
    near, remote = ends
    gain = measures_starts.difference(found, remote)
    lead = {
        AGREES: "Pretraining brings more on the target nearest to the source than on the farthest",
        DIFFERS: "Unlike in the paper, pretraining brings less on the target nearest to the source "
        "than on the farthest",
    }.get(_resembles(found, far), _NOT_TOLD.format("a target nearer to the source"))
    names = [
        f"{found.values[i]} (Fréchet distance {significant(far.distance[found.values[i]], 2)})"
        for i in (near, remote)
    ]
    return f"{lead}: on {names[0]} {_gain(found, near)}, on {names[1]} it is {points(gain)}."


def _resembles(found: Sweep, far: Domains | None) -> str:
    """Whether more is gained on the nearest target than on the farthest; "" without two.

    Only where it is measured too that the one is nearer.
    """
    ends = _ends(found, far)
    if ends is None or far is None:
        return ""
    nearer = order(*(far.of(found.values[i]) for i in reversed(ends)))
    more = order(*(measures_starts.difference(found, i) for i in ends))
    return more if nearer == AGREES else nearer


def _ends(found: Sweep, far: Domains | None) -> tuple[int, int] | None:
    """The nearest and the farthest target with a known gain; None where there are not two."""
    if far is None:
        return None
    known = [
        i
        for i, name in enumerate(found.values)
        if found.difference_of(i).known and math.isfinite(far.distance.get(name, math.nan))
    ]
    known.sort(key=lambda i: far.distance[found.values[i]])
    return (known[0], known[-1]) if len(known) > 1 else None


def _all(gains: list[Estimate]) -> str:
    """Whether all gains are above 0 by their intervals; "" where none is known."""
    known = any(gain.known for gain in gains)
    return together(above_zero(gain) or OPEN for gain in gains) if known else ""


def _gain(found: Sweep, i: int) -> str:
    """What P-T and RI-T reach, and the difference, in words."""
    gain = measures_starts.difference(found, i)
    ends = (percent(found.final_of(kind, i), error=False) for kind in ("P-T", "RI-T"))
    return f"P-T ends at {' and RI-T at '.join(ends)}, a difference of {points(gain)}"
