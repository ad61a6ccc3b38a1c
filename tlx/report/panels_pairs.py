"""Panels about pairs of models: barriers, distances, agreement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tlx.report import measures, measures_pairs
from tlx.report.drawing import INK, Label, Panel, label_ends
from tlx.report.kinds import Pair, pair_colour, pair_marker, pair_name
from tlx.report.measures import Records
from tlx.report.panels_layers import end, names_below

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def barrier(records: Records) -> list[Panel]:
    """Returns the panels of accuracy and loss along the lines between two models."""
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
        axes.set_ylim(bottom=0, top=100 if scale > 1 else None)
        label_ends(axes, ends)

    def accuracy(axes: Axes) -> None:
        lines(axes, "accuracy", 100.0)
        axes.set_ylabel("test accuracy, %")

    def loss(axes: Axes) -> None:
        lines(axes, "loss", 1.0)
        axes.set_ylabel("test loss, nats")

    margins = (0.5, 0.9, 0.45, 0.35)
    return [
        Panel("accuracy", "Accuracy between two models", accuracy, margins=margins),
        Panel("loss", "Loss between two models", loss, margins=margins),
    ]


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


def agreement(records: Records) -> list[Panel]:
    """Returns the panels of mistakes in common and apart, in all and by class."""
    found = {k: v for k, v in measures_pairs.agreements(records).items() if "P" not in k}
    if not found:
        return []
    highest = max(
        float(np.nanmax((a.common + a.only_a + a.only_b) / np.maximum(a.total, 1)))
        for a in found.values()
    )

    def overall(axes: Axes) -> None:
        for i, (kinds, a) in enumerate(found.items()):
            hue, start = pair_colour(kinds), 0.0
            for part, alpha in ((a.common, 1.0), (a.only_a, 0.45), (a.only_b, 0.25)):
                share = 100 * float(part.sum()) / max(a.examples, 1)
                axes.barh(i, share, left=start, color=hue, alpha=alpha, height=0.55)
                start += share
            axes.annotate(
                f"κ {a.kappa.value:.2f}", (start, i), (4, 0), textcoords="offset points",
                va="center", color=hue, annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(len(found)), [pair_name(k) for k in found])
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("test images, %")
        _name_parts(axes, list(found.values()))

    panels = [Panel("all", "Mistakes", overall, margins=(0.9, 0.5, 0.45, 0.35))]
    return panels + [_by_class(k, a, highest) for k, a in found.items()]


def _name_parts(axes: Axes, found: list[measures_pairs.Agreement]) -> None:
    """Names the parts of the longest bar, under it."""
    sums = [[float(part.sum()) for part in (a.common, a.only_a, a.only_b)] for a in found]
    row = max(range(len(found)), key=lambda i: sum(sums[i]) / max(found[i].examples, 1))
    scale, start = 100 / max(found[row].examples, 1), 0.0
    for part, name in zip(sums[row], ("both", "only first", "only second"), strict=True):
        middle, start = scale * (start + part / 2), start + part
        axes.annotate(name, (middle, row + 0.34), ha="center", va="top", fontsize=6, color=INK)
    axes.set_ylim(len(found) - 0.3, -0.5)


def _by_class(kinds: Pair, a: measures_pairs.Agreement, highest: float) -> Panel:
    def draw(axes: Axes) -> None:
        classes, size = np.arange(len(a.total)), np.maximum(a.total, 1) / 100
        base = np.zeros(len(classes))
        for part, alpha in ((a.common, 1.0), (a.only_a, 0.45), (a.only_b, 0.25)):
            axes.bar(classes, part / size, bottom=base, color=pair_colour(kinds), alpha=alpha)
            base = base + part / size
        axes.set_ylim(0, 105 * highest or 1)
        axes.set_ylabel("of the class's images, %")
        axes.set_xlabel("class")
        if len(classes) <= 20:
            axes.set_xticks(classes)

    name = "class-" + pair_name(kinds).replace(" / ", "-").lower()
    return Panel(name, f"{pair_name(kinds)}, by class", draw, margins=(0.5, 0.15, 0.45, 0.35))
