"""Panels of planes, basins and lines after permutation."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from tlx.report.draw.look import GOOD_TO_BAD, INK, matplotlib
from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.questions.landscape import numbers
from tlx.report.questions.landscape.numbers import VARIANTS, Basin, Plane, Variant
from tlx.report.read.selection import Records
from tlx.report.words.kinds import Pair, colour, pair_colour, pair_name, pair_words
from tlx.report.words.numbers import significant
from tlx.report.words.sentences import listed
from tlx.report.words.verdicts import RI_T

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARGINS = (0.5, 0.72, 0.45, 0.35)
_SIDE = 3.6 - _MARGINS[0] - _MARGINS[1]  # inches


def landscape(records: Records) -> list[Panel]:
    """The panels of loss and accuracy on each plane, then one a kind of basin."""
    planes = numbers.planes(records)
    panels = []
    for i, plane in enumerate(planes, 1):
        panels.append(_plane(plane, f"plane-{i}-loss", "Loss", loss_levels(planes)))
        panels.append(_plane(plane, f"plane-{i}-accuracy", "Accuracy", _accuracy_levels(planes)))
    return panels + [_basin(k, b[0]) for k, b in numbers.basins(records).items()]


def loss_levels(planes: list[Plane]) -> list[float]:
    """Levels in equal ratios, in round numbers, that span all planes' losses.

    From 0.001 up, and over four decades at most: far out a loss has no bounds.
    """
    every = np.concatenate([p.loss[np.isfinite(p.loss) & (p.loss > 0)] for p in planes])
    if not every.size:
        return [0.5, 1.0]
    low = max(float(every.min()), 1e-3)
    high = min(max(float(every.max()), low), 1e4 * low)
    exponents = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 2)
    for digits in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        levels = [d * 10.0**e for e, d in itertools.product(exponents, digits)]
        below = [v for v in levels if v <= low][-1:]
        above = [v for v in levels if v >= high and v > low][:1]
        chosen = below + [v for v in levels if low < v < high] + above
        if len(chosen) <= 10:
            break
    return chosen


def _accuracy_levels(planes: list[Plane]) -> list[float]:
    # Narrower steps at the top, where the models are.
    high = any((p.accuracy > 0.9).any() for p in planes)
    return [0, 20, 40, 60, 80, 90, 95, 100] if high else list(range(0, 101, 10))


def _plane(plane: Plane, name: str, quantity: str, levels: list[float]) -> Panel:
    is_loss = quantity == "Loss"
    values = plane.loss if is_loss else 100 * plane.accuracy
    ratio = float(np.ptp(plane.y) / max(np.ptp(plane.x), 1e-12))

    def draw(axes: Axes) -> None:
        _contours(axes, plane, values, levels, logarithmic=is_loss)
        axes.set_aspect("equal", anchor="NW")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=2, color=INK)
        axes.set_xlabel("l2 distance in parameter space")
        axes.set_ylabel("l2 distance")
        _models(axes, plane)

    height = _MARGINS[2] + _MARGINS[3] + _SIDE * min(max(ratio, 0.5), 1.25)
    unit = "nats" if is_loss else "%"
    title = f"{quantity} ({unit}) around {listed(plane.labels)}"
    return Panel(name, title, draw, height, _MARGINS)


def _contours(
    axes: Axes, plane: Plane, values: np.ndarray, levels: list[float], *, logarithmic: bool
) -> None:
    mpl_colours = matplotlib("colors")
    ramp = list(GOOD_TO_BAD) if logarithmic else list(reversed(GOOD_TO_BAD))
    shades = mpl_colours.LinearSegmentedColormap.from_list("landscape", ramp)
    bands = max(len(levels) - 1, 1)
    colours = [shades(i / max(bands - 1, 1)) for i in range(bands)]
    heights = np.asarray(levels, np.float64)
    shown = np.ma.masked_invalid(np.clip(values, levels[0], levels[-1]))
    if logarithmic:  # contours are straight between the points in log loss, not in loss
        heights, shown = np.log(heights), np.ma.log(shown)
    axes.contourf(plane.x, plane.y, shown, levels=heights, colors=colours, extend="neither")
    if bands > 1:
        lines: dict[str, Any] = {"colors": "white", "linewidths": 0.5, "linestyles": "solid"}
        axes.contour(plane.x, plane.y, shown, levels=heights[1:-1], **lines)
    names = [f"{v:,g}" for v in levels]
    names[-1] += "+" if (values > levels[-1]).any() else ""
    _scale(axes, names, colours)


def _scale(axes: Axes, names: list[str], colours: list[Any]) -> None:
    """Draws the colours of the bands right of the axes, with the levels' names between them."""
    bar = axes.inset_axes((1.045, 0.0, 0.045, 1.0))
    for i, hue in enumerate(colours):
        bar.axhspan(i, i + 1, color=hue, lw=0)
    bar.set_ylim(0, len(colours))
    bar.set_yticks(range(len(names)), names)
    bar.yaxis.tick_right()
    bar.set_xticks([])
    bar.grid(visible=False)
    bar.tick_params(axis="y", length=0, pad=2, labelsize=7)
    bar.spines[:].set(visible=True, color="#999999", linewidth=0.4)


def _models(axes: Axes, plane: Plane) -> None:
    corners = np.vstack([plane.models, plane.models[:1]])
    axes.plot(*corners.T, color="white", lw=1.4, alpha=0.5)  # for where the ground is dark
    axes.plot(*corners.T, color=INK, lw=0.8, ls=(0, (1, 2)))
    upper = plane.models[:, 1] >= plane.models[:, 1].mean()
    unit = _points_per_unit(axes)
    for i, (label, kind) in enumerate(zip(plane.labels, plane.kinds, strict=True)):
        x, y = plane.models[i]
        axes.plot(x, y, "o", color=colour(kind), ms=6.5, mec="white", mew=1.2)
        # Labels of neighbours go apart.
        beside = [x - plane.models[j, 0] for j in range(3) if j != i and upper[j] == upper[i]]
        side = next((np.copysign(1, gap) for gap in beside if abs(gap) * unit < 36), 0)
        axes.annotate(
            label,
            (x, y),
            (4 * side, 7 if upper[i] else -7),
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[int(side)],
            va="bottom" if upper[i] else "top",
            color=colour(kind),
            fontweight="bold",
            fontsize=7.5,
            bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8},
        )


def _points_per_unit(axes: Axes) -> float:
    """How long a unit of axes of equal aspect is on paper."""
    box, figure = axes.get_position(), axes.get_figure(root=True)
    assert figure is not None
    inches = figure.get_size_inches() * (box.width, box.height)
    spans = np.ptp([axes.get_xlim(), axes.get_ylim()], axis=1)
    return 72 * float(np.min(inches / spans))


def _basin(kinds: Pair, basin: Basin) -> Panel:
    scale, unit = (100.0, "0-1 error, points") if basin.unit == "error" else (1.0, "loss, nats")
    seen, hue = basin.deltas > 0, pair_colour(kinds)

    def draw(axes: Axes) -> None:
        x, needed = basin.deltas[seen], 2 * scale * basin.epsilon.value
        rises = {"noise": scale * basin.noise[seen], "beyond": scale * basin.beyond[seen]}
        errors = {"noise": basin.noise_error, "beyond": basin.beyond_error}
        bottom, top = _rise_limits(np.concatenate(list(rises.values())), needed)
        ends = []
        for (name, y), dashes in zip(rises.items(), ("-", (0, (4, 1.5))), strict=True):
            axes.plot(x, y, color=hue, ls=dashes, lw=1.5)
            band = scale * errors[name][seen]
            axes.fill_between(x, y - band, y + band, color=hue, alpha=0.18, lw=0)
            ends += [Label(*end, name, hue) for end in _end(x, y, top)]
        # Who leaves first through the top has the upper label.
        ends.sort(key=lambda e: -e.x)
        axes.axhline(needed, color=INK, lw=0.9)
        axes.set_xscale("log")
        shown = [e.x for e in ends] + [basin.delta] * bool(np.isfinite(basin.delta))
        axes.set_xlim(x[0], max(shown, default=x[-1]))
        axes.set_ylim(bottom, top)
        _round_ticks(axes)
        axes.set_xlabel("δ, l2 distance in parameter space")
        axes.set_ylabel(f"rise of the {unit}")
        _mark_delta(axes, basin.delta, needed)
        label_ends(axes, [*ends, Label(axes.get_xlim()[1], needed, "2ε", INK)])

    name = "basin-" + pair_name(kinds).replace(" / ", "-").lower()
    return Panel(name, f"Leaving the line between {pair_words(kinds)}", draw)


def _end(x: np.ndarray, y: np.ndarray, top: float) -> list[tuple[float, float]]:
    """Where a curve ends, or where it leaves through the top; [] if undefined."""
    defined = np.flatnonzero(np.isfinite(y))
    if not defined.size:
        return []
    x, y = x[defined], y[defined]
    over = np.flatnonzero(y > top)
    if not over.size or over[0] == 0:
        return [(float(x[-1]), min(float(y[-1]), top))]
    i = over[0]
    share = (top - y[i - 1]) / (y[i] - y[i - 1])
    return [(float(x[i - 1] * (x[i] / x[i - 1]) ** share), top)]


def _rise_limits(rises: np.ndarray, needed: float) -> tuple[float, float]:
    """Limits that show the rise where it crosses what is needed, not far beyond."""
    known = [0.0, *rises[np.isfinite(rises)], *([needed] if np.isfinite(needed) else [])]
    low, high = min(known), max(known)
    if needed > 0:
        high = min(high, max(6 * needed, -low))
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _round_ticks(axes: Axes) -> None:
    low, high = axes.get_xlim()
    ticks = [d * 10.0**e for e in range(-9, 10) for d in (1, 2, 5)]
    ticks = [t for t in ticks if low * 0.999 <= t <= high * 1.001]
    axes.set_xticks(ticks, [f"{t:,g}" for t in ticks])
    axes.set_xticks([], minor=True)


def _mark_delta(axes: Axes, delta: float, needed: float) -> None:
    if not np.isfinite(delta):
        axes.annotate(
            "no δ in the scan", (0.97, 0.04), xycoords="axes fraction", ha="right", fontsize=7,
            color=INK,
        )  # fmt: skip
        return
    axes.axvline(delta, color=INK, lw=0.6, ls=(0, (1, 2)))
    axes.plot(delta, needed, "o", color=INK, ms=4)
    axes.annotate(
        f"δ = {significant(delta, 2)}", (delta, 0.97), (-4, 0), va="top", ha="right",
        xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=7, color=INK,
    )  # fmt: skip


def permutation(records: Records) -> list[Panel]:
    """The panels of accuracy and loss between two RI-T, in each order of the units."""
    found = numbers.permuted(records)
    if not found:
        return []

    def lines(field: str, scale: float, unit: str) -> Any:
        def draw(axes: Axes) -> None:
            for variant, (hue, dashes) in zip(found, _shades(found), strict=True):
                axes.plot(
                    variant.alphas, scale * getattr(variant, field), color=hue, ls=dashes, lw=1.6
                )
            axes.set_xlim(found[0].alphas.min(), found[0].alphas.max())
            axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
            axes.set_xlabel("alpha, from the first RI-T to the second")
            axes.set_ylim(bottom=0, top=100 if scale > 1 else None)
            axes.set_ylabel(f"test {field}, {unit}")
            _name_lines(axes, found, field, scale)

        return draw

    margins = (0.5, 1.4, 0.45, 0.35)
    return [
        Panel("accuracy", "Accuracy between two RI-T", lines("accuracy", 100.0, "%"), 2.7, margins),
        Panel("loss", "Loss between two RI-T", lines("loss", 1.0, "nats"), 2.7, margins),
    ]


def _shades(found: list[Variant]) -> list[tuple[Any, Any]]:
    """A colour and a dash pattern for each: the pair's own, then ever darker."""
    ramp = matplotlib("colors").LinearSegmentedColormap.from_list(
        "order", [pair_colour(RI_T), "#2e1500"]
    )
    dashes = ("-", (0, (1, 1.2)), (0, (4, 1.5)), "-")
    every = {name: (ramp(i / 3), dashes[i]) for i, name in enumerate(VARIANTS)}
    return [every[v.name] for v in found]


def _name_lines(axes: Axes, found: list[Variant], field: str, scale: float) -> None:
    """Names the lines right of the axes, led to their middles: their ends are the same."""
    labels = []
    for variant, (hue, _) in zip(found, _shades(found), strict=True):
        values = scale * getattr(variant, field)
        middle = int(np.argmin(np.abs(variant.alphas - 0.5)))
        if np.isfinite(values[middle]):
            at = float(variant.alphas[middle])
            labels.append(Label(at, float(values[middle]), VARIANTS[variant.name], hue))
    label_ends(axes, labels)
