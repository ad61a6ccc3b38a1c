"""How far targets are from the source."""

from typing import NamedTuple

import numpy as np

from tlx.records import results
from tlx.report.read.selection import Records, of_kind
from tlx.report.read.values import array, counts, whole, word, words
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
    every = of_kind(records, "domains", "targets", "distance")
    if not every:
        return None
    record = every[0]
    found: results.Domains = record.results
    targets = words(found.targets)
    distance = array(found.distance, (len(targets),))
    images = counts(found.num_examples, (len(targets),))
    return Domains(
        dict(zip(targets, distance.tolist(), strict=True)),
        float(found.floor),
        word(found.source),
        str(record.options.get("layer") or ""),
        whole(found.num_features),
        min((int(n) for n in images if n > 0), default=0),
    )
