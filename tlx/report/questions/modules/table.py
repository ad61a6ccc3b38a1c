"""The table of modules: what is lost without each, how critical it is, how it moved."""

from collections.abc import Iterable

import numpy as np

from tlx.report.questions.modules import numbers
from tlx.report.questions.modules.numbers import (
    Alike,
    Critical,
    Moved,
    Rewound,
    cosine_text,
    rounded,
)
from tlx.report.read.selection import Records
from tlx.report.words.kinds import TRAINED, short
from tlx.report.words.numbers import NO_DATA, Estimate, significant, text
from tlx.report.words.table import Table
from tlx.report.words.verdicts import LEAST_Z, P_T, RI_T


def table(records: Records) -> Table | None:
    """A row a module, and one for all of them; None: no data.

    Points lost at the first checkpoint, criticality on the direct path, distance moved, for P-T
    and RI-T; the cosine of two runs' movements with its z, "‡" where it may be chance.
    """
    lost, moved = numbers.rewound(records), numbers.moved(records)
    critical = numbers.critical(records)
    alike = numbers.alike(records)
    own = {k: v for k, v in alike.items() if k in (P_T, RI_T)}
    each: list[Iterable[str]] = [
        *(f.lost for f in lost.values()),
        *(f.value for f in critical.values()),
        *(f.distance for f in moved.values()),
        *(f.names for f in own.values()),
    ]
    names = list(dict.fromkeys(n for found in each for n in found))
    if not names:
        return None
    rows = [
        (
            short(name),
            *(_lost(lost.get(k), name) for k in TRAINED),
            *(_critical(critical.get(k), name) for k in TRAINED),
            *(_distance(moved.get(k), name) for k in TRAINED),
            *(_alike(alike.get(k), name) for k in (P_T, RI_T)),
        )
        for name in (*names, "")
    ]
    rows[-1] = ("all", *rows[-1][1:])
    columns = [f"{what}, {kind}" for what in ("points lost", "μ", "moved") for kind in TRAINED]
    return Table(("module", *columns, "cosine (z), two P-T", "two RI-T"), tuple(rows))


# The name "" is that of all modules together.
def _lost(found: Rewound | None, name: str) -> str:
    if found is None:
        return NO_DATA
    if not name:
        return ""
    return text(found.lost[name], 100.0) if name in found.lost else ""


def _critical(found: Critical | None, name: str) -> str:
    if found is None:
        return NO_DATA
    value = found.value.get(name) if name else found.total
    return "" if value is None else rounded(value)


def _distance(found: Moved | None, name: str) -> str:
    if found is None:
        return NO_DATA
    if not name:
        return text(found.total)
    value = found.distance.get(name)
    return "" if value is None else significant(value)


def _alike(found: Alike | None, name: str) -> str:
    if found is None:
        return NO_DATA
    if not name:
        return _cosine(found.total, found.total_z)
    if name not in found.names:
        return ""
    i = found.names.index(name)
    return "one weight" if found.single[i] else _cosine(Estimate(found.cosine[i]), found.z[i])


def _cosine(cosine: Estimate, z: float) -> str:
    if not cosine.known:
        return NO_DATA
    mark = "‡" if z < LEAST_Z else ""
    shown = f" ({significant(z, 2)})" if np.isfinite(z) else ""
    return f"{cosine_text(cosine)}{shown}{mark}"
