"""Runs and their copies by the step at which they part, by kind of run."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.over_runs import of_runs
from tlx.report.read.selection import Records, by_kind, unshuffled
from tlx.report.read.values import array, estimate, whole
from tlx.report.words.kinds import ON_TARGET
from tlx.report.words.numbers import Estimate
from tlx.report.words.verdicts import ACCURACY_TOLERANCE, LOSS_TOLERANCE, Verdict, above

MEASURED = ("barrier", "accuracy_barrier", "aligned_barrier", "aligned_accuracy_barrier")
"""What has an interval over test images."""

ENDS = ("", "_low", "_high")


class Parting(NamedTuple):
    """A kind of run and its copies.

    Attributes:
      step: [T] at which they part.
      mean: by quantity, the mean over the runs at each step.
      each: by quantity [N, T], of each run.
      num_runs: N.
      num_images: test images.
      noise: by which they part, as a share of each tensor's root mean square; 0: by the order.
    """

    step: list[int]
    mean: dict[str, list[Estimate]]
    each: dict[str, np.ndarray]
    num_runs: int
    num_images: int
    noise: float

    def shared(self, i: int, prefix: str = "") -> Verdict:
        """Whether copies that part at step `i` have no barrier between them."""
        either = {
            above(self.mean[f"{prefix}accuracy_barrier"][i], ACCURACY_TOLERANCE),
            above(self.mean[f"{prefix}barrier"][i], LOSS_TOLERANCE),
        }
        return "no" if "yes" in either else "open" if "open" in either else "yes"

    def first(self) -> int | None:
        """The earliest step from which on copies share a basin at all later ones; None: none."""
        found = None
        for i in reversed(range(len(self.step))):
            if self.shared(i) != "yes":
                break
            found = self.step[i]
        return found


def partings(records: Records) -> dict[str, Parting]:
    """By kind of run; of runs whose copies part at the same steps by the same noise."""
    groups = by_kind(unshuffled(records, "instability", "step", "accuracy_barrier"), ON_TARGET)
    return {kind: _parting(group) for kind, group in groups.items()}


def _parting(group: Sequence[Record]) -> Parting:
    steps = np.atleast_1d(group[0].results.step)
    noise = _noise(group[0])
    found: list[results.Instability] = [
        r.results
        for r in group
        if np.array_equal(np.atleast_1d(r.results.step), steps) and _noise(r) == noise
    ]
    n = min(whole(f.num_examples) for f in found)
    measured: dict[str, list[list[Estimate]]] = {
        name: [
            [
                estimate(*ends, n=n)
                for ends in zip(
                    *(array(getattr(f, f"{name}{end}"), steps.shape) for end in ENDS), strict=True
                )
            ]
            for f in found
        ]
        for name in MEASURED
    }
    for name in ("distance", "similarity"):
        measured[name] = [
            [Estimate(float(v), n=n) for v in array(getattr(f, name), steps.shape)] for f in found
        ]
    return Parting(
        [int(step) for step in steps],
        {name: [of_runs(column) for column in zip(*rows, strict=True)]
         for name, rows in measured.items()},
        {name: np.array([[e.value for e in row] for row in rows])
         for name, rows in measured.items()},
        len(found),
        n,
        noise,
    )  # fmt: skip


def _noise(record: Record) -> float:
    """0 in records of before there was noise."""
    found = float(np.asarray(record.results.noise))
    return found if np.isfinite(found) else 0.0
