"""How far apart are they in parameter space: the answer, its caption and its table."""

from tlx.report.question import NOTHING, Answer, Check, Finding, KeyNumber, of_two
from tlx.report.questions.distances import numbers
from tlx.report.read.selection import Records
from tlx.report.words.kinds import pair, pair_name, pairs_counted
from tlx.report.words.numbers import count, significant, text
from tlx.report.words.table import Table
from tlx.report.words.verdicts import (
    AGREES,
    DIFFERS,
    NO_INTERVAL,
    OPEN,
    P_T,
    RI_T,
    above_zero,
    order,
    together,
)

_DISTANCES = Table(
    ("l2 distance", "2 P-T", "2 RI-T", "P-T & P", "RI-T & P"),
    (
        ("CheXpert", "200.12", "255.34", "237.31", "598.19"),
        ("clipart", "178.07", "822.43", "157.19", "811.87"),
        ("quickdraw", "218.52", "776.76", "195.44", "785.22"),
        ("real", "193.45", "815.08", "164.83", "796.80"),
    ),
)


def answer(records: Records) -> Answer:
    """How far apart are they in parameter space?"""
    found = numbers.distances(records)
    p_t, ri_t = found.get(P_T), found.get(RI_T)
    if p_t is None or ri_t is None or not (p_t.total_l2.known and ri_t.total_l2.known):
        return NOTHING
    checks = [
        Check("two P-T are closer than two RI-T (l2)", order(ri_t.total_l2, p_t.total_l2)),
        Check(
            "two P-T are closer than two RI-T (sum over tensors)",
            order(ri_t.total_sum, p_t.total_sum),
        ),
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


def _pairs(p_t: numbers.Distance, ri_t: numbers.Distance) -> str:
    """How many pairs there are, e.g. "one pair each"."""
    counts = dict.fromkeys(count(d.num_pairs, "pair") for d in (p_t, ri_t))
    return " and ".join(counts) + (" each" if len(counts) == 1 else "")


def caption(records: Records) -> str:
    """The caption of the distances."""
    pairs = {k: d.num_pairs for k, d in numbers.distances(records).items()}
    means = f"means over the pairs ({pairs_counted(pairs)})"
    without = numbers.totals_without(records)
    totals = f" The totals leave out: {', '.join(without)}." if without else ""
    return f"Distances between two models' parameters by module, {means}.{totals}"


def table(records: Records) -> Table | None:
    """A row a kind of pair, with both totals; None: no data."""
    columns = ("pair", "pairs", "l2 of all parameters", "sum of l2 over tensors")
    rows = tuple(
        (pair_name(kinds), str(d.num_pairs), text(d.total_l2), text(d.total_sum))
        for kinds, d in numbers.distances(records).items()
    )
    return Table(columns, rows) if rows else None


def key_numbers(records: Records) -> list[KeyNumber]:
    """How far two models are apart."""
    l2 = of_two({k: text(d.total_l2) for k, d in numbers.distances(records).items()})
    return [KeyNumber("Distance of two, l2", l2, answer(records).first)]


HOW = (
    "The l2 norm of the difference of two models' weights (not of their batch statistics), "
    "module by module; relative "
    "distances are divided by the norms of the modules. Two totals are given: the l2 norm "
    "over all parameters at once, and the sum over tensors of the l2 norm of each. Brackets "
    "are 95% intervals over runs by the jackknife, which leaves one run out with all its "
    "pairs, P held fixed; one pair has none, and nothing is said of which distance is the greater. "
    "Distances grow towards the higher modules where the mean of the upper half of the modules "
    "less that of the lower half has its interval above 0."
)

FINDING = Finding(
    "Table 2",
    "Two RI-T are farther from each other than two P-T, and the distance of a module grows "
    "towards the higher layers. Distances of the entire network:",
    _DISTANCES,
)
