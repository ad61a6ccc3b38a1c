"""Panels of what is between two copies of a run, by the step at which they part."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.questions.instability import numbers
from tlx.report.questions.instability.numbers import Parting
from tlx.report.read.selection import Records
from tlx.report.words.kinds import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANELS = (
    ("parting-accuracy", "Accuracy barrier", "points", "accuracy_barrier", 100.0),
    ("parting-loss", "Loss barrier", "nats", "barrier", 1.0),
    ("parting-distance", "Distance", "l2", "distance", 1.0),
    ("parting-similarity", "Representation similarity", "mean CKA", "similarity", 1.0),
)


def instability(records: Records) -> list[Panel]:
    """Barriers, distance and similarity between copies, by the step of parting."""
    found = numbers.partings(records)
    if not found:
        return []
    return [
        Panel(name, title, _draw(found, quantity, unit, scale), 2.5, (0.5, 0.9, 0.45, 0.35))
        for name, title, unit, quantity, scale in _PANELS
    ]


def _draw(
    found: Mapping[str, Parting], quantity: str, unit: str, scale: float
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        labels = []
        steps = sorted({step for parting in found.values() for step in parting.step})
        for kind, parting in found.items():
            hue, at = colour(kind), [steps.index(step) for step in parting.step]
            for name, style, word in (
                (quantity, "-", kind),
                (f"aligned_{quantity}", (0, (3, 1.5)), f"{kind}, aligned"),
            ):
                if name not in parting.mean:
                    continue
                values = [scale * e.value for e in parting.mean[name]]
                axes.plot(at, values, color=hue, marker="o", ms=3, lw=1.4, ls=style)
                labels.append(Label(at[-1], values[-1], word, hue))
            for each in parting.each[quantity] if parting.num_runs > 1 else ():
                axes.plot(at, scale * each, color=hue, lw=0.4, alpha=0.6)
            ends = [e.interval or (np.nan, np.nan) for e in parting.mean[quantity]]
            low, high = scale * np.array(ends).T
            axes.fill_between(at, low, high, color=hue, alpha=0.15, lw=0)
        axes.set_xticks(range(len(steps)), [f"{step:,}" for step in steps])
        axes.set_xlabel("step at which two copies part")
        axes.set_ylabel(unit)
        least = min(0.0, *(scale * parting.each[quantity].min() for parting in found.values()))
        axes.set_ylim(bottom=least, top=1.02 if quantity == "similarity" else None)
        label_ends(axes, labels)

    return draw
