"""Numbers about pairs of models: barriers, distances, agreement."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.kinds import Pair
from tlx.report.measures import Records, by_pair, estimate, number, whole
from tlx.report.numbers import UNKNOWN, Estimate, mean, proportion


class Barrier(NamedTuple):
    """A kind of pair on the line between its models, averaged over its pairs."""

    loss: Estimate
    endpoint_mean: Estimate
    accuracy: Estimate
    ends: Estimate
    middle: Estimate
    num_pairs: int


class Agreement(NamedTuple):
    """Mistakes of a kind of pair, averaged over its pairs; [C] arrays are counts."""

    common: np.ndarray
    only_a: np.ndarray
    only_b: np.ndarray
    total: np.ndarray
    kappa: Estimate
    overlap: Estimate
    num_pairs: int

    @property
    def examples(self) -> float:
        """Test examples of one pair."""
        return float(self.total.sum())


class Distance(NamedTuple):
    """Distances of a kind of pair: module -> mean over its pairs, and the two totals."""

    l2: dict[str, float]
    relative: dict[str, float]
    total_l2: Estimate
    total_sum: Estimate
    num_pairs: int


def barriers(records: Records) -> dict[Pair, Barrier]:
    """Returns the barriers by kind of pair."""
    return {k: _barrier(found) for k, found in by_pair(records, "interpolation").items()}


def _barrier(found: list[Record]) -> Barrier:
    return Barrier(
        mean([estimate(r, "barrier_chord") for r in found]),
        mean([Estimate(number(r, "barrier_endpoint_mean")) for r in found]),
        mean([dip(r) for r in found]),
        mean([_at(r, alpha) for r in found for alpha in (0.0, 1.0)]),
        mean([_at(r, 0.5) for r in found]),
        len(found),
    )


def _at(record: Record, alpha: float, field: str = "accuracy") -> Estimate:
    alphas = np.asarray(record.results["alphas"], np.float64)
    nearest = int(np.argmin(np.abs(alphas - alpha)))
    return proportion(float(record.results[field][nearest]), whole(record, "count"))


def dip(record: Record, variant: str = "") -> Estimate:
    """Returns the accuracy's dip under the chord, with the error of the points it compares.

    ``variant`` is what the names of the results end in, such as ``"_plain"``.
    """
    alphas = np.asarray(record.results["alphas"], np.float64)
    accuracy = np.asarray(record.results[f"accuracy{variant}"], np.float64)
    first, last = (_at(record, alpha, f"accuracy{variant}") for alpha in (0.0, 1.0))
    under = (1 - alphas) * first.value + alphas * last.value - accuracy
    if not np.isfinite(under).any():
        return UNKNOWN
    at = int(np.nanargmax(under))
    lowest, weight = proportion(float(accuracy[at]), whole(record, "count")), float(alphas[at])
    error = np.sqrt(
        lowest.error**2 + ((1 - weight) * first.error) ** 2 + (weight * last.error) ** 2
    )
    return estimate(record, f"accuracy_barrier{variant}")._replace(error=float(error))


def distances(records: Records) -> dict[Pair, Distance]:
    """Returns the distances in parameter space, by kind of pair."""
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
        return mean([Estimate(number(r, field)) for r in found])

    return Distance(
        by_module("l2"),
        by_module("relative"),
        total("total_l2"),
        total("total_sum_of_tensor_norms"),
        len(found),
    )


def agreements(records: Records) -> dict[Pair, Agreement]:
    """Returns mistakes in common and apart, by kind of pair."""
    return {k: _agreement(k, found) for k, found in by_pair(records, "agreement").items()}


def _agreement(kinds: Pair, found: list[Record]) -> Agreement:
    def counts(record: Record) -> list[np.ndarray]:
        names = ["common", "only_a", "only_b", "neither"]
        if str(record.inputs.get("kind_a")) != kinds[0]:  # the pair's first kind is a
            names[1:3] = names[2:0:-1]
        return [np.atleast_1d(np.asarray(record.results[n], np.float64)) for n in names]

    every = [counts(r) for r in found]
    every = [c for c in every if len(c[0]) == len(every[0][0])]  # of one set of classes
    common, only_a, only_b, neither = (np.mean(c, axis=0) for c in zip(*every, strict=True))
    total = common + only_a + only_b + neither
    kappas = [_kappa(r, *c) for r, c in zip(found, every, strict=False)]
    overlaps = [_overlap(*c) for c in every]
    return Agreement(common, only_a, only_b, total, mean(kappas), mean(overlaps), len(found))


def _kappa(record: Record, *counts: np.ndarray) -> Estimate:
    """Returns the record's kappa with the usual large-sample error, chance held fixed."""
    common, only_a, only_b, neither = (float(c.sum()) for c in counts)
    n = common + only_a + only_b + neither
    if n < 1:
        return UNKNOWN
    wrong_a, wrong_b = (common + only_a) / n, (common + only_b) / n
    chance = wrong_a * wrong_b + (1 - wrong_a) * (1 - wrong_b)
    observed = proportion((common + neither) / n, int(n))
    error = observed.error / (1 - chance) if chance < 1 else float("nan")
    return Estimate(number(record, "kappa"), error, int(n))


def _overlap(*counts: np.ndarray) -> Estimate:
    """Returns the share of mistakes (of either model) that both make."""
    common, only_a, only_b, _ = (float(c.sum()) for c in counts)
    mistakes = common + only_a + only_b
    return proportion(common / mistakes, int(mistakes)) if mistakes else UNKNOWN
