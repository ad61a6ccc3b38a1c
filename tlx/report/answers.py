"""A sentence that answers each question from what was measured, and what to make of it.

The sentences follow the numbers, also where these contradict the paper. What they claim is
what the intervals decide (`verdicts.above`); without, they give the numbers alone.
"""

from __future__ import annotations

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
from tlx.report.kinds import Pair, pair, pair_words
from tlx.report.measures import Records
from tlx.report.numbers import NO_DATA, Estimate, count, significant, text
from tlx.report.verdicts import (
    AGREES,
    DIFFERS,
    MIXED,
    NO_INTERVAL,
    NOTHING,
    OPEN,
    P_T,
    RI_T,
    Answer,
    Check,
    Verdict,
    above_zero,
    capital,
    of_all,
    order,
    together,
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
    expectations: tuple[tuple[Pair, str, Verdict], ...] = (
        (P_T, "no barrier between two P-T", "no"),
        (RI_T, "a barrier between two RI-T", "yes"),
        (MIXED, "a barrier between P-T and RI-T", "yes"),
    )
    for kinds, claim, expected in expectations:
        if kinds not in found:
            continue
        checks.append(Check(claim, of_all(found[kinds].each, expected)))
        lead = "unlike in the paper, " if checks[-1].verdict == DIFFERS else ""
        claims.append(lead + _joined(kinds, found[kinds].each))
        dip, loss = points(found[kinds].accuracy), text(found[kinds].loss)
        numbers = f"the accuracy falls {dip} below the chord, the loss rises {loss} above it"
        parts.append(capital(f"{claims[-1]}: along the line {numbers}."))
    return Answer(" ".join(parts), capital("; ".join(claims)) + ".", tuple(checks))


def _joined(kinds: Pair, barriers: Sequence[Verdict]) -> str:
    """Whether there is a barrier between two models, from the verdict on each pair of a kind."""
    two = pair_words(kinds)
    if len(set(barriers)) > 1:
        number, sure = barriers.count("yes"), barriers.count("no")
        return f"of {len(barriers)} pairs of {two} {number} have a barrier and {sure} have none"
    return {
        "no": f"{two} are connected without a barrier",
        "yes": f"{two} are connected only across a barrier",
        "open": f"whether a barrier stands between {two} is open",
    }[barriers[0]]


def points(dip: Estimate) -> str:
    """Returns a difference of accuracies in percentage points."""
    return f"{text(dip, 100.0)} points" if dip.known else NO_DATA


def distances(records: Records) -> Answer:
    """How far apart are they in parameter space?"""
    found = measures_pairs.distances(records)
    p_t, ri_t = found.get(P_T), found.get(RI_T)
    if p_t is None or ri_t is None or not (p_t.total_l2.known and ri_t.total_l2.known):
        return NOTHING
    checks = [
        Check("two P-T are closer than two RI-T (l2)", order(ri_t.total_l2, p_t.total_l2)),
        Check("… and as a sum over tensors", order(ri_t.total_sum, p_t.total_sum)),
        Check(
            "distances grow towards the higher modules",
            together(above_zero(d.growth) for d in (p_t, ri_t) if d.growth.known),
        ),
    ]
    near, far = (found.get(pair("P", kind)) for kind in ("P-T", "RI-T"))
    if near and far:
        verdict = order(far.total_l2, near.total_l2)
        checks.insert(2, Check("P-T stays closer to P than RI-T (l2)", verdict))
    verdict = checks[0].verdict
    short = f"{_LEADS[verdict]}: {text(p_t.total_l2)} against {text(ri_t.total_l2)} in l2"
    sentence = short
    if verdict == AGREES and p_t.total_l2.value > 0:
        sentence += f", a factor of {significant(ri_t.total_l2.value / p_t.total_l2.value, 2)}"
    if p_t.total_sum.known and ri_t.total_sum.known:
        sums = f"{text(p_t.total_sum)} against {text(ri_t.total_sum)}"
        sentence += f" ({sums} as a sum over tensors)"
    if verdict == NO_INTERVAL:
        sentence += f"; {_pairs(p_t, ri_t)}, no interval"
    return Answer(sentence + ".", short + ".", tuple(checks))


_LEADS = {
    AGREES: "Two P-T lie closer together than two RI-T",
    DIFFERS: "Unlike in the paper, two P-T lie farther apart than two RI-T",
    OPEN: "Whether two P-T or two RI-T are nearer to each other is too close to call",
    NO_INTERVAL: "So far apart are two P-T and two RI-T",
}


def _pairs(p_t: measures_pairs.Distance, ri_t: measures_pairs.Distance) -> str:
    """How many pairs there are, e.g. "one pair each"."""
    numbers = dict.fromkeys(count(d.num_pairs, "pair") for d in (p_t, ri_t))
    return " and ".join(numbers) + (" each" if len(numbers) == 1 else "")


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
