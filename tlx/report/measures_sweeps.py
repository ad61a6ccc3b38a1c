"""Numbers about all runs on the plain target, and along an axis of a study."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tlx.records import Record
from tlx.report.measures import Records, number, option, usable, whole
from tlx.report.numbers import UNKNOWN, Estimate


class Learning(NamedTuple):
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

    target: str
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
    selected_on: str
    confidence: float

    def final_of(self, group: int) -> Estimate:
        """Returns the mean final test accuracy of a group, with its interval over seeds.

        What of the interval lies in 0 … 1; so too of `Sweep`.
        """
        return _share(self.final[:, group], self.num_images)


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
            at the step chosen on validation; first step with a test accuracy of ``reach``.
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
        """Returns the mean final test accuracy of a kind at value ``i``, at its chosen rate.

        With its interval over seeds; UNKNOWN for a kind that the axis does not have.
        """
        return self._of(self.final_mean, kind, i)

    def average_of(self, kind: str, i: int) -> Estimate:
        """Returns the mean average training accuracy of a kind, as ``final_of`` does."""
        return self._of(self.average_mean, kind, i)

    def difference_of(self, i: int) -> Estimate:
        """Returns the difference of final test accuracies at value ``i``, a fraction."""
        return _estimate(self.difference[:, i], int(self.num_images[i]))

    def drop_of(self, i: int) -> Estimate:
        """Returns the relative drop from P-T to RI-T at value ``i``, in percent."""
        return _estimate(self.drop[:, i], int(self.num_images[i]))

    def speed_of(self, i: int) -> Estimate:
        """Returns the difference of average training accuracies at value ``i``, a fraction."""
        return _estimate(self.speed[:, i], int(self.train_size[i]))

    def rate_of(self, kind: str, i: int) -> float:
        """Returns the chosen learning rate of a kind at value ``i``; NaN where unknown."""
        if kind not in self.kinds:
            return float("nan")
        k = self.kinds.index(kind)
        at = int(self.chosen[k, i])
        return float(self.rates[k, at]) if 0 <= at < self.rates.shape[1] else float("nan")

    def seeds_of(self, kind: str, i: int) -> int:
        """Returns the number of runs of a kind at value ``i`` and its chosen rate."""
        return int(self.num_seeds[self.kinds.index(kind), i]) if kind in self.kinds else 0

    def _of(self, ends: np.ndarray, kind: str, i: int) -> Estimate:
        if kind not in self.kinds:
            return UNKNOWN
        return _share(ends[:, self.kinds.index(kind), i], int(self.num_images[i]))


def learning(records: Records) -> Learning | None:
    """Returns the runs on the plain target; None without a record of them."""
    found = usable(records, "learning")
    if not found:
        return None
    record = found[0]
    kinds = _words(record, "kinds")
    step = np.atleast_1d(np.asarray(record.results["step"]))
    over_seeds = (len(kinds), np.shape(_array(record, "best", (len(kinds), 1)))[-1])
    over_time, groups = (len(kinds), step.size), (len(kinds),)
    return Learning(
        target=str(record.inputs.get("target", "")),
        step=step,
        kinds=kinds,
        rates=_array(record, "rates", groups),
        seeds=_counts(record, "seeds", groups),
        test=_ends(record, "test_mean", over_time),
        train=_ends(record, "train_mean", over_time),
        loss=_ends(record, "loss_mean", over_time),
        auc=_ends(record, "auc_mean", over_time),
        final=_ends(record, "final_mean", groups),
        best_step=_array(record, "best_step", over_seeds),
        best=_array(record, "best", over_seeds),
        selected_step=_array(record, "selected_step", over_seeds),
        selected=_array(record, "selected", over_seeds),
        optimism=_array(record, "optimism", groups),
        num_images=whole(record, "count"),
        num_valid=whole(record, "num_valid"),
        selected_on=str(option(record, "selected_on") or ""),
        confidence=_level(record),
    )


def sweep(records: Records, axis: str) -> Sweep | None:
    """Returns the runs along an axis of the study; None without a record of them."""
    found = [r for r in usable(records, "sweep") if r.inputs.get("axis") == axis]
    if not found:
        return None
    record = found[0]
    values, kinds = _words(record, "values"), _words(record, "kinds")
    final = np.asarray(record.results["final"], np.float64)
    cells, each = (len(values),), (len(kinds), len(values))
    runs = {
        name: _array(record, name, final.shape)
        for name in ("average", "area", "best", "selected", "steps_to")
    }
    tested = {
        name: _array(record, name, cells)
        for name in ("reach", "difference_p", "difference_p_holm", "speed_p", "speed_p_holm")
    }
    earliest = number(record, "earliest")
    return Sweep(
        axis=axis,
        target=str(record.inputs.get("target", "")),
        values=values,
        plain=str(record.results.get("plain", "")),
        kinds=kinds,
        rates=_array(record, "rates", (len(kinds), final.shape[2])),
        final=final,
        chosen=_counts(record, "chosen", each, nothing=-1),
        chosen_on=str(record.results.get("chosen_on", "")),
        final_mean=_ends(record, "final_mean", each),
        average_mean=_ends(record, "average_mean", each),
        difference=_ends(record, "difference", cells),
        drop=_ends(record, "drop", cells),
        speed=_ends(record, "speed", cells),
        chance=_words(record, "chance") or [""] * len(values),
        num_seeds=_counts(record, "num_seeds", each),
        num_images=_counts(record, "count", cells),
        train_size=_counts(record, "train_size", cells),
        num_classes=_counts(record, "num_classes", cells),
        earliest=int(earliest) if np.isfinite(earliest) else -1,
        confidence=_level(record),
        **runs,
        **tested,
    )


def _estimate(ends: np.ndarray, n: int) -> Estimate:
    value, low, high = map(float, ends)
    known = bool(np.isfinite([low, high]).all())
    return Estimate(value, n=n, interval=(low, high) if known else None)


def _share(ends: np.ndarray, n: int) -> Estimate:
    """Returns a share; of its interval by Student's t what lies in 0 … 1 (others are no shares)."""
    found = _estimate(ends, n)
    if found.interval is None:
        return found
    return found._replace(interval=(max(found.interval[0], 0.0), min(found.interval[1], 1.0)))


def _words(record: Record, name: str) -> list[str]:
    return [str(word) for word in np.atleast_1d(record.results.get(name, []))]


def _array(record: Record, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a result as float64 [shape]; NaN where the record has none of the name."""
    if name not in record.results:
        return np.full(shape, np.nan)
    return np.asarray(record.results[name], np.float64)


def _counts(record: Record, name: str, shape: tuple[int, ...], nothing: int = 0) -> np.ndarray:
    values = _array(record, name, shape)
    return np.where(np.isfinite(values), values, nothing).astype(np.int64)


def _ends(record: Record, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a result and the ends of its interval, [3, shape]; ``x_mean`` has ``x_low``."""
    stem = name.removesuffix("_mean")
    return np.stack([_array(record, n, shape) for n in (name, f"{stem}_low", f"{stem}_high")])


def _level(record: Record) -> float:
    level = option(record, "confidence")
    return float(level) if isinstance(level, int | float) else float("nan")
