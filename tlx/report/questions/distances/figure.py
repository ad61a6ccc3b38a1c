"""Panels of distances by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tlx.report.draw.layers import end, names_below
from tlx.report.draw.panels import Panel, label_ends
from tlx.report.questions.distances import numbers
from tlx.report.read.selection import Records
from tlx.report.words.kinds import Pair, pair_colour, pair_marker, pair_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def distances(records: Records) -> list[Panel]:
    """The panels of distance by module: l2, and relative to the norms."""
    found = numbers.distances(records)
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
