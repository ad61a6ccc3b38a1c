"""Panels of the line between two models."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.read.selection import Records, by_pair
from tlx.report.words.kinds import pair_colour, pair_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def interpolation(records: Records) -> list[Panel]:
    """The panels of accuracy and loss along the lines between two models.

    With several labels an image also that of their mean area under the ROC curve.
    """
    groups = {k: v for k, v in by_pair(records, "interpolation").items() if "P" not in k}
    if not groups:
        return []

    def lines(axes: Axes, field: str, scale: float) -> None:
        ends = []
        for kinds, found in groups.items():
            hue = pair_colour(kinds)
            drawn = []
            for record in found:
                alphas = np.asarray(record.results["alphas"], np.float64)
                values = scale * np.asarray(record.results[field], np.float64)
                if str(record.inputs.get("kind_a")) != kinds[0]:
                    alphas = 1.0 - alphas
                axes.plot(alphas, values, color=hue, lw=1.8 if len(found) == 1 else 1.1)
                drawn.append(values[int(np.argmax(alphas))])
            ends.append(Label(float(alphas.max()), float(np.mean(drawn)), pair_name(kinds), hue))
        limits = [
            float(f(r.results["alphas"])) for g in groups.values() for r in g for f in (min, max)
        ]
        axes.set_xlim(min(limits), max(limits))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
        axes.set_xlabel("alpha, from the first model to the second")
        if field == "auc":
            axes.set_ylim(top=1)
        else:
            axes.set_ylim(bottom=0, top=100 if scale > 1 else None)
        label_ends(axes, ends)

    def accuracy(axes: Axes) -> None:
        lines(axes, "accuracy", 100.0)
        axes.set_ylabel("test accuracy, %")

    def loss(axes: Axes) -> None:
        lines(axes, "loss", 1.0)
        axes.set_ylabel("test loss, nats")

    def auc(axes: Axes) -> None:
        lines(axes, "auc", 1.0)
        axes.set_ylabel("mean AUC of the labels")

    margins = (0.5, 0.9, 0.45, 0.35)
    panels = [
        Panel("accuracy", "Accuracy between two models", accuracy, margins=margins),
        Panel("loss", "Loss between two models", loss, margins=margins),
    ]
    if all("auc" in record.results for own in groups.values() for record in own):
        panels.append(Panel("auc", "Area under the ROC curve", auc, margins=margins))
    return panels
