"""The evaluations of runs as curves, what they come to, and which runs are of one recipe."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tlx.analyses.function import learning
from tlx.studies.runs import Run
from tlx.train import metrics_log

SPLITS = ("test", "valid", "train")


class Curve(NamedTuple):
    """The evaluations of a run: [T] each; NaN for images held out where there are none.

    `auc`, on the test images, is NaN where an image has one class.
    """

    step: np.ndarray
    accuracy: dict[str, np.ndarray]
    loss: dict[str, np.ndarray]
    num: dict[str, int]
    auc: np.ndarray


def read(run: Run) -> Curve:
    """The clean evaluations of a run, by split."""
    lines = metrics_log.read(run.workdir)
    by_split = {name: [x for x in lines if x["split"] == name] for name in SPLITS}
    step = np.array([x["step"] for x in by_split["test"]])

    def series(field: str) -> dict[str, np.ndarray]:
        nothing = np.full(len(step), np.nan)
        return {
            split: np.array([x[field] for x in of_split]) if of_split else nothing
            for split, of_split in by_split.items()
        }

    num = {split: of_split[-1]["count"] if of_split else 0 for split, of_split in by_split.items()}
    auc = np.array([x.get("auc") for x in by_split["test"]], np.float64)  # None becomes NaN
    return Curve(step, series("accuracy"), series("loss"), num, auc)


def summary(curve: Curve) -> dict[str, Any]:
    """How fast and how far a run learned, in numbers."""
    best = learning.best(curve.step, curve.accuracy["test"])
    selected = learning.select(curve.step, curve.accuracy["valid"], curve.accuracy["test"])
    return {
        "average_train_accuracy": learning.average(curve.step, curve.accuracy["train"]),
        "area_train_accuracy": learning.area_under(curve.step, curve.accuracy["train"]),
        "area_test_accuracy": learning.area_under(curve.step, curve.accuracy["test"]),
        "best_step": best.step,
        "best_accuracy": best.value,
        "selected_step": selected.step,
        "selected_accuracy": selected.value,
    }


def by_recipe(runs: Sequence[Run]) -> dict[tuple[str, float], list[Run]]:
    """The runs by kind and rate, P-T first, the rate of each kind's config first."""
    recipes: dict[tuple[str, float], list[Run]] = {}
    for run in sorted(runs, key=lambda r: (r.kind, r.is_further_rate)):
        recipes.setdefault((run.kind, run.spec.optim.rate), []).append(run)
    return recipes


def selected_on(runs: Sequence[Run]) -> str:
    """The split by which a rate or a step is chosen."""
    return "valid" if all(run.spec.data.valid_size for run in runs) else "test"


def chosen_rate(final: np.ndarray, valid: np.ndarray) -> int:
    """The rate with the best mean accuracy, of [R, S]: on images held out where there are any."""
    accuracy = final if np.isnan(valid).all() else valid
    return int(np.argmax(accuracy.mean(-1)))
