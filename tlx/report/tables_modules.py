"""The table of modules: what is lost without each, how critical it is, how it moved."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tlx.report import measures_modules
from tlx.report.kinds import Pair, pair, short
from tlx.report.measures import Records
from tlx.report.measures_modules import TRAINED, Alike, Critical, Moved, Rewound, rounded
from tlx.report.measures_similarity import LEAST_Z
from tlx.report.numbers import NO_DATA, Estimate, significant, text
from tlx.report.table import Table
from tlx.report.verdicts import P_T, RI_T


def modules(records: Records) -> Table | None:
    """Returns a row a module, and one for all of them; None: no data.

    Points lost at the first checkpoint, criticality on the direct path, distance moved, for P-T
    and RI-T; the cosine of two runs' movements with its z, "‡" where it is not told from chance.
    """
    lost, moved = measures_modules.rewound(records), measures_modules.moved(records)
    critical = measures_modules.critical(records)
    alike = measures_modules.alike(records)
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
            *(_moved(moved.get(k), name) for k in TRAINED),
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
    return points(found.lost[name]) if name in found.lost else ""


def points(lost: Estimate) -> str:
    """Returns an accuracy lost in points, with its error."""
    return text(lost, 100.0)


def _critical(found: Critical | None, name: str) -> str:
    if found is None:
        return NO_DATA
    value = found.value.get(name) if name else found.total
    return "" if value is None else rounded(value)


def _moved(found: Moved | None, name: str) -> str:
    if found is None:
        return NO_DATA
    value = found.distance.get(name) if name else found.total
    return "" if value is None else significant(value)


def _alike(found: Alike | None, name: str) -> str:
    if found is None:
        return NO_DATA
    if not name:
        return _cosine(found.total, found.total_z)
    if name not in found.names:
        return ""
    i = found.names.index(name)
    return "one weight" if found.single[i] else _cosine(found.cosine[i], found.z[i])


def _cosine(cosine: float, z: float) -> str:
    if not np.isfinite(cosine):
        return NO_DATA
    mark = "‡" if z < LEAST_Z else ""
    shown = f" ({significant(z, 2)})" if np.isfinite(z) else ""
    return f"{cosine_text(cosine)}{shown}{mark}"


def cosine_text(cosine: float) -> str:
    """Returns a cosine to two decimals."""
    return f"{cosine + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")


def network_criticality(records: Records) -> dict[Pair, str]:
    """Returns the sum over the modules on the direct path, by kind of run as a pair of it."""
    found = measures_modules.critical(records)
    return {pair(kind, kind): rounded(own.total) for kind, own in found.items()}
