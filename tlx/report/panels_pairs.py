"""Panels about pairs of models: barriers, distances."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tlx.report import measures, measures_pairs
from tlx.report.drawing import Label, Panel, label_ends
from tlx.report.kinds import Pair, pair_colour, pair_marker, pair_name
from tlx.report.measures import Records
from tlx.report.panels_layers import end, names_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def barrier(records: Records) -> list[Panel]:
    """Returns the panels of accuracy and loss along the lines between two models.

    With several labels an image also that of their mean area under the ROC curve.
    """
    groups = {k: v for k, v in measures.by_pair(records, "interpolation").items() if "P" not in k}
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


def distances(records: Records) -> list[Panel]:
    """Returns the panels of distance by module: l2, and relative to the norms."""
    found = measures_pairs.distances(records)
    panels = []
    fields = (
        ("l2", "Distance by module", "l2 distance"),
        ("relative", "Relative to the size of the module", "relative l2 distance"),
    )
    for field, title, unit in fields:
        values = {k: getattr(v, field) for k, v in found.items() if getattr(v, field)}
        if values:
            panels.append(_by_module(field, title, unit, values))
    return panels


def _by_module(field: str, title: str, unit: str, values: dict[Pair, dict[str, float]]) -> Panel:
    longest = max(values.values(), key=len)
    names = list(dict.fromkeys([*longest, *(n for v in values.values() for n in v)]))

    def draw(axes: Axes) -> None:
        ends = []
        for kinds, own in values.items():
            x = [names.index(n) for n in own]
            y, hue = list(own.values()), pair_colour(kinds)
            axes.plot(x, y, color=hue, marker=pair_marker(kinds), lw=1.0)
            ends += end(x, np.array(y), pair_name(kinds), hue)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(unit)
        names_below(axes, names)
        label_ends(axes, ends)

    return Panel(field, title, draw, 2.9, margins=(0.5, 0.9, 0.65, 0.35))
