"""Is it features or low-level statistics: the answer, its caption and its table."""

import math
from collections.abc import Callable

import numpy as np

from tlx.report.question import NOTHING, Answer, Check, Finding, KeyNumber
from tlx.report.questions.shuffle import arms
from tlx.report.read.selection import Records
from tlx.report.read.sweeps import Sweep, adjusted, difference, sweep
from tlx.report.words import shuffles
from tlx.report.words.kinds import TRAINED
from tlx.report.words.numbers import Estimate, as_fraction, count, level, p_value, percent, points
from tlx.report.words.table import Table
from tlx.report.words.verdicts import (
    AGREES,
    DIFFERS,
    NO_INTERVAL,
    OPEN,
    above_zero,
    order,
    together,
)

_SHUFFLE = Table(
    ("relative drop, %", "∗", "1", "2", "4", "8", "16", "32", "whole"),
    (
        ("quickdraw", "91", "69", "30", "23", "23", "20", "18", "22"),
        ("clipart", "33", "22", "23", "22", "33", "41", "45", "40"),
        ("real", "16", "9", "3", "12", "34", "45", "45", "42"),
    ),
)


def answer(records: Records) -> Answer:
    """Is it features or low-level statistics?"""
    found = sweep(records, "shuffle")
    if found is None:
        return NOTHING
    every = [i for i in range(len(found.values)) if found.difference_of(i).known]
    mixed = [i for i in every if found.values[i] != "none"]
    if not mixed:
        return NOTHING
    finest = mixed[0]
    p_t, ri_t = (percent(found.final_of(kind, finest)) for kind in TRAINED)
    lead = {
        AGREES: "What survives shuffling still helps",
        OPEN: "Whether what survives shuffling helps is too close to call",
        NO_INTERVAL: "Whether what survives shuffling helps is open",
        DIFFERS: "Unlike in the paper, pretraining hurts what survives shuffling",
    }[above_zero(difference(found, finest))]
    short = f"{lead}: with {shuffles.words(found.values[finest])} P-T reaches {p_t}, RI-T {ri_t}"
    if difference(found, finest).interval is None:
        short += " (no interval over several runs)"
    checks = (
        _at_every("P-T ends above RI-T", found, lambda i: difference(found, i)),
        _at_every("P-T learns faster", found, found.speed_of),
    )
    sentence = short + _drops(found, finest, every) + _shrinks(found, finest) + _faster(found)
    sentence += "." + arms.sentence(records)
    return Answer(sentence, short + ".", tuple(c for c in checks if c.verdict))


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
        OPEN: ", too close to call",
    }.get(order(whole[0], drop), "")
    return f"{said}; on whole images the drop is {percent(as_fraction(whole[0]))}{how}"


def _shrinks(found: Sweep, finest: int) -> str:
    """Whether the advantage is larger on whole images than with the finest blocks."""
    more = found.from_plain_of(finest)
    if more.interval is None:
        return ""
    lead = {
        AGREES: "The advantage shrinks with shuffling",
        DIFFERS: "The advantage grows with shuffling",
        OPEN: "Whether the advantage shrinks with shuffling is too close to call",
    }[above_zero(more)]
    where = shuffles.words(found.values[finest])
    return f". {lead}: on whole images it is {points(more)} points larger than with {where}"


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


def caption(records: Records) -> str:
    """The caption of the block-shuffling figure."""
    found = sweep(records, "shuffle")
    if found is None:
        return ""
    runs = " or ".join(count(n, "run") for n in sorted(set(found.num_seeds.ravel().tolist())))
    sizes = " or ".join(f"{n:,}" for n in sorted(set(found.num_images.tolist())))
    of = f"{level(found.confidence)} ".lstrip()
    covers = [c for c in dict.fromkeys(found.chance) if c]
    parts = [
        "Accuracy where the blocks of an image are shuffled, pale of P-T, solid of RI-T: means "
        f"of {runs} on n = {sizes} test images."
    ]
    if np.isfinite(found.final_mean[1:]).any():
        parts.append(f"Whiskers are {of}t intervals over seeds.")
    if np.isfinite(found.difference[1:]).any() and covers:
        parts.append(
            f"The intervals of the differences and drops in the table cover the chance of "
            f"{' or '.join(covers)}."
        )
    if not np.isfinite(found.final_mean[1:]).any():
        parts.append("Of one run a bar has no interval over seeds.")
    rule = {
        "valid": "Of several learning rates, that with the best validation accuracy is shown.",
        "test": "Of several learning rates, that with the best test accuracy is shown, which "
        "flatters both.",
    }.get(found.chosen_on)
    return " ".join([*parts, *([rule] if rule else [])])


def table(records: Records) -> Table | None:
    """A row a way of shuffling; None where nothing was shuffled."""
    found = sweep(records, "shuffle")
    if found is None or all(name == "none" for name in found.values):
        return None
    columns = (
        "block size", "P-T, test", "RI-T, test", "P-T − RI-T, points", "p, adj.", "drop, %",
        "P-T − RI-T, training, points", "p, adj.", "rates", "runs",
    )  # fmt: skip
    return Table(columns, tuple(_row(found, i) for i in range(len(found.values))))


def _row(found: Sweep, i: int) -> tuple[str, ...]:
    drop = found.drop_of(i)
    speed = found.speed_of(i)
    rates = [found.rate_of(kind, i) for kind in TRAINED]
    runs = [found.seeds_of(kind, i) for kind in TRAINED]
    return (
        shuffles.label(found.values[i]),
        *(percent(found.final_of(kind, i)) for kind in TRAINED),
        points(found.difference_of(i)),
        adjusted(found, i),
        points(as_fraction(drop)) if drop.known else "–",
        points(speed),
        p_value(float(found.speed_p_holm[i])) if speed.interval else "",
        _both([f"{rate:g}" if math.isfinite(rate) else "?" for rate in rates]),
        _both([str(n) for n in runs]),
    )


def _both(cells: list[str]) -> str:
    """What both kinds have, once where it is the same."""
    return " / ".join(dict.fromkeys(cells))


def key_numbers(records: Records) -> list[KeyNumber]:
    """Where the kinds end with each way of shuffling."""
    found = sweep(records, "shuffle")
    if found is None:
        return []
    return [
        KeyNumber(
            f"Final, {shuffles.words(value)}",
            {kind: percent(found.final_of(kind, i)) for kind in found.kinds},
            above_zero(difference(found, i)),
        )
        for i, value in enumerate(found.values)
        if value != "none"
    ][-MOST_ROWS:]


MOST_ROWS = 3
"""Ways of shuffling that the page's first table has, those with the largest blocks."""

HOW = (
    "An image is cut into square blocks, and the blocks are put in another order: one fixed "
    "permutation for all images, training and test alike. Models are trained on the target "
    "as before, at several learning rates where there are some; the rate is chosen for each "
    "kind and block size by validation accuracy, or by test accuracy without validation "
    "images. The faster a model learns, the larger is its average training accuracy, the "
    "mean of the evaluations after step 0. The relative drop is 100·(P-T − RI-T) / P-T of "
    "the mean final test accuracies.\n\n"
    "P-T is said to be higher where the interval of the difference is above 0 and covers "
    "other runs; where it has 0 in it, or there is one run, it is too close to call. p is "
    "that of no difference, adjusted after Holm for all block sizes. The advantage is said to "
    "shrink where the interval of its difference between whole images and the finest blocks, "
    "paired by replicate, over runs and test images, is above 0.\n\n"
    "S-T is a control in weights: it is trained as P-T is, from random weights that have, tensor "
    "by tensor, the mean and the standard deviation of P's (Raghu et al. 2019, arXiv 1902.07208; "
    "Matsoukas et al. 2022, arXiv 2203.01825). What P-T has beyond it is not owed to such "
    "statistics."
)

FINDING = Finding(
    "Figure 3",
    "Feature reuse is very important, especially where the target resembles the source. "
    "What survives shuffling, the low-level statistics, still helps, especially the speed "
    "of optimisation. The relative drops printed in the figure, by block size (∗ permutes "
    "all values, across channels):",
    _SHUFFLE,
)
