"""The values of a drawn figure, each at its place, for a page that shows them under the pointer."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlx.report.draw.look import matplotlib
from tlx.report.words.numbers import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS = 40
"""Points of a line that have a value: of more, so many at equal distances."""

MOST_CELLS = 900
"""Cells of a map that have a value; a larger map has none."""

_NUMBER = re.compile(r"|[-−]?[\d.,]+|\$\\mathdefault\{.*\}\$")

LEAST_WIDTH = 0.9
"""Thinner lines are single runs, or rules."""


class Spot(NamedTuple):
    """A value at a place of the picture, in points from its left and its top."""

    x: float
    y: float
    width: float
    height: float
    text: str


def overlay(figure: Figure) -> str:
    """Transparent marks over the values of a figure, as SVG, each with its text."""
    return "".join(
        f'<rect class="v" x="{s.x:.1f}" y="{s.y:.1f}" width="{s.width:.1f}" '
        f'height="{s.height:.1f}"><title>{html.escape(s.text)}</title></rect>'
        for axes in figure.axes
        for s in spots(axes)
    )


def spots(axes: Axes) -> Iterator[Spot]:
    """The values in a set of axes: of maps, then of bars, then of lines, which lie above."""
    x_of, y_of = _reader(axes.xaxis), _reader(axes.yaxis)
    for mesh in axes.collections:
        yield from _cells(axes, mesh, x_of, y_of)
    for bar in axes.patches:
        yield from _bar(axes, bar, x_of, y_of)
    for line in axes.lines:
        yield from _points(axes, line, x_of, y_of)


def _cells(axes: Axes, mesh: Any, x_of: Any, y_of: Any) -> Iterator[Spot]:
    if not hasattr(mesh, "get_coordinates") or mesh.get_array() is None or axes.texts:
        return  # no map, or one whose cells have their numbers
    corners, values = mesh.get_coordinates(), np.ma.filled(mesh.get_array(), np.nan)
    rows, columns = corners.shape[0] - 1, corners.shape[1] - 1
    if rows * columns > MOST_CELLS or rows * columns < 4:
        return
    for (i, j), value in np.ndenumerate(values.reshape(rows, columns)):
        if np.isfinite(value):
            middle = corners[i : i + 2, j : j + 2].mean((0, 1))
            where = f"{y_of(middle[1])}, {x_of(middle[0])}"
            box = axes.transData.transform([corners[i, j], corners[i + 1, j + 1]])
            yield _spot(axes, box, f"{where}: {significant(float(value))}")


def _bar(axes: Axes, bar: Any, x_of: Any, y_of: Any) -> Iterator[Spot]:
    if not isinstance(bar, matplotlib("patches").Rectangle):
        return
    if bar.get_transform() is None or not np.isfinite([bar.get_height(), bar.get_width()]).all():
        return
    x, y, width, height = bar.get_x(), bar.get_y(), bar.get_width(), bar.get_height()
    if not width or not height:
        return
    box = axes.transData.transform([(x, y), (x + width, y + height)])
    yield _spot(axes, box, f"{x_of(x + width / 2)}: {significant(float(y + height))}")


def _points(axes: Axes, line: Any, x_of: Any, y_of: Any) -> Iterator[Spot]:
    if line.get_transform() != axes.transData or line.get_linewidth() < LEAST_WIDTH:
        return
    x, y = (np.asarray(v, np.float64) for v in line.get_data())
    if len(x) == 2 and (x[0] == x[1] or y[0] == y[1]):
        return  # the end of an interval, or a rule
    name = line.get_label()
    before = "" if name.startswith("_") else f"{name}, "
    known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    if len(known) > MOST_POINTS:
        known = known[np.unique(np.linspace(0, len(known) - 1, MOST_POINTS).round().astype(int))]
    for i in known:
        at = axes.transData.transform((x[i], y[i]))
        text = f"{before}{x_of(x[i])}: {y_of(y[i])}"
        yield _spot(axes, np.array([at - 4, at + 4]), text)


def _spot(axes: Axes, box: np.ndarray, text: str) -> Spot:
    figure = axes.get_figure(root=True)
    assert figure is not None
    points = box * 72 / figure.dpi
    height = figure.get_figheight() * 72
    (left, low), (right, high) = points.min(0), points.max(0)
    return Spot(left, height - high, right - left, high - low, text)


def _reader(axis: Any) -> Any:
    """A function from a place on an axis to words: the name that stands there, or the number."""
    places = [float(place) for place in axis.get_majorticklocs()]
    names = [str(name) for name in axis.get_major_formatter().format_ticks(places)]
    if all(_NUMBER.fullmatch(name) for name in names):
        return lambda value: significant(float(value))

    def name(value: float) -> str:
        near = min(range(len(places)), key=lambda i: abs(places[i] - value), default=None)
        if near is not None and abs(places[near] - value) < 0.51 and names[near]:
            return names[near]
        return significant(float(value))

    return name
