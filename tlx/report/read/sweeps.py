"""Runs along an axis of a study."""

from typing import NamedTuple

import numpy as np

from tlx.report.read.selection import Records, usable
from tlx.report.read.values import array, counts, ends, level, names, number, of_ends, share
from tlx.report.words.differences import p_value
from tlx.report.words.numbers import UNKNOWN, Estimate


class Sweep(NamedTuple):
    """Runs along an axis of a study: kinds K, values C, rates R, seeds S; NaN where undefined.

    Attributes:
      axis: "shuffle", "train_size", "target" or "init_step".
      values: [C] names, in the record's order.
      plain: which of them the plain P-T and RI-T have; "" where unknown.
      kinds: [K] P-T and RI-T; of "init_step" only P-T.
      rates: [K, R].
      final, average, area, best, selected, steps_to: [K, C, R, S]: test accuracy after the
        last step; average training accuracy; area under the test curve; best on test;
        at the step chosen on validation; first step with a test accuracy of `reach`.
      reach: [C].
      chosen: int [K, C], which rate; -1 where unknown.
      chosen_on: "valid", "test", or "" where there was nothing to choose.
      final_mean, average_mean: [3, K, C] at the chosen rate: mean over seeds, low, high.
      difference, drop, speed: [3, C] with the ends of their intervals: mean P-T - mean RI-T
        of final test accuracy (of "init_step": the last checkpoint's less this one's); that
        over P-T, in percent; P-T - RI-T of average training accuracy.
      difference_p, difference_p_holm, speed_p, speed_p_holm: [C].
      chance: [C], what the difference's interval covers: "seeds and examples", "seeds",
        "examples" or "".
      num_seeds: int [K, C].
      num_images, train_size, num_classes: int [C], of the test and of the training images.
      earliest: of "init_step", the earliest step as good as the last; -1 where unknown.
      confidence: the level of the intervals; NaN where unknown.
    """

    axis: str
    target: str
    values: list[str]
    plain: str
    kinds: list[str]
    rates: np.ndarray
    final: np.ndarray
    average: np.ndarray
    area: np.ndarray
    best: np.ndarray
    selected: np.ndarray
    steps_to: np.ndarray
    reach: np.ndarray
    chosen: np.ndarray
    chosen_on: str
    final_mean: np.ndarray
    average_mean: np.ndarray
    difference: np.ndarray
    drop: np.ndarray
    speed: np.ndarray
    difference_p: np.ndarray
    difference_p_holm: np.ndarray
    speed_p: np.ndarray
    speed_p_holm: np.ndarray
    chance: list[str]
    num_seeds: np.ndarray
    num_images: np.ndarray
    train_size: np.ndarray
    num_classes: np.ndarray
    earliest: int
    confidence: float

    def final_of(self, kind: str, i: int) -> Estimate:
        """The mean final test accuracy of a kind at value `i`, at its chosen rate.

        With its interval over seeds; UNKNOWN for a kind that the axis does not have.
        """
        return self._of(self.final_mean, kind, i)

    def average_of(self, kind: str, i: int) -> Estimate:
        """The mean average training accuracy of a kind, as `final_of` does."""
        return self._of(self.average_mean, kind, i)

    def difference_of(self, i: int) -> Estimate:
        """The difference of final test accuracies at value `i`, a fraction."""
        return of_ends(self.difference[:, i], int(self.num_images[i]))

    def drop_of(self, i: int) -> Estimate:
        """The relative drop from P-T to RI-T at value `i`, in percent."""
        return of_ends(self.drop[:, i], int(self.num_images[i]))

    def speed_of(self, i: int) -> Estimate:
        """The difference of average training accuracies at value `i`, a fraction."""
        return of_ends(self.speed[:, i], int(self.train_size[i]))

    def rate_of(self, kind: str, i: int) -> float:
        """The chosen learning rate of a kind at value `i`; NaN where unknown."""
        if kind not in self.kinds:
            return float("nan")
        k = self.kinds.index(kind)
        at = int(self.chosen[k, i])
        return float(self.rates[k, at]) if 0 <= at < self.rates.shape[1] else float("nan")

    def seeds_of(self, kind: str, i: int) -> int:
        """The number of runs of a kind at value `i` and its chosen rate."""
        return int(self.num_seeds[self.kinds.index(kind), i]) if kind in self.kinds else 0

    def _of(self, ends: np.ndarray, kind: str, i: int) -> Estimate:
        if kind not in self.kinds:
            return UNKNOWN
        return share(ends[:, self.kinds.index(kind), i], int(self.num_images[i]))


def sweep(records: Records, axis: str) -> Sweep | None:
    """The runs along an axis of the study; None without a record of them."""
    found = [r for r in usable(records, "sweep") if r.inputs.get("axis") == axis]
    if not found:
        return None
    record = found[0]
    values, kinds = names(record, "values"), names(record, "kinds")
    final = np.asarray(record.results["final"], np.float64)
    cells, each = (len(values),), (len(kinds), len(values))
    runs = {
        name: array(record, name, final.shape)
        for name in ("average", "area", "best", "selected", "steps_to")
    }
    tested = {
        name: array(record, name, cells)
        for name in ("reach", "difference_p", "difference_p_holm", "speed_p", "speed_p_holm")
    }
    earliest = number(record, "earliest")
    return Sweep(
        axis=axis,
        target=str(record.inputs.get("target", "")),
        values=values,
        plain=str(record.results.get("plain", "")),
        kinds=kinds,
        rates=array(record, "rates", (len(kinds), final.shape[2])),
        final=final,
        chosen=counts(record, "chosen", each, nothing=-1),
        chosen_on=str(record.results.get("chosen_on", "")),
        final_mean=ends(record, "final_mean", each),
        average_mean=ends(record, "average_mean", each),
        difference=ends(record, "difference", cells),
        drop=ends(record, "drop", cells),
        speed=ends(record, "speed", cells),
        chance=names(record, "chance") or [""] * len(values),
        num_seeds=counts(record, "num_seeds", each),
        num_images=counts(record, "count", cells),
        train_size=counts(record, "train_size", cells),
        num_classes=counts(record, "num_classes", cells),
        earliest=int(earliest) if np.isfinite(earliest) else -1,
        confidence=level(record),
        **runs,
        **tested,
    )


def difference(found: Sweep, i: int) -> Estimate:
    """The difference of final accuracies; its interval only where it covers other runs."""
    value = found.difference_of(i)
    return value if "seeds" in found.chance[i] else value._replace(interval=None)


def adjusted(found: Sweep, i: int) -> str:
    """The adjusted p of a difference; "" where there is none over several runs."""
    known = difference(found, i).interval is not None
    return p_value(float(found.difference_p_holm[i])) if known else ""
