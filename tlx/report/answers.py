"""A sentence that answers each question from what was measured, and what to make of it.

The sentences follow the numbers, also where these contradict the paper. "Higher" and
"lower" are said of estimates that are two standard errors apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tlx.report import measures_pairs
from tlx.report.answers_amount import amount
from tlx.report.answers_depth import depth
from tlx.report.answers_landscape import landscape
from tlx.report.answers_mistakes import mistakes
from tlx.report.answers_modules import modules
from tlx.report.answers_similarity import similarity
from tlx.report.answers_starts import starts
from tlx.report.answers_training import curves, shuffle
from tlx.report.kinds import pair, pair_words
from tlx.report.measures import Records
from tlx.report.numbers import NO_DATA, Estimate, significant, text
from tlx.report.verdicts import (
    AGREES,
    DIFFERS,
    LOSS_TOLERANCE,
    MIXED,
    NOTHING,
    OPEN,
    P_T,
    RI_T,
    Answer,
    Check,
    capital,
    order,
)


def barrier(records: Records) -> Answer:
    """Are two models joined by a straight line?"""
    found = {
        k: b
        for k, b in measures_pairs.barriers(records).items()
        if k in (P_T, RI_T, MIXED) and b.accuracy.known and b.loss.known
    }
    if not found:
        return NOTHING
    parts, claims, checks = [], [], []
    for kinds, claim, expected in (
        (P_T, "no barrier between two P-T", True),
        (RI_T, "a barrier between two RI-T", False),
        (MIXED, "a barrier between P-T and RI-T", False),
    ):
        if kinds not in found:
            continue
        flat = no_barrier(found[kinds])
        checks.append(Check(claim, AGREES if flat is expected else DIFFERS))
        joined = f"are connected {'without' if flat else 'only across'} a barrier"
        lead = "" if flat is expected else "unlike in the paper, "
        claims.append(f"{lead}{pair_words(kinds)} {joined}")
        dip, loss = points(found[kinds].accuracy), text(found[kinds].loss)
        numbers = f"the accuracy falls {dip} below the chord, the loss rises {loss} above it"
        parts.append(capital(f"{claims[-1]}: along the line {numbers}."))
    return Answer(" ".join(parts), capital("; ".join(claims)) + ".", tuple(checks))


def no_barrier(found: measures_pairs.Barrier) -> bool:
    """Returns whether neither accuracy nor loss shows a barrier (see LOSS_TOLERANCE)."""
    dip, loss = found.accuracy, found.loss
    allowed = 0.0 if math.isnan(dip.error) else 2 * dip.error
    return dip.value <= allowed and loss.value <= LOSS_TOLERANCE


def points(dip: Estimate) -> str:
    """Returns a difference of accuracies in percentage points."""
    return f"{text(dip, 100.0)} points" if dip.known else NO_DATA


def distances(records: Records) -> Answer:
    """How far apart are they in parameter space?"""
    found = measures_pairs.distances(records)
    p_t, ri_t = found.get(P_T), found.get(RI_T)
    if p_t is None or ri_t is None or not (p_t.total_l2.known and ri_t.total_l2.known):
        return NOTHING
    lead = (
        "Two P-T lie closer together than two RI-T"
        if p_t.total_l2.value < ri_t.total_l2.value
        else "Unlike in the paper, two P-T lie no closer together than two RI-T"
    )
    short = f"{lead}: {text(p_t.total_l2)} against {text(ri_t.total_l2)} in l2"
    sentence = short
    if ri_t.total_l2.value > p_t.total_l2.value > 0:
        sentence += f", a factor of {significant(ri_t.total_l2.value / p_t.total_l2.value, 2)}"
    if p_t.total_sum.known and ri_t.total_sum.known:
        sums = f"{text(p_t.total_sum)} against {text(ri_t.total_sum)}"
        sentence += f" ({sums} as a sum over tensors)"
    checks = [
        Check("two P-T are closer than two RI-T (l2)", order(ri_t.total_l2, p_t.total_l2)),
        Check("… and as a sum over tensors", order(ri_t.total_sum, p_t.total_sum)),
        Check("distances grow towards the higher modules", _grows([p_t, ri_t])),
    ]
    near, far = (found.get(pair("P", kind)) for kind in ("P-T", "RI-T"))
    if near and far:
        verdict = order(far.total_l2, near.total_l2)
        checks.insert(2, Check("P-T stays closer to P than RI-T (l2)", verdict))
    return Answer(sentence + ".", short + ".", tuple(checks))


def _grows(found: Sequence[measures_pairs.Distance]) -> str:
    """Compares the mean distance of the upper half of the modules with the lower half's."""
    halves = []
    for distance in found:
        l2 = list(distance.l2.values())
        half = len(l2) // 2
        if half:
            halves.append(sum(l2[-half:]) > sum(l2[:half]))
    if not halves:
        return ""
    return AGREES if all(halves) else OPEN if any(halves) else DIFFERS


QUESTIONS = {
    "curves": curves,
    "shuffle": shuffle,
    "amount": amount,
    "starts": starts,
    "barrier": barrier,
    "landscape": landscape,
    "similarity": similarity,
    "depth": depth,
    "modules": modules,
    "distances": distances,
    "mistakes": mistakes,
}
