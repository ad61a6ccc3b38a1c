"""Runs along an axis of a study, and what a caption says of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import results
from tlx.report.read.selection import Records, of_kind
from tlx.report.read.values import (
    array,
    confidence_of,
    counts,
    ends,
    estimate,
    share,
    word,
    words,
)
from tlx.report.words.numbers import UNKNOWN, Estimate, level, p_value


class Sweep(NamedTuple):
    """Runs along an axis of a study: kinds K, values C, rates R; NaN where undefined.

    Attributes:
      axis: "shuffle", "train_size", "target" or "init_step".
      values: [C] names, in the record's order.
      plain: which of them the plain P-T and RI-T have; "" where unknown.
      kinds: [K] P-T and RI-T; of "init_step" only P-T.
      rates: [K, R].
      chosen: int [K, C], which rate; -1 where unknown.
      chosen_on: "valid", "test", or "" where there was nothing to choose.
      final_mean, average_mean: [3, K, C] at the chosen rate: mean over seeds, low, high.
      difference, drop, speed: [3, C] with the ends of their intervals: mean P-T - mean RI-T
        of final test accuracy (of "init_step": the last checkpoint's less this one's); that
        over P-T, in percent; P-T - RI-T of average training accuracy.
      from_plain: [3, C], by how much the difference is larger at the plain value, over runs and
        test images.
      difference_p_holm, speed_p_holm: [C], adjusted for all values.
      chance: [C], what the difference's interval covers: "seeds and examples", "seeds",
        "examples" or "".
      num_seeds: int [K, C].
      num_images, train_size, num_classes: int [C], of the test and of the training images.
      contrasts: [Q] differences with the further arms, as "P-T − S-T" and "S-T − RI-T".
      contrast, contrast_drop, contrast_speed: [3, Q, C], as `difference`, `drop` and `speed`.
      earliest: of "init_step", the earliest step as good as the last; -1 where unknown.
      confidence: the level of the intervals; NaN where unknown.
    """

    axis: str
    values: list[str]
    plain: str
    kinds: list[str]
    rates: np.ndarray
    chosen: np.ndarray
    chosen_on: str
    final_mean: np.ndarray
    average_mean: np.ndarray
    difference: np.ndarray
    drop: np.ndarray
    speed: np.ndarray
    from_plain: np.ndarray
    difference_p_holm: np.ndarray
    speed_p_holm: np.ndarray
    chance: list[str]
    num_seeds: np.ndarray
    num_images: np.ndarray
    train_size: np.ndarray
    num_classes: np.ndarray
    contrasts: list[str]
    contrast: np.ndarray
    contrast_drop: np.ndarray
    contrast_speed: np.ndarray
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
        return estimate(*self.difference[:, i], n=int(self.num_images[i]))

    def from_plain_of(self, i: int) -> Estimate:
        """By how much the difference is larger at the plain value than at value `i`."""
        return estimate(*self.from_plain[:, i], n=int(self.num_images[i]))

    def drop_of(self, i: int) -> Estimate:
        """The relative drop from P-T to RI-T at value `i`, in percent."""
        return estimate(*self.drop[:, i], n=int(self.num_images[i]))

    def speed_of(self, i: int) -> Estimate:
        """The difference of average training accuracies at value `i`, a fraction."""
        return estimate(*self.speed[:, i], n=int(self.train_size[i]))

    def contrast_of(self, name: str, i: int, of: str = "final") -> Estimate:
        """A contrast at value `i`, with an interval over runs.

        Args:
          name: as "P-T − S-T".
          i: of the value.
          of: "final" accuracies, the relative "drop" from one to the other in percent, or "speed".
        """
        values = {"final": self.contrast, "drop": self.contrast_drop, "speed": self.contrast_speed}
        found = estimate(*values[of][:, self.contrasts.index(name), i], n=int(self.num_images[i]))
        return found if "seeds" in self.chance[i] else found._replace(interval=None)

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
        return share(*ends[:, self.kinds.index(kind), i], n=int(self.num_images[i]))


def sweep(records: Records, axis: str) -> Sweep | None:
    """The runs along an axis of the study; None without a record of them."""
    every = of_kind(records, "sweep", "values", "kinds", "final")
    record = next((r for r in every if r.inputs.get("axis") == axis), None)
    if record is None:
        return None
    found: results.Sweep = record.results
    values, kinds = words(found.values), words(found.kinds)
    cells, each = (len(values),), (len(kinds), len(values))
    earliest = float(found.earliest)
    return Sweep(
        axis=axis,
        values=values,
        plain=word(found.plain),
        kinds=kinds,
        rates=array(found.rates, (len(kinds), found.final.shape[2])),
        chosen=counts(found.chosen, each, nothing=-1),
        chosen_on=word(found.chosen_on),
        final_mean=ends(each, found.final_mean, found.final_low, found.final_high),
        average_mean=ends(each, found.average_mean, found.average_low, found.average_high),
        difference=ends(cells, found.difference, found.difference_low, found.difference_high),
        drop=ends(cells, found.drop, found.drop_low, found.drop_high),
        speed=ends(cells, found.speed, found.speed_low, found.speed_high),
        from_plain=ends(cells, found.from_plain, found.from_plain_low, found.from_plain_high),
        difference_p_holm=array(found.difference_p_holm, cells),
        speed_p_holm=array(found.speed_p_holm, cells),
        chance=words(found.chance) or [""] * len(values),
        num_seeds=counts(found.num_seeds, each),
        num_images=counts(found.num_examples, cells),
        train_size=counts(found.train_size, cells),
        num_classes=counts(found.num_classes, cells),
        contrasts=words(found.contrasts),
        contrast=_contrast(found, len(values), "contrast"),
        contrast_drop=_contrast(found, len(values), "contrast_drop"),
        contrast_speed=_contrast(found, len(values), "contrast_speed"),
        earliest=int(earliest) if np.isfinite(earliest) else -1,
        confidence=confidence_of(record),
    )


def _contrast(found: results.Sweep, num_values: int, name: str) -> np.ndarray:
    shape = (len(words(found.contrasts)), num_values)
    return ends(shape, *(getattr(found, f"{name}{end}") for end in ("", "_low", "_high")))


def difference(found: Sweep, i: int) -> Estimate:
    """The difference of final accuracies; its interval only where it covers other runs."""
    value = found.difference_of(i)
    return value if "seeds" in found.chance[i] else value._replace(interval=None)


def adjusted(found: Sweep, i: int) -> str:
    """The adjusted p of a difference; "" where there is none over several runs."""
    known = difference(found, i).interval is not None
    return p_value(float(found.difference_p_holm[i])) if known else ""


def runs_counted(found: Sweep) -> str:
    """How many runs and images there are, e.g. "3 P-T and 3 RI-T runs each, n = 100"."""
    counts = {kind: sorted(set(found.num_seeds[k].tolist())) for k, kind in enumerate(found.kinds)}
    runs = " and ".join(f"{_range(seeds)} {kind}" for kind, seeds in counts.items())
    one = all(seeds == [1] for seeds in counts.values()) and len(counts) == 1
    images = sorted({int(n) for n in found.num_images if n})
    return f"{runs} {'run' if one else 'runs'} each, n = {_range(images)} test images"


def _range(numbers: Sequence[int]) -> str:
    if not numbers:
        return "unknown"
    low, high = numbers[0], numbers[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def whiskers_said(found: Sweep) -> str:
    """Over what the intervals of the means are."""
    known = [found.final_of(k, i).interval for k in found.kinds for i in range(len(found.values))]
    if not any(known):
        return "No intervals: one run each."
    of = level(found.confidence)
    return f"Whiskers are {f'{of} ' if of else ''}intervals over runs."


def chance_covered(found: Sweep) -> str:
    """What the differences' intervals cover, e.g. "runs and test images"; "" for none."""
    covered = dict.fromkeys(c for c in found.chance if "seeds" in c)
    return " or ".join(covered).replace("seeds", "runs").replace("examples", "test images")


def rate_said(found: Sweep) -> str:
    """How the learning rate of each mean was chosen; nothing where there was one."""
    images = {"valid": "validation images", "test": "the test images themselves"}
    if found.chosen_on not in images or found.rates.shape[1] < 2:
        return ""
    return (
        f" Of {found.rates.shape[1]} learning rates each mean is at the one with the highest mean "
        f"accuracy on {images[found.chosen_on]}."
    )
