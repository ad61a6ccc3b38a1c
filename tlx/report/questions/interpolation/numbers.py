"""Barriers on the line between two models."""

from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.lines import accuracy_barrier, nearest
from tlx.report.read.over_runs import are_enough, band, of_pairs, pairs_of
from tlx.report.read.selection import Records, by_pair
from tlx.report.read.values import array, estimate, is_known, whole
from tlx.report.words.kinds import Pair
from tlx.report.words.numbers import Estimate, mean
from tlx.report.words.verdicts import ACCURACY_TOLERANCE, LOSS_TOLERANCE, Verdict, above


class Barrier(NamedTuple):
    """A kind of pair on the line between its models, averaged over its pairs.

    Attributes:
      each: of every pair, by its own intervals over images, whether there is a barrier.
      of_kind: the one verdict by the intervals over runs; of too few pairs `each`.
    """

    loss: Estimate
    endpoint_mean: Estimate
    accuracy: Estimate
    ends: Estimate
    middle: Estimate
    each: tuple[Verdict, ...]
    of_kind: tuple[Verdict, ...]

    @property
    def num_pairs(self) -> int:
        """How many pairs there are."""
        return len(self.each)


class Line(NamedTuple):
    """The line between the models of a pair: [K] arrays.

    Attributes:
      alphas: 0 at the first model of the pair's kind, 1 at the other.
      loss, accuracy: at each point.
      auc: mean area under the labels' ROC curves; None where an image has one class.
    """

    alphas: np.ndarray
    loss: np.ndarray
    accuracy: np.ndarray
    auc: np.ndarray | None


def barriers(records: Records) -> dict[Pair, Barrier]:
    """The barriers by kind of pair."""
    return {k: _barrier(group) for k, group in _by_pair(records).items()}


def lines(records: Records) -> dict[Pair, list[Line]]:
    """The lines between two models that were trained on the target, by kind of pair."""
    groups = {k: group for k, group in _by_pair(records).items() if "P" not in k}
    return {k: [_line(r, k) for r in group] for k, group in groups.items()}


def bands(records: Records, quantity: str) -> dict[Pair, tuple[np.ndarray, np.ndarray]]:
    """The alphas, and the mean of a quantity over the pairs with the ends of its interval [3, K].

    Of kinds that have pairs enough, on the same places of the line.
    """
    found = {}
    for kinds, group in _by_pair(records).items():
        each = [_line(r, kinds) for r in group]
        alphas = each[0].alphas
        if any(line.alphas.shape != alphas.shape for line in each):
            continue
        ordered = [getattr(line, quantity)[np.argsort(line.alphas)] for line in each]
        over = band(pairs_of(group), np.array(ordered))
        if over is not None:
            found[kinds] = np.sort(alphas), np.stack(over[:3])
    return found


def heights(records: Records, kinds: Pair) -> dict[tuple[str, str], float]:
    """The accuracy barrier between each two runs of a kind of pair, by their names."""
    group = _by_pair(records).get(kinds, [])
    return {
        (str(r.inputs["a"]), str(r.inputs["b"])): float(_accuracy_barrier(r.results).value)
        for r in group
    }


def _by_pair(records: Records) -> dict[Pair, list[Record]]:
    return by_pair(records, "interpolation", "alphas", "loss", "accuracy")


def _line(record: Record, kinds: Pair) -> Line:
    found: results.Interpolation = record.results
    alphas = np.asarray(found.alphas, np.float64)
    if str(record.inputs.get("kind_a")) != kinds[0]:
        alphas = 1.0 - alphas
    loss, accuracy = array(found.loss, alphas.shape), array(found.accuracy, alphas.shape)
    return Line(
        alphas, loss, accuracy, array(found.auc, alphas.shape) if is_known(found.auc) else None
    )


def _barrier(group: list[Record]) -> Barrier:
    found: list[results.Interpolation] = [r.results for r in group]
    pairs = pairs_of(group)
    loss = of_pairs(pairs, [_loss_barrier(f) for f in found])
    accuracy = of_pairs(pairs, [_accuracy_barrier(f) for f in found])
    each = tuple(_has_barrier(_accuracy_barrier(f), _loss_barrier(f)) for f in found)
    return Barrier(
        loss,
        of_pairs(pairs, [Estimate(float(f.barrier_endpoint_mean)) for f in found]),
        accuracy,
        of_pairs(pairs, [mean([_accuracy(f, 0.0), _accuracy(f, 1.0)]) for f in found]),
        of_pairs(pairs, [_accuracy(f, 0.5) for f in found]),
        each,
        (_has_barrier(accuracy, loss),) if are_enough(pairs) else each,
    )


def _loss_barrier(found: results.Interpolation) -> Estimate:
    n = whole(found.num_examples)
    height = (found.barrier_chord, found.barrier_chord_low, found.barrier_chord_high)
    return estimate(*height, n=n)


def _accuracy_barrier(found: results.Interpolation) -> Estimate:
    n = whole(found.num_examples)
    depth = (found.accuracy_barrier, found.accuracy_barrier_low, found.accuracy_barrier_high)
    return accuracy_barrier(found.alphas, found.accuracy, estimate(*depth, n=n))


def _accuracy(found: results.Interpolation, alpha: float) -> Estimate:
    return nearest(found.alphas, found.accuracy, alpha, whole(found.num_examples))


def _has_barrier(accuracy: Estimate, loss: Estimate) -> Verdict:
    """There is one if accuracy or loss shows it, and none if neither does."""
    either = {above(accuracy, ACCURACY_TOLERANCE), above(loss, LOSS_TOLERANCE)}
    return "yes" if "yes" in either else "open" if "open" in either else "no"
