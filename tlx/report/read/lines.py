"""The line between two models, point by point."""

import numpy as np

from tlx.records import Record
from tlx.report.read.values import estimate, whole
from tlx.report.words.numbers import UNKNOWN, Estimate, proportion


def nearest(record: Record, alpha: float, field: str = "accuracy") -> Estimate:
    alphas = np.asarray(record.results["alphas"], np.float64)
    at = int(np.argmin(np.abs(alphas - alpha)))
    return proportion(float(record.results[field][at]), whole(record, "count"))


def dip(record: Record, variant: str = "") -> Estimate:
    """The accuracy's dip under the chord, with the error of the points it compares.

    `variant` is what the names of the results end in, such as `"_plain"`.
    """
    alphas = np.asarray(record.results["alphas"], np.float64)
    accuracy = np.asarray(record.results[f"accuracy{variant}"], np.float64)
    first, last = (nearest(record, alpha, f"accuracy{variant}") for alpha in (0.0, 1.0))
    under = (1 - alphas) * first.value + alphas * last.value - accuracy
    if not np.isfinite(under).any():
        return UNKNOWN
    at = int(np.nanargmax(under))
    lowest, weight = proportion(float(accuracy[at]), whole(record, "count")), float(alphas[at])
    error = np.sqrt(
        lowest.error**2 + ((1 - weight) * first.error) ** 2 + (weight * last.error) ** 2
    )
    return estimate(record, f"accuracy_barrier{variant}")._replace(error=float(error))
