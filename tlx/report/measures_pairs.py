"""Numbers about pairs of models: barriers, distances."""

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
