"""Panels of the line between two models."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.questions.interpolation import numbers
from tlx.report.questions.interpolation.numbers import Line
from tlx.report.read.selection import Records
from tlx.report.words.kinds import Pair, pair_colour, pair_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_QUANTITIES = (
    ("accuracy", "Accuracy between two models", "test accuracy, %", 100.0),
    ("loss", "Loss between two models", "test loss, nats", 1.0),
    ("auc", "Area under the ROC curve", "mean AUC of the labels", 1.0),
)


def interpolation(records: Records) -> list[Panel]:
    """The panels of accuracy and loss along the lines between two models.

    With several labels an image also that of their mean area under the ROC curve.
    """
    groups = numbers.lines(records)
    return [
        Panel(
            name,
            title,
            _lines(groups, numbers.bands(records, name), name, unit, scale),
            margins=(0.5, 0.9, 0.45, 0.35),
        )
        for name, title, unit, scale in _QUANTITIES
        if groups
        and all(getattr(line, name) is not None for group in groups.values() for line in group)
    ]


def _lines(
    groups: dict[Pair, list[Line]],
    bands: dict[Pair, tuple[np.ndarray, np.ndarray]],
    quantity: str,
    unit: str,
    scale: float,
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        ends = []
        for kinds, group in groups.items():
            hue = pair_colour(kinds)
            if kinds in bands:
                places, (mean, low, high) = bands[kinds]
                axes.fill_between(places, scale * low, scale * high, color=hue, alpha=0.15, lw=0)
                axes.plot(places, scale * mean, color=hue, lw=1.8)
            width = 1.8 if len(group) == 1 else 0.5 if kinds in bands else 1.1
            for line in group:
                values = scale * getattr(line, quantity)
                axes.plot(line.alphas, values, color=hue, lw=width)
            last = [scale * getattr(line, quantity)[np.argmax(line.alphas)] for line in group]
            x = float(group[-1].alphas.max())
            ends.append(Label(x, float(np.mean(last)), pair_name(kinds), hue))
        alphas = np.concatenate([line.alphas for group in groups.values() for line in group])
        axes.set_xlim(float(alphas.min()), float(alphas.max()))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
        axes.set_xlabel("alpha, from the first model to the second")
        if quantity == "auc":
            axes.set_ylim(top=1)
        else:
            axes.set_ylim(bottom=0, top=100 if scale > 1 else None)
        axes.set_ylabel(unit)
        label_ends(axes, ends)

    return draw
