"""From which checkpoint to start: the answer, its captions and its tables."""

import math
from collections.abc import Sequence

import numpy as np

from tlx.report.question import NOTHING, Answer, Check, Finding
from tlx.report.questions.starts import numbers
from tlx.report.questions.starts.numbers import Checkpoints, Transferability
from tlx.report.read import learning, sweeps
from tlx.report.read.selection import Records
from tlx.report.read.sweeps import (
    Sweep,
    adjusted,
    chance_covered,
    rate_said,
    runs_counted,
    whiskers_said,
)
from tlx.report.words import verdicts
from tlx.report.words.numbers import (
    chance,
    count,
    in_points,
    level,
    p_value,
    percent,
    points,
    proportion,
    significant,
)
from tlx.report.words.table import Table
from tlx.report.words.verdicts import AGREES, DIFFERS, LITTLE, NO_INTERVAL, OPEN, ZERO, above

_STARTS = Table(
    ("test accuracy, epoch", "0", "1", "2", "5", "10", "30", "31", "59", "61", "90"),
    (
        ("real", "61.3", "61.8", "64.1", "69.6", "73.5", "76.5", "76.8", "78.4", "78.4", "78.4"),
        ("clipart", "<60", "<60", "61.0", "67.1", "70.6", "72.9", "72.9", "74.2", "74.2", "74.0"),
        (
            "quickdraw", "64.3", "64.7", "64.9", "66.1", "66.8", "66.8", "66.9", "67.2", "67.3",
            "66.9",
        ),
    ),
)  # fmt: skip


def answer(records: Records) -> Answer:
    """From which checkpoint should one start?"""
    found, own = sweeps.sweep(records, "init_step"), numbers.checkpoints(records)
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
    said.append(_scores(numbers.transferability(records)))
    said = [sentence for sentence in said if sentence]
    return Answer(" ".join(said), said[0], tuple(checks)) if said else NOTHING


def _plateau(found: Sweep) -> str:
    """Whether a checkpoint before the last is as good, while an earlier one is worse.

    Open where no interval tells any checkpoint from the last: then it would not tell a
    difference that there is.
    """
    first, last = numbers.as_good(found), len(found.values) - 1
    if first is None or last == 0:
        return NO_INTERVAL if last else ""
    each = [sweeps.difference(found, i) for i in range(last)]
    much = [above(less, LITTLE) for less in each]
    if set(much) == {"yes"}:
        return DIFFERS
    is_told = any(above(less, ZERO) == "yes" for less in each[:first])
    return AGREES if is_told and "no" in much[first:] else OPEN


def _best(found: Sweep, verdict: str) -> str:
    """The earliest checkpoint from which on none is worse, or that only the last will do."""
    last, first = len(found.values) - 1, numbers.as_good(found)
    if last == 0:
        return f"{_from_last(found)}; no other checkpoint was tried."
    if first is None:
        return (
            f"{_from_last(found)}, from that of step {_step(found, 0)} at {_end(found, 0)}. "
            "Without intervals over several runs of each, none can be called as good as the last."
        )
    if first == last:
        less = in_points(sweeps.difference(found, last - 1))
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
        f"difference of {in_points(sweeps.difference(found, first))}."
    )


def _from_last(found: Sweep) -> str:
    last = len(found.values) - 1
    step = _step(found, last)
    return f"From the last checkpoint of P (step {step}) P-T ends at {_end(found, last)}"


def _speed(found: Sweep) -> str:
    """From which checkpoint on none is measurably slower to train from than the last."""
    last = len(found.values) - 1
    first = numbers.never_below([found.speed_of(i) for i in range(last)])
    if first is None or numbers.as_good(found) is None:
        return ""
    if first == last:
        return "Training from the one before the last is still measurably slower."
    if first == 0:
        return "None of them trains measurably slower."
    return f"From step {_step(found, first)} on, none trains measurably slower."


def enters(verdicts: Sequence[str]) -> str:
    """Whether checkpoints go from outside a basin into it, and stay.

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


def _scores(found: Transferability | None) -> str:
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


def _step(found: Sweep, i: int) -> str:
    name = found.values[i]
    return f"{int(name):,}" if name.isdigit() else name


def _end(found: Sweep, i: int) -> str:
    return percent(found.final_of("P-T", i))


def caption(records: Records) -> str:
    """The caption of the figure of P's checkpoints."""
    found, own = sweeps.sweep(records, "init_step"), numbers.checkpoints(records)
    said = []
    if found is not None:
        said.append(
            "P-T by the checkpoint of P that it starts from: test accuracy after the last step, "
            f"and the mean training accuracy over the run ({runs_counted(found)}). "
            f"{whiskers_said(found)}{rate_said(found)}"
        )
        if numbers.as_good(found) not in (None, len(found.values) - 1):
            said.append(
                "The ring is the earliest checkpoint from which on none ends measurably below the "
                f"last; the interval of that difference covers {chance_covered(found)}."
            )
        if learning.final(learning.curves(records), "RI-T").known:
            said.append("The horizontal line is RI-T.")
    if own is not None:
        shaded = "Shaded: the accuracy of P's checkpoints on the source. " if found else ""
        of = level(own.confidence)
        band = f", the band its {of} interval" if of else ""
        said.append(
            f"{shaded}The barrier is the largest rise of the 0-1 error above the chord on the "
            f"linear interpolation to P's last checkpoint{band}; "
            "filled marks are in the basin of the last, crosses outside, hollow ones undecided "
            f"(n = {own.num_images:,} test images of the source)."
        )
    return " ".join(said)


def transferability_caption(records: Records) -> str:
    """The caption of the scores."""
    found = numbers.transferability(records)
    if found is None:
        return ""
    layer = f" on the features of layer {found.layer}" if found.layer else ""
    return (
        f"Final test accuracy of P-T (means over runs) against scores of the {len(found.values)} "
        f"checkpoints that it starts from, computed{layer} from n = {found.num_images:,} training "
        "images of the target without fine-tuning. Pale is the first checkpoint, dark the last; "
        "τ is the weighted rank correlation, 1 where a score ranks them as fine-tuning does. This "
        "study's addition."
    )


def table(records: Records) -> Table | None:
    """A row a checkpoint of P: as a model, and as a start; None: no data."""
    found, own = sweeps.sweep(records, "init_step"), numbers.checkpoints(records)
    if found is None and own is None:
        return None
    source = {str(s): _checkpoint(own, i) for i, s in enumerate(own.step.tolist())} if own else {}
    ends = {name: _start(found, i) for i, name in enumerate(found.values)} if found else {}
    names = sorted({**source, **ends}, key=lambda n: (float(n) if n.isdigit() else math.inf, n))
    columns = ["step"]
    columns += ["P, source", "barrier, points", "in basin?"] if own else []
    columns += ["P-T, test", "last − this", "p, adj.", "P-T, training", "runs"] if found else []
    width = {"own": 3 if own else 0, "found": 5 if found else 0}
    rows = tuple(
        (
            f"{int(n):,}" if n.isdigit() else n,
            *source.get(n, ("",) * width["own"]),
            *ends.get(n, ("",) * width["found"]),
        )
        for n in names
    )
    return Table(tuple(columns), rows)


def _checkpoint(own: Checkpoints, i: int) -> tuple[str, ...]:
    """Cells of a checkpoint as a model of the source; the last is the end of all lines."""
    accuracy = percent(proportion(float(own.accuracy[i]), own.num_images), error=False)
    if i == own.step.size - 1:
        return accuracy, "", "(last)"
    return accuracy, points(own.barrier_of(i)), own.verdict[i]


def _start(found: Sweep, i: int) -> tuple[str, ...]:
    """Cells of a checkpoint as a start on the target."""
    is_last = i == len(found.values) - 1
    return (
        percent(found.final_of("P-T", i)),
        "" if is_last else points(sweeps.difference(found, i)),
        "" if is_last else adjusted(found, i),
        percent(found.average_of("P-T", i), error=False),
        str(found.seeds_of("P-T", i)),
    )


def transferability_table(records: Records) -> Table | None:
    """A row a score: how it ranks the checkpoints; None: no data."""
    found = numbers.transferability(records)
    if found is None:
        return None
    columns = ("score", "weighted τ", "p", "p, adjusted", "Kendall's τ", "p")
    rows = tuple(
        (
            name,
            significant(float(found.weighted_tau[i]), 2),
            p_value(float(found.p_weighted_tau[i])),
            p_value(float(found.p_holm[i])),
            significant(float(found.kendall[i]), 2),
            p_value(float(found.p_kendall[i])),
        )
        for i, name in enumerate(found.names)
    )
    return Table(columns, rows)


HOW = (
    "P-T is trained as before, but from a checkpoint of P before the last one, with a new "
    "head. The difference is the mean final test accuracy from the last checkpoint less that "
    "from this one; p is that of no difference, adjusted after Holm for all checkpoints. A "
    "checkpoint is measurably worse where the interval of the difference is above 0, and as "
    f"good where all of it is at most {100 * verdicts.LITTLE:g} point; the paper's plateau is "
    "said to be there only where the same runs tell an earlier checkpoint from the last. "
    "Training is measurably slower where the same holds of the mean training accuracy over "
    "the evaluations after step 0. Without intervals over several runs nothing is said to be "
    "as good.\n\n"
    "A checkpoint of P is in the basin of the last one if the 0-1 error on the source's test "
    "images rises above the chord on the linear interpolation between them by no more than what is "
    "allowed: “yes” or “no” where the bootstrap interval over images lies on one side of "
    "that, “open” where it does not. The barrier of a net that has learned little is bounded "
    "by its own large error, which the chord starts from.\n\n"
    "Scores are computed from P's checkpoint and training images of the target alone. The "
    "weighted τ counts disagreements among the best checkpoints more (Vigna 2015), Kendall's "
    "τ all alike; p is that of a random order, adjusted after Holm for all scores. "
    "Checkpoints of one run are not independent, so a small p says that a score orders these, "
    "not that it would order those of another run. The scores are this study's addition."
)

FINDING = Finding(
    "Figure 7",
    "Fine-tuning from earlier checkpoints of the pretraining loses no accuracy, down to some "
    "epoch: on real, epoch 59 of 90 gives what epoch 90 does. The text says that early "
    "checkpoints lie outside the basin of the converged model, that training enters it at "
    "some point, and that improvements in speed and in final performance are independent. "
    "Read off the figure, to about ±0.2:",
    _STARTS,
)
