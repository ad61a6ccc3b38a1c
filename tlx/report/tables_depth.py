"""The tables about single layers: probes, partial transfer, stable ranks."""

from __future__ import annotations

from tlx.report import measures, measures_depth
from tlx.report.kinds import short
from tlx.report.measures import Records
from tlx.report.measures_depth import WAYS, Spectrum
from tlx.report.numbers import NO_DATA, UNKNOWN, percent, significant, text
from tlx.report.table import Table


def probes(records: Records) -> Table | None:
    """Returns a row a layer: its features, and the accuracy of each kind's probe; None: no data."""
    found = measures_depth.probes(records)
    if not found:
        return None
    names = list(dict.fromkeys(n for v in found.values() for n in v.names))
    features = {
        name: number
        for v in reversed(found.values())
        for name, number in zip(v.names, v.num_features.tolist(), strict=True)
    }
    rows = tuple(
        (
            short(name),
            f"{features[name]:,.0f}" if features[name] >= 0 else "",
            *(text(v.of(name), 100.0, most=1) if name in v.names else "" for v in found.values()),
        )
        for name in names
    )
    return Table(("layer", "features", *(f"{kind}, %" for kind in found)), rows)


def partial_transfer(records: Records) -> Table | None:
    """Returns a row a k, and rows of P-T and RI-T: final test accuracies; None: no data."""
    runs = measures_depth.partial(records)
    if not runs:
        return None
    final = {way: measures_depth.final_by_k(own) for way, own in runs.items()}
    ks = sorted({k for own in runs.values() for k in own})
    rows = [
        (
            f"k = {k}",
            *(percent(final[w].get(k, UNKNOWN)) if k in runs[w] else "" for w in runs),
        )
        for k in ks
    ]
    whole = measures.curves(records)
    for kind in ("P-T", "RI-T"):
        level = measures.final(whole, kind)
        if level.known:
            rows.append((kind, percent(level), *[""] * (len(runs) - 1)))
    return Table(("modules from P", *(WAYS[way] for way in runs)), tuple(rows))


def spectra(records: Records) -> Table | None:
    """Returns a row a layer: stable rank and spectral norm of each kind; None: no data."""
    found = measures_depth.spectra(records)
    names = list(dict.fromkeys(name for s in found.values() for name in s.names))
    if not names:
        return None
    fields = (("stable_rank", "stable rank"), ("spectral_norm", "largest value"))
    columns = [f"{kind}, {words}" for _, words in fields for kind in found]
    rows = tuple(
        (
            "/".join(map(short, name.split("/"))),
            *(_cell(own, field, name) for field, _ in fields for own in found.values()),
        )
        for name in names
    )
    return Table(("layer", *columns), rows)


def _cell(found: Spectrum, field: str, name: str) -> str:
    if name not in found.names:
        return ""
    value = float(getattr(found, field)[found.names.index(name)])
    return "∞" if value == float("inf") else significant(value) if value == value else NO_DATA
