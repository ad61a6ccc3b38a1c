"""Distances between two models in parameter space."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.read.selection import Records, by_pair
from tlx.report.read.values import number
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
    return {k: _distance(found) for k, found in by_pair(records, "distances").items()}


def _distance(found: list[Record]) -> Distance:
    def by_module(field: str) -> dict[str, float]:
        values: dict[str, list[float]] = {}
        for record in found:
            names = map(str, record.results["modules"])
            for name, value in zip(names, record.results.get(field, ()), strict=False):
                values.setdefault(name, []).append(float(value))
        return {name: float(np.mean(own)) for name, own in values.items()}

    def total(field: str) -> Estimate:
        return over_pairs(found, [number(r, field) for r in found])

    return Distance(
        by_module("l2"),
        by_module("relative"),
        total("total_l2"),
        total("total_sum_of_tensor_norms"),
        over_pairs(found, [_growth(r) for r in found]),
        len(found),
    )


def _growth(record: Record) -> float:
    l2 = np.atleast_1d(np.asarray(record.results["l2"], np.float64))
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
