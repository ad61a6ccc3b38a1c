"""Distances between two models in parameter space."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.selection import Records, by_pair, of_kind
from tlx.report.read.values import is_known, words
from tlx.report.words.kinds import Pair
from tlx.report.words.numbers import UNKNOWN, Estimate, student


class Distance(NamedTuple):
    """Distances of a kind of pair: module -> mean over its pairs, and the two totals.

    `growth` is by how much the mean distance of the upper half of the modules is above the
    lower half's. It and the totals have intervals over runs, see `over_pairs`.
    """

    l2: dict[str, float]
    relative: dict[str, float]
    total_l2: Estimate
    total_sum: Estimate
    growth: Estimate
    num_pairs: int


def distances(records: Records) -> dict[Pair, Distance]:
    """The distances in parameter space, by kind of pair."""
    groups = by_pair(records, "distances", "modules", "l2")
    return {kinds: _distance(group) for kinds, group in groups.items()}


def totals_without(records: Records) -> list[str]:
    """The modules that the totals leave out."""
    every = of_kind(records, "distances")
    return sorted({str(name) for r in every for name in r.options.get("totals_without", ())})


def _distance(group: list[Record]) -> Distance:
    found: list[results.Distances] = [r.results for r in group]
    return Distance(
        _by_module([(f.modules, f.l2) for f in found]),
        _by_module([(f.modules, f.relative) for f in found if is_known(f.relative)]),
        over_pairs(group, [float(f.total_l2) for f in found]),
        over_pairs(group, [float(f.total_sum_of_tensor_norms) for f in found]),
        over_pairs(group, [_growth(f.l2) for f in found]),
        len(group),
    )


def _by_module(found: Sequence[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """The mean over the pairs that have a module, by module."""
    values: dict[str, list[float]] = {}
    for modules, each in found:
        for name, value in zip(words(modules), each, strict=True):
            values.setdefault(name, []).append(float(value))
    return {name: float(np.mean(own)) for name, own in values.items()}


def _growth(l2: np.ndarray) -> float:
    half = l2.size // 2
    return float(l2[-half:].mean() - l2[:half].mean()) if half else np.nan


def over_pairs(found: Sequence[Record], values: Sequence[float]) -> Estimate:
    """The mean of a value of each pair of runs, with its 95% interval over the runs.

    Pairs that share a run are not independent, so each run in turn is left out with all its
    pairs (the jackknife, of each kind of run by itself; there is one P, which always stays), and
    Student's t has the degrees of the kind with fewer runs. No interval where no pair is left
    without one of the runs, as where a kind has one run only.
    """
    pairs = [
        ({(r.inputs.get(f"kind_{s}"), r.inputs.get(s)) for s in "ab"}, v)
        for r, v in zip(found, values, strict=True)
        if np.isfinite(v)
    ]
    if not pairs:
        return UNKNOWN
    center = float(np.mean([v for _, v in pairs]))
    runs = sorted({run for own, _ in pairs for run in own if run[0] != "P"}, key=str)
    kinds = [[run for run in runs if run[0] == kind] for kind in {kind for kind, _ in runs}]
    without = {run: [v for own, v in pairs if run not in own] for run in runs}
    if not runs or not all(without.values()):
        return Estimate(center)
    square = 0.0
    for own in kinds:
        means = np.array([np.mean(without[run]) for run in own])
        square += float(np.sum((means - means.mean()) ** 2)) * (len(own) - 1) / len(own)
    half = student(min(map(len, kinds)) - 1) * math.sqrt(square)
    return Estimate(center, interval=(center - half, center + half))
