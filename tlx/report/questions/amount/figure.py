"""Panels by the number of training images and by the target's distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tlx.report.draw.layers import place, steps_below, whiskers
from tlx.report.draw.look import INK, PALE
from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.questions.amount import numbers
from tlx.report.read import sweeps
from tlx.report.read.selection import Records
from tlx.report.read.sweeps import Sweep
from tlx.report.words.kinds import colour
from tlx.report.words.numbers import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LETTER, _LINE = 0.056, 0.12  # inches of a letter and a line of a point's name
_BEYOND = np.array([0.35, 0.0])  # a name may stand out into the right margin
_SIDES = ((0.08, -0.06), (0.06, 0.06), (0.06, -0.18), (0.08, 0.3), (0.08, -0.42))


def amount(records: Records) -> list[Panel]:
    """The panels of final and average accuracy against the number of images."""
    found = sweeps.sweep(records, "train_size")
    if found is None:
        return []
    panels = []
    for name, title, unit, of in (
        ("final", "Where it ends", "final test accuracy, %", found.final_of),
        ("speed", "How fast it learns", "average training accuracy, %", found.average_of),
    ):
        lines = {
            kind: [of(kind, i) if found.train_size[i] > 0 else of("", i) for i in _every(found)]
            for kind in found.kinds
        }
        if any(v.known for own in lines.values() for v in own):
            panels.append(Panel(name, title, _by_size(found, lines, unit), 2.7))
    return panels


def _every(found: Sweep) -> range:
    return range(len(found.values))


def _by_size(found: Sweep, lines: dict[str, list[Estimate]], unit: str) -> Callable[[Axes], None]:
    sizes = [max(int(n), 1) for n in found.train_size]

    def draw(axes: Axes) -> None:
        steps_below(axes, sorted(set(sizes)))
        low, high = axes.get_xlim()
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        at, labels = [place(n) for n in sizes], []
        for kind, values in lines.items():
            whiskers(axes, at, values, hue=colour(kind), marker=_marker(kind))
            last = [i for i in _every(found) if values[i].known]
            if last:
                labels.append(Label(at[last[-1]], 100 * values[last[-1]].value, kind, colour(kind)))
        axes.set_xlabel("training images of the target")
        axes.set_ylabel(unit)
        label_ends(axes, labels)

    return draw


def domains(records: Records) -> list[Panel]:
    """The panels of what P brings, and of both kinds' accuracy, by distance."""
    found, far = sweeps.sweep(records, "target"), numbers.domains(records)
    if found is None or far is None:
        return []
    every = [i for i in _every(found) if math.isfinite(far.distance.get(found.values[i], math.nan))]
    names = [found.values[i] for i in every]
    at = [far.distance[name] for name in names]
    gain = {"": [found.difference_of(i) for i in every]}
    ends = {kind: [found.final_of(kind, i) for i in every] for kind in found.kinds}
    panels = []
    for name, title, unit, lines in (
        ("gain", "What pretraining brings", "P-T − RI-T, final test accuracy, points", gain),
        ("final", "Where they end", "final test accuracy, %", ends),
    ):
        if any(v.known for own in lines.values() for v in own):
            draw = _by_distance(at, names, lines, floor=far.floor, unit=unit)
            panels.append(Panel(name, title, draw, 2.9, (0.5, 0.4, 0.45, 0.35)))
    return panels


def _by_distance(
    at: Sequence[float],
    names: Sequence[str],
    lines: dict[str, list[Estimate]],
    *,
    floor: float,
    unit: str,
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        ends = [e for x in (*at, floor) if math.isfinite(x) for e in (0.0, x)]
        axes.set_xlim(0, 1.08 * max(ends) or 1.0)
        for kind, values in lines.items():
            hue = colour(kind) if kind else colour("P-T")
            whiskers(axes, at, values, hue=hue, marker=_marker(kind), ls="none")
        _room(axes, [v for own in lines.values() for v in own], zero="" in lines)
        _floor(axes, floor)
        _kinds(axes, lines)
        first = next(iter(lines.values()))
        ys = [100 * v.value for v in first]
        drawn = [
            (x, 100 * e)
            for values in lines.values()
            for x, v in zip(at, values, strict=True)
            if v.known
            for e in (v.value, *(v.interval or ()))
        ]
        _name(
            axes,
            [(x, y, n) for x, y, n in zip(at, ys, names, strict=True) if y == y],
            drawn,
            [floor],
        )
        axes.set_xlabel("Fréchet distance to the source in P's features")
        axes.set_ylabel(unit)

    return draw


def _floor(axes: Axes, floor: float) -> None:
    if math.isfinite(floor):
        axes.axvline(floor, color=PALE, lw=0.9, ls=(0, (4, 2)), zorder=1)
        axes.annotate(
            "floor", (floor, 1), (2, -1), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="top", fontsize=6.5, color=INK,
        )  # fmt: skip


def _room(axes: Axes, values: Sequence[Estimate], *, zero: bool) -> None:
    """Shows the values with their intervals, and room for names."""
    ends = [100 * e for v in values if v.known for e in (v.value, *(v.interval or ()))]
    ends += [0.0] if zero else []
    room = 0.12 * max(max(ends) - min(ends), 2.0)
    axes.set_ylim(min(ends) - room, max(ends) + room)
    if zero:
        axes.axhline(0, color=PALE, lw=0.8)


def _kinds(axes: Axes, lines: dict[str, list[Estimate]]) -> None:
    """Names the kinds in their colours above the axes, where there is more than one."""
    if len(lines) < 2:
        return
    for i, kind in enumerate(reversed(list(lines))):
        axes.annotate(
            f"{'●' if kind == 'P-T' else '■'} {kind}", (1 - 0.2 * i, 1.03), ha="right",
            xycoords="axes fraction", va="bottom", fontsize=7.5, color=colour(kind),
        )  # fmt: skip


def _marker(kind: str) -> str:
    return "s" if kind == "RI-T" else "o"


def _name(
    axes: Axes,
    points: Sequence[tuple[float, float, str]],
    drawn: Sequence[tuple[float, float]],
    walls: Sequence[float],
) -> None:
    """Writes names beside their points, each on the first side where it covers nothing.

    What is `drawn` are points too, and vertical lines at `walls`.
    """
    box, whole = axes.get_position(), axes.get_figure(root=True)
    assert whole is not None
    size = np.array([box.width, box.height]) * whole.get_size_inches()
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    inches = size / (right - left, high - low)

    def at(x: float, y: float) -> np.ndarray:
        return (np.array([x, y]) - (left, low)) * inches

    taken = [(at(x, y) - 0.04, at(x, y) + 0.04) for x, y in drawn]
    taken += [(at(x, low) - 0.02, at(x, high) + 0.02) for x in walls if math.isfinite(x)]
    for x, y, text in points:
        extent = np.array([_LETTER * len(text), _LINE])
        # To the right of the point, and to its left.
        starts = [at(x, y) + np.array([dx - back * (extent[0] + 2 * dx), dy])
                  for dx, dy in _SIDES for back in (0, 1)]  # fmt: skip
        corners = [(start, start + extent) for start in starts]
        free = [c for c in corners if _inside(c, size) and not any(_meet(c, t) for t in taken)]
        corner = (free or corners)[0]
        taken.append(corner)
        axes.annotate(
            text, tuple(corner[0] / inches + (left, low)), fontsize=6.5, color=INK, va="bottom"
        )


def _inside(box: tuple[np.ndarray, np.ndarray], size: np.ndarray) -> bool:
    return bool((box[0] >= 0).all() and (box[1] <= size + _BEYOND).all())


def _meet(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return bool((one[0] < other[1]).all() and (other[0] < one[1]).all())
