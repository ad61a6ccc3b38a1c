"""Panels about runs: learning curves and block shuffling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tlx.report import measures
from tlx.report.drawing import INK, Label, Panel, label_ends
from tlx.report.kinds import colour
from tlx.report.measures import Curve, Records, ShuffleRow
from tlx.report.numbers import decimals, percent, proportion

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def curves(records: Records) -> list[Panel]:
    """Returns the panels of test accuracy and test loss against the step."""
    found = [c for c in measures.curves(records) if c.step.size]
    panels = []
    if any(np.isfinite(c.test_accuracy).any() for c in found):

        def accuracy(axes: Axes) -> None:
            _series(axes, found, "test_accuracy")
            axes.set_ylabel("test accuracy, %")

        panels.append(Panel("accuracy", "Accuracy on the target's test images", accuracy))
    if any(np.isfinite(c.test_loss).any() for c in found):

        def loss(axes: Axes) -> None:
            _series(axes, found, "test_loss")
            axes.set_ylabel("test loss, nats")

        panels.append(Panel("loss", "Loss on the same images", loss))
    return panels


def _series(axes: Axes, found: Sequence[Curve], field: str) -> None:
    scale = 100.0 if field == "test_accuracy" else 1.0
    ends = []
    for kind in dict.fromkeys(c.kind for c in found):
        own = [c for c in found if c.kind == kind]
        values = [scale * np.asarray(getattr(c, field)) for c in own]
        for c, value in zip(own, values, strict=True):
            axes.plot(c.step, value, color=colour(kind), lw=0.7, alpha=0.55)
        same = all(np.array_equal(c.step, own[0].step) for c in own)
        middle = np.mean(values, axis=0) if same else values[0]
        if same:
            axes.plot(own[0].step, middle, color=colour(kind))
            if field == "test_accuracy" and own[0].num_test:
                _band(axes, own[0], middle)
        finite = middle[np.isfinite(middle)]
        if finite.size:
            end = percent(measures.final(found, kind), error=False) if scale > 1 else ""
            last = float(own[0].step[np.isfinite(middle)][-1])
            name = f"{kind} {end}".strip()
            ends.append(Label(last, float(finite[-1]), name, colour(kind)))
    axes.set_xlabel("training step")
    axes.set_xlim(0, max(1, *(int(c.step[-1]) for c in found)))
    if scale > 1:
        axes.set_ylim(0, 100)
    else:
        axes.set_ylim(bottom=0)
    label_ends(axes, ends)


def _band(axes: Axes, curve: Curve, middle: np.ndarray) -> None:
    error = 100 * np.array([proportion(p / 100, curve.num_test).error for p in middle])
    axes.fill_between(
        curve.step, middle - error, middle + error, color=colour(curve.kind), alpha=0.18, lw=0
    )


def shuffle(records: Records) -> list[Panel]:
    """Returns the panels of final test and average training accuracy against the block size."""
    rows = measures.shuffles(records)
    if all(r.name == "none" for r in rows):
        return []

    def final(axes: Axes) -> None:
        _blocks(axes, rows, "accuracy")
        axes.set_ylabel("final test accuracy, %")
        _drops(axes, rows)

    def speed(axes: Axes) -> None:
        _blocks(axes, rows, "speed")
        axes.set_ylabel("average training accuracy, %")

    panels = [Panel("final", "Where it ends", final)]
    if any(e.known for r in rows for e in r.speed.values()):
        panels.append(Panel("speed", "How fast it learns", speed))
    return panels


def _blocks(axes: Axes, rows: Sequence[ShuffleRow], field: str) -> None:
    ends = []
    for kind in ("P-T", "RI-T"):
        points = [(i, getattr(r, field).get(kind)) for i, r in enumerate(rows)]
        known = [(i, e) for i, e in points if e is not None and e.known]
        if not known:
            continue
        axes.errorbar(
            [i for i, _ in known],
            [100 * e.value for _, e in known],
            yerr=[100 * e.error if e.error == e.error else 0.0 for _, e in known],
            color=colour(kind),
            marker="o" if kind == "P-T" else "s",
            elinewidth=0.9,
        )
        ends.append(Label(known[-1][0], 100 * known[-1][1].value, kind, colour(kind)))
    axes.set_xticks(range(len(rows)), [r.label for r in rows])
    axes.set_xlim(-0.4, len(rows) - 0.6)
    axes.set_ylim(0, 105)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("side of the shuffled blocks, pixels")
    label_ends(axes, ends)


def _drops(axes: Axes, rows: Sequence[ShuffleRow]) -> None:
    """Prints the relative drops under the upper edge, as the paper's figure does."""
    lowest = min((e.value for r in rows for e in r.accuracy.values() if e.known), default=0.0)
    y = 0.06 if lowest > 0.3 else 0.97
    known = [r.drop for r in rows if r.drop.known]
    if not known:
        return
    for i, row in enumerate(rows):
        if row.drop.known:
            places = decimals(100 * row.drop.error) if row.drop.error > 0 else 0
            axes.annotate(
                f"{100 * row.drop.value:.{places}f}%".replace("-", "−"),
                (i, y),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="center",
                fontsize=7 if len(rows) < 9 else 5.5,
                color=INK,
            )
    axes.annotate(
        "relative drop, P-T to RI-T",
        (0.5, y + 0.08 if y < 0.5 else y - 0.08),
        xycoords="axes fraction",
        ha="center",
        va="center",
        fontsize=7,
        color=INK,
    )
