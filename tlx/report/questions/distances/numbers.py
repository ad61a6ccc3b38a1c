"""Distances between two models in parameter space."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.over_runs import of_pairs, pairs_of
from tlx.report.read.selection import Records, by_pair, of_kind
from tlx.report.read.values import is_known, words
from tlx.report.words.kinds import Pair
from tlx.report.words.numbers import Estimate


class Distance(NamedTuple):
    """Distances of a kind of pair: module -> mean over its pairs, and the two totals.

    `growth` is by how much the mean distance of the upper half of the modules is above the
    lower half's. It and the totals have intervals over runs, see `read.over_runs`.
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
    pairs = pairs_of(group)
    return Distance(
        _by_module([(f.modules, f.l2) for f in found]),
        _by_module([(f.modules, f.relative) for f in found if is_known(f.relative)]),
        of_pairs(pairs, [Estimate(float(f.total_l2)) for f in found]),
        of_pairs(pairs, [Estimate(float(f.total_sum_of_tensor_norms)) for f in found]),
        of_pairs(pairs, [Estimate(_growth(f.l2)) for f in found]),
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
