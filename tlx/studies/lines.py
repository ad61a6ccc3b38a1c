"""The line between the weights of two runs, and the barrier on it."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from tlx.analyses.landscape import barriers, interpolation
from tlx.core import auc, metrics
from tlx.core.types import Metric, Params
from tlx.records import results
from tlx.studies import trained
from tlx.studies.question import CONFIDENCE, arrays
from tlx.studies.runs import Run
from tlx.train.losses import make_loss


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


def interpolation_of(run: Run, a: Params, b: Params, num_alphas: int) -> results.Interpolation:
    """The record of the line from weights a to weights b on a run's test images."""
    on_line = line(run, a, b, num_alphas)
    loss, dip = (barrier(on_line, of) for of in ("loss", "error"))
    above_ends = barriers.barrier(on_line.alphas, on_line.mean["loss"], kind="endpoint_mean")
    return arrays(
        results.Interpolation,
        alphas=on_line.alphas,
        loss=on_line.mean["loss"],
        accuracy=on_line.mean["accuracy"],
        num_examples=on_line.mean["count"][0],
        barrier_chord=loss.height,
        barrier_chord_low=loss.low,
        barrier_chord_high=loss.high,
        barrier_endpoint_mean=above_ends.height,
        accuracy_barrier=dip.height,
        accuracy_barrier_low=dip.low,
        accuracy_barrier_high=dip.high,
        statistics=on_line.statistics,
        **_areas(on_line.alphas, on_line.mean),
    )


def _areas(alphas: Any, mean: Mapping[str, Any]) -> dict[str, Any]:
    """Of several labels an image: the mean area under their ROC curves, and its dip."""
    if "auc" not in mean:
        return {}
    dip = barriers.barrier(alphas, -mean["auc"], kind="chord")
    return {"auc": mean["auc"], "auc_barrier": dip.height}


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
