"""The tables by the number of training images, and by the target's distance."""

from __future__ import annotations

import math

from tlx.report import measures_starts, measures_sweeps
from tlx.report.measures import Records
from tlx.report.measures_sweeps import Sweep
from tlx.report.numbers import NO_DATA, percent, significant
from tlx.report.table import Table
from tlx.report.tables_starts import adjusted, points

_COLUMNS = (
    "P-T, test", "RI-T, test", "P-T − RI-T", "p, adj.", "P-T, training", "RI-T, training", "runs",
)  # fmt: skip


def amount(records: Records) -> Table | None:
    """Returns a row a number of training images; None: no data."""
    found = measures_sweeps.sweep(records, "train_size")
    if found is None:
        return None
    rows = tuple(
        (f"{found.train_size[i]:,}" if found.train_size[i] else value, *_cells(found, i))
        for i, value in enumerate(found.values)
    )
    return Table(("images", *_COLUMNS), rows)


def domains(records: Records) -> Table | None:
    """Returns a row a target, the nearest to the source first, and the floor; None: no data."""
    found, far = measures_sweeps.sweep(records, "target"), measures_starts.domains(records)
    if found is None and far is None:
        return None
    distance = far.distance if far else {}
    names = list(dict.fromkeys([*(found.values if found else ()), *distance]))
    names.sort(key=lambda n: d if math.isfinite(d := distance.get(n, math.nan)) else math.inf)
    nothing = ("",) * len(_COLUMNS)
    rows = [
        (
            name,
            significant(distance[name]) if name in distance else NO_DATA,
            *(
                _cells(found, found.values.index(name))
                if found and name in found.values
                else nothing
            ),
        )
        for name in names
    ]
    if far:
        floor = "source (floor)"
        rows.insert(0, (floor, significant(far.floor), *nothing))
    return Table(("target", "distance", *_COLUMNS), tuple(rows))


def _cells(found: Sweep, i: int) -> tuple[str, ...]:
    runs = [found.seeds_of(kind, i) for kind in ("P-T", "RI-T")]
    return (
        *(percent(found.final_of(kind, i)) for kind in ("P-T", "RI-T")),
        points(measures_starts.difference(found, i)),
        adjusted(found, i),
        *(percent(found.average_of(kind, i), error=False) for kind in ("P-T", "RI-T")),
        " + ".join(map(str, runs)),
    )
