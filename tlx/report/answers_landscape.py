"""The answer about the landscape: who shares a basin, and what permuting units takes away."""

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
    LOSS_TOLERANCE,
    NOTHING,
    OPEN,
    P_T,
    RI_T,
    Answer,
    Check,
    capital,
)


def landscape(records: Records) -> Answer:
    """What does the loss landscape between them look like?"""
    found = measures_landscape.basins(records)
    sentences, claims, checks = [], [], []
    for kinds, claim, expected in (
        (P_T, "two P-T live in one basin", "yes"),
        (RI_T, "two RI-T do not", "no"),
    ):
        if kinds not in found:
            continue
        checks.append(Check(claim, _check([b.verdict for b in found[kinds]], expected)))
        lead = "unlike in the paper, " if checks[-1].verdict == DIFFERS else ""
        claims.append(lead + _said(kinds, found[kinds]))
        sentences.append(capital(f"{claims[-1]}{_evidence(found[kinds])}."))
    gain = _gain(measures_landscape.permuted(records))
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


def _check(verdicts: Sequence[str], expected: str) -> str:
    """The claim is about any two models: one pair that differs decides, then one that is open."""
    if ({"yes", "no"} - {expected}) & set(verdicts):
        return DIFFERS
    return AGREES if set(verdicts) == {expected} else OPEN


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


def _gain(found: Sequence[Variant]) -> tuple[str, str] | None:
    """Returns a claim and a sentence on what the better of the matchings takes off the barrier."""
    own = {v.name: v for v in found if v.loss_barrier.known and v.accuracy_barrier.known}
    plain = own.get("plain")
    matched = [own[name] for name in ("weights", "activations") if name in own]
    if plain is None or not matched or not plain.loss_barrier.value > LOSS_TOLERANCE:
        return None
    best = min(matched, key=lambda v: v.loss_barrier.value)
    loss, accuracy = _shares(plain, best)
    short = f"putting the units of two RI-T in one order takes {loss} off the loss barrier"
    sentence = (
        "Putting the hidden units of one RI-T in the order of the other's "
        f"({measures_landscape.VARIANTS[best.name]}) takes {loss} off the loss barrier and "
        f"{accuracy} off the accuracy's"
    )
    if "repaired" in own:
        loss, accuracy = _shares(plain, own["repaired"])
        further = "renormalising the activations as well"
        if best.name == "weights":  # what is renormalised is matched by activations
            further = "matching by activations and renormalising them"
        short += f", {further} {loss}"
        sentence += f", {further} {loss} and {accuracy}"
    return short, f"{sentence}."


def _shares(before: Variant, after: Variant) -> tuple[str, str]:
    return (
        _share(before.loss_barrier.value, after.loss_barrier.value),
        _share(before.accuracy_barrier.value, after.accuracy_barrier.value),
    )


def _share(before: float, after: float) -> str:
    """Returns what goes of a barrier, e.g. "45%"; "nothing" where it does not shrink."""
    share = 1 - after / before if before > 0 else math.nan
    return f"{100 * share:.0f}%" if share >= 0.005 else "nothing"
