"""Panels about P's checkpoints as starts, and about scores of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlx.report.draw.layers import place, steps_below, whiskers
from tlx.report.draw.look import INK, PALE, shades
from tlx.report.draw.panels import Panel
from tlx.report.questions.starts import numbers
from tlx.report.questions.starts.numbers import Checkpoints, Transferability
from tlx.report.read import learning, sweeps
from tlx.report.read.selection import Records
from tlx.report.read.sweeps import Sweep
from tlx.report.words.kinds import colour
from tlx.report.words.numbers import UNKNOWN, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = {"yes": "o", "open": "D", "no": "x"}
"""Of a checkpoint that is in the basin of the last, may be, or is not."""

_MARGINS = (0.5, 0.62, 0.45, 0.35)
_STRIP = 0.17  # of the axes' height, below the data: the row of markers


def starts(records: Records) -> list[Panel]:
    """The panels of final and average accuracy by the start, and of P's basin."""
    found, own = sweeps.sweep(records, "init_step"), numbers.checkpoints(records)
    panels = []
    if found is not None:
        level = learning.final(learning.curves(records), "RI-T")
        rows = [
            ("final", "Where P-T ends", "final test accuracy of P-T, %", found.final_of),
            ("speed", "How fast it learns", "average training accuracy, %", found.average_of),
        ]
        for name, title, unit, of in rows:
            values = [of("P-T", i) for i in range(len(found.values))]
            start = numbers.steps(found)
            if any(v.known and math.isfinite(s) for v, s in zip(values, start, strict=True)):
                draw = _by_step(
                    start, values, unit, own, found=found if name == "final" else None, level=level
                )
                panels.append(Panel(name, title, draw, 2.9, _MARGINS))
    if own is not None and np.isfinite(own.barrier[0]).any():
        panels.append(
            Panel("barrier", "Is P in its last checkpoint’s basin?", _barrier(own), 2.9, _MARGINS)
        )
    return panels


def _by_step(
    start: np.ndarray,
    values: Sequence[Estimate],
    unit: str,
    own: Checkpoints | None,
    *,
    found: Sweep | None,
    level: Estimate = UNKNOWN,
) -> Callable[[Axes], None]:
    """Draws accuracies by step, with what else is known: the sweep's mark, P's, RI-T's level."""
    every = sorted({*start[np.isfinite(start)].tolist(), *(own.step.tolist() if own else [])})

    def draw(axes: Axes) -> None:
        _steps(axes, every)
        base = _limits(axes, [*values, *([level] if found else [])], strip=bool(own and found))
        if own is not None:
            _source(axes, own, base)
            if found is not None:
                _strip(axes, own, base)
        if found is not None and level.known:
            _level(axes, level, values)
        at = [place(s) if math.isfinite(s) else math.nan for s in start]
        whiskers(axes, at, values, hue=colour("P-T"), marker="o")
        if found is not None:
            first = numbers.as_good(found)
            _as_good(axes, at, values, first=first, base=base)
        axes.set_ylabel(unit)

    return draw


def _steps(axes: Axes, every: Sequence[float]) -> None:
    """Names steps on a logarithmic axis that has step 0, with a margin at its ends."""
    steps_below(axes, every)
    low, high = axes.get_xlim()
    axes.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    axes.set_xlabel("training step of P")


def _limits(axes: Axes, values: Sequence[Estimate], *, strip: bool) -> float:
    """Shows the values with their intervals; returns the lower end of what is for them."""
    ends = [100 * e for v in values if v.known for e in (v.value, *(v.interval or ()))]
    room = 0.08 * max(max(ends) - min(ends), 2.0)
    low, high = min(ends) - room, max(ends) + room
    axes.set_ylim(low - (high - low) * (_STRIP / (1 - _STRIP) if strip else 0.0), high)
    return low


def _source(axes: Axes, own: Checkpoints, base: float) -> None:
    """Shades P's accuracy on the source, from 0 at `base` to 100% at the top."""
    top = axes.get_ylim()[1]
    at = [place(s) for s in own.step.tolist()]
    axes.fill_between(
        at, base, base + own.accuracy * (top - base), color=colour("P"), alpha=0.13, lw=0, zorder=0
    )
    scale = (top - base) / 100

    def share(y: Any) -> Any:
        return (y - base) / scale

    def height(percent: Any) -> Any:
        return base + percent * scale

    right = axes.secondary_yaxis("right", functions=(share, height))
    right.set_yticks([0, 25, 50, 75, 100])
    right.set_ylabel("P on the source, %", color=colour("P"))
    right.spines["right"].set_visible(False)


def _strip(axes: Axes, own: Checkpoints, base: float) -> None:
    """Marks below the data whether each checkpoint is in the basin of the last one."""
    bottom = axes.get_ylim()[0]
    axes.axhspan(bottom, base, color="white", lw=0, zorder=1)
    axes.axhline(base, color=PALE, lw=0.6, zorder=2)
    for step, verdict in zip(own.step.tolist(), own.verdict, strict=True):
        _verdict(axes, place(step), bottom + 0.32 * (base - bottom), verdict)
    axes.annotate(
        "in the last one’s basin:  ● yes   ◇ open   × no", (0.5, 0.68 * _STRIP),
        xycoords="axes fraction", ha="center", va="center", fontsize=6.5, color=INK, zorder=4,
    )  # fmt: skip
    ticks = [t for t in axes.get_yticks() if base <= t <= axes.get_ylim()[1]]
    axes.set_yticks(ticks)


def _verdict(axes: Axes, x: float, y: float, verdict: str) -> None:
    axes.plot(
        [x], [y], marker=MARKERS.get(verdict, "D"), color=colour("P"), ms=4, ls="none",
        mfc=colour("P") if verdict == "yes" else "white", zorder=4,
    )  # fmt: skip


def _level(axes: Axes, level: Estimate, values: Sequence[Estimate]) -> None:
    """Draws where RI-T ends, named on the side of the line where P-T does not end."""
    y = 100 * level.value
    axes.axhline(y, color=colour("RI-T"), lw=0.9, zorder=2)
    last = next((v.value for v in reversed(values) if v.known), math.nan)
    above = last < level.value
    axes.annotate(
        "RI-T", (0.985, y), (0, 2 if above else -2), xycoords=("axes fraction", "data"),
        textcoords="offset points", ha="right", va="bottom" if above else "top", fontsize=7.5,
        color=colour("RI-T"),
    )  # fmt: skip


def _as_good(
    axes: Axes, at: Sequence[float], values: Sequence[Estimate], *, first: int | None, base: float
) -> None:
    """Rings the first start from which on none is measurably worse than the last."""
    if first is None or first == len(values) - 1 or not values[first].known:
        return
    x, y = at[first], 100 * values[first].value
    axes.plot([x], [y], marker="o", ms=9, mfc="none", mec=INK, mew=0.9, zorder=5)
    axes.plot([x, x], [base, y], color=INK, lw=0.7, ls=(0, (1, 1.6)), zorder=2)
    low, high = axes.get_xlim()
    rightwards = x < low + 0.72 * (high - low)  # where the words have room
    axes.annotate(
        "not measurably\nlower from\nhere on", (x, (base + y) / 2), (4 if rightwards else -4, 0),
        textcoords="offset points", ha="left" if rightwards else "right", va="center",
        fontsize=6.5, color=INK, zorder=4,
        bbox={"facecolor": "white", "alpha": 0.7, "lw": 0, "pad": 0.5},
    )  # fmt: skip


def _barrier(own: Checkpoints) -> Callable[[Axes], None]:
    at = [place(s) for s in own.step.tolist()]
    value, low, high = 100 * own.barrier

    def draw(axes: Axes) -> None:
        _steps(axes, own.step.tolist())
        axes.plot(at, value, color=colour("P"), lw=1.4, zorder=2)
        if np.isfinite(low).any():
            axes.fill_between(at, low, high, color=colour("P"), alpha=0.15, lw=0)
        for x, y, verdict in zip(at, value, own.verdict, strict=True):
            _verdict(axes, x, y, verdict)
        if math.isfinite(own.tolerance):
            axes.axhline(100 * own.tolerance, color=INK, lw=0.8, ls=(0, (4, 2)))
            axes.annotate(
                f"allowed: {100 * own.tolerance:g}", (0.985, 100 * own.tolerance), (0, 2),
                xycoords=("axes fraction", "data"), textcoords="offset points", ha="right",
                fontsize=6.5, color=INK,
            )  # fmt: skip
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_ylabel("error barrier to the last, points")

    return draw


def transferability(records: Records) -> list[Panel]:
    """A panel a score: the measured accuracy of P-T against it, a point a checkpoint."""
    found = numbers.transferability(records)
    if found is None:
        return []
    shown = [
        i for i in range(len(found.names)) if np.isfinite(found.score[i] + found.measured).sum() > 1
    ]
    return [_score(found, i) for i in shown]


def _score(found: Transferability, i: int) -> Panel:
    score, measured = found.score[i], 100 * found.measured
    hues = shades(colour("P-T"), len(found.values))
    known = np.flatnonzero(np.isfinite(score + measured)).tolist()

    def draw(axes: Axes) -> None:
        for j in known:
            axes.plot([score[j]], [measured[j]], marker="o", ms=5, color=hues[j], ls="none")
        axes.margins(0.1, 0.15)
        axes.autoscale_view()
        axes.set_ylim(bottom=axes.get_ylim()[0] - 0.1 * float(np.ptp(axes.get_ylim())))
        middle = sum(axes.get_xlim()) / 2
        for j in {known[0], known[-1]}:
            side = 1 if score[j] < middle else -1
            axes.annotate(
                f"step {found.values[j]}", (score[j], measured[j]), (-4 * side, -4),
                textcoords="offset points", ha="left" if side > 0 else "right", va="top",
                fontsize=6.5, color=INK,
            )  # fmt: skip
        axes.set_xlabel(found.names[i])
        axes.set_ylabel("final test accuracy, %")

    tau = found.weighted_tau[i]
    said = f", τ = {tau:.2f}".replace("-", "−") if math.isfinite(tau) else ""
    return Panel(f"score-{i}", f"{found.names[i]}{said}", draw, 2.1, (0.5, 0.25, 0.45, 0.35))
