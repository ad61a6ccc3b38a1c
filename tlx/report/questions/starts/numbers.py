"""P's checkpoints, on the source and as starts, and scores of them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import results
from tlx.report.read.selection import Records, of_kind
from tlx.report.read.sweeps import Sweep, difference
from tlx.report.read.values import array, confidence_of, ends, estimate, whole, words
from tlx.report.words.numbers import Estimate
from tlx.report.words.verdicts import NO_INTERVAL, ZERO, above, above_zero


class Checkpoints(NamedTuple):
    """P's own checkpoints on the source's test images: [C], by step; NaN where undefined.

    Attributes:
      step: int [C].
      accuracy: [C].
      barrier: [3, C]: how far the 0-1 error rises above its chord on the line from the
        checkpoint to the last one, and the ends of the interval.
      verdict: [C] "yes", "no" or "open": in the basin of the last one, by the interval.
      tolerance: the largest barrier inside a basin.
      num_images: test images of the source.
      confidence: the level of the intervals; NaN where unknown.
    """

    step: np.ndarray
    accuracy: np.ndarray
    barrier: np.ndarray
    verdict: list[str]
    tolerance: float
    num_images: int
    confidence: float

    def barrier_of(self, i: int) -> Estimate:
        """The error barrier of checkpoint `i`, a fraction, with its interval."""
        return estimate(*self.barrier[:, i], n=self.num_images)


class Transferability(NamedTuple):
    """Scores of checkpoints beside what fine-tuning them gave: M scores, C checkpoints.

    Attributes:
      values: [C] names of the checkpoints.
      measured: [C] mean final test accuracy.
      names: [M] of the scores.
      score: [M, C].
      weighted_tau, p_weighted_tau, kendall, p_kendall, p_holm: [M].
      num_images: training images that were scored.
      layer: whose features they read; "" where unknown.
    """

    values: list[str]
    measured: np.ndarray
    names: list[str]
    score: np.ndarray
    weighted_tau: np.ndarray
    p_weighted_tau: np.ndarray
    kendall: np.ndarray
    p_kendall: np.ndarray
    p_holm: np.ndarray
    num_images: int
    layer: str


def checkpoints(records: Records) -> Checkpoints | None:
    """P's checkpoints in the order of their steps; None without a record of them."""
    every = of_kind(records, "checkpoints", "step", "accuracy", "barrier", "verdict")
    if not every:
        return None
    record = every[0]
    found: results.Checkpoints = record.results
    step = np.atleast_1d(found.step).astype(np.int64)
    order = np.argsort(step, kind="stable")
    barrier = ends(step.shape, found.barrier, found.barrier_low, found.barrier_high)
    made = Checkpoints(
        step[order],
        array(found.accuracy, step.shape)[order],
        barrier[:, order],
        [words(found.verdict)[i] for i in order],
        float(found.tolerance),
        whole(found.num_examples),
        confidence_of(record),
    )
    return made._replace(verdict=[_inside(made, i) for i in range(step.size)])


def _inside(found: Checkpoints, i: int) -> str:
    """The recorded word, where the interval says the same; else "open"."""
    inside = {"no": "yes", "yes": "no"}.get(above(found.barrier_of(i), found.tolerance))
    return inside if inside == found.verdict[i] else "open"


def transferability(records: Records) -> Transferability | None:
    """The scores of P's checkpoints; None without a record of them."""
    every = of_kind(records, "transferability", "values", "measured", "scores", "score")
    if not every:
        return None
    record = every[0]
    found: results.Transferability = record.results
    values, scores = words(found.values), words(found.scores)
    each = (len(scores),)
    return Transferability(
        values=values,
        measured=array(found.measured, (len(values),)),
        names=scores,
        score=array(found.score, (len(scores), len(values))),
        weighted_tau=array(found.weighted_tau, each),
        p_weighted_tau=array(found.p_weighted_tau, each),
        kendall=array(found.kendall, each),
        p_kendall=array(found.p_kendall, each),
        p_holm=array(found.p_holm, each),
        num_images=whole(found.num_examples),
        layer=str(record.options.get("layer") or ""),
    )


def steps(found: Sweep) -> np.ndarray:
    """The training steps of P that the sweep starts from, float [C]; NaN for no number."""
    return np.array([float(v) if v.isdigit() else np.nan for v in found.values])


def as_good(found: Sweep) -> int | None:
    """The first start from which on none ends measurably below the last one.

    Its index, that of the last where the one before it does; None where it is unknown, as where
    intervals do not cover other runs. Never before the earliest one that is recorded.
    """
    first = never_below([difference(found, i) for i in range(len(found.values) - 1)])
    name = str(found.earliest)
    if first is None or name not in found.values:
        return first
    return max(first, found.values.index(name))


def never_below(differences: Sequence[Estimate]) -> int | None:
    """The first value from which on no difference from the last is above 0.

    Args:
      differences: the last one's value less each earlier one's.

    Returns:
      Its index, that of the last where the one before it is measurably lower; None where an
      interval is unknown, or there is one value only.
    """
    if not differences or any(above_zero(d) in ("", NO_INTERVAL) for d in differences):
        return None
    lower = [i for i, d in enumerate(differences) if above(d, ZERO) == "yes"]
    return lower[-1] + 1 if lower else 0
