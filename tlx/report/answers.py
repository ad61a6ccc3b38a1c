"""A sentence that answers each question from what was measured, and what to make of it.

The sentences follow the numbers, also where these contradict the paper. "Higher" and
"lower" are said of estimates that are two standard errors apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tlx.report import measures, measures_pairs
from tlx.report.answers_depth import depth
from tlx.report.answers_landscape import landscape
from tlx.report.answers_modules import modules
from tlx.report.answers_similarity import similarity
from tlx.report.kinds import pair, pair_words
from tlx.report.measures import Records
from tlx.report.numbers import NO_DATA, UNKNOWN, Estimate, percent, significant, text
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


def curves(records: Records) -> Answer:
    """Does pretraining help on the target?"""
    found = measures.curves(records)
    p_t, ri_t = (measures.final(found, kind) for kind in ("P-T", "RI-T"))
    if not (p_t.known or ri_t.known):
        return NOTHING
    if not (p_t.known and ri_t.known):
        kind, done = ("P-T", p_t) if p_t.known else ("RI-T", ri_t)
        sentence = f"So far only {kind} has been measured: {percent(done)} on the target."
        return Answer(sentence, sentence)
    check = Check("P-T ends above RI-T", order(p_t, ri_t))
    lead = {
        AGREES: "Starting from pretrained weights ends higher",
        DIFFERS: "Unlike in the paper, starting from random weights ends higher",
        OPEN: "P-T and RI-T end within two standard errors of each other",
    }[check.verdict]
    sentence = (
        f"{lead}: P-T reaches {percent(p_t)} on the target's test images, RI-T {percent(ri_t)}."
    )
    when = measures.steps_to(found, "P-T", ri_t.value)
    more = (
        f" P-T is at RI-T's final accuracy after {when[0]:,} of {when[1]:,} steps." if when else ""
    )
    return Answer(sentence + more, sentence, (check,))


def shuffle(records: Records) -> Answer:
    """Is it features or low-level statistics?"""
    rows = [r for r in measures.shuffles(records) if r.drop.known]
    mixed = [r for r in rows if r.name != "none"]
    if not mixed:
        return NOTHING
    finest = mixed[0]
    p_t, ri_t = (finest.accuracy[k] for k in ("P-T", "RI-T"))
    where = measures.shuffle_words(finest.name)
    lead = {
        AGREES: "What survives shuffling still helps",
        OPEN: "What survives shuffling makes no measurable difference",
        DIFFERS: "Unlike in the paper, pretraining hurts what survives shuffling",
    }[order(p_t, ri_t)]
    short = f"{lead}: with {where} P-T reaches {percent(p_t)} and RI-T {percent(ri_t)}"
    sentence = f"{short}, a relative drop of {percent(finest.drop)}"
    whole = [r for r in rows if r.name == "none"]
    if whole:
        sentence += f" (on whole images {percent(whole[0].drop)})"
    timed = [r for r in rows if not math.isnan(_gap(r.speed))]
    faster = sum(_gap(r.speed) > 0 for r in timed)
    if timed:
        of = f"all {len(rows)}" if faster == len(rows) else f"{faster} of {len(timed)}"
        sentence += f". P-T learns faster at {of} settings"
    checks = (
        Check("P-T ends above RI-T at every block size", _all(rows, "accuracy")),
        Check("P-T learns faster at every block size", _all(timed, "speed")),
    )
    return Answer(sentence + ".", short + ".", checks)


def _gap(values: dict[str, Estimate]) -> float:
    return values.get("P-T", UNKNOWN).value - values.get("RI-T", UNKNOWN).value


def _all(rows: Sequence[measures.ShuffleRow], field: str) -> str:
    found = [getattr(r, field) for r in rows]
    verdicts = [order(f.get("P-T", UNKNOWN), f.get("RI-T", UNKNOWN)) for f in found]
    if not verdicts or DIFFERS in verdicts:
        return DIFFERS if verdicts else ""
    return AGREES if all(_gap(f) > 0 for f in found) else OPEN


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


def agreement(records: Records) -> Answer:
    """Do they make the same mistakes?"""
    found = measures_pairs.agreements(records)
    p_t, ri_t = found.get(P_T), found.get(RI_T)
    if p_t is None or ri_t is None or not (p_t.kappa.known and ri_t.kappa.known):
        return NOTHING
    check = Check("the mistakes of two P-T are more alike", order(p_t.kappa, ri_t.kappa))
    lead = {
        AGREES: "Two P-T make more similar mistakes than two RI-T",
        DIFFERS: "Unlike in the paper, two RI-T make more similar mistakes than two P-T",
        OPEN: "The mistakes of two P-T are not measurably more alike than those of two RI-T",
    }[check.verdict]
    short = f"{lead}: Cohen's kappa is {text(p_t.kappa)} against {text(ri_t.kappa)}"
    sentence = (
        f"{short}; of all mistakes of a pair, both make {percent(p_t.overlap)} against "
        f"{percent(ri_t.overlap)}"
    )
    return Answer(sentence + ".", short + ".", (check,))


QUESTIONS = {
    "curves": curves,
    "shuffle": shuffle,
    "barrier": barrier,
    "landscape": landscape,
    "similarity": similarity,
    "depth": depth,
    "modules": modules,
    "distances": distances,
    "agreement": agreement,
}
