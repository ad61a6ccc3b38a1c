"""How far targets are from the source."""

from typing import NamedTuple

import numpy as np

from tlx.report.read.selection import Records, option, usable
from tlx.report.read.values import number, sized, whole
from tlx.report.words.numbers import Estimate


class Domains(NamedTuple):
    """How far targets are from the source, in P's features.

    Attributes:
      distance: target -> Fréchet distance; NaN where undefined.
      floor: between the source's training and its test images.
      source: its name.
      layer: whose features; "" where unknown.
      num_features: their number.
      num_images: the fewest images of a target.
    """

    distance: dict[str, float]
    floor: float
    source: str
    layer: str
    num_features: int
    num_images: int

    def of(self, target: str) -> Estimate:
        """The distance of a target, give or take the floor; UNKNOWN for another target.

        By the triangle inequality it is off by no more than both samples are from their domains.
        Two samples of one domain are the floor apart: half of that each.
        """
        value = self.distance.get(target, float("nan"))
        ends = (value - self.floor, value + self.floor)
        return Estimate(value, interval=ends if np.isfinite(ends).all() else None)


def domains(records: Records) -> Domains | None:
    """The distances of the targets; None without a record of them."""
    found = usable(records, "domains")
    if not found:
        return None
    record = found[0]
    targets = [str(name) for name in np.atleast_1d(record.results["targets"])]
    distance = sized(record, "distance", len(targets))
    counts = sized(record, "count", len(targets))
    known = counts[np.isfinite(counts)]
    return Domains(
        dict(zip(targets, distance.tolist(), strict=True)),
        number(record, "floor"),
        str(record.results.get("source", "")),
        str(option(record, "layer") or ""),
        whole(record, "num_features"),
        int(known.min()) if known.size else 0,
    )
