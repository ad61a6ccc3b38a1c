"""Between the checkpoints of a run, and between the best ones of two runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tlx.records import Record, results
from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.read import over_runs
from tlx.report.read.over_runs import of_pairs, of_runs, pairs_of
from tlx.report.read.selection import Records, of_kind
from tlx.report.read.values import array, estimate, whole
from tlx.report.words.kinds import ON_TARGET, colour
from tlx.report.words.numbers import Estimate, percent, proportion, text
from tlx.report.words.table import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BETWEEN = {
    "start / last": "From the start of a run to its end",
    "best / last": "From the best checkpoint of a run to its end",
    "best / best": "Between the best checkpoints of two runs",
}
"""The ends of a line, and what it is called."""


class Lines(NamedTuple):
    """The lines of a kind of run between checkpoints, K places of M lines.

    Attributes:
      alphas: [K].
      accuracy: [M, K], on test images.
      ends: the accuracy at both ends, means over the lines.
      highest: of the accuracies of a line the highest, mean over the lines.
      accuracy_barrier, loss_barrier: means over the lines.
      num_images: test images.
    """

    alphas: np.ndarray
    accuracy: np.ndarray
    ends: tuple[Estimate, Estimate]
    highest: Estimate
    accuracy_barrier: Estimate
    loss_barrier: Estimate
    num_images: int


def lines(records: Records) -> dict[str, dict[str, Lines]]:
    """By what is between the ends, and by kind of run."""
    found = of_kind(records, "checkpoint_interpolation", "alphas", "accuracy")
    groups: dict[str, dict[str, Lines]] = {}
    for between in _BETWEEN:
        for kind in ON_TARGET:
            group = [r for r in found if (r.inputs["at"], r.inputs["kind_a"]) == (between, kind)]
            if group:
                groups.setdefault(between, {})[kind] = _lines(group)
    return groups


def _lines(group: list[Record]) -> Lines:
    first: results.CheckpointInterpolation = group[0].results
    alphas = np.asarray(first.alphas, np.float64)
    same = [r for r in group if r.results.alphas.shape == alphas.shape]
    found: list[results.CheckpointInterpolation] = [r.results for r in same]
    accuracy = np.array([array(f.accuracy, alphas.shape) for f in found])
    n = min(whole(f.num_examples) for f in found)

    def mean(each: list[Estimate]) -> Estimate:
        is_of_one = all(r.inputs["a"] == r.inputs["b"] for r in same)
        return of_runs(each) if is_of_one else of_pairs(pairs_of(same), each)

    def height(name: str) -> list[Estimate]:
        ends = ("", "_low", "_high")
        return [estimate(*(getattr(f, f"{name}{end}") for end in ends), n=n) for f in found]

    at = [[proportion(float(row[i]), n) for row in accuracy] for i in (0, -1)]
    return Lines(
        alphas,
        accuracy,
        (mean(at[0]), mean(at[1])),
        mean([proportion(float(row.max()), n) for row in accuracy]),
        mean(height("accuracy_barrier")),
        mean(height("barrier_chord")),
        n,
    )


def panels(records: Records) -> list[Panel]:
    """A panel of accuracy for each pair of ends."""
    return [
        Panel(between.replace(" / ", "-"), _BETWEEN[between], _draw(found), 2.5,
              (0.5, 0.75, 0.45, 0.35))
        for between, found in lines(records).items()
    ]  # fmt: skip


def _draw(found: Mapping[str, Lines]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        labels = []
        for kind, own in found.items():
            hue, mean = colour(kind), 100 * own.accuracy.mean(0)
            for row in own.accuracy if len(own.accuracy) > 1 else ():
                axes.plot(own.alphas, 100 * row, color=hue, lw=0.4, alpha=0.6)
            axes.plot(own.alphas, mean, color=hue, lw=1.6)
            labels.append(Label(1.0, float(mean[-1]), kind, hue))
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
        axes.set_ylim(0, 100)
        axes.set_xlabel("alpha, from the first to the second")
        axes.set_ylabel("test accuracy, %")
        label_ends(axes, labels)

    return draw


def caption(records: Records) -> str:
    """The caption of the panels."""
    found = lines(records)
    n = max((own.num_images for group in found.values() for own in group.values()), default=0)
    counts = {len(own.accuracy) for group in found.values() for own in group.values()}
    several = "; thin lines are each by itself, thick ones their mean" if max(counts) > 1 else ""
    return (
        f"Test accuracy along the line between two checkpoints, n = {n:,} images{several}. From a "
        "start to an end it is the curve of WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903): a "
        "highest accuracy before alpha 1 says that an average of both is better than the end. "
        "The start of P-T has P's weights and a new head."
    )


def table(records: Records) -> Table | None:
    """A row a kind and pair of ends; None: no data."""
    columns = (
        "from / to", "", "lines", "accuracy at first", "at second", "highest on the line",
        "accuracy barrier, points", "loss barrier, nats",
    )  # fmt: skip
    rows = tuple(
        (
            between,
            kind,
            str(len(own.accuracy)),
            *(percent(end) for end in own.ends),
            percent(own.highest),
            text(own.accuracy_barrier, 100.0, most=2),
            text(own.loss_barrier, most=3),
        )
        for between, found in lines(records).items()
        for kind, own in found.items()
    )
    return Table(columns, rows) if rows else None


HOW = (
    "The best checkpoint of a run is the one with the highest accuracy on images held out, and "
    "without those, as the paper does it, on the test images. " + over_runs.HOW
)
