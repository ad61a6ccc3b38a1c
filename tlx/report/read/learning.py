"""Single runs on the target: their learning curves and where they end."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.read.selection import Records, of_kind, shuffle_of
from tlx.report.read.values import array, whole
from tlx.report.words.kinds import pair_rank
from tlx.report.words.numbers import UNKNOWN, Estimate, mean, proportion


class Curve(NamedTuple):
    """One run on the target: [S] arrays over its evaluations, NaN where not measured."""

    run: str
    kind: str
    shuffle: str
    target: str
    step: np.ndarray
    test_accuracy: np.ndarray
    test_loss: np.ndarray
    train_accuracy: np.ndarray
    test_auc: np.ndarray
    num_test: int
    num_train: int
    average: float
    rate: float

    @property
    def final(self) -> Estimate:
        """Test accuracy after the last step."""
        defined = self.test_accuracy[np.isfinite(self.test_accuracy)]
        return proportion(float(defined[-1]), self.num_test) if defined.size else UNKNOWN

    @property
    def speed(self) -> Estimate:
        """Mean training accuracy of the evaluations after step 0."""
        # How well a point is known from the training images, as if all were at the mean.
        return proportion(self.average, self.num_train)


def curves(records: Records, shuffle: str | None = "none") -> list[Curve]:
    """The runs on the target, P-T first; `shuffle=None` returns all of them.

    Runs of kind P are left out, which are trained on the source, and those that start from
    only a part of P, are at another learning rate than the study's, or belong to a cell of
    another axis than the shuffles.
    """
    apart = ("part", "cell", "further_rate")
    every = of_kind(records, "learning_curve", "step", "test_accuracy")
    found = [curve(r) for r in every if not any(r.inputs.get(name) for name in apart)]
    found = [c for c in found if c.kind != "P" and shuffle in (None, c.shuffle)]
    return sorted(found, key=lambda c: (pair_rank((c.kind, c.kind)), c.shuffle, c.run))


def curve(record: Record) -> Curve:
    """A record of a learning curve as a run."""
    found: results.LearningCurve = record.results
    step = np.atleast_1d(found.step)
    given = {k: str(record.inputs.get(k, "")) for k in ("run", "kind", "target")}
    return Curve(
        shuffle=shuffle_of(record),
        step=step,
        test_accuracy=array(found.test_accuracy, step.shape),
        test_loss=array(found.test_loss, step.shape),
        train_accuracy=array(found.train_accuracy, step.shape),
        test_auc=array(found.test_auc, step.shape),
        num_test=whole(found.num_test),
        num_train=whole(found.num_train),
        average=float(found.average_train_accuracy),
        rate=float(record.inputs.get("rate", np.nan)),
        **given,
    )


def final(found: Sequence[Curve], kind: str) -> Estimate:
    """The mean final test accuracy of the runs of a kind."""
    return mean([c.final for c in found if c.kind == kind])


def speed(found: Sequence[Curve], kind: str) -> Estimate:
    """The mean average training accuracy of the runs of a kind."""
    return mean([c.speed for c in found if c.kind == kind])


def steps_to(found: Sequence[Curve], kind: str, accuracy: float) -> tuple[int, int] | None:
    """The first evaluated step at which the kind's mean reaches an accuracy, and the last.

    None where it never does, or where its runs were evaluated at different steps.
    """
    own = [c for c in found if c.kind == kind]
    if not own or any(not np.array_equal(c.step, own[0].step) for c in own):
        return None
    reached = np.mean([c.test_accuracy for c in own], axis=0) >= accuracy
    if not reached.any():
        return None
    return int(own[0].step[np.argmax(reached)]), int(own[0].step[-1])
