"""Does pretraining help on the target: the answer, its caption and its table."""

import math
from collections.abc import Sequence

import numpy as np

from tlx.report.question import NOTHING, Answer, Check, Finding, KeyNumber
from tlx.report.questions.training.numbers import MeanCurves, group, mean_curves, plain
from tlx.report.read import learning
from tlx.report.read.selection import Records
from tlx.report.read.sweeps import sweep
from tlx.report.words.kinds import TRAINED
from tlx.report.words.numbers import NO_DATA, Estimate, count, in_points, level, percent
from tlx.report.words.table import Table
from tlx.report.words.verdicts import AGREES, DIFFERS, OPEN


def answer(records: Records) -> Answer:
    """Does pretraining help on the target?"""
    found = plain(records)
    p_t, ri_t = (found.final[kind] for kind in TRAINED)
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
    when = learning.steps_to(learning.curves(records), "P-T", ri_t.value)
    more = (
        f" The mean of P-T first shows RI-T's final accuracy at step {when[0]:,} of {when[1]:,}."
        if when
        else ""
    )
    more += _optimism(records, found.rates) + _centre(records) + _one_each(records)
    return Answer(sentence + more, sentence, (check,))


def _one_each(records: Records) -> str:
    """That one run of each says nothing of others; "" where there are more."""
    found = mean_curves(records)
    if found is None or max(found.seeds, default=0) != 1:
        return ""
    return " With one run of each it holds for other test images, and says nothing of other runs."


def _centre(records: Records) -> str:
    """Where runs end that start from the mean of the P-T; "" without such."""
    for axis in ("shuffle", "train_size", "target"):
        found = sweep(records, axis)
        if found is None or _CENTRE not in found.contrasts or found.plain not in found.values:
            continue
        at = found.values.index(found.plain)
        less = found.contrast_of(_CENTRE, at)
        if less.known:
            more = Estimate(-less.value, n=less.n)
            if less.interval is not None:
                more = more._replace(interval=(-less.interval[1], -less.interval[0]))
            end = percent(found.final_of("C-T", at), error=False)
            return (
                " Fine-tuned again from the mean of all P-T, one start for all C-T, it ends at "
                f"{end}, {in_points(more)} above P-T."
            )
    return ""


_CENTRE = "P-T − C-T"


def _optimism(records: Records, rates: dict[str, float]) -> str:
    """What choosing the step on test images would add, as the paper does."""
    found = mean_curves(records)
    if found is None:
        return ""
    groups = {kind: group(found, kind, rates[kind]) for kind in TRAINED}
    gains = [
        f"{in_points(Estimate(float(found.optimism[g])))} ({kind})"
        for kind, g in groups.items()
        if g is not None and Estimate(float(found.optimism[g])).known
    ]
    if not gains:
        return ""
    return (
        f" The best step on the test images, which the paper picks, lies {' and '.join(gains)} "
        "above the step chosen on validation images."
    )


def caption(records: Records) -> str:
    """The caption of the learning curves."""
    grouped = mean_curves(records)
    if grouped is not None:
        return _groups_caption(grouped, bool(learning.curves(records)))
    found = learning.curves(records)
    runs = " and ".join(
        count(sum(c.kind == kind for c in found), f"{kind} run")
        for kind in dict.fromkeys(c.kind for c in found)
    )
    return (
        f"Learning on the target: {runs}. Thin lines are runs, thick lines their means; the "
        f"band is one binomial standard error ({_images(found)})."
    )


def _groups_caption(found: MeanCurves, has_runs: bool) -> str:
    seeds = sorted(set(found.seeds.tolist()))
    runs = " or ".join(count(n, "run") for n in seeds)
    several = len(set(found.rates[np.isfinite(found.rates)].tolist())) > 1
    parts = [
        f"Learning on the target: means of {runs}"
        + (" at each learning rate, named at the line's end" if several else "")
        + f", n = {found.num_images:,} test images."
    ]
    if seeds and seeds[-1] > 1:
        of = f"{level(found.confidence)} ".lstrip()
        parts.append(f"Bands are {of}t intervals of the mean over seeds, step by step.")
    if seeds and seeds[0] == 1:
        parts.append("Of one run there is no band.")
    if has_runs:
        parts.append("Thin lines are the runs at the study's rate.")
    parts.append(
        "Filled circles are the last step, which the page compares; hollow ones the best step on "
        "the test images, which is how the paper picks its “best”, mean over the runs."
    )
    if np.isfinite(found.selected).any():
        optimism = found.optimism[np.isfinite(found.optimism)]
        ends = list(dict.fromkeys(f"{100 * v:.2f}" for v in (optimism.min(), optimism.max())))
        parts.append(
            f"Diamonds are the step chosen on {found.num_valid:,} validation images; the best on "
            f"test lies {' to '.join(ends)} points above it: its optimism."
        )
    else:
        parts.append("There were no validation images to choose a step on.")
    return " ".join(parts)


def _images(found: Sequence[learning.Curve]) -> str:
    sizes = sorted({c.num_test for c in found if c.num_test})
    return "n = " + " or ".join(f"{n:,}" for n in sizes) + " test images" if sizes else "n unknown"


def table(records: Records) -> Table | None:
    """A row a kind and rate on the plain target, or a row a run; None: no data."""
    grouped = mean_curves(records)
    if grouped is not None:
        return _groups_table(grouped)
    found = learning.curves(records)
    rows = tuple((c.run, c.kind, percent(c.final), percent(c.speed)) for c in found)
    columns = ("run", "kind", "final test accuracy", "average training accuracy")
    return Table(columns, rows) if rows else None


def _groups_table(found: MeanCurves) -> Table | None:
    columns = (
        "", "rate", "runs", "final test accuracy", "best on test", "at step",
        "chosen on validation", "at step", "optimism, points",
    )  # fmt: skip
    has_valid = bool(np.isfinite(found.selected).any())
    rows = []
    for g, kind in enumerate(found.kinds):
        rate, gain = float(found.rates[g]), float(found.optimism[g])
        chosen = (_mean(found.selected[g]), _steps(found.selected_step[g]))
        rows.append(
            (
                kind,
                f"{rate:g}" if math.isfinite(rate) else "",
                str(found.seeds[g]),
                percent(found.final_of(g)),
                _mean(found.best[g]),
                _steps(found.best_step[g]),
                *((*chosen, f"{100 * gain:.2f}".replace("-", "−")) if has_valid else ()),
            )
        )
    return Table(columns if has_valid else columns[:6], tuple(rows)) if rows else None


def _mean(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return percent(Estimate(float(known.mean()))) if known.size else NO_DATA


def _steps(values: np.ndarray) -> str:
    """The step of all runs, or the first and the last of them."""
    known = values[np.isfinite(values)]
    if not known.size:
        return NO_DATA
    ends = dict.fromkeys(f"{int(v):,}" for v in (known.min(), known.max()))
    return " … ".join(ends)


def key_numbers(records: Records) -> list[KeyNumber]:
    """Where P-T and RI-T end, and how fast they learn."""
    found = plain(records)
    final, speed = (
        {kind: percent(value) for kind, value in of.items()} for of in (found.final, found.speed)
    )
    return [
        KeyNumber("Final test accuracy", final),
        KeyNumber("Mean training accuracy", speed, found.learns_faster),
    ]


HOW = (
    "P-T starts from the pretrained weights with a new head, RI-T from random ones. After a "
    "number of steps the model is evaluated on all test images of the target, without "
    "augmentation. The final accuracy is the one after the last step: no step is chosen by "
    "its test accuracy. The paper's “best” is the best step on the test images, which "
    "flatters it; the optimism is by how much it lies above the test accuracy at the step "
    "chosen on validation images, where there are some.\n\n"
    "Intervals in brackets and bands are t intervals over seeds, of the mean, of which the "
    "part from 0 to 100% is given; an interval of a difference of "
    "test accuracies covers the chance of the test images too. “Higher” "
    "means that the interval of the difference is above 0; where no difference was recorded, "
    "that the two intervals do not overlap, and of single runs, that they are more than two "
    "binomial standard errors (±, √(p(1−p)/n) for n images) of the difference apart. So is "
    "every claim of this page made: by intervals, “too close to call” where they do not "
    "decide, and not at all where there are none. Of "
    "several learning rates the one with the best validation accuracy is taken, without "
    "validation images the one with the best test accuracy. The average training accuracy "
    "is the mean of the evaluations on the training images (evaluation mode) after step 0."
)

FINDING = Finding(
    "Figure 2",
    "P-T ends above RI-T on every target: 78.4 against 61.5 on real, 74.2 against 58 on "
    "clipart and 67 against 64 on quickdraw (final test accuracy, the best of the curves "
    "shown, read off the figure to about ±0.5). On CheXpert the AUC peaks at .787 against "
    ".770, and every run over-fits after its peak.",
)
