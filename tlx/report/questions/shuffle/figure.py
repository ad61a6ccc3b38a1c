"""Panels of runs on shuffled images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tlx.report.draw.look import INK, PALE, tints
from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.read.selection import Records
from tlx.report.read.sweeps import Sweep, sweep
from tlx.report.words import shuffles
from tlx.report.words.kinds import TRAINED, colour
from tlx.report.words.numbers import Estimate, decimals

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BESIDE = 7
"""Ways of shuffling that a panel of half the page's width has room for."""


def shuffle(records: Records) -> list[Panel]:
    """The panels of final test and average training accuracy by the way of shuffling.

    Bars in groups, pale for P-T, solid for RI-T, with the relative drops above them.
    """
    found = sweep(records, "shuffle")
    if found is None or all(name == "none" for name in found.values):
        return []
    kinds = [k for k in TRAINED if k in found.kinds]
    panels = []
    for name, title, unit, of in (
        ("final", "Where it ends", "final test accuracy, %", found.final_of),
        ("speed", "How fast it learns", "average training accuracy, %", found.average_of),
    ):
        bars = {kind: [of(kind, i) for i in range(len(found.values))] for kind in kinds}
        if any(e.known for own in bars.values() for e in own):
            drops = [found.drop_of(i) for i in range(len(found.values))] if name == "final" else []
            wide = len(found.values) > BESIDE
            draw = _bars(found, bars, drops, unit)
            panels.append(Panel(name, title, draw, 2.8, (0.5, 0.5, 0.58, 0.35), is_wide=wide))
    return panels


def _bars(
    found: Sweep, bars: dict[str, list[Estimate]], drops: Sequence[Estimate], unit: str
) -> Callable[[Axes], None]:
    names = [shuffles.label(name).replace(" ", "\n") for name in found.values]
    classes = int(found.num_classes.max(initial=0)) if drops else 0

    def draw(axes: Axes) -> None:
        ends = []
        for side, (kind, own) in zip((-0.2, 0.2), bars.items(), strict=False):
            known = [i for i, e in enumerate(own) if e.known]
            at, value = np.array(known) + side, [100 * own[i].value for i in known]
            hue = tints(colour(kind), 2)[0] if kind == "P-T" else colour(kind)
            axes.bar(at, value, 0.38, color=hue)
            for x, i in zip(at, known, strict=True):
                _whisker(axes, float(x), own[i])
            if known:
                ends.append(Label(float(at[-1]) + 0.2, value[-1], kind, colour(kind)))
        axes.set_xticks(range(len(names)), names)
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.55, len(names) - 0.4)
        axes.set_ylim(0, 118 if drops else 105)
        axes.set_yticks(range(0, 101, 20))
        axes.set_xlabel("side of the shuffled blocks, pixels")
        axes.set_ylabel(unit)
        _drops(axes, bars, drops)
        if classes > 1:
            axes.axhline(100 / classes, color=PALE, lw=0.8, ls=(0, (1, 1.6)))
            ends.append(Label(axes.get_xlim()[1], 100 / classes, f"1 of {classes}", INK))
        label_ends(axes, ends)

    return draw


def _whisker(axes: Axes, x: float, value: Estimate) -> None:
    if value.interval is not None:
        low, high = (100 * min(max(end, 0.0), 1.0) for end in value.interval)
        axes.plot([x, x], [low, high], color=INK, lw=0.8, solid_capstyle="butt")


def _drops(axes: Axes, bars: dict[str, list[Estimate]], drops: Sequence[Estimate]) -> None:
    """Prints the relative drops above the bars, as the paper's figure does."""
    if not any(drop.known for drop in drops):
        return
    for i, drop in enumerate(drops):
        own = [values[i] for values in bars.values() if values[i].known]
        tops = [100 * min((e.interval or (0, e.value))[1], 1.0) for e in own]
        if tops:
            axes.annotate(
                _whole(drop), (i, max(tops)), (0, 2), textcoords="offset points", ha="center",
                fontsize=7, color=INK,
            )  # fmt: skip
    axes.annotate(
        "above the bars: relative drop, %", (0.01, 1.0), xycoords="axes fraction", va="top",
        fontsize=7, color=INK,
    )  # fmt: skip


def _whole(drop: Estimate) -> str:
    """A drop in percent without decimals; with one where its interval supports it."""
    if not drop.known:
        return "–"
    low, high = drop.interval or (0.0, 0.0)
    places = min(decimals((high - low) / 2), 1) if high > low else 0
    number = f"{drop.value:.{places}f}"
    return ("0" if not any(c in "123456789" for c in number) else number).replace("-", "−")
