"""The tables about P's checkpoints as starts, and of the scores that foretell them."""

from __future__ import annotations

import math

from tlx.report import measures_starts, measures_sweeps
from tlx.report.answers_starts import p_value
from tlx.report.measures import Records
from tlx.report.measures_starts import Checkpoints
from tlx.report.measures_sweeps import Sweep
from tlx.report.numbers import Estimate, percent, proportion, significant, text
from tlx.report.table import Table


def starts(records: Records) -> Table | None:
    """Returns a row a checkpoint of P: as a model, and as a start; None: no data."""
    found, own = measures_sweeps.sweep(records, "init_step"), measures_starts.checkpoints(records)
    if found is None and own is None:
        return None
    source = {str(s): _checkpoint(own, i) for i, s in enumerate(own.step.tolist())} if own else {}
    ends = {name: _start(found, i) for i, name in enumerate(found.values)} if found else {}
    names = sorted({**source, **ends}, key=lambda n: (float(n) if n.isdigit() else math.inf, n))
    columns = ["step"]
    columns += ["P, source", "barrier, points", "in basin?"] if own else []
    columns += ["P-T, test", "last − this", "p, adj.", "P-T, training", "runs"] if found else []
    width = {"own": 3 if own else 0, "found": 5 if found else 0}
    rows = tuple(
        (
            f"{int(n):,}" if n.isdigit() else n,
            *source.get(n, ("",) * width["own"]),
            *ends.get(n, ("",) * width["found"]),
        )
        for n in names
    )
    return Table(tuple(columns), rows)


def _checkpoint(own: Checkpoints, i: int) -> tuple[str, ...]:
    """Cells of a checkpoint as a model of the source; the last is the end of all lines."""
    accuracy = percent(proportion(float(own.accuracy[i]), own.num_images), error=False)
    if i == own.step.size - 1:
        return accuracy, "", "(last)"
    return accuracy, points(own.barrier_of(i)), own.verdict[i]


def _start(found: Sweep, i: int) -> tuple[str, ...]:
    """Cells of a checkpoint as a start on the target."""
    is_last = i == len(found.values) - 1
    return (
        percent(found.final_of("P-T", i)),
        "" if is_last else points(measures_starts.difference(found, i)),
        "" if is_last else adjusted(found, i),
        percent(found.average_of("P-T", i), error=False),
        str(found.seeds_of("P-T", i)),
    )


def points(difference: Estimate) -> str:
    """Returns a difference in percentage points, without the unit."""
    if difference.known and difference.interval is None:
        return f"{100 * difference.value:.1f}".replace("-", "−")
    return text(difference, 100.0, most=1)


def adjusted(found: Sweep, i: int) -> str:
    """Returns the adjusted p of a difference; "" where there is none over several runs."""
    known = measures_starts.difference(found, i).interval is not None
    return p_value(float(found.difference_p_holm[i])) if known else ""


def transferability(records: Records) -> Table | None:
    """Returns a row a score: how it ranks the checkpoints; None: no data."""
    found = measures_starts.transferability(records)
    if found is None:
        return None
    columns = ("score", "weighted τ", "p", "p, adjusted", "Kendall's τ", "p")
    rows = tuple(
        (
            name,
            significant(float(found.weighted_tau[i]), 2),
            p_value(float(found.p_weighted_tau[i])),
            p_value(float(found.p_holm[i])),
            significant(float(found.kendall[i]), 2),
            p_value(float(found.p_kendall[i])),
        )
        for i, name in enumerate(found.names)
    )
    return Table(columns, rows)
