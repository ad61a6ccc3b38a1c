"""Features or statistics, in weights: P-T against S-T, and S-T against RI-T."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tlx.report.draw.look import PALE
from tlx.report.draw.panels import Label, Panel, label_ends
from tlx.report.read.selection import Records
from tlx.report.read.sweeps import Sweep, runs_counted, sweep
from tlx.report.words import shuffles
from tlx.report.words.kinds import colour
from tlx.report.words.numbers import Estimate, percent, points, text
from tlx.report.words.table import Table
from tlx.report.words.verdicts import AGREES, DIFFERS, OPEN, above_zero

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEATURES, STATISTICS = "P-T − S-T", "S-T − RI-T"
_NAMES = {FEATURES: ("features", "P-T", -0.08), STATISTICS: ("statistics", "S-T", 0.08)}
"""What a contrast says, the kind whose colour it has, and its place beside the value's."""


def _found(records: Records) -> Sweep | None:
    found = sweep(records, "shuffle")
    return found if found and {FEATURES, STATISTICS} <= set(found.contrasts) else None


def panels(records: Records) -> list[Panel]:
    """What of the difference P-T − RI-T is owed to features, and what to statistics."""
    found = _found(records)
    if found is None:
        return []
    return [
        Panel(f"arms-{of}", title, _draw(found, unit, of), 2.6, (0.5, 0.75, 0.5, 0.35))
        for of, title, unit in (
            ("final", "Where it ends", "points of test accuracy"),
            ("speed", "How fast it learns", "points of training accuracy"),
        )
    ]


def _draw(found: Sweep, unit: str, of: str) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        labels = []
        axes.axhline(0, color=PALE, lw=0.8)
        for contrast, (words, kind, side) in _NAMES.items():
            each = [found.contrast_of(contrast, i, of) for i in range(len(found.values))]
            known = [(i + side, e) for i, e in enumerate(each) if e.known]
            hue = colour(kind)
            at, values = [x for x, _ in known], [100 * e.value for _, e in known]
            axes.plot(at, values, color=hue, marker="o", lw=1.2)
            for x, e in known:
                if e.interval is not None:
                    axes.plot([x, x], [100 * end for end in e.interval], color=hue, lw=0.9)
            if known:
                labels.append(Label(at[-1], values[-1], words, hue))
        axes.set_xticks(
            range(len(found.values)),
            [shuffles.label(name).replace(" ", "\n") for name in found.values],
        )
        axes.set_xlim(-0.4, len(found.values) - 0.6)
        axes.set_xlabel("side of the shuffled blocks, pixels")
        axes.set_ylabel(unit)
        label_ends(axes, labels)

    return draw


def caption(records: Records) -> str:
    """The caption of the panels."""
    found = _found(records)
    if found is None:
        return ""
    return (
        "P-T less S-T, which is owed to features, and S-T less RI-T, which is owed to the mean and "
        "the standard deviation of each tensor; together they are P-T less RI-T. "
        f"{runs_counted(found)}; whiskers are 95% intervals over runs"
        + (" and, of the test accuracy, over test images" if any(found.chance) else "")
        + "."
    )


def table(records: Records) -> Table | None:
    """A row a way of shuffling; None without S-T."""
    found = _found(records)
    if found is None:
        return None
    columns = (
        "block size", "S-T, test", "P-T − S-T, points", "S-T − RI-T, points",
        "(P-T − S-T) / P-T, %", "(S-T − RI-T) / S-T, %",
        "P-T − S-T, training, points", "S-T − RI-T, training, points",
    )  # fmt: skip
    rows = tuple(
        (
            shuffles.label(value),
            percent(found.final_of("S-T", i)),
            *(
                text(found.contrast_of(contrast, i, of), 1.0 if of == "drop" else 100.0, most=1)
                for of in ("final", "drop", "speed")
                for contrast in (FEATURES, STATISTICS)
            ),
        )
        for i, value in enumerate(found.values)
    )
    return Table(columns, rows)


def sentence(records: Records) -> str:
    """What of the advantage on whole images is owed to what; "" without S-T."""
    found = _found(records)
    if found is None or "none" not in found.values:
        return ""
    whole = found.values.index("none")
    features, statistics = (found.contrast_of(c, whole) for c in (FEATURES, STATISTICS))
    if not (features.known and statistics.known):
        return ""
    lead = {
        AGREES: "In weights it is features",
        DIFFERS: "In weights features hurt",
        OPEN: "Whether it is features in weights is too close to call",
    }.get(above_zero(features), "In weights there is no interval")
    return (
        f" {lead}: random weights with the mean and the standard deviation of each tensor of P "
        f"(S-T) end at {percent(found.final_of('S-T', whole))} on whole images, so that "
        f"{_points(features)} are owed to features and {_points(statistics)} to these statistics."
    )


def _points(value: Estimate) -> str:
    return f"{points(value)} points"
