"""Panels of values by layer, by module and by training step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tlx.report.draw.look import PALE, shades
from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.words.kinds import short
from tlx.report.words.numbers import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY = 12
"""Layers from which names are set smaller, and a map's cells are too small for numbers."""

_PITCH = 0.1  # inches between the names of two layers that can be read
_MARGINS = (0.5, 0.9, 0.65, 0.35)


class Line(NamedTuple):
    """A line through values by name or by step: [L], NaN where undefined.

    Attributes:
      text: its label.
      colour: of line, band and label.
      names: of the layers, or () where the values stand for steps.
      value: the line.
      low, high: ends of its band; None draws none.
      marker: "" for none.
      dashes: matplotlib's line style.
      level: a dotted line by it, such as what chance gives.
      each: [M, L], thin lines of what `value` is the mean of.
    """

    text: str
    colour: str
    names: Sequence[str]
    value: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    marker: str = ""
    dashes: Any = "-"
    level: np.ndarray | None = None
    each: np.ndarray | None = None


def trend(name: str, title: str, lines: Sequence[Line], quantity: str = "CKA") -> Panel:
    """The panel of values of layers, which stand in the order of the first line."""
    names = list(dict.fromkeys(n for line in lines for n in line.names))

    def draw(axes: Axes) -> None:
        for line in lines:
            _line(axes, [names.index(n) for n in line.names], line)
        _limits(axes, lines)
        axes.set_ylabel(quantity)
        names_below(axes, names)
        _label(axes, lines, [[names.index(n) for n in line.names] for line in lines])

    # Names stand at 60 degrees below.
    longest = max((len(short(n)) for n in names), default=0)
    below = max(_MARGINS[2], 0.2 + (0.045 if len(names) > MANY else 0.055) * longest)
    return Panel(name, title, draw, 2.25 + below, (*_MARGINS[:2], below, _MARGINS[3]))


def over_steps(
    name: str, title: str, steps: Sequence[float], lines: Sequence[Line], *, quantity: str = "CKA"
) -> Panel:
    """The panel of values by training step, on a logarithmic axis that has step 0."""
    at = [place(step) for step in steps]

    def draw(axes: Axes) -> None:
        for line in lines:
            _line(axes, at, line)
        _limits(axes, lines)
        axes.set_ylabel(quantity)
        axes.set_xlabel("training step")
        steps_below(axes, steps)
        _label(axes, lines, [at] * len(lines))

    margins = (*_MARGINS[:2], 0.45, _MARGINS[3])
    return Panel(name, title, draw, 2.9, margins)


def place(step: float) -> float:
    """Where a step stands: 0 at 0, one unit before 1, then a unit a doubling."""
    return 1 + math.log2(step) if step >= 1 else float(step)


def steps_below(axes: Axes, steps: Sequence[float]) -> None:
    """Names as many of the steps as there is room for, the first and the last among them."""
    box, drawn = axes.get_position(), axes.get_figure(root=True)
    assert drawn is not None
    least = min(map(place, steps))
    span = max(max(map(place, steps)) - least, 1e-9)
    room = 0.07 * max(len(f"{max(steps):g}"), 2) + 0.06  # inches of a name
    apart = room * span / (box.width * drawn.get_size_inches()[0])
    chosen = [max(steps), *([min(steps)] if len(steps) > 1 else [])]
    for step in sorted(steps):
        if all(abs(place(step) - place(other)) >= apart for other in chosen):
            chosen.append(step)
    chosen = sorted(set(chosen))
    axes.set_xticks([place(s) for s in chosen], [f"{s:,g}" for s in chosen])
    axes.set_xlim(least, least + span)


def _line(axes: Axes, x: Sequence[float], line: Line) -> None:
    axes.plot(x, line.value, color=line.colour, marker=line.marker or None, lw=1.4, ls=line.dashes)
    if line.low is not None and line.high is not None:
        axes.fill_between(x, line.low, line.high, color=line.colour, alpha=0.15, lw=0)
    for one in () if line.each is None else line.each:
        axes.plot(x, one, color=line.colour, lw=0.4, alpha=0.6)
    if line.level is not None:
        axes.plot(x, line.level, color=line.colour, lw=1.0, ls=(0, (1, 1.6)))


def _limits(axes: Axes, lines: Sequence[Line]) -> None:
    """Shows 0 … 1, and what goes beyond."""
    drawn = [v for line in lines for v in (line.value, line.low, line.high) if v is not None]
    known = np.concatenate([np.ravel(v) for v in drawn])
    known = known[np.isfinite(known)]
    low, high = (float(f(known)) if known.size else 0.0 for f in (np.min, np.max))
    margin = 0.05 * (max(high, 1.0) - min(low, 0.0))
    axes.set_ylim(low - margin if low < 0 else 0.0, high + margin if high > 1 else 1.02)
    if low < 0:
        axes.axhline(0, color=PALE, lw=0.6)


def _label(axes: Axes, lines: Sequence[Line], places: Sequence[Sequence[float]]) -> None:
    """Names each line at its last defined point, if it has one."""
    ends = [
        end(x, line.value, line.text, line.colour) for line, x in zip(lines, places, strict=True)
    ]
    label_ends(axes, [label for found in ends for label in found])


def end(x: Sequence[float], y: np.ndarray, text: str, hue: str) -> list[Label]:
    """The label of a line's last defined point, if it has one."""
    defined = np.flatnonzero(np.isfinite(y))
    return [Label(x[defined[-1]], float(y[defined[-1]]), text, hue)] if defined.size else []


def names_below(axes: Axes, names: Sequence[str]) -> None:
    """Writes the names of layers or modules below the axes, every second or third if many."""
    places = named(axes, len(names), 0)
    small = len(names) > MANY
    axes.set_xticks(places, [short(names[i]) for i in places], rotation=60, ha="right")
    axes.tick_params(axis="x", pad=1, labelsize=6 if small else 7.5)
    for tick in axes.get_xticklabels():
        tick.set_rotation_mode("anchor")
    axes.set_xlim(-0.3, len(names) - 0.7)


def named(axes: Axes, number: int, axis: int) -> list[int]:
    """Which of so many equal steps along an axis can have a name."""
    box, drawn = axes.get_position(), axes.get_figure(root=True)
    assert drawn is not None
    length = (box.width, box.height)[axis] * drawn.get_size_inches()[axis]
    return list(range(0, number, max(1, math.ceil(_PITCH * number / length))))


MOST = 6
"""Layers of which a trajectory is drawn: from more, so many are taken at equal distances."""


class Steps(NamedTuple):
    """Values by training step and layer: [T, L], with the ends of their intervals."""

    names: list[str]
    step: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def by_layer(found: Steps, chosen: list[int], base: str) -> list[Line]:
    """A line a layer over the steps, pale for the first and dark for the last."""
    return [
        Line(short(found.names[i]), hue, (), found.value[:, i], found.low[:, i], found.high[:, i])
        for i, hue in zip(chosen, shades(base, len(chosen)), strict=True)
    ]


def thinned(number: int) -> list[int]:
    """Which of so many layers are drawn: MOST at equal distances, the ends included."""
    if number <= MOST:
        return list(range(number))
    return sorted({round(i) for i in np.linspace(0, number - 1, MOST)})


def whiskers(
    axes: Axes,
    at: Sequence[float],
    values: Sequence[Estimate],
    *,
    hue: str,
    marker: str,
    ls: str = "-",
) -> None:
    """Draws fractions as percentages at the places `at`, with their intervals as whiskers."""
    axes.plot(
        at, [100 * v.value for v in values], color=hue, marker=marker, lw=1.4, ls=ls, zorder=3
    )
    for x, value in zip(at, values, strict=True):
        if value.interval is not None and value.known:
            axes.plot([x, x], [100 * end for end in value.interval], color=hue, lw=0.9, zorder=3)
