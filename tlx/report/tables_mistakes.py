"""The table about mistakes: a row a kind of pair, and under it a row a pair of models."""

from __future__ import annotations

import math

from tlx.report import measures_mistakes
from tlx.report.kinds import pair_name
from tlx.report.measures import Records
from tlx.report.measures_mistakes import COMMON, ONLY_FIRST, ONLY_SECOND, PAIRS, Group
from tlx.report.numbers import NO_DATA, significant, text
from tlx.report.table import Table

MOST_PAIRS = 15
"""Pairs of models that have a row each at the most: of more, only the kinds of pair have."""

_COLUMNS = (
    "pair",
    "pairs",
    "both wrong",
    "by chance",
    "only first",
    "only second",
    "kappa",
    "CAPA",
    "differ",
    "p",
    "p, Holm",
)


def mistakes(records: Records) -> Table | None:
    """Returns a row a kind of pair, means over its pairs, and a row a pair; None: no data."""
    found = measures_mistakes.mistakes(records)
    if found is None or not found.groups:
        return None
    is_each = sum(map(len, found.pairs.values())) <= MOST_PAIRS
    rows = []
    for kinds in PAIRS:
        if kinds not in found.groups:
            rows.append((pair_name(kinds), "0", *[NO_DATA] * (len(_COLUMNS) - 2)))
            continue
        rows.append(_row(found.groups[kinds]))
        if is_each and len(found.pairs[kinds]) > 1:
            rows += [_row(group) for group in found.pairs[kinds]]
    return Table(_COLUMNS, tuple(rows))


def _row(group: Group) -> tuple[str, ...]:
    counts = (group.cells[COMMON], group.expected, *group.cells[[ONLY_FIRST, ONLY_SECOND]])
    differ = significant(100 * group.disagreement)
    return (
        group.name,
        str(group.num_pairs),
        *(counted(float(n)) for n in counts),
        text(group.kappa),
        text(group.capa),
        differ if differ == NO_DATA else f"{differ}%",
        _p(group.p_value),
        _p(group.p_holm),
    )


def counted(n: float) -> str:
    """Returns a count, or a mean of counts to one decimal."""
    if not math.isfinite(n):
        return NO_DATA
    return f"{n:,.0f}" if n == round(n) else f"{n:,.1f}"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return NO_DATA
    return "<0.001" if value < 0.001 else f"{value:.3f}"
