"""The answer about features: who shares them, on whole and shuffled images, and over training."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tlx.report import measures_similarity
from tlx.report.kinds import Pair, pair, pair_words
from tlx.report.measures import Records, shuffle_words
from tlx.report.measures_similarity import Layers, Trajectory
from tlx.report.numbers import UNKNOWN, Estimate, count, text
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
    above,
    capital,
    order,
)

_SOURCE = pair("P", "P-T")


def similarity(records: Records) -> Answer:
    """Do they compute the same features?"""
    found = measures_similarity.layers(records)
    means = {k: measures_similarity.mean_similarity(v) for k, v in found.items()}
    one, other = means.get(P_T, UNKNOWN), means.get(RI_T, UNKNOWN)
    if not (one.known and other.known):
        return NOTHING
    checks = _ordering(means)
    lead = {
        AGREES: "Two P-T share more of their features than two RI-T",
        DIFFERS: "Unlike in the paper, two P-T share no more of their features than two RI-T",
        OPEN: "Two P-T share not measurably more of their features than two RI-T",
        NO_INTERVAL: "How much two P-T and two RI-T share of their features has no interval",
    }[checks[0].verdict]
    short = f"{lead}: the mean CKA over layers is {cka(one)} against {cka(other)}"
    sentence = short
    if checks[0].verdict != NO_INTERVAL:
        sentence += f", measurably higher at {_above(found[P_T], found[RI_T])}"
    more = [f"between {pair_words(k)} it is {cka(means[k])}" for k in (MIXED, _SOURCE)
            if means.get(k, UNKNOWN).known]  # fmt: skip
    sentence += f"; {' and '.join(more)}" if more else ""
    for name, groups in measures_similarity.shuffled(records).items():
        sentence += _shuffled(name, groups)
    over = _over_steps(measures_similarity.trajectories(records))
    return Answer(f"{sentence}.{over}", short + ".", tuple(checks))


def _ordering(means: Mapping[Pair, Estimate]) -> list[Check]:
    """The order of the paper's table, of means over the layers; it is of whole images."""
    claims = [
        ("two P-T are more similar than two RI-T", P_T, RI_T),
        ("two P-T are more similar than P-T and RI-T", P_T, MIXED),
        ("P-T is more similar to P than to RI-T", _SOURCE, MIXED),
    ]
    every = [
        Check(claim, order(means.get(above, UNKNOWN), means.get(below, UNKNOWN)))
        for claim, above, below in claims
    ]
    return [check for check in every if check.verdict]


def _above(p_t: Layers, ri_t: Layers) -> str:
    """At how many layers two P-T are the more similar, e.g. "all 6 layers"."""
    shared = [(p_t.names.index(n), ri_t.names.index(n)) for n in p_t.names if n in ri_t.names]
    higher = [above(p_t.estimate(i), ri_t.estimate(j)) == "yes" for i, j in shared]
    number = "all" if all(higher) else f"{sum(higher)} of"
    return f"{number} {count(len(shared), 'layer', words=False)}"


def _shuffled(name: str, groups: Mapping[Pair, Layers]) -> str:
    """What two P-T and two RI-T share on shuffled images; nothing where there are not two."""
    means = {k: measures_similarity.mean_similarity(v) for k, v in groups.items()}
    one, other = means.get(P_T, UNKNOWN), means.get(RI_T, UNKNOWN)
    if not (one.known and other.known):
        return ""
    where = capital(f"with {shuffle_words(name)}")
    sentence = f". {where} it is {cka(one)} between two P-T, {cka(other)} between two RI-T"
    if means.get(_SOURCE, UNKNOWN).known:
        sentence += f" and {cka(means[_SOURCE])} between P-T and P"
    return sentence


def _over_steps(found: Mapping[Pair, Trajectory]) -> str:
    """How similar a run is to P at its first and at its last checkpoint."""
    parts: list[str] = []
    for kinds, run in found.items():
        first, last = run.ends()
        if not (first.known and last.known):
            continue
        change = {AGREES: "falls", DIFFERS: "rises", OPEN: "does not measurably change"}
        verb = change.get(order(first, last), "goes")
        ends = f"from {cka(first)} at step {run.step[0]:,} to {cka(last)} at step {run.step[-1]:,}"
        kind = next((k for k in kinds if k != "P"), "P")
        subject = "that of" if parts else "Over the training, the mean similarity to P of"
        parts.append(f"{subject} {kind} {verb}, {ends}")
    return f" {'; '.join(parts)}." if parts else ""


def cka(value: Estimate) -> str:
    """Returns a similarity with its interval, or to two decimals where none is known.

    To three decimals at the most: further ones near 1 say nothing about the models.
    """
    if value.interval is not None or not value.known:
        return text(value, most=3)
    number = f"{value.value:.2f}"
    return ("0.00" if math.isclose(float(number), 0.0) else number).replace("-", "−")
