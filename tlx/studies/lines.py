"""The line between the weights of two runs, and the barrier on it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx.analyses.landscape import barriers, interpolation
from tlx.config import problems as check
from tlx.core import auc, metrics
from tlx.core.types import Metric, Params
from tlx.studies import trained
from tlx.studies.question import CONFIDENCE, Question
from tlx.studies.runs import Run
from tlx.train.losses import make_loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class LineQuestion(Question):
    """The options of every question about lines between weights.

    Attributes:
      num_alphas: points on each line, ends included, at least 3; an odd number has ½ among them.
    """

    num_alphas: int = 21

    def problems(self) -> list[str]:
        """Everything that is wrong with its options."""
        return check.integer("num_alphas", self.num_alphas, low=3)


class Line(NamedTuple):
    """The metrics on a line of K points.

    Attributes:
      alphas: float32 [K], from 0 to 1.
      mean: by name [K], over the images.
      each: "loss" and "error" of every image, [K, N].
      statistics: the rule of the batch statistics.
    """

    alphas: np.ndarray
    mean: Mapping[str, Any]
    each: Mapping[str, Any]
    statistics: str


def line(run: Run, a: Params, b: Params, num_alphas: int, *, repair: bool = False) -> Line:
    """The metrics of a run on its test images, along the line from weights a to weights b."""
    alphas = np.linspace(0, 1, num_alphas, dtype=np.float32)
    metric = _mean_and_each(run.spec.loss, trained.num_examples(run), trained.num_classes(run))
    on_line = interpolation.line(
        trained.apply_fn(run),
        metric,
        a,
        b,
        trained.stream(run),
        alphas=alphas,
        chunk=trained.chunk(),
        statistics=trained.stream(run, "train"),
        repair=repair,
    )
    results = on_line.results
    return Line(alphas, results["mean"], results, on_line.statistics)


def barrier(on_line: Line, of: str) -> barriers.BarrierInterval:
    """The height of the "loss" or the "error" above the chord, with its interval over images."""
    return barriers.barrier_interval(
        on_line.alphas,
        on_line.each[of],
        kind="chord",
        key=jax.random.key(0),
        confidence=CONFIDENCE,
    )


def measured(on_line: Line) -> dict[str, Any]:
    """What every record of a line has: its metrics, and the barriers on it."""
    found = {
        "alphas": on_line.alphas,
        "loss": on_line.mean["loss"],
        "accuracy": on_line.mean["accuracy"],
        "num_examples": on_line.mean["count"][0],
        "statistics": on_line.statistics,
    }
    for name, of in (("barrier_chord", "loss"), ("accuracy_barrier", "error")):
        height = barrier(on_line, of)
        found |= {name: height.height, f"{name}_low": height.low, f"{name}_high": height.high}
    return found


@functools.lru_cache(
    maxsize=8
)  # the same object for every line, so that compiled code is found again
def _mean_and_each(loss: str, num_examples: int, num_classes: int) -> Metric:
    """The means over the examples, and what each example contributes to them.

    With several labels an image the means have their mean area under the ROC curve, `auc`.
    """
    losses = trained.LOSSES[loss].items()
    each = {name: metrics.collect(of_one, num_examples) for name, of_one in losses}
    if loss == "multilabel":
        return metrics.combine({"mean": auc.ranking(num_examples, num_classes), **each})
    return metrics.combine({"mean": make_loss(loss).metric(), **each})
