"""The answer about depth: what is read from which layer, what taking modules brings, spectra."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from tlx.report import measures, measures_depth
from tlx.report.kinds import short
from tlx.report.measures import Records
from tlx.report.measures_depth import Probes, percentages
from tlx.report.numbers import Estimate, count, percent, significant, text
from tlx.report.verdicts import NOTHING, OPEN, Answer, above, order


def depth(records: Records) -> Answer:
    """What is in which layer, and how many of them have to be transferred?"""
    probed, trained = _probes(records)
    found = [f"{probed}{trained}.", _enough(records), _freezing(records), _spectra(records)]
    said = [sentence for sentence in found if sentence.strip(".")]
    return Answer(" ".join(said), f"{probed}." if probed else said[0]) if said else NOTHING


def _probes(records: Records) -> tuple[str, str]:
    """Where P holds the target's classes best, against random weights; and after training."""
    best = {}
    found = measures_depth.probes(records)
    for kind, own in found.items():
        layer = own.best()
        if layer is not None:
            best[kind] = layer
    if not ("P" in best and "RI" in best):
        every = [
            f"{percentages(found[kind].of(name))} from layer {short(name)} of {_named(kind)}"
            for kind, name in best.items()
        ]
        lead = "The most of the target's test images that a linear map was measured to get right is"
        return (f"{lead} {' and '.join(every)}" if every else ""), ""
    layer = best["P"]
    p, random = found["P"].of(layer), found["RI"].of(best["RI"])
    better = "better" if above(p, random) == "yes" else "not measurably better"
    same = found["RI"].of(layer)
    there = f"{percentages(same)} with random weights"
    if layer != best["RI"]:
        there += f" ({percentages(random)} at their highest, {short(best['RI'])})"
    probed = (
        f"The target's classes can be read from P {better} than from random weights: from layer "
        f"{short(layer)}, P's highest, a linear map gets {percentages(p)} of the test images "
        f"right, against {there}"
    )
    return probed, _trained(found, layer)


def _named(kind: str) -> str:
    return "random weights" if kind == "RI" else kind


def _trained(found: Mapping[str, Probes], layer: str) -> str:
    """What is read from the same layer after training on the target."""
    own = {k: found[k].of(layer) for k in ("P-T", "RI-T") if k in found}
    parts = [f"{percentages(value)} in {kind}" for kind, value in own.items() if value.known]
    return f"; after training on the target it is {' and '.join(parts)}" if parts else ""


def _enough(records: Records) -> str:
    """How many first modules of P bring a model as far as P-T."""
    tuned = measures_depth.final_by_k(measures_depth.partial(records).get("first", {}))
    whole = measures.final(measures.curves(records), "P-T")
    if not (tuned and whole.known):
        return ""
    lower = [k for k, value in tuned.items() if above(whole, value) == "yes"]
    below = f"measurably below P-T ({percent(whole)})"
    most = max(tuned)
    if most in lower:
        tried = ", the most that were tried," if most > 1 else ""
        return f"With {_first(most)}{tried} a run ends {below}: {percent(tuned[most])}."
    # The first k from which on none that was tried is.
    k = min(k for k in tuned if k > max(lower, default=-1))
    less = max(lower, default=None)
    where = f"; with k = {less} one does, {percent(tuned[less])}" if less is not None else ""
    more = " or more" if k < most else ""
    return f"With {_first(k)}{more} no run ends {below}: {percent(tuned[k])}{where}."


def _first(k: int) -> str:
    return (
        f"P's first {count(k, 'module')}" if k > 1 else "P's first module" if k else "fresh weights"
    )


def _freezing(records: Records) -> str:
    """What it changes that the modules taken from P are not trained."""
    runs = measures_depth.partial(records)
    tuned, frozen = (
        measures_depth.final_by_k(runs.get(way, {})) for way in ("first", "first:frozen")
    )
    changes = {k: _difference(frozen[k], tuned[k]) for k in tuned if k in frozen and k > 0}
    if not changes:
        return ""
    ends = sorted(changes, key=lambda k: changes[k].value)
    said = [f"{_signed(changes[k])} points (k = {k})" for k in dict.fromkeys((ends[0], ends[-1]))]
    lead = "Freezing the modules taken from P changes the accuracy by"
    if all(order(frozen[k], tuned[k]) == OPEN for k in changes):
        lead = "Freezing the modules taken from P makes no measurable difference:"
    return f"{lead} {' to '.join(said)}."


def _difference(one: Estimate, other: Estimate) -> Estimate:
    error = math.hypot(one.error, other.error)
    return Estimate(one.value - other.value, error, min(one.n, other.n))


def _signed(change: Estimate) -> str:
    return ("+" if change.value > 0 else "") + text(change, 100.0)


def _spectra(records: Records) -> str:
    """How the stable ranks of P-T and of RI-T compare with those of P."""
    found = measures_depth.spectra(records)
    parts = []
    for kind in ("P-T", "RI-T"):
        if "P" in found and kind in found:
            ratios = measures_depth.ratios(found[kind], found["P"])
            if ratios.size:
                low, high = (significant(v, 2) for v in (ratios.min(), ratios.max()))
                middle = significant(float(np.median(ratios)), 2)
                parts.append((kind, f"{middle} ({low} to {high})"))
    if not parts:
        return ""
    (kind, ratio), *more = parts
    also = "".join(f", that of {other} {of}" for other, of in more)
    return (
        f"In the median over layers (least to greatest), the stable rank of {kind} is {ratio} "
        f"times that of P{also}."
    )
