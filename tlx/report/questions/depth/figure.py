"""Panels about single layers: linear probes, partial transfer, spectra."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlx.report.draw.layers import Line, end, trend
from tlx.report.draw.look import INK, PALE, tints
from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.questions.depth import numbers
from tlx.report.questions.depth.numbers import WAYS, Probes, Spectrum
from tlx.report.read import learning
from tlx.report.read.selection import Records
from tlx.report.words.kinds import colour, short
from tlx.report.words.numbers import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 8
"""Layers of which the singular values are drawn."""

CUT = 1e-3
"""Singular values below so much of the largest of all are cut off."""

_MARKERS = {"P": "^", "P-T": "o", "C-T": "p", "S-T": "P", "RI-T": "s", "RI": "x"}


def linear_probes(records: Records) -> list[Panel]:
    """The panels of the accuracy of linear probes, and of what training adds to it."""
    found = {
        kind: value
        for kind, value in numbers.linear_probes(records).items()
        if np.isfinite(value.accuracy).any()
    }
    if not found:
        return []
    lines = [
        _line(kind, value.names, [value.estimate(i) for i in range(len(value.names))])
        for kind, value in found.items()
    ]
    panels = [_with_chance(trend("accuracy", "Read by a linear probe", lines, _UNIT), found)]
    random = found.get("RI")
    gains = [_gain(kind, found[kind], random) for kind in found if random and kind != "RI"]
    gains = [line for line in gains if np.isfinite(line.value).any()]
    if gains:
        panels.append(
            trend(
                "gain", "… more than with random weights", gains, "more test images right, points"
            )
        )
    return panels


_UNIT = "test images right, %"


def _line(kind: str, names: list[str], values: Sequence[Estimate]) -> Line:
    nothing = (np.nan, np.nan)
    low, high = 100 * np.array([v.interval or nothing for v in values], np.float64).T
    banded = bool(np.isfinite(low).any())
    return Line(
        kind,
        colour(kind),
        names,
        100 * np.array([v.value for v in values], np.float64),
        low if banded else None,
        high if banded else None,
        marker=_MARKERS[kind],
    )


def _gain(kind: str, trained: Probes, random: Probes) -> Line:
    values = [
        numbers.gain(trained.estimate(i), random.of(name)) for i, name in enumerate(trained.names)
    ]
    return _line(kind, trained.names, values)


def _with_chance(panel: Panel, found: Mapping[str, Probes]) -> Panel:
    """The panel with a dotted line at what guessing one of the classes gives."""
    classes = max(value.num_classes for value in found.values())

    def draw(axes: Axes) -> None:
        panel.draw(axes)
        if classes > 1:
            axes.axhline(100 / classes, color=PALE, lw=0.8, ls=(0, (1, 1.6)))
            axes.annotate(
                f"1 of {classes} classes", (0.02, 100 / classes), (0, 2), fontsize=7, color=INK,
                xycoords=("axes fraction", "data"), textcoords="offset points",
            )  # fmt: skip

    return panel._replace(draw=draw)


def partial_transfer(records: Records) -> list[Panel]:
    """The panels of final and average accuracy against the modules taken from P."""
    runs = numbers.partial(records)
    whole = learning.curves(records)
    panels = []
    for name, title, unit, of, reference in (
        ("final", "Where it ends", "final test accuracy, %", numbers.final_by_k,
         learning.final),
        ("speed", "How fast it learns", "average training accuracy, %",
         numbers.speed_by_k, learning.speed),
    ):  # fmt: skip
        lines = {way: found for way, own in runs.items() if (found := of(own))}
        levels = {kind: reference(whole, kind) for kind in ("P-T", "RI-T")}
        if lines:
            longest = max(len(WAYS[way]) for way in lines)
            margins = (0.5, max(0.85, 0.15 + 0.058 * longest), 0.45, 0.35)
            panels.append(Panel(name, title, _by_k(lines, levels, unit), 2.7, margins))
    return panels


def _by_k(
    lines: Mapping[str, Mapping[int, Estimate]], levels: Mapping[str, Estimate], unit: str
) -> Callable[[Axes], None]:
    ks = sorted({k for found in lines.values() for k in found})

    def draw(axes: Axes) -> None:
        axes.set_xticks(ks)
        axes.set_xlim(ks[0] - 0.3, ks[-1] + 0.3)
        labels = []
        for kind, level in levels.items():
            if level.known:
                _level(axes, kind, level)
                name = f"{kind}, {'all' if kind == 'P-T' else 'none'}"
                labels.append(Label(axes.get_xlim()[1], 100 * level.value, name, colour(kind)))
        for way, found in lines.items():
            hue = _errors(axes, way, found)
            last = max(found)
            labels.append(Label(last, 100 * found[last].value, WAYS[way], hue))
        axes.set_xlabel("k, the number of first modules")
        axes.set_ylabel(unit)
        label_ends(axes, labels)

    return draw


def _level(axes: Axes, kind: str, level: Estimate) -> None:
    value, error = 100 * level.value, 100 * level.error
    axes.axhline(value, color=colour(kind), lw=0.8)
    if np.isfinite(error):
        axes.axhspan(value - error, value + error, color=colour(kind), alpha=0.13, lw=0)


def _errors(axes: Axes, way: str, found: Mapping[int, Estimate]) -> Any:
    """Draws a way's accuracies with their errors, and returns its colour."""
    is_frozen = way.endswith(":frozen")
    base = colour("P-T") if way.startswith("first") else colour("P")
    hue = tints(base, 3)[1] if is_frozen else base
    errors = [v.error if np.isfinite(v.error) else 0.0 for v in found.values()]
    axes.errorbar(
        list(found), [100 * v.value for v in found.values()], yerr=100 * np.array(errors),
        color=hue, elinewidth=0.9, lw=1.4, ls=(0, (4, 1.5)) if is_frozen else "-",
        marker="s" if is_frozen else "o" if way.startswith("first") else "^",
    )  # fmt: skip
    return hue


def spectra(records: Records) -> list[Panel]:
    """A panel a layer with its singular values; of many layers some are drawn."""
    found = numbers.spectra(records)
    largest = max((_largest(s.values) for s in found.values()), default=0.0)
    if not largest > 0:
        return []
    names = drawn(found)
    return [_values(i, name, found, largest) for i, name in enumerate(names)]


def drawn(found: Mapping[str, Spectrum]) -> list[str]:
    """The layers that are drawn: all, or MOST of them at equal distances."""
    names = list(dict.fromkeys(name for s in found.values() for name in s.names))
    places = np.linspace(0, len(names) - 1, min(len(names), MOST))
    return [names[round(i)] for i in places.tolist()]


def _largest(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if known.size else 0.0


def _values(i: int, name: str, found: Mapping[str, Spectrum], largest: float) -> Panel:
    floor = np.log10(CUT * largest) - 0.3  # room for the labels of what is cut off

    def draw(axes: Axes) -> None:
        labels = []
        for kind, own in found.items():
            if name in own.names:
                values = own.values[own.names.index(name)]
                shown = np.isfinite(values) & (values >= CUT * largest)
                height = np.log10(np.where(shown, values, 1.0), dtype=np.float64)
                height[~shown] = np.nan
                axes.plot(own.quantiles, height, color=colour(kind), lw=1.3)
                labels += end(own.quantiles.tolist(), height, kind, colour(kind))
        ceiling = np.log10(largest) + 0.15
        axes.set_ylim(floor, ceiling)
        ticks = range(int(np.ceil(floor)), int(np.floor(ceiling)) + 1)
        axes.set_yticks(list(ticks), [f"{10.0**t:,g}" for t in ticks])
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
        axes.set_xlabel("rank, as a share of all")
        axes.set_ylabel("singular value")
        label_ends(axes, labels)

    title = "/".join(map(short, name.split("/")))
    return Panel(f"layer-{i}", title, draw, 2.1, (0.56, 0.6, 0.42, 0.35))
