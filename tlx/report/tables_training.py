"""The tables about runs: learning curves and block shuffling."""

from __future__ import annotations

import math

import numpy as np

from tlx.report import measures
from tlx.report.answers_starts import p_value
from tlx.report.answers_training import as_fraction
from tlx.report.measures import Records
from tlx.report.measures_sweeps import Learning, Sweep, learning, sweep
from tlx.report.measures_training import KINDS
from tlx.report.numbers import NO_DATA, Estimate, percent
from tlx.report.table import Table
from tlx.report.tables_starts import adjusted, points


def curves(records: Records) -> Table | None:
    """Returns a row a kind and rate on the plain target, or a row a run; None: no data."""
    grouped = learning(records)
    if grouped is not None:
        return _grouped(grouped)
    found = measures.curves(records)
    rows = tuple((c.run, c.kind, percent(c.final), percent(c.speed)) for c in found)
    columns = ("run", "kind", "final test accuracy", "average training accuracy")
    return Table(columns, rows) if rows else None


def _grouped(found: Learning) -> Table | None:
    columns = (
        "", "rate", "runs", "final test accuracy", "best on test", "at step",
        "chosen on validation", "at step", "optimism, points",
    )  # fmt: skip
    has_valid = bool(np.isfinite(found.selected).any())
    rows = []
    for g, kind in enumerate(found.kinds):
        rate, gain = float(found.rates[g]), float(found.optimism[g])
        chosen = (_mean(found.selected[g]), _steps(found.selected_step[g]))
        rows.append(
            (
                kind,
                f"{rate:g}" if math.isfinite(rate) else "",
                str(found.seeds[g]),
                percent(found.final_of(g)),
                _mean(found.best[g]),
                _steps(found.best_step[g]),
                *((*chosen, f"{100 * gain:.2f}".replace("-", "−")) if has_valid else ()),
            )
        )
    return Table(columns if has_valid else columns[:6], tuple(rows)) if rows else None


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return percent(Estimate(float(known.mean()))) if known.size else NO_DATA


def _steps(values: np.ndarray) -> str:
    """Returns the step of all runs, or the first and the last of them."""
    known = values[np.isfinite(values)]
    if not known.size:
        return NO_DATA
    ends = dict.fromkeys(f"{int(v):,}" for v in (known.min(), known.max()))
    return " … ".join(ends)


def shuffle(records: Records) -> Table | None:
    """Returns a row a way of shuffling; None where nothing was shuffled."""
    found = sweep(records, "shuffle")
    if found is None or all(name == "none" for name in found.values):
        return None
    columns = (
        "block size", "P-T, test", "RI-T, test", "P-T − RI-T, points", "p, adj.", "drop, %",
        "P-T − RI-T, training, points", "p, adj.", "rates", "runs",
    )  # fmt: skip
    return Table(columns, tuple(_row(found, i) for i in range(len(found.values))))


def _row(found: Sweep, i: int) -> tuple[str, ...]:
    drop = found.drop_of(i)
    speed = found.speed_of(i)
    rates = [found.rate_of(kind, i) for kind in KINDS]
    runs = [found.seeds_of(kind, i) for kind in KINDS]
    return (
        measures.shuffle_label(found.values[i]),
        *(percent(found.final_of(kind, i)) for kind in KINDS),
        points(found.difference_of(i)),
        adjusted(found, i),
        points(as_fraction(drop)) if drop.known else "–",
        points(speed),
        p_value(float(found.speed_p_holm[i])) if speed.interval else "",
        _both([f"{rate:g}" if math.isfinite(rate) else "?" for rate in rates]),
        _both([str(n) for n in runs]),
    )


def _both(cells: list[str]) -> str:
    """Returns what both kinds have, once where it is the same."""
    return " / ".join(dict.fromkeys(cells))
