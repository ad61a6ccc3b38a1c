"""Panels about single modules: what is lost without each, maps of criticality, movement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tlx.report.draw.layers import Line, names_below, trend
from tlx.report.draw.look import GOOD_TO_BAD, INK, PALE, matplotlib, shades
from tlx.report.draw.panels import WIDTH, Label, Panel, label_ends
from tlx.report.questions.modules import numbers
from tlx.report.questions.modules.numbers import PATHS, Critical, Rewound
from tlx.report.read.selection import Records
from tlx.report.words.kinds import colour, pair_colour, pair_marker, pair_name, short
from tlx.report.words.numbers import significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELLED = 6
"""Modules of which the line is named where there are more: those that lose most."""

_MARGINS = (0.5, 0.72, 0.65, 0.35)
_BY_STEP = (0.5, 0.72, 0.45, 0.35)


class Bars(dict[str, tuple[np.ndarray, np.ndarray | None]]):
    """Kind of run -> heights [M], NaN where undefined, and their errors, if any."""


def rewinding(records: Records) -> list[Panel]:
    """The panels of accuracy and loss with a module at its start, then by step."""
    found = numbers.rewound(records)
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
    """Where a kind's bars stand, beside the other's, and how wide they are."""
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
        axes.set_xlabel("step to which the module is rewound")
        axes.set_ylabel("accuracy lost, points")
        label_ends(axes, ends)

    return Panel(
        f"steps-{kind.lower()}", f"{kind}, one module at an earlier step", draw, 2.7, _BY_STEP
    )


def movement(records: Records) -> list[Panel]:
    """The panels of how far modules went, and whether two runs went the same way."""
    panels = []
    found = numbers.moved(records)
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
        for kinds, own in numbers.alike(records).items()
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


MOST = 9
"""Modules that are drawn where there are more: the first, and each panel's most critical."""

_ACROSS = 3
_MAP_MARGINS = (0.5, 0.55, 0.42, 0.35)
_GAPS = (0.16, 0.4)  # inches between maps, across and down
_TALL = 0.72  # inches of a map
_HEAD = 0.14  # above the first row of maps, for their names

_WAYS = {"direct": "straight back", "optimisation": "back through the checkpoints"}


def criticality(records: Records) -> list[Panel]:
    """A panel a path and a kind of run, of small maps: modules in noise on their way."""
    found = {
        (kind, path): own for path in PATHS for kind, own in numbers.critical(records, path).items()
    }
    chosen = drawn(found)
    errors = np.concatenate([f.error.ravel() for f in found.values()] or [np.zeros(0)])
    top = float(np.max(errors[np.isfinite(errors)], initial=0.0)) or 1.0
    return [
        _panel(kind, path, own, [n for n in chosen if n in own.names], top)
        for (kind, path), own in found.items()
    ]


def drawn(found: Mapping[Any, Critical]) -> list[str]:
    """The modules that are drawn, from input to output: MOST at the most."""
    names = list(dict.fromkeys(n for own in found.values() for n in own.names))
    rank = {name: len(names) for name in names}
    for own in found.values():
        falling = sorted(own.value, key=lambda n: -np.nan_to_num(own.value[n], nan=-1.0))
        rank |= {n: min(rank[n], i) for i, n in enumerate(falling)}
    rank |= dict.fromkeys(names[:1], -1)  # the paper's figure is of the first
    kept = sorted(names, key=lambda n: rank[n])[:MOST]
    return [n for n in names if n in kept]


def _panel(kind: str, path: str, found: Critical, chosen: list[str], top: float) -> Panel:
    down = max(-(-len(chosen) // _ACROSS), 1)
    tall = _HEAD + down * _TALL + (down - 1) * _GAPS[1]
    across = WIDTH - _MAP_MARGINS[0] - _MAP_MARGINS[1]
    wide = (across - (_ACROSS - 1) * _GAPS[0]) / _ACROSS

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        shades = matplotlib("colors").LinearSegmentedColormap.from_list("error", GOOD_TO_BAD)
        # Edges of the cells' colours close the seams that a browser would show between them.
        look = {"cmap": shades, "vmin": 0.0, "vmax": top, "edgecolors": "face", "lw": 0.7}
        for place, name in enumerate(chosen):
            row, column = divmod(place, _ACROSS)
            left = column * (wide + _GAPS[0]) / across
            bottom = 1 - (_HEAD + row * (_TALL + _GAPS[1]) + _TALL) / tall
            own = axes.inset_axes((left, bottom, wide / across, _TALL / tall))
            _map(own, found, found.names.index(name), colour(kind), look)
            if column:
                own.set_yticks([])
            else:
                own.set_ylabel("noise σ", fontsize=7, labelpad=2)
        _scale(axes, (across, 1 - _HEAD / tall), look)
        axes.annotate(
            "l2 distance from the start", (0.5, 0), (0, -17), xycoords="axes fraction",
            textcoords="offset points", ha="center", va="top", fontsize=7.5, color=INK,
        )  # fmt: skip

    height = tall + _MAP_MARGINS[2] + _MAP_MARGINS[3]
    title = f"{kind}, {_WAYS[path]}"
    return Panel(f"{kind.lower()}-{path}", title, draw, height, _MAP_MARGINS)


def _map(axes: Axes, found: Critical, i: int, hue: str, look: dict[str, Any]) -> None:
    error, distances = found.error[i].T, found.distances[i]
    axes.set_facecolor("#f1f1f1")
    axes.pcolormesh(np.ma.masked_invalid(error), **look)
    axes.add_collection(_outline(error <= found.threshold, hue))
    place = found.least[i]
    if np.isfinite(place).all():
        axes.plot(*(place + 0.5), "o", ms=4.2, color=hue, mec="white", mew=0.8)
    name = found.names[i]
    value = numbers.rounded(found.value[name])
    axes.set_title(f"{short(name)}: μ {value}", fontsize=6.8, pad=2.5, fontweight="normal")
    at = sorted({0, (len(distances) - 1) // 2, len(distances) - 1})
    axes.set_xticks([k + 0.5 for k in at], [significant(distances[k], 2) for k in at])
    rows = range(0, len(found.sigmas), -(-len(found.sigmas) // 6))
    axes.set_yticks([k + 0.5 for k in rows], [f"{found.sigmas[k]:.2g}" for k in rows])
    axes.tick_params(length=0, pad=1.5, labelsize=6)
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=PALE, linewidth=0.4)
    axes.set_xlim(0, error.shape[1])
    axes.set_ylim(0, error.shape[0])


def _outline(inside: np.ndarray, hue: str) -> Any:
    """The borders between the cells that are inside and those that are not."""
    rows, columns = np.nonzero(inside[:, 1:] != inside[:, :-1])
    upright = [((c + 1, r), (c + 1, r + 1)) for r, c in zip(rows, columns, strict=True)]
    rows, columns = np.nonzero(inside[1:] != inside[:-1])
    level = [((c, r + 1), (c + 1, r + 1)) for r, c in zip(rows, columns, strict=True)]
    lines = matplotlib("collections").LineCollection
    return lines([*upright, *level], colors=hue, linewidths=1.3, capstyle="round")


def _scale(axes: Axes, size: tuple[float, float], look: dict[str, Any]) -> None:
    """Draws the colours right of the maps: the error in percent."""
    top, (across, height) = look["vmax"], size
    bar = axes.inset_axes((1 + 0.1 / across, 0.0, 0.09 / across, height))
    levels = np.linspace(0, top, 65)
    bar.pcolormesh([0, 1], 100 * levels, (levels[1:] + levels[:-1])[:, None] / 2, **look)
    bar.yaxis.tick_right()
    bar.yaxis.set_major_locator(matplotlib("ticker").MaxNLocator(5))
    bar.set_ylim(0, 100 * top)
    bar.set_xticks([])
    bar.grid(visible=False)
    bar.tick_params(axis="y", length=0, pad=2, labelsize=6.5)
    bar.spines[:].set(visible=True, color=PALE, linewidth=0.4)
    bar.yaxis.set_label_position("right")
    bar.set_ylabel("0-1 error, %", fontsize=7, labelpad=3)
