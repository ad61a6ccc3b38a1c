"""The answer about the landscape: who shares a basin, and what permuting units changes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tlx.report import measures_landscape
from tlx.report.kinds import Pair, pair_words
from tlx.report.measures import Records
from tlx.report.measures_landscape import Basin, Variant
from tlx.report.numbers import count, mean, text
from tlx.report.verdicts import (
    AGREES,
    DIFFERS,
    DIP_TOLERANCE,
    LOSS_TOLERANCE,
    NOTHING,
    OPEN,
    P_T,
    RI_T,
    Answer,
    Check,
    Verdict,
    above,
    capital,
    of_all,
    order,
    together,
)


def landscape(records: Records) -> Answer:
    """What does the loss landscape between them look like?"""
    found = measures_landscape.basins(records)
    sentences, claims, checks = [], [], []
    expectations: tuple[tuple[Pair, str, Verdict], ...] = (
        (P_T, "two P-T live in one basin", "yes"),
        (RI_T, "two RI-T do not", "no"),
    )
    for kinds, claim, expected in expectations:
        if kinds not in found:
            continue
        checks.append(Check(claim, of_all([b.verdict for b in found[kinds]], expected)))
        lead = "unlike in the paper, " if checks[-1].verdict == DIFFERS else ""
        claims.append(lead + _said(kinds, found[kinds]))
        sentences.append(capital(f"{claims[-1]}{_evidence(found[kinds])}."))
    gain = _matched(measures_landscape.permuted(records))
    if gain:
        claims.append(gain[0])
        sentences.append(gain[1])
    planes = len(measures_landscape.planes(records))
    if planes and not claims:
        claims = [f"so far only {count(planes, 'plane')} through three models can be shown"]
        sentences = [capital(f"{claims[0]}; whether they share a basin has not been measured.")]
    if not claims:
        return NOTHING
    return Answer(" ".join(sentences), capital("; ".join(claims)) + ".", tuple(checks))


def _said(kinds: Pair, found: Sequence[Basin]) -> str:
    two = pair_words(kinds)
    known = {
        "yes": f"{two} live in one basin",
        "no": f"{two} do not live in one basin",
    }
    verdicts = {b.verdict for b in found}
    if len(verdicts) == 1:
        return known.get(found[0].verdict, f"whether {two} live in one basin stays open")
    number = sum(b.verdict == "yes" for b in found)
    return f"{two} live in one basin in {number} of {len(found)} pairs"


def _evidence(found: Sequence[Basin]) -> str:
    error, loss = mean([b.error for b in found]), mean([b.loss for b in found])
    parts = []
    if error.known:
        allowed = found[0].tolerance
        tolerance = f" ({100 * allowed:g} allowed)" if math.isfinite(allowed) else ""
        parts.append(f"the error rises {text(error, 100.0)} points above the chord{tolerance}")
    if loss.known:
        parts.append(f"the loss {'' if parts else 'rises '}{text(loss)} nats")
    return f": on the line between them {', '.join(parts)}" if parts else ""


def _matched(found: Sequence[Variant]) -> tuple[str, str] | None:
    """Returns a claim and a sentence on the barriers before and after matching the units.

    None without both, and where there is not measurably a barrier to take away.
    """
    own = {v.name: v for v in found if v.loss_barrier.known and v.accuracy_barrier.known}
    plain = own.pop("plain", None)
    if plain is None or not own or not _is_barrier(plain):
        return None
    after = [f"{_heights(v)} {measures_landscape.VARIANTS[v.name]}" for v in own.values()]
    lead = "putting the units of two RI-T in one order"
    orders = [own[name] for name in ("weights", "activations") if name in own]
    lower = together(order(plain.loss_barrier, v.loss_barrier) for v in orders)
    verb = {
        AGREES: "lowers the loss barrier",
        DIFFERS: "does not lower the loss barrier by each of the matchings",
        OPEN: "does not measurably lower the loss barrier by each of the matchings",
    }.get(lower, "changes the measured loss barrier")
    lead += f" {verb} between them"
    return lead, capital(f"{lead}: from {_heights(plain)} as trained to {', '.join(after)}.")


def _heights(found: Variant) -> str:
    dip = text(found.accuracy_barrier, 100.0)
    return f"{text(found.loss_barrier)} nats and {dip} points of accuracy"


def _is_barrier(found: Variant) -> bool:
    """Whether the loss or the accuracy shows a barrier by its interval."""
    either = (found.loss_barrier, LOSS_TOLERANCE), (found.accuracy_barrier, DIP_TOLERANCE)
    return any(above(height, allowed) == "yes" for height, allowed in either)
