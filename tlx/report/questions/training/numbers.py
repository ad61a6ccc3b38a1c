"""P-T and RI-T on the plain target: where they end, how fast they learn, and what is higher."""

from typing import NamedTuple

import numpy as np

from tlx.records import results
from tlx.report.read import learning
from tlx.report.read.selection import Records, of_kind
from tlx.report.read.sweeps import Sweep, sweep
from tlx.report.read.values import (
    array,
    confidence_of,
    counts,
    ends,
    share,
    whole,
    words,
)
from tlx.report.words.kinds import ON_TARGET, TRAINED
from tlx.report.words.numbers import Estimate
from tlx.report.words.verdicts import above_zero, order


class MeanCurves(NamedTuple):
    """The runs on the plain target, in groups of one kind and rate: [G], steps [T], seeds [S].

    Attributes:
      step: [T] at which the models were evaluated.
      kinds, rates, seeds: [G], the last the number of runs.
      test, train, loss: [3, G, T]: mean over the runs, and the ends of its interval; test
        accuracy, training accuracy, test loss in nats.
      auc: [3, G, T]: likewise the mean area under the labels' ROC curves; NaN where an image
        has one class.
      final: [3, G]: test accuracy after the last step.
      best_step, best: [G, S], the step with the best test accuracy, and that accuracy.
      selected_step, selected: [G, S], the step chosen on validation images, and its test
        accuracy; NaN without such images.
      optimism: [G], the mean of best - selected.
    """

    step: np.ndarray
    kinds: list[str]
    rates: np.ndarray
    seeds: np.ndarray
    test: np.ndarray
    train: np.ndarray
    loss: np.ndarray
    auc: np.ndarray
    final: np.ndarray
    best_step: np.ndarray
    best: np.ndarray
    selected_step: np.ndarray
    selected: np.ndarray
    optimism: np.ndarray
    num_images: int
    num_valid: int
    confidence: float

    def final_of(self, group: int) -> Estimate:
        """The mean final test accuracy of a group, with its interval over seeds.

        What of the interval lies in 0 … 1; so too of `Sweep`.
        """
        return share(*self.final[:, group], n=self.num_images)


def mean_curves(records: Records) -> MeanCurves | None:
    """The runs on the plain target; None without a record of them."""
    every = of_kind(records, "mean_learning_curves", "step", "kinds", "test_mean")
    if not every:
        return None
    record = every[0]
    found: results.MeanLearningCurves = record.results
    kinds, step = words(found.kinds), np.atleast_1d(found.step)
    groups, over_time = (len(kinds),), (len(kinds), step.size)
    over_seeds = (len(kinds), np.shape(np.atleast_1d(found.best))[-1])
    return MeanCurves(
        step=step,
        kinds=kinds,
        rates=array(found.rates, groups),
        seeds=counts(found.seeds, groups),
        test=ends(over_time, found.test_mean, found.test_low, found.test_high),
        train=ends(over_time, found.train_mean, found.train_low, found.train_high),
        loss=ends(over_time, found.loss_mean, found.loss_low, found.loss_high),
        auc=ends(over_time, found.auc_mean, found.auc_low, found.auc_high),
        final=ends(groups, found.final_mean, found.final_low, found.final_high),
        best_step=array(found.best_step, over_seeds),
        best=array(found.best, over_seeds),
        selected_step=array(found.selected_step, over_seeds),
        selected=array(found.selected, over_seeds),
        optimism=array(found.optimism, groups),
        num_images=whole(found.num_examples),
        num_valid=whole(found.num_valid),
        confidence=confidence_of(record),
    )


class Plain(NamedTuple):
    """The kinds of run on the plain target; and whether P-T is above RI-T, as a verdict.

    Attributes:
      final: test accuracy after the last step.
      speed: average training accuracy.
      rates: the learning rate of these runs; NaN where unknown.
      ends_higher, learns_faster: of P-T against RI-T; "" where unknown.
    """

    final: dict[str, Estimate]
    speed: dict[str, Estimate]
    rates: dict[str, float]
    ends_higher: str
    learns_faster: str


def plain(records: Records) -> Plain:
    """P-T and RI-T on the plain target.

    From a sweep that has both there: at the chosen rates, and the verdicts by the intervals of
    the differences. Without, from the runs at the study's rate: by their intervals over seeds,
    which may not overlap, or with too few runs for those by two binomial standard errors.
    """
    for axis in ("shuffle", "train_size", "target"):
        found = sweep(records, axis)
        at = _plain_value(found) if found else None
        if found and at is not None:
            return _of_sweep(found, at)
    runs = learning.curves(records)
    kinds = [k for k in ON_TARGET if k in TRAINED or any(c.kind == k for c in runs)]
    final = {kind: learning.final(runs, kind) for kind in kinds}
    speed = {kind: learning.speed(runs, kind) for kind in kinds}
    rates = {kind: next((c.rate for c in runs if c.kind == kind), np.nan) for kind in kinds}
    grouped = mean_curves(records)
    groups = [group(grouped, kind, rates[kind]) for kind in kinds] if grouped else []
    over_seeds = [grouped.final_of(g) for g in groups if grouped and g is not None]
    if len(over_seeds) == len(kinds) and all(e.interval for e in over_seeds):
        final = dict(zip(kinds, over_seeds, strict=True))
    ends, learns = (order(*(of[kind] for kind in TRAINED)) for of in (final, speed))
    return Plain(final, speed, rates, ends, learns)


def group(found: MeanCurves, kind: str, rate: float) -> int | None:
    """Which group is of a kind and a rate; the kind's first if no rate is given.

    None where there is none.
    """
    own = [g for g, name in enumerate(found.kinds) if name == kind]
    if not np.isfinite(rate):
        return own[0] if own else None
    return next((g for g in own if np.isclose(found.rates[g], rate)), None)


def _plain_value(found: Sweep) -> int | None:
    """Which value is the plain target; None where P-T or RI-T is not known there."""
    if found.plain not in found.values:
        return None
    at = found.values.index(found.plain)
    return at if all(found.final_of(kind, at).known for kind in TRAINED) else None


def _of_sweep(found: Sweep, at: int) -> Plain:
    return Plain(
        {kind: found.final_of(kind, at) for kind in found.kinds},
        {kind: found.average_of(kind, at) for kind in found.kinds},
        {kind: found.rate_of(kind, at) for kind in found.kinds},
        above_zero(found.difference_of(at)),
        above_zero(found.speed_of(at)),
    )
