"""Is there a loss barrier between two models: the answer, its caption and its table."""

from tlx.report.question import NOTHING, Answer, Check, Finding, KeyNumber, of_two
from tlx.report.questions.interpolation import checkpoints, numbers
from tlx.report.questions.interpolation.numbers import Barrier
from tlx.report.read import over_runs
from tlx.report.read.selection import Records, brackets, statistics_rule
from tlx.report.words import verdicts
from tlx.report.words.kinds import Pair, pair_name, pair_words, pairs_counted
from tlx.report.words.numbers import NO_DATA, Estimate, percent, text
from tlx.report.words.sentences import capital
from tlx.report.words.table import Table
from tlx.report.words.verdicts import DIFFERS, MIXED, P_T, RI_T, Verdict, of_all


def answer(records: Records) -> Answer:
    """Is there a loss barrier between two models?"""
    found = {
        k: b
        for k, b in numbers.barriers(records).items()
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
        checks.append(Check(claim, of_all(found[kinds].of_kind, expected)))
        lead = "unlike in the paper, " if checks[-1].verdict == DIFFERS else ""
        claims.append(lead + _joined(kinds, found[kinds]))
        fall, rise = points(found[kinds].accuracy), text(found[kinds].loss)
        heights = f"the accuracy falls {fall} below the chord, the loss rises {rise} above it"
        parts.append(capital(f"{claims[-1]}: along the line {heights}."))
    return Answer(" ".join(parts), capital("; ".join(claims)) + ".", tuple(checks))


def _joined(kinds: Pair, found: Barrier) -> str:
    """Whether there is a barrier between two models of a kind, and in how many pairs."""
    two, each = pair_words(kinds), found.each
    number, sure = each.count("yes"), each.count("no")
    if len(set(found.of_kind)) > 1:
        return f"of {len(each)} pairs of {two} {number} have a barrier and {sure} have none"
    claim = {
        "no": f"{two} are connected without a barrier",
        "yes": f"{two} are connected only across a barrier",
        "open": f"whether a barrier stands between {two} is open",
    }[found.of_kind[0]]
    if len(set(each)) > 1:
        claim += f" ({number} of {len(each)} pairs have one, {sure} none)"
    return claim


def points(difference: Estimate) -> str:
    """A difference of accuracies in percentage points."""
    return f"{text(difference, 100.0)} points" if difference.known else NO_DATA


def caption(records: Records) -> str:
    """The caption of the barrier figure."""
    found = numbers.barriers(records)
    pairs = {k: b.num_pairs for k, b in found.items() if "P" not in k}
    n = max((b.accuracy.n for b in found.values()), default=0)
    return (
        f"Models on the linear interpolation between two, on n = {n:,} test images; a line a pair "
        f"({pairs_counted(pairs)}).{over_runs.said(pairs.values())} Between P-T and RI-T, alpha is "
        "0 at P-T." + brackets(records, "interpolation") + statistics_rule(records, "interpolation")
    )


def table(records: Records) -> Table | None:
    """A row a kind of pair; None: no data."""
    columns = (
        "pair",
        "pairs",
        "accuracy, ends",
        "accuracy, middle",
        "accuracy barrier, points",
        "loss barrier (chord)",
        "loss barrier (endpoint mean)",
    )
    rows = tuple(
        (
            pair_name(kinds),
            str(b.num_pairs),
            percent(b.ends),
            percent(b.middle),
            text(b.accuracy, 100.0),
            text(b.loss),
            text(b.endpoint_mean),
        )
        for kinds, b in numbers.barriers(records).items()
    )
    return Table(columns, rows) if rows else None


def key_numbers(records: Records) -> list[KeyNumber]:
    """The barriers of accuracy and loss between two models."""
    found = numbers.barriers(records)
    accuracies = of_two({k: text(b.accuracy, 100.0) for k, b in found.items()})
    losses = of_two({k: text(b.loss) for k, b in found.items()})
    return [
        KeyNumber("Accuracy barrier, points", accuracies),
        KeyNumber("Loss barrier, nats", losses),
    ]


HOW = (
    "All parameters, the head included, are interpolated linearly, θ = (1−α)·θ₁ + α·θ₂, and "
    "accuracy and loss are evaluated on all test images at each α. The accuracy barrier is the "
    "largest difference between the chord, the straight line between the two end accuracies, and "
    "the accuracy; the loss barrier is the largest rise of the loss above its chord "
    "(kind “chord”), or above the mean of the two ends (kind “endpoint mean”). A pair is said "
    "to have no barrier where the whole interval of the accuracy barrier is at most "
    f"{100 * verdicts.ACCURACY_TOLERANCE:g} points and that of the rise of the loss at most "
    f"{verdicts.LOSS_TOLERANCE} nats, to have one where all of either is above that, and it is "
    "left open else; ± of an accuracy barrier is one binomial standard error, of which two to both "
    "sides are taken for an interval. The interval of a pair has percentiles of "
    "the bootstrap over test images, the same resample for every point of a line; of "
    "two pairs of a kind, tested on the same images, it goes from the mean of the lower "
    "to the mean of the upper ends. Batch statistics, where a model has them, belong to one "
    "set of weights: “re-estimated” says that they were estimated anew from training images "
    "at each α, “interpolated” that they were mixed like the weights, “a” or “b” that they "
    "are those of one end.\n\n" + checkpoints.HOW
)

FINDING = Finding(
    "Figure 4",
    "No barrier between two P-T: the points between them are even slightly better than the "
    "ends. A barrier between RI-T, even where they start from the same random weights. Read "
    "off the figure, test accuracy: on real, two P-T have 78.4 at the ends and 79.3 in the "
    "middle; between two RI-T it falls from 61 to below 1, and between P-T and RI-T too.",
)
