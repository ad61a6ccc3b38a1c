"""Panels about single modules: what is lost where one is set back, and how they moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tlx.report import measures_modules
from tlx.report.drawing import INK, PALE, Label, Panel, label_ends
from tlx.report.kinds import colour, pair_colour, pair_marker, pair_name, short
from tlx.report.measures import Records
from tlx.report.measures_modules import Rewound
from tlx.report.panels_layers import Line, names_below, shades, trend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED = 6
"""Modules of which the line is named where there are more: those that lose most."""

_MARGINS = (0.5, 0.72, 0.65, 0.35)
_BY_STEP = (0.5, 0.72, 0.45, 0.35)


class Bars(dict[str, tuple[np.ndarray, np.ndarray | None]]):
    """Kind of run -> heights [M], NaN where undefined, and their errors, if any."""


def rewinding(records: Records) -> list[Panel]:
    """Returns the panels of accuracy and loss with a module at its start, then by step."""
    found = measures_modules.rewound(records)
    if not found:
        return []
    names = _names([f.lost for f in found.values()])
    lost, risen = Bars(), Bars()
    for kind, own in found.items():
        every = [own.lost.get(n) for n in names]
        value, error = (
            np.array([100 * getattr(e, f) if e else np.nan for e in every])
            for f in ("value", "error")
        )
        lost[kind] = value, error
        risen[kind] = np.array([own.risen.get(n, np.nan) for n in names]), None
    back = f"at step {_start(found)}"
    panels = [_bars("lost", f"Accuracy lost, one module {back}", "points", names, lost)]
    if any(np.isfinite(v).any() for v, _ in risen.values()):
        panels.append(_bars("risen", f"Rise of the loss, one module {back}", "nats", names, risen))
    top = max((100 * float(np.nanmax(f.drop)) for f in found.values() if _known(f)), default=1.0)
    steps = [kind for kind, own in found.items() if len(own.step) > 1 and _known(own)]
    return panels + [_by_step(kind, found[kind], max(top, 1.0)) for kind in steps]


def _known(found: Rewound) -> bool:
    return bool(np.isfinite(found.drop).any())


def _start(found: Mapping[str, Rewound]) -> str:
    return " or ".join(f"{s:,}" for s in sorted({int(f.step[0]) for f in found.values()}))


def _names(found: Sequence[Mapping[str, object]]) -> list[str]:
    longest: Mapping[str, object] = max(found, key=len)
    return list(dict.fromkeys([*longest, *(n for own in found for n in own)]))


def _bars(name: str, title: str, unit: str, names: Sequence[str], shown: Bars) -> Panel:
    def draw(axes: Axes) -> None:
        _grouped(axes, shown)
        axes.axhline(0, color=PALE, lw=0.6)
        axes.set_ylabel(unit)
        _around(axes, names, shown)

    return Panel(name, title, draw, 2.25 + _below(names), (*_MARGINS[:2], _below(names), 0.35))


def _below(names: Sequence[str]) -> float:
    return max(_MARGINS[2], 0.2 + 0.055 * max(len(short(n)) for n in names))


def _places(shown: Bars, kind: str) -> tuple[np.ndarray, float]:
    """Returns where a kind's bars stand, beside the other's, and how wide they are."""
    wide = 0.76 / len(shown)
    number = len(next(iter(shown.values()))[0])
    return np.arange(number) + wide * (list(shown).index(kind) - (len(shown) - 1) / 2), wide


def _grouped(axes: Axes, shown: Bars, *, alpha: float = 1.0) -> None:
    for kind, (value, error) in shown.items():
        x, wide = _places(shown, kind)
        known = np.isfinite(value)
        axes.bar(x[known], value[known], 0.94 * wide, color=colour(kind), alpha=alpha)
        if error is not None:
            ends = np.where(np.isfinite(error), error, 0.0)[known]
            axes.errorbar(x[known], value[known], ends, fmt="none", ecolor=INK, elinewidth=0.7)


def _around(axes: Axes, names: Sequence[str], shown: Bars) -> None:
    """Names the modules below, and the kinds of run at the bars of the last module."""
    names_below(axes, names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    ends = []
    for kind, (value, _) in shown.items():
        x, wide = _places(shown, kind)
        last = float(value[-1]) if np.isfinite(value[-1]) else 0.0
        ends.append(Label(float(x[-1] + wide / 2), last, kind, colour(kind)))
    label_ends(axes, ends)


def _by_step(kind: str, found: Rewound, top: float) -> Panel:
    """The lines of all modules, from the last checkpoint back to the first."""
    most = np.nan_to_num(found.drop, nan=-np.inf).max(axis=1)
    chosen = sorted(np.argsort(-most, kind="stable")[:LABELLED].tolist())
    hues = dict(zip(chosen, shades(colour(kind), len(chosen)), strict=True))

    def draw(axes: Axes) -> None:
        x = np.arange(len(found.step))
        ends = []
        for i, drop in enumerate(100 * found.drop[:, ::-1]):
            hue = hues.get(i, PALE)
            axes.plot(x, drop, color=hue, marker="o", ms=2.5, lw=1.3 if i in hues else 0.6)
            if i in hues and np.isfinite(drop[-1]):
                ends.append(Label(x[-1], float(drop[-1]), short(found.names[i]), hue))
        every = -(-len(x) // 8)
        axes.set_xticks(x[::-every], [f"{s:,}" for s in found.step[::every]])
        axes.set_xlim(0, x[-1])
        axes.set_ylim(min(-0.03 * top, 100 * float(np.nanmin(found.drop))), 1.05 * top)
        axes.axhline(0, color=PALE, lw=0.6)
        axes.set_xlabel("step to which the module is set back")
        axes.set_ylabel("accuracy lost, points")
        label_ends(axes, ends)

    return Panel(
        f"steps-{kind.lower()}", f"{kind}, one module at an earlier step", draw, 2.7, _BY_STEP
    )


def movement(records: Records) -> list[Panel]:
    """Returns the panels of how far modules went, and whether two runs went the same way."""
    panels = []
    found = measures_modules.moved(records)
    if found:
        names = _names([f.distance for f in found.values()])
        far, path = (
            Bars(
                (kind, (np.array([getattr(own, field).get(n, np.nan) for n in names]), None))
                for kind, own in found.items()
            )
            for field in ("distance", "path")
        )
        panels.append(_moved(names, far, path))
    lines = [
        Line(
            pair_name(kinds), pair_colour(kinds), own.names,
            np.where(own.single, np.nan, own.cosine),
            marker=pair_marker(kinds), level=np.where(own.single, np.nan, own.chance),
        )
        for kinds, own in measures_modules.alike(records).items()
    ]  # fmt: skip
    if lines:
        panels.append(
            trend("alike", "Did two runs move the same way?", lines, "cosine of the movements")
        )
    return panels


def _moved(names: Sequence[str], far: Bars, path: Bars) -> Panel:
    def draw(axes: Axes) -> None:
        _grouped(axes, path, alpha=0.3)
        _grouped(axes, far)
        axes.set_ylabel("l2 distance")
        _around(axes, names, far)

    below = _below(names)
    return Panel("moved", "Moved from the start", draw, 2.25 + below, (*_MARGINS[:2], below, 0.35))
