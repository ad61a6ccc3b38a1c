"""The answer about mistakes: who makes the same ones, and how much more often than by chance."""

from __future__ import annotations

from tlx.report import measures_mistakes
from tlx.report.kinds import pair_words
from tlx.report.measures import Records
from tlx.report.measures_mistakes import COMMON, PAIRS, Group, Mistakes
from tlx.report.numbers import Estimate, count, text
from tlx.report.tables_mistakes import counted
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
    above_zero,
    capital,
    order,
)


def mistakes(records: Records) -> Answer:
    """Do they make the same mistakes?"""
    found = measures_mistakes.mistakes(records)
    known = {} if found is None else {k: g for k, g in found.groups.items() if g.kappa.known}
    if found is None or not known:
        return NOTHING
    checks = []
    if P_T in known and RI_T in known:
        verdict = order(known[P_T].kappa, known[RI_T].kappa)
        checks.append(Check("the mistakes of two P-T are more alike", verdict))
        short = _lead(verdict, known[P_T], known[RI_T])
    else:
        kinds = next(k for k in PAIRS if k in known)
        claim = _above_chance(known[kinds].kappa)
        short = f"{capital(pair_words(kinds))} {claim}: Cohen's kappa is {text(known[kinds].kappa)}"
    if P_T in known:
        claim = "two P-T have more mistakes in common than independent errors would give"
        checks.append(Check(claim, above_zero(known[P_T].kappa)))
    mixed = f" (P-T and RI-T: {text(known[MIXED].kappa)})" if len(known) == len(PAIRS) else ""
    return Answer(f"{short}{mixed}. {_counts(found)}{_missing(found)}", f"{short}.", tuple(checks))


def _lead(verdict: str, p_t: Group, ri_t: Group) -> str:
    lead = {
        AGREES: "Two P-T make more similar mistakes than two RI-T",
        DIFFERS: "Unlike in the paper, two RI-T make more similar mistakes than two P-T",
        OPEN: "The mistakes of two P-T are not measurably more alike than those of two RI-T",
        NO_INTERVAL: "How alike the mistakes of two P-T and of two RI-T are has no interval",
    }[verdict]
    return f"{lead}: Cohen's kappa is {text(p_t.kappa)} against {text(ri_t.kappa)}"


def _above_chance(kappa: Estimate) -> str:
    return {
        AGREES: "have more mistakes in common than independent errors would give",
        DIFFERS: "have fewer mistakes in common than independent errors would give",
    }.get(
        above_zero(kappa),
        "have not measurably more mistakes in common than independent errors would give",
    )


def _counts(found: Mistakes) -> str:
    """What each kind of pair gets wrong together, and what chance would give."""
    parts: list[str] = []
    for kinds, group in found.groups.items():
        both, chance = counted(float(group.cells[COMMON])), counted(group.expected)
        if not parts:
            both, chance = f"get {both} wrong together", f"by chance {chance}"
        parts.append(f"{pair_words(kinds)} {both} ({chance})")
    images = count(found.num_images, "test image", words=False)
    of = f"{found.num_judgements:,} labels of {images}" if found.is_multilabel else images
    return f"Of {of} {', '.join(parts)}."


def _missing(found: Mistakes) -> str:
    if not found.missing:
        return ""
    pairs = " and ".join(pair_words(kinds) for kinds in found.missing)
    runs = " and ".join(count(n, f"{kind} run") for kind, n in found.num_models.items())
    return f" No data about {pairs}: {runs} were compared."
