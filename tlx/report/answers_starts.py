"""The answer about P's checkpoints: from which to start, and when P enters its last basin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tlx.report import measures_starts, measures_sweeps
from tlx.report.measures import Records
from tlx.report.measures_starts import Checkpoints, Transferability
from tlx.report.measures_sweeps import Sweep
from tlx.report.numbers import NO_DATA, Estimate, count, percent, significant, text
from tlx.report.verdicts import (
    AGREES,
    DIFFERS,
    LITTLE,
    NO_INTERVAL,
    NOTHING,
    OPEN,
    ZERO,
    Answer,
    Check,
    above,
)


def starts(records: Records) -> Answer:
    """From which checkpoint should one start?"""
    found, own = measures_sweeps.sweep(records, "init_step"), measures_starts.checkpoints(records)
    said, checks = [], []
    if found is not None and found.final_of("P-T", len(found.values) - 1).known:
        verdict = _plateau(found)
        checks.append(
            Check("a checkpoint before the last is as good a start, to within a point", verdict)
        )
        said += [_best(found, verdict), _speed(found)]
    if own is not None and np.isfinite(own.barrier[0, :-1]).any():
        verdict = enters(own.verdict[:-1])
        checks.append(Check("early checkpoints lie outside the last one's basin, later ones in it",
                            verdict))  # fmt: skip
        said += [_basin(own, verdict)] if verdict else []
    said.append(_foretold(measures_starts.transferability(records)))
    said = [sentence for sentence in said if sentence]
    return Answer(" ".join(said), said[0], tuple(checks)) if said else NOTHING


def _plateau(found: Sweep) -> str:
    """Whether a checkpoint before the last is as good, while an earlier one is worse.

    Open where no interval tells any checkpoint from the last: then it would not tell a
    difference that there is.
    """
    first, last = measures_starts.as_good(found), len(found.values) - 1
    if first is None or last == 0:
        return NO_INTERVAL if last else ""
    each = [measures_starts.difference(found, i) for i in range(last)]
    much = [above(less, LITTLE) for less in each]
    if set(much) == {"yes"}:
        return DIFFERS
    is_told = any(above(less, ZERO) == "yes" for less in each[:first])
    return AGREES if is_told and "no" in much[first:] else OPEN


def _best(found: Sweep, verdict: str) -> str:
    """The earliest checkpoint from which on none is worse, or that only the last will do."""
    last, first = len(found.values) - 1, measures_starts.as_good(found)
    if last == 0:
        return f"{_from_last(found)}; no other checkpoint was tried."
    if first is None:
        return (
            f"{_from_last(found)}, from that of step {_step(found, 0)} at {_end(found, 0)}. "
            "Without intervals over several runs of each, none can be called as good as the last."
        )
    if first == last:
        less = points(measures_starts.difference(found, last - 1))
        lead = (
            f"Unlike in the paper, only the last checkpoint of P (step {_step(found, last)}) will "
            "do"
            if verdict == DIFFERS
            else "The checkpoint of P before the last is measurably worse to start from than the "
            f"last (step {_step(found, last)})"
        )
        return (
            f"{lead}: from the last P-T ends at {_end(found, last)}, from the one before it, of "
            f"step {_step(found, last - 1)}, {less} lower."
        )
    lead = (
        f"No checkpoint of P, not even the first (step {_step(found, 0)}),"
        if first == 0
        else f"From step {_step(found, first)} on, no checkpoint of P"
    )
    return (
        f"{lead} is measurably worse to start from than the last (step {_step(found, last)}): P-T "
        f"ends at {_end(found, first)} from it and at {_end(found, last)} from the last, a "
        f"difference of {points(measures_starts.difference(found, first))}."
    )


def _from_last(found: Sweep) -> str:
    last = len(found.values) - 1
    step = _step(found, last)
    return f"From the last checkpoint of P (step {step}) P-T ends at {_end(found, last)}"


def _speed(found: Sweep) -> str:
    """From which checkpoint on none is measurably slower to train from than the last."""
    last = len(found.values) - 1
    first = measures_starts.never_below([found.speed_of(i) for i in range(last)])
    if first is None or measures_starts.as_good(found) is None:
        return ""
    if first == last:
        return "Training from the one before the last is still measurably slower."
    if first == 0:
        return "None of them trains measurably slower."
    return f"From step {_step(found, first)} on, none trains measurably slower."


def enters(verdicts: Sequence[str]) -> str:
    """Returns whether checkpoints go from outside a basin into it, and stay.

    Args:
        verdicts: "yes", "no" or "open" (in the basin), by step, without the last checkpoint.

    Returns:
        AGREES where some are outside, later ones inside, and only those between are open;
        OPEN where the open ones might make it so; DIFFERS else; "" of fewer than two.
    """
    outside = [i for i, v in enumerate(verdicts) if v == "no"]
    inside = [i for i, v in enumerate(verdicts) if v == "yes"]
    if len(verdicts) < 2:
        return ""
    possible = any(
        "yes" not in verdicts[:i] and "no" not in verdicts[i:] for i in range(1, len(verdicts))
    )
    if not possible:
        return DIFFERS
    if not (outside and inside):
        return OPEN
    between = verdicts[outside[-1] + 1 : inside[0]]
    is_open = len(verdicts) - len(outside) - len(inside)
    return AGREES if is_open == len(between) else OPEN


def _basin(own: Checkpoints, verdict: str) -> str:
    """When P enters the basin of its last checkpoint."""
    groups = {
        name: [
            f"{s:,}" for s, v in zip(own.step[:-1].tolist(), own.verdict, strict=False) if v == name
        ]
        for name in ("no", "open", "yes")
    }
    if verdict == AGREES:
        out, into = groups["no"][-1], groups["yes"][0]
        return (
            f"P enters the basin of its last checkpoint between steps {out} and {into}: up to "
            f"step {out} a barrier of the error stands between them, from step {into} on none."
        )
    words = {"no": "outside it", "open": "undecided", "yes": "in it"}
    listed = "; ".join(f"{words[k]}: step {', '.join(v)}" for k, v in groups.items() if v)
    basin = "the basin of its last checkpoint"
    if verdict == OPEN:
        return f"P may enter {basin} on the way ({listed})."
    if not groups["no"]:
        on = "at its first one already" if groups["open"] else "from its first one on"
        return f"Unlike in the paper, P is in {basin} {on} ({listed})."
    if not groups["yes"]:
        until = "at the one before the last" if groups["open"] else "before the last itself"
        return f"Unlike in the paper, P is not in {basin} {until} ({listed})."
    return f"Unlike in the paper, P is in {basin} early and outside it later ({listed})."


def _foretold(found: Transferability | None) -> str:
    """Which score of the checkpoints was measured to go best with what fine-tuning gave."""
    if found is None or not np.isfinite(found.weighted_tau).any():
        return ""
    best = int(np.nanargmax(found.weighted_tau))
    tau, p = significant(float(found.weighted_tau[best]), 2), found.p_holm[best]
    of = count(len(found.names), "score") + " that need no fine-tuning"
    how = f" ({chance(p)})" if np.isfinite(p) else ""
    return (
        f"Of {of}, {found.names[best]} has the highest measured weighted τ with what fine-tuning "
        f"gave: {tau}{how}."
    )


def chance(p: float) -> str:
    """Returns an adjusted p-value in words, e.g. ``"adjusted p = 0.013"``."""
    return f"adjusted p {'' if p < 0.001 else '= '}{p_value(p)}"


def points(difference: Estimate) -> str:
    """Returns a difference of accuracies in percentage points, to one decimal if alone."""
    if difference.interval is not None or not difference.known:
        return f"{text(difference, 100.0)} points" if difference.known else NO_DATA
    return f"{100 * difference.value:.1f} points".replace("-", "−")


def p_value(p: float) -> str:
    """Returns a p-value to three decimals, "<0.001" below that; "" where it is undefined."""
    if not np.isfinite(p):
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _step(found: Sweep, i: int) -> str:
    name = found.values[i]
    return f"{int(name):,}" if name.isdigit() else name


def _end(found: Sweep, i: int) -> str:
    return percent(found.final_of("P-T", i))
