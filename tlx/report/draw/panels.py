"""Panels, and how they become figures. matplotlib is imported on first use."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tlx.report.draw.look import matplotlib, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 3.6  # inches of a panel: two stand side by side in the page's column, one on a phone


class Panel(NamedTuple):
    """One set of axes: a name (unique in its figure), a title, and a function that draws.

    `margins` are left, right, bottom, top in inches; the right one has the labels. `alt`
    says in the page's SVG what is seen, for those who do not see it. A wide one stands alone
    in its row and fills it.
    """

    name: str
    title: str
    draw: Callable[[Axes], None]
    height: float = 2.7
    margins: tuple[float, float, float, float] = (0.5, 0.72, 0.45, 0.35)
    alt: str = ""
    is_wide: bool = False


class Label(NamedTuple):
    """A line's label, to stand right of the axes at the height of the line's end `(x, y)`."""

    x: float
    y: float
    text: str
    colour: str


def figure(panels: Sequence[Panel], *, width: float = WIDTH, columns: int = 2) -> Figure:
    """One Figure with the panels in so many columns, each so many inches wide.

    It shows itself in a notebook, without pyplot.

    Raises:
      ValueError: no panels.
    """
    if not panels:
        raise ValueError(
            "expected panels to draw, got none: these records hold no data for this figure"
        )
    rows = _rows(panels, columns)
    across = width * max(2 if row[0].is_wide else len(row) for row in rows)
    height = sum(max(p.height for p in row) for row in rows)
    with style():
        made = _figure_class()(figsize=(across, height))
        top = height
        for row in rows:
            for column, panel in enumerate(row):
                left, right, bottom, above = panel.margins
                tall = panel.height - bottom - above
                box = (column * width + left, top - panel.height + bottom)
                size = (width * (1 + panel.is_wide) - left - right, tall)
                axes = made.add_axes(
                    (box[0] / across, box[1] / height, size[0] / across, size[1] / height)
                )
                axes.set_title(panel.title)
                panel.draw(axes)
            top -= max(p.height for p in row)
    return made


def _rows(panels: Sequence[Panel], columns: int) -> list[list[Panel]]:
    rows: list[list[Panel]] = []
    for panel in panels:
        is_alone = panel.is_wide or (rows and rows[-1][0].is_wide)
        has_room = rows and len(rows[-1]) < columns and not is_alone
        if has_room:
            rows[-1].append(panel)
        else:
            rows.append([panel])
    return rows


def label_ends(axes: Axes, labels: Sequence[Label]) -> None:
    """Writes labels right of the axes, at their lines' ends, moved apart where they collide.

    Call it when the limits of the axes are final.
    """
    box = axes.get_position()
    assert axes.figure is not None
    points = box.height * axes.figure.get_figheight() * 72  # type: ignore[union-attr]
    lower, upper = axes.get_ylim()
    wanted = [min(max((x.y - lower) / (upper - lower), 0.0), 1.0) for x in labels]
    heights = [10.5 / points] * len(labels)
    gap = 8 / (box.width * axes.figure.get_figwidth() * 72)  # type: ignore[union-attr]
    left, right = axes.get_xlim()
    for label, at, to in zip(labels, wanted, spread(wanted, heights), strict=True):
        # A thin line leads to a label that does not stand right at its line's end.
        led = abs(at - to) * points > 3 or (right - label.x) > 0.1 * (right - left)
        arrow = {"arrowstyle": "-", "color": label.colour, "lw": 0.5, "alpha": 0.7}
        axes.annotate(
            label.text,
            xy=(label.x, at),
            xycoords=("data", "axes fraction"),
            xytext=(1.0 + gap, to),
            textcoords="axes fraction",
            color=label.colour,
            va="center",
            fontsize=7.5,
            annotation_clip=False,
            arrowprops={**arrow, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)} if led else None,
        )


def spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Positions close to `wanted` at which things of these heights do not overlap."""
    ranked = sorted(range(len(wanted)), key=lambda i: wanted[i])
    # Clusters of touching labels, each around the mean of what its members want.
    clusters: list[list[int]] = []
    for i in ranked:
        clusters.append([i])
        while len(clusters) > 1 and _touch(clusters[-2], clusters[-1], wanted, heights):
            last = clusters.pop()
            clusters[-1] += last
    placed = list(wanted)
    for cluster in clusters:
        at = _bottom(cluster, wanted, heights)
        for i in cluster:
            placed[i] = at + heights[i] / 2
            at += heights[i]
    return placed


def _bottom(cluster: Sequence[int], wanted: Sequence[float], heights: Sequence[float]) -> float:
    middle = sum(wanted[i] for i in cluster) / len(cluster)
    return middle - sum(heights[i] for i in cluster) / 2


def _touch(
    below: Sequence[int], above: Sequence[int], wanted: Sequence[float], heights: Sequence[float]
) -> bool:
    top = _bottom(below, wanted, heights) + sum(heights[i] for i in below)
    return top > _bottom(above, wanted, heights)


@functools.lru_cache(maxsize=1)
def _figure_class() -> Any:
    base = matplotlib("figure").Figure

    class NotebookFigure(base):  # type: ignore[misc, valid-type]
        """A Figure that a notebook shows as SVG even where pyplot was never imported."""

        def _repr_svg_(self) -> str:
            buffer = io.StringIO()
            with style():
                self.savefig(buffer, format="svg")
            return buffer.getvalue()

    return NotebookFigure
