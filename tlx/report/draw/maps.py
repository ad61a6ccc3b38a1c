"""The panel of a map: the similarities of all layers of two models."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlx.report.draw.layers import MANY, named
from tlx.report.draw.look import INK, PALE, matplotlib
from tlx.report.draw.panels import WIDTH, Panel
from tlx.report.words.kinds import short
from tlx.report.words.numbers import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEGATIVE = "#5a5a5a"  # the full colour below 0; the hues of the models are for what is above


class Map(NamedTuple):
    """Similarities [Lx, Ly] of all layers of one model (down) with all of another (across)."""

    rows: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    colour: str


def heat_map(name: str, title: str, shown: Map, *, width: float = WIDTH) -> Panel:
    """The panel of a map: numbers where there is room for them, else a scale.

    White is 0, the full colour the greatest of 1 and the values, grey is below 0, hatched
    undefined. Without numbers "−" marks what is negative and "+" what is above 1.
    """
    values = np.asarray(shown.values, np.float64)
    known = values[np.isfinite(values)]
    top = max(1.0, float(np.abs(known).max()) if known.size else 1.0)
    numbers = max(values.shape) <= MANY

    def draw(axes: Axes) -> None:
        colours = matplotlib("colors").LinearSegmentedColormap.from_list(
            "pair", [_NEGATIVE, "#ffffff", shown.colour]
        )
        lw = 0.6 if numbers else 0.0
        grid = np.ma.masked_invalid(values)
        axes.pcolormesh(grid, cmap=colours, vmin=-top, vmax=top, edgecolors="white", lw=lw)
        _hatch(axes, ~np.isfinite(values))
        axes.invert_yaxis()
        _names_around(axes, shown)
        if numbers:
            _numbers(axes, values, top)
        else:
            _marks(axes, values)
            _scale(axes, colours, (min(0.0, float(known.min(initial=0.0))), top), top)

    longest = max(len(short(n)) for n in (*shown.rows, *shown.columns))
    side = 0.15 + (0.075 if numbers else 0.065) * longest
    margins = (max(side, 0.4), 0.1 if numbers else 0.5, max(side - 0.05, 0.4), 0.35)
    tall = (width - margins[0] - margins[1]) * min(values.shape[0] / max(values.shape[1], 1), 1.5)
    usual = numbers and width == WIDTH and side < 0.7  # maps of one height in a row
    height = 3.2 if usual else tall + margins[2] + margins[3]
    return Panel(name, title, draw, max(height, 1.6), margins)


def _hatch(axes: Axes, undefined: np.ndarray) -> None:
    if undefined.any():
        grey = matplotlib("colors").ListedColormap(["#f1f1f1"])
        cells = np.ma.masked_where(~undefined, np.zeros(undefined.shape))
        axes.pcolor(cells, cmap=grey, hatch="//////", edgecolors="#bdbdbd", lw=0)


def _names_around(axes: Axes, shown: Map) -> None:
    rows, columns = named(axes, len(shown.rows), 1), named(axes, len(shown.columns), 0)
    axes.set_yticks([i + 0.5 for i in rows], [short(shown.rows[i]) for i in rows])
    axes.set_xticks(
        [i + 0.5 for i in columns], [short(shown.columns[i]) for i in columns], rotation=90
    )
    small = max(len(shown.rows), len(shown.columns)) > MANY
    axes.tick_params(length=0, pad=2, labelsize=6 if small else 7.5)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _numbers(axes: Axes, values: np.ndarray, top: float) -> None:
    for (i, j), value in np.ndenumerate(values):
        axes.annotate(
            cell(value),
            (j + 0.5, i + 0.5),
            ha="center",
            va="center",
            fontsize=5.8,
            color="white" if abs(value) > 0.62 * top else INK,
        )


def cell(value: float) -> str:
    """A similarity as short as a cell of a map: `".62"`, `"−.01"`, `"1.04"`."""
    if not math.isfinite(value):
        return ""
    if abs(value) >= 10:
        return significant(value)
    number = re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}")
    return (".00" if number == "-.00" else number).replace("-", "−")


def _marks(axes: Axes, values: np.ndarray) -> None:
    box, drawn = axes.get_position(), axes.get_figure(root=True)
    assert drawn is not None
    size = 72 * box.width * drawn.get_size_inches()[0] / values.shape[1]  # points of a cell
    known = np.where(np.isfinite(values), values, 0.0)
    for where, marker in ((known < -0.005, "_"), (known > 1.005, "+")):
        i, j = np.nonzero(where)
        if i.size:
            look: dict[str, Any] = {"color": INK, "marker": marker, "linewidths": 0.6}
            axes.scatter(j + 0.5, i + 0.5, (0.5 * size) ** 2, **look)


def _scale(axes: Axes, colours: Any, ends: tuple[float, float], top: float) -> None:
    """Draws the colours right of the axes, from the least value (or 0) to the greatest (or 1)."""
    box, drawn = axes.get_position(), axes.get_figure(root=True)
    assert drawn is not None
    inch = 1 / (box.width * drawn.get_size_inches()[0])
    bar = axes.inset_axes((1 + 0.07 * inch, 0.0, 0.1 * inch, 1.0))
    levels = np.linspace(*ends, 129)
    middles = (levels[1:] + levels[:-1]) / 2
    bar.pcolormesh([0, 1], levels, middles[:, None], cmap=colours, vmin=-top, vmax=top)
    least, greatest = ends
    ticks = {0.0, 0.5, 1.0} | {least if least < -0.05 else 0.0, greatest}
    ticks = {t for t in ticks if t == greatest or greatest - t > 0.06 * (greatest - least)}
    bar.set_yticks(sorted(ticks), [significant(t, 2) for t in sorted(ticks)])
    bar.yaxis.tick_right()
    bar.set_xticks([])
    bar.grid(visible=False)
    bar.tick_params(axis="y", length=0, pad=2, labelsize=7)
    bar.spines[:].set(visible=True, color=PALE, linewidth=0.4)
