"""The answers about runs: does pretraining help, and does it without the features."""

from __future__ import annotations

from collections.abc import Callable

from tlx.report import measures
from tlx.report.answers_starts import points
from tlx.report.measures import Records, shuffle_words
from tlx.report.measures_starts import difference
from tlx.report.measures_sweeps import Sweep, learning, sweep
from tlx.report.measures_training import KINDS, group, plain
from tlx.report.numbers import Estimate, percent
from tlx.report.verdicts import (
    AGREES,
    DIFFERS,
    NO_INTERVAL,
    NOTHING,
    OPEN,
    Answer,
    Check,
    above_zero,
    order,
    together,
)


def curves(records: Records) -> Answer:
    """Does pretraining help on the target?"""
    found = plain(records)
    p_t, ri_t = (found.final[kind] for kind in KINDS)
    if not (p_t.known or ri_t.known):
        return NOTHING
    if not (p_t.known and ri_t.known):
        kind, done = ("P-T", p_t) if p_t.known else ("RI-T", ri_t)
        sentence = f"So far only {kind} has been measured: {percent(done)} on the target."
        return Answer(sentence, sentence)
    check = Check("P-T ends above RI-T", found.ends_higher)
    lead = {
        AGREES: "Starting from pretrained weights ends higher",
        DIFFERS: "Unlike in the paper, starting from random weights ends higher",
        OPEN: "Where P-T and RI-T end is too close to call",
    }.get(check.verdict, "Both ways of starting were measured, without an interval")
    sentence = (
        f"{lead}: P-T reaches {percent(p_t)} on the target's test images, RI-T {percent(ri_t)}."
    )
    when = measures.steps_to(measures.curves(records), "P-T", ri_t.value)
    more = (
        f" The mean of P-T first shows RI-T's final accuracy at step {when[0]:,} of {when[1]:,}."
        if when
        else ""
    )
    return Answer(sentence + more + _optimism(records, found.rates), sentence, (check,))


def _optimism(records: Records, rates: dict[str, float]) -> str:
    """What choosing the step on test images would add, as the paper does."""
    found = learning(records)
    if found is None:
        return ""
    groups = {kind: group(found, kind, rates[kind]) for kind in KINDS}
    gains = [
        f"{points(Estimate(float(found.optimism[g])))} ({kind})"
        for kind, g in groups.items()
        if g is not None and Estimate(float(found.optimism[g])).known
    ]
    if not gains:
        return ""
    return (
        f" The best step on the test images, which the paper picks, lies {' and '.join(gains)} "
        "above the step chosen on validation images."
    )


def shuffle(records: Records) -> Answer:
    """Is it features or low-level statistics?"""
    found = sweep(records, "shuffle")
    if found is None:
        return NOTHING
    every = [i for i in range(len(found.values)) if found.difference_of(i).known]
    mixed = [i for i in every if found.values[i] != "none"]
    if not mixed:
        return NOTHING
    finest = mixed[0]
    p_t, ri_t = (percent(found.final_of(kind, finest)) for kind in KINDS)
    lead = {
        AGREES: "What survives shuffling still helps",
        OPEN: "Whether what survives shuffling helps is too close to call",
        NO_INTERVAL: "Whether what survives shuffling helps is open",
        DIFFERS: "Unlike in the paper, pretraining hurts what survives shuffling",
    }[above_zero(difference(found, finest))]
    short = f"{lead}: with {shuffle_words(found.values[finest])} P-T reaches {p_t}, RI-T {ri_t}"
    if difference(found, finest).interval is None:
        short += " (no interval over several runs)"
    checks = (
        _at_every("P-T ends above RI-T", found, lambda i: difference(found, i)),
        _at_every("P-T learns faster", found, found.speed_of),
    )
    sentence = short + _drops(found, finest, every) + _faster(found)
    return Answer(sentence + ".", short + ".", tuple(c for c in checks if c.verdict))


def _drops(found: Sweep, finest: int, every: list[int]) -> str:
    drop = found.drop_of(finest)
    if not drop.known:
        return ""
    said = f", a relative drop of {percent(as_fraction(drop))}"
    whole = [found.drop_of(i) for i in every if found.values[i] == "none"]
    if not whole or not whole[0].known:
        return said
    how = {
        AGREES: ", measurably more",
        DIFFERS: ", measurably less",
        OPEN: ", not told apart from it",
    }.get(order(whole[0], drop), "")
    return f"{said}; on whole images the drop is {percent(as_fraction(whole[0]))}{how}"


def as_fraction(drop: Estimate) -> Estimate:
    """Returns a drop in percent as a fraction."""
    low, high = drop.interval or (0.0, 0.0)
    ends = (low / 100, high / 100) if drop.interval else None
    return Estimate(drop.value / 100, n=drop.n, interval=ends)


def _faster(found: Sweep) -> str:
    verdicts = [above_zero(found.speed_of(i)) for i in range(len(found.values))]
    known = [v for v in verdicts if v]
    if not known:
        return ""
    number = "all" if known.count(AGREES) == len(known) else f"{known.count(AGREES)} of"
    where = f"{number} {len(known)} settings"
    return f". P-T learns measurably faster at {where}"


def _at_every(claim: str, found: Sweep, of: Callable[[int], Estimate]) -> Check:
    """A claim at every block size, by the intervals of the differences."""
    verdicts = [above_zero(of(i)) for i in range(len(found.values))]
    return Check(f"{claim} at every block size", together(verdicts))
