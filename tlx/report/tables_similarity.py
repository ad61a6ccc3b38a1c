"""The tables of similarities, in the form of the paper's."""

from __future__ import annotations

from collections.abc import Sequence

from tlx.report import measures, measures_similarity
from tlx.report.answers_similarity import cka
from tlx.report.kinds import Pair, pair, pair_name, short
from tlx.report.measures import Records
from tlx.report.measures_similarity import LEAST_Z, Layers
from tlx.report.numbers import NO_DATA
from tlx.report.table import Table
from tlx.report.verdicts import MIXED, P_T, RI_T

PAPERS = (pair("P", "P-T"), P_T, MIXED, RI_T)
"""The rows of the paper's table."""


def similarity(records: Records) -> Table | None:
    """Returns a row a kind of pair, a column a layer, as the paper's (debiased CKA); None: no data.

    "†" marks what is of too few images, "‡" what is not told from chance.
    """
    found = measures_similarity.layers(records)
    names = _names(found)
    if not names:
        return None
    return Table(("debiased CKA", *map(short, names)), tuple(_rows(found, names, PAPERS)))


def similarity_shuffled(records: Records) -> Table | None:
    """Returns the rows of ``similarity`` on shuffled images, by shuffle; None: no data.

    All of the paper's rows where two runs of a kind were trained, else those that there are.
    """
    by_shuffle = measures_similarity.shuffled(records)
    names = list(dict.fromkeys(n for found in by_shuffle.values() for n in _names(found)))
    rows: list[tuple[str, ...]] = []
    for shuffle, found in by_shuffle.items():
        paired = P_T in found or RI_T in found
        own = _rows(found, names, PAPERS if paired else tuple(k for k in PAPERS if k in found))
        blocks = measures.shuffle_words(shuffle).removesuffix(" shuffled")
        rows += [(blocks, *[""] * len(names)), *own]
    return Table(("debiased CKA", *map(short, names)), tuple(rows)) if rows else None


def _names(found: dict[Pair, Layers]) -> list[str]:
    return list(dict.fromkeys(n for v in found.values() for n in v.names))


def _rows(
    found: dict[Pair, Layers], names: list[str], kinds: Sequence[Pair]
) -> list[tuple[str, ...]]:
    every = [*kinds, *(k for k in found if k not in kinds)]
    return [(pair_name(k).replace(" / ", " & "), *_cells(found.get(k), names)) for k in every]


def _cells(found: Layers | None, names: list[str]) -> list[str]:
    if found is None:
        return [NO_DATA] * len(names)
    at = {n: i for i, n in enumerate(found.names)}
    return [_cell(found, at[n]) if n in at else "" for n in names]


def _cell(found: Layers, i: int) -> str:
    mark = "†" if found.too_few[i] else ""
    mark += "‡" if found.z[i] < LEAST_Z else ""
    return cka(found.estimate(i)) + mark
