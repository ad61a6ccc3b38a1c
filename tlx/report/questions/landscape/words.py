"""What does the landscape look like: the answer, its captions and its tables."""

import math
from collections.abc import Sequence

from tlx.report.question import NOTHING, Answer, Check, Finding, KeyNumber, of_two
from tlx.report.questions.landscape import numbers
from tlx.report.questions.landscape.numbers import Basin, Variant
from tlx.report.read.selection import Records, brackets, statistics_rule
from tlx.report.words.kinds import Pair, pair_name, pair_words, pairs_counted
from tlx.report.words.numbers import count, significant, text
from tlx.report.words.sentences import capital
from tlx.report.words.table import Table
from tlx.report.words.verdicts import (
    ACCURACY_TOLERANCE,
    AGREES,
    DIFFERS,
    LOSS_TOLERANCE,
    OPEN,
    P_T,
    RI_T,
    Verdict,
    above,
    of_all,
    order,
    together,
)

_BASINS = Table(
    ("two P-T", "ε", "δ"),
    (
        ("real", "0.0038", "49.14"),
        ("clipart", "0.0054", "98.28"),
        ("quickdraw", "0.0034", "49.14"),
    ),
)


def answer(records: Records) -> Answer:
    """What does the loss landscape between them look like?"""
    found = numbers.basins(records)
    sentences, claims, checks = [], [], []
    expectations: tuple[tuple[Pair, str, Verdict], ...] = (
        (P_T, "two P-T live in one basin", "yes"),
        (RI_T, "two RI-T do not live in one basin", "no"),
    )
    for kinds, claim, expected in expectations:
        if kinds not in found:
            continue
        checks.append(Check(claim, of_all([b.verdict for b in found[kinds]], expected)))
        lead = "unlike in the paper, " if checks[-1].verdict == DIFFERS else ""
        claims.append(lead + _said(kinds, found[kinds]))
        sentences.append(capital(f"{claims[-1]}{_evidence(found[kinds])}."))
    gain = _matched(numbers.permuted(records))
    if gain:
        claims.append(gain[0])
        sentences.append(gain[1])
    planes = len(numbers.planes(records))
    if planes and not claims:
        claims = [f"so far only {count(planes, 'plane')} through three models can be shown"]
        sentences = [capital(f"{claims[0]}; whether they share a basin has not been measured.")]
    if not claims:
        return NOTHING
    return Answer(" ".join(sentences), capital("; ".join(claims)) + ".", tuple(checks))


def _said(kinds: Pair, found: Sequence[Basin]) -> str:
    two = pair_words(kinds)
    known = {
        "yes": f"{two} live in one basin",
        "no": f"{two} do not live in one basin",
    }
    verdicts = {b.verdict for b in found}
    if len(verdicts) == 1:
        return known.get(found[0].verdict, f"whether {two} live in one basin stays open")
    number = sum(b.verdict == "yes" for b in found)
    return f"{two} live in one basin in {number} of {len(found)} pairs"


def _evidence(found: Sequence[Basin]) -> str:
    error, loss = numbers.over_runs(found)
    parts = []
    if error.known:
        allowed = found[0].tolerance
        tolerance = f" ({100 * allowed:g} allowed)" if math.isfinite(allowed) else ""
        parts.append(f"the error rises {text(error, 100.0)} points above the chord{tolerance}")
    if loss.known:
        parts.append(f"the loss {'' if parts else 'rises '}{text(loss)} nats")
    return f": on the line between them {', '.join(parts)}" if parts else ""


def _matched(found: Sequence[Variant]) -> tuple[str, str] | None:
    """A claim and a sentence on the barriers before and after matching the units.

    None without both, and where there is not measurably a barrier to take away.
    """
    own = {v.name: v for v in found if v.loss_barrier.known and v.accuracy_barrier.known}
    plain = own.pop("plain", None)
    if plain is None or not own or not _is_barrier(plain):
        return None
    after = [
        f"{_heights(v)} {numbers.VARIANTS[v.name].replace('…', 'matched by them')}"
        for v in own.values()
    ]
    lead = "permutation alignment of two RI-T"
    orders = [own[name] for name in ("weights", "activations") if name in own]
    lower = together(order(plain.loss_barrier, v.loss_barrier) for v in orders)
    verb = {
        AGREES: "lowers the loss barrier",
        DIFFERS: "does not lower the loss barrier by each of the matchings",
        OPEN: "does not measurably lower the loss barrier by each of the matchings",
    }.get(lower, "changes the measured loss barrier")
    lead += f" {verb} between them"
    return lead, capital(f"{lead}: from {_heights(plain)} as trained to {', '.join(after)}.")


def _heights(found: Variant) -> str:
    accuracy = text(found.accuracy_barrier, 100.0)
    return f"{text(found.loss_barrier)} nats and {accuracy} points of accuracy"


def _is_barrier(found: Variant) -> bool:
    """Whether the loss or the accuracy shows a barrier by its interval."""
    either = (found.loss_barrier, LOSS_TOLERANCE), (found.accuracy_barrier, ACCURACY_TOLERANCE)
    return any(above(height, allowed) == "yes" for height, allowed in either)


def caption(records: Records) -> str:
    """The caption of the planes and the basins."""
    planes = numbers.planes(records)
    basins = numbers.basins(records)
    parts = []
    if planes:
        n = max(p.num_images for p in planes)
        parts.append(
            f"Test loss and accuracy on the plane through three models (n = {n:,} images), pale "
            "where they are good; lengths are distances between parameters, to scale, and dotted "
            "lines are the straight lines between models."
        )
    if basins:
        every = [b for found in basins.values() for b in found]
        pairs = pairs_counted({k: len(found) for k, found in basins.items()})
        parts.append(
            f"{'Below, how' if planes else 'How'} far the loss rises above its mean μ on the line "
            "between two models, by noise of size δ at its ends (solid) and by steps of size δ "
            "beyond them (dashed); the basin's δ is the first at which both have reached 2ε. "
            f"The bands are one standard error over {max(b.num_draws for b in every):,} draws "
            f"(n = {max(b.num_images for b in every):,} images); the first of each kind of pair "
            f"({pairs}); rises far above 2ε are cut off."
        )
    rules = statistics_rule(records, "plane") or statistics_rule(records, "basin")
    return " ".join(parts) + brackets(records, "basin") + rules


def permutation_caption(records: Records) -> str:
    """The caption of the lines between two RI-T with their units matched."""
    found = numbers.permuted(records)
    pairs = count(max((v.num_pairs for v in found), default=0), "pair")
    n = max((v.num_images for v in found), default=0)
    return (
        f"The linear interpolation between two RI-T on n = {n:,} test images, as trained and with "
        f"the hidden units of the second put in the order of the first's; {pairs}. This study's "
        "addition (Ainsworth et al. 2023; Jordan et al. 2023)."
        + statistics_rule(records, "permutation")
    )


def _verdict(found: list[numbers.Basin]) -> str:
    """The verdict "yes", "no" or "open", or how many pairs say yes where they do not agree."""
    verdicts = [b.verdict for b in found]
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return f"yes in {verdicts.count('yes')} of {len(verdicts)}"


def table(records: Records) -> Table | None:
    """A row a pair: whether it shares a basin, and its (epsilon, delta); None: no data."""
    columns = (
        "pair",
        "same basin?",
        "loss barrier, nats",
        "error barrier, points",
        "ε",
        "δ",
        "δ / √dim",
    )
    rows = []
    for kinds, found in numbers.basins(records).items():
        for i, b in enumerate(found, 1):
            spread = b.delta / b.num_parameters**0.5 if b.num_parameters else math.nan
            rows.append(
                (
                    pair_name(kinds) + (f" ({i})" if found[1:] else ""),
                    b.verdict,
                    text(b.loss),
                    text(b.error, 100.0),
                    text(b.epsilon),
                    significant(b.delta, 2) if math.isfinite(b.delta) else "none",
                    significant(spread, 2) if math.isfinite(spread) else "",
                )
            )
    return Table(columns, tuple(rows)) if rows else None


def permutation_table(records: Records) -> Table | None:
    """A row an order of the units of RI-T: barriers and distance; None: no data."""
    columns = ("RI-T / RI-T", "accuracy barrier, points", "loss barrier (chord)", "l2 distance")
    rows = tuple(
        (
            numbers.VARIANTS[v.name],
            text(v.accuracy_barrier, 100.0),
            text(v.loss_barrier),
            text(v.distance) if v.distance.known else "",
        )
        for v in numbers.permuted(records)
    )
    return Table(columns, rows) if rows else None


def key_numbers(records: Records) -> list[KeyNumber]:
    """Whether two models share a basin."""
    found = numbers.basins(records)
    same = of_two({k: _verdict(b) for k, b in found.items()})
    return [KeyNumber("Two share a basin?", same)]


HOW = (
    "A plane is that through three models in parameter space, in an orthonormal basis: the "
    "first model is the origin, the second lies on the first axis. Every point of the grid "
    "is evaluated on all test images.\n\n"
    "Two models share a basin if the 0-1 error rises above the chord, on the line between "
    "them, by no more than what is allowed: “yes” or “no” where the bootstrap interval over "
    "test images lies on one side of that, “open” where it does not.\n\n"
    "A convex set, here the line between two models, is an (ε, δ)-basin of a loss l with mean "
    "μ over the set (definition 3.1 of the paper) if 1. the mean of |l − μ| is at most ε; "
    "2. Gaussian noise of expected squared length δ² at the border raises l to 2ε above μ or "
    "more; 3. so does a step of length |N(0, δ²)| straight out of the set. Here ε is that "
    "mean, and δ the smallest of a scan at which both rises reach 2ε; ± is one standard error "
    "over the draws. l is the 0-1 error unless the axis says nats. δ / √dim, with dim the "
    "number of parameters, is the standard deviation of the noise in each of them.\n\n"
    "Hidden units can change places without changing what a net computes. The units of the "
    "second of two RI-T are put in the order of the first's, by the weights or by the "
    "activations that match best (Ainsworth et al. 2023), and the activations of the models "
    "between are renormalised to the means and spreads of the ends' (REPAIR, Jordan et al. "
    "2023). This and the planes are this study's addition."
)

FINDING = Finding(
    "Definition 3.1 and its text",
    "Two P-T live in one basin of the loss, two RI-T do not. Extrapolating beyond the line "
    "between two P-T gave the (ε, δ) below; in the network of the released code, of 24.2 "
    "million parameters, δ / √dim is then 0.01, 0.02 and 0.01.",
    _BASINS,
)
