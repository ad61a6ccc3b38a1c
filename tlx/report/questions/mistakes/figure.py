"""Panels of mistakes, and the images."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tlx.report.draw.look import INK, PALE
from tlx.report.draw.panels import WIDTH, Panel
from tlx.report.questions.mistakes import numbers
from tlx.report.questions.mistakes.numbers import (
    COMMON,
    ONLY_FIRST,
    ONLY_SECOND,
    Gallery,
    Group,
    Mistakes,
    Picture,
)
from tlx.report.read.selection import Records
from tlx.report.words.kinds import Pair, colour, pair_colour, pair_marker, pair_name
from tlx.report.words.numbers import NO_DATA, Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 12
"""Classes that are drawn at the most: of more, those with the most mistakes."""

_PARTS = (
    (COMMON, 1.0, "both"),
    (ONLY_FIRST, 0.45, "only first"),
    (ONLY_SECOND, 0.22, "only second"),
)
_ACROSS = 4  # images of the gallery side by side
_LEFT = 0.95  # inches of the names of pairs


def mistakes(records: Records) -> list[Panel]:
    """The panels: shares of mistakes, coefficients, by class, and how clear they are."""
    found = numbers.mistakes(records)
    if found is None or not found.groups:
        return []
    panels = [_overall(found), _coefficients(found)]
    if any(group.cells[ONLY_SECOND:].any() for group in found.groups.values()):
        panels.append(_by_class(found))
    if any(np.isfinite(g.margin[:, ONLY_SECOND:]).any() for g in found.groups.values()):
        panels.append(_margins(found))
    return panels


def _overall(found: Mistakes) -> Panel:
    def draw(axes: Axes) -> None:
        for row, kinds in enumerate(found.shown):
            if kinds in found.groups:
                group = found.groups[kinds]
                _bar(axes, row, 0.5, pair_colour(kinds), (group.cells, group.expected))
            else:
                _no_data(axes, row)
        _rows(axes, [pair_name(kinds) for kinds in found.shown])
        axes.set_xlabel(f"{found.unit}, %")
        axes.set_xlim(left=0)
        _key(axes)

    return Panel("all", "Mistakes of two models", draw, 2.6, (_LEFT, 0.2, 0.65, 0.35))


def _bar(axes: Axes, at: float, height: float, hue: str, counts: tuple[np.ndarray, float]) -> None:
    """Draws the parts of a bar, and what independent errors would give in common."""
    cells, expected = counts
    if not cells.sum() > 0:
        return
    start, scale = 0.0, 100 / float(cells.sum())
    for cell, alpha, _ in _PARTS:
        axes.barh(at, scale * cells[cell], left=start, color=hue, alpha=alpha, height=height)
        start += scale * float(cells[cell])
    reach = 0.5 * height + 0.15 * min(height, 0.5)
    axes.vlines(scale * expected, at - reach, at + reach, color=INK, lw=1.2)


def _key(axes: Axes) -> None:
    """Names the parts of the bars, below the axes."""
    parts = [axes.bar(0, 0, color=INK, alpha=alpha) for _, alpha, _ in _PARTS]
    chance = axes.plot([], [], color=INK, lw=1.2, ls="none", marker="|", ms=8)
    axes.legend(
        [*parts, *chance], [*(name for *_, name in _PARTS), "both, by chance"], ncols=4,
        loc="upper right", bbox_to_anchor=(1.05, -0.24), frameon=False, fontsize=6.5,
        handlelength=0.9, handletextpad=0.4, columnspacing=1.0, borderpad=0, labelcolor=INK,
    )  # fmt: skip


def _rows(axes: Axes, names: list[str], *, size: float = 7.5) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=size)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")


def _no_data(axes: Axes, row: float) -> None:
    place = axes.get_yaxis_transform()
    axes.text(0.98, row, NO_DATA, transform=place, ha="right", va="center", fontsize=7, color=PALE)


def _coefficients(found: Mistakes) -> Panel:
    fields = (("kappa", "kappa"), ("capa", "CAPA"))

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=PALE, lw=0.8)
        for i, (field, _) in enumerate(fields):
            for j, kinds in enumerate(found.shown):
                row = i * len(found.shown) + j
                group = found.groups.get(kinds)
                if group is None or not getattr(group, field).known:
                    _no_data(axes, row)
                    continue
                each = [getattr(g, field).value for g in found.pairs[kinds]]
                hue = pair_colour(kinds)
                if len(each) > 1:
                    axes.plot(each, [row] * len(each), "|", color=hue, ms=6, alpha=0.6)
                _interval(axes, row, getattr(group, field), hue, pair_marker(kinds))
        names = [f"{pair_name(k)}, {words}" for _, words in fields for k in found.shown]
        _rows(axes, names)
        axes.axhline(len(found.shown) - 0.5, color=PALE, lw=0.6)
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, -0.02), max(high, 1.0))
        axes.set_xlabel("agreement beyond chance")

    margins = (_LEFT + 0.35, 0.2, 0.45, 0.35)
    return Panel("kappa", "Are the mistakes alike?", draw, 2.6, margins)


def _interval(axes: Axes, row: float, value: Estimate, hue: str, marker: str) -> None:
    if value.interval is not None:
        axes.hlines(row, *value.interval, color=hue, lw=1.6)
    axes.plot(value.value, row, marker=marker, color=hue)


def classes(found: Mistakes) -> list[int]:
    """The classes that are drawn: all, or those with the most mistakes first."""
    cells = sum(group.by_class for group in found.groups.values())
    wrong = np.sum(np.asarray(cells)[:, ONLY_SECOND:], axis=1)
    if len(wrong) <= MOST_CLASSES:
        return list(range(len(wrong)))
    return [int(i) for i in np.argsort(-wrong, kind="stable")[:MOST_CLASSES]]


def _by_class(found: Mistakes) -> Panel:
    chosen, groups = classes(found), list(found.groups.items())

    def draw(axes: Axes) -> None:
        high = 0.8 / len(groups)
        for row, name in enumerate(chosen):
            for i, (kinds, group) in enumerate(groups):
                at = row + (i - (len(groups) - 1) / 2) * high
                counts = (group.by_class[name], float(group.expected_by_class[name]))
                _bar(axes, at, 0.85 * high, pair_colour(kinds), counts)
        _rows(axes, [str(name) for name in chosen])
        axes.set_xlim(left=0)
        axes.set_ylabel("label" if found.is_multilabel else "class")
        of = "label's" if found.is_multilabel else "class's"
        axes.set_xlabel(f"the {of} images, %")

    title = "By label" if found.is_multilabel else "By class"
    if len(chosen) < found.num_classes:
        title += f": {len(chosen)} of {found.num_classes}, most mistakes first"
    height = 0.8 + 0.3 * max(len(chosen), 4)
    return Panel("class", title, draw, height, (0.55, 0.2, 0.45, 0.35))


def _margins(found: Mistakes) -> Panel:
    rows = [row for kinds, group in found.groups.items() for row in _margin_rows(kinds, group)]

    def draw(axes: Axes) -> None:
        axes.axvline(0, color=PALE, lw=0.8)
        for at, (_, points) in enumerate(rows):
            known = [(x, kind) for x, kind in points if math.isfinite(x)]
            if not known:
                _no_data(axes, at)
            ends = [x for x, _ in known]
            axes.plot(ends, [at] * len(ends), color=PALE, lw=0.6)
            apart = 0.12 if len(ends) > 1 and max(ends) <= 0 else 0.0  # those of both wrong
            for (x, kind), y in zip(known, (at - apart, at + apart), strict=False):
                hue, inner = colour(kind), "white" if x > 0 else colour(kind)
                axes.plot(x, y, marker=pair_marker((kind, kind)), color=hue, mfc=inner)
        _rows(axes, [name for name, _ in rows])
        axes.set_xlim(-1, 1)
        axes.set_xlabel("mean margin of the label")

    height = 0.8 + 0.3 * max(len(rows), 4)
    return Panel("margin", "How clear the mistakes are", draw, height, (1.55, 0.2, 0.45, 0.35))


def _margin_rows(kinds: Pair, group: Group) -> list[tuple[str, list[tuple[float, str]]]]:
    """The name of each row, and its margins with the kind of model that has them."""
    one, other = kinds
    name = pair_name(kinds)

    def points(cell: int) -> list[tuple[float, str]]:
        return [(float(group.margin[i, cell]), kind) for i, kind in enumerate(kinds)]

    if one == other:
        return [
            (f"{name}: one wrong", points(ONLY_FIRST)),
            (f"{name}: both", points(COMMON)[:1]),
        ]
    return [
        (f"{name}: only {one}", points(ONLY_FIRST)),
        (f"{name}: only {other}", points(ONLY_SECOND)),
        (f"{name}: both", points(COMMON)),
    ]


def gallery(records: Records) -> list[Panel]:
    """A panel a row of the gallery: images that P-T, RI-T or both get wrong."""
    found = numbers.gallery(records)
    if found is None:
        return []
    return [
        _pictures(name, total, pictures, found) for name, (total, pictures) in found.rows.items()
    ]


_PITCH, _SIZE, _LINE, _EDGE = 0.86, 0.78, 0.125, 0.08  # inches


def _pictures(name: str, total: int, pictures: list[Picture], found: Gallery) -> Panel:
    num_lines = 4 if found.is_multilabel else 3
    tall = _SIZE + num_lines * _LINE + 0.14
    high = max(1, math.ceil(len(pictures) / _ACROSS)) * tall if pictures else 0.3

    def draw(axes: Axes) -> None:
        axes.axis("off")
        if not pictures:
            axes.text(0, 0.1, "none" if not total else NO_DATA, va="center", color=INK)
        for i, picture in enumerate(pictures):
            x, y = i % _ACROSS * _PITCH, i // _ACROSS * tall
            _picture(axes, picture, (x, y), f"image-{i}")
            lines = [(words(picture, found), INK), *_answers(picture, found)]
            every = [(part, hue) for text, hue in lines for part in text.split("\n")]
            for j, (text, hue) in enumerate(every):
                at = y + _SIZE + 0.03 + (j + 0.5) * _LINE
                axes.text(x, at, text, color=hue, fontsize=7, va="center")
        axes.set_xlim(0, WIDTH - 2 * _EDGE)
        axes.set_ylim(high, 0)

    title = name[:1].upper() + name[1:]
    title += f": {len(pictures)} of {total:,}" if total else ""
    margins = (_EDGE, _EDGE, 0.02, 0.35)
    alt = ". ".join(f"Image {p.number}: {_spoken(p, found)}" for p in pictures)
    return Panel(name.replace(" ", "-").lower(), title, draw, high + 0.37, margins, alt)


def _picture(axes: Axes, picture: Picture, at: tuple[float, float], name: str) -> None:
    """Draws the pixels as they are, not smoothed, in a square at a place; grey with one channel."""
    high, wide, channels = picture.pixels.shape
    scale = _SIZE / max(high, wide)
    left, top = at[0], at[1] + (_SIZE - scale * high) / 2
    pixels = picture.pixels[..., :3] if channels >= 3 else picture.pixels[..., [0, 0, 0]]
    edges = (left, left + scale * wide, top + scale * high, top)
    drawn = axes.imshow(pixels, interpolation="none", aspect="auto", extent=edges)
    drawn.set_gid(name)  # the same image may stand in a row twice


def words(picture: Picture, found: Gallery) -> str:
    """What the image is: its class, or a label and whether it should be on."""
    if found.is_multilabel:
        return f"label {picture.judgement}\ntrue {_named(picture.label, found)}"
    return f"true {picture.label}"


def _spoken(picture: Picture, found: Gallery) -> str:
    parts = [words(picture, found).replace("\n", ", ")]
    return "; ".join([*parts, *(text for text, _ in _answers(picture, found))])


def _answers(picture: Picture, found: Gallery) -> list[tuple[str, str]]:
    lines = []
    for kind, given, sure in zip(("P-T", "RI-T"), picture.answers, picture.confidence, strict=True):
        level = f", {100 * sure:.0f}%" if math.isfinite(sure) else ""
        lines.append((f"{kind} {_named(given, found)}{level}", colour(kind)))
    return lines


def _named(answer: int, found: Gallery) -> str:
    if answer < 0:
        return "none"
    return ("off", "on")[answer] if found.is_multilabel else str(answer)
