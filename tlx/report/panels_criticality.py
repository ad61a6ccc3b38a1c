"""Panels of criticality: the error of each module on its path and in noise, as small maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tlx.report import measures_modules
from tlx.report.drawing import INK, PALE, WIDTH, Panel, matplotlib
from tlx.report.kinds import colour, short
from tlx.report.measures import Records
from tlx.report.measures_modules import PATHS, Critical
from tlx.report.numbers import significant
from tlx.report.panels_landscape import GOOD_TO_BAD

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 9
"""Modules that are drawn where there are more: the first, and each panel's most critical."""

_ACROSS = 3
_MARGINS = (0.5, 0.55, 0.42, 0.35)
_GAPS = (0.16, 0.4)  # inches between maps, across and down
_TALL = 0.72  # inches of a map
_HEAD = 0.14  # above the first row of maps, for their names

_WAYS = {"direct": "straight back", "optimisation": "back through the checkpoints"}


def criticality(records: Records) -> list[Panel]:
    """Returns a panel a path and a kind of run, of small maps: modules in noise on their way."""
    found = {
        (kind, path): own
        for path in PATHS
        for kind, own in measures_modules.critical(records, path).items()
    }
    chosen = drawn(found)
    errors = np.concatenate([f.error.ravel() for f in found.values()] or [np.zeros(0)])
    top = float(np.max(errors[np.isfinite(errors)], initial=0.0)) or 1.0
    return [
        _panel(kind, path, own, [n for n in chosen if n in own.names], top)
        for (kind, path), own in found.items()
    ]


def drawn(found: Mapping[Any, Critical]) -> list[str]:
    """Returns the modules that are drawn, from input to output: MOST at the most."""
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
    across = WIDTH - _MARGINS[0] - _MARGINS[1]
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

    height = tall + _MARGINS[2] + _MARGINS[3]
    title = f"{kind}, {_WAYS[path]}"
    return Panel(f"{kind.lower()}-{path}", title, draw, height, _MARGINS)


def _map(axes: Axes, found: Critical, i: int, hue: str, look: dict[str, Any]) -> None:
    error, distances = found.error[i].T, found.distances[i]
    axes.set_facecolor("#f1f1f1")
    axes.pcolormesh(np.ma.masked_invalid(error), **look)
    axes.add_collection(_outline(error <= found.threshold, hue))
    place = found.least[i]
    if np.isfinite(place).all():
        axes.plot(*(place + 0.5), "o", ms=4.2, color=hue, mec="white", mew=0.8)
    name = found.names[i]
    value = measures_modules.rounded(found.value[name])
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
    """Returns the borders between the cells that are inside and those that are not."""
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
