"""Do they make the same mistakes: the answer, its captions and its table."""

import math

from tlx.report.question import NOTHING, Answer, Check, Finding, KeyNumber, of_two
from tlx.report.questions.mistakes import figure, numbers
from tlx.report.questions.mistakes.numbers import (
    COMMON,
    ONLY_FIRST,
    ONLY_SECOND,
    PAIRS,
    Group,
    Mistakes,
)
from tlx.report.read.selection import Records, confidence
from tlx.report.words.kinds import pair_name, pair_words, pairs_counted
from tlx.report.words.numbers import NO_DATA, Estimate, count, p_value, significant, text
from tlx.report.words.sentences import capital
from tlx.report.words.table import Table
from tlx.report.words.verdicts import (
    AGREES,
    DIFFERS,
    MIXED,
    NO_INTERVAL,
    OPEN,
    P_T,
    RI_T,
    above_zero,
    order,
)


def answer(records: Records) -> Answer:
    """Do they make the same mistakes?"""
    found = numbers.mistakes(records)
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
    mixed = f" (P-T and RI-T: {text(known[MIXED].kappa)})" if all(k in known for k in PAIRS) else ""
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


_ORDER = {
    "confidence": ", those first of which the wrong answer is most confident",
    "margin": ", those first whose label is furthest below the answer",
}


def caption(records: Records) -> str:
    """The caption of the figure of mistakes."""
    found = numbers.mistakes(records)
    if found is None:
        return ""
    n = f"n = {found.num_images:,} test images"
    if found.is_multilabel:
        n += f" with {found.num_classes} labels each"
    if found.threshold is not None:
        n += f", on from a probability of {found.threshold:g}"
    pairs = pairs_counted({k: group.num_pairs for k, group in found.groups.items()})
    level = confidence(records, "mistakes")
    return (
        f"Mistakes of two models on {n}, means over the pairs ({pairs}). Bars are what both get "
        "wrong and what only the first or only the second does (of two of a kind, what each does "
        "alone); the line across a bar is what independent errors at the same rates would have in "
        f"common.{_classes(found)} Kappa and CAPA {f'with {level} intervals' if level else ''}; "
        "small ticks are single pairs. The margin is the probability of the label less the "
        "largest other one: where it is below 0 the model is wrong (filled), above 0 right (open)."
    )


def _classes(found: Mistakes) -> str:
    shown, names = (
        len(figure.classes(found)),
        "labels" if found.is_multilabel else "classes",
    )
    if shown == found.num_classes:
        return ""
    return f" Of {found.num_classes:,} {names} the {shown} with the most mistakes are shown."


def gallery_caption(records: Records) -> str:
    """The caption of the gallery."""
    found = numbers.gallery(records)
    if found is None:
        return ""
    p_t, ri_t = found.models
    what = "a label and whether it is on" if found.is_multilabel else "the true class"
    order = _ORDER.get(found.order, "")
    return (
        f"Test images that {p_t}, {ri_t} or both get wrong{order}: {what}, and the "
        "answers of the two models with their probabilities. The pixels are those that the "
        "models get, before normalisation."
    )


MOST_PAIRS = 15
"""Pairs of models that have a row each at the most: of more, only the kinds of pair have."""

_COLUMNS = (
    "pair",
    "pairs",
    "both wrong",
    "by chance",
    "only first",
    "only second",
    "kappa",
    "CAPA",
    "differ",
    "p",
    "p, Holm",
)


def table(records: Records) -> Table | None:
    """A row a kind of pair, means over its pairs, and a row a pair; None: no data."""
    found = numbers.mistakes(records)
    if found is None or not found.groups:
        return None
    is_each = sum(map(len, found.pairs.values())) <= MOST_PAIRS
    rows = []
    for kinds in found.shown:
        if kinds not in found.groups:
            rows.append((pair_name(kinds), "0", *[NO_DATA] * (len(_COLUMNS) - 2)))
            continue
        rows.append(_row(found.groups[kinds]))
        if is_each and len(found.pairs[kinds]) > 1:
            rows += [_row(group) for group in found.pairs[kinds]]
    return Table(_COLUMNS, tuple(rows))


def _row(group: Group) -> tuple[str, ...]:
    counts = (group.cells[COMMON], group.expected, *group.cells[[ONLY_FIRST, ONLY_SECOND]])
    differ = significant(100 * group.disagreement)
    return (
        group.name,
        str(group.num_pairs),
        *(counted(float(n)) for n in counts),
        text(group.kappa),
        text(group.capa),
        differ if differ == NO_DATA else f"{differ}%",
        p_value(group.p_value) or NO_DATA,
        p_value(group.p_holm) or NO_DATA,
    )


def counted(n: float) -> str:
    """A count, or a mean of counts to one decimal."""
    if not math.isfinite(n):
        return NO_DATA
    return f"{n:,.0f}" if n == round(n) else f"{n:,.1f}"


def key_numbers(records: Records) -> list[KeyNumber]:
    """How alike the mistakes of two models are."""
    found = numbers.mistakes(records)
    kappa = of_two({k: text(g.kappa) for k, g in found.groups.items()} if found else {})
    return [KeyNumber("Error agreement, kappa", kappa, answer(records).first)]


HOW = (
    "For two models tested on the same images we count those that both get wrong, that only "
    "the first or only the second does, and that neither does, class by class. Where an image "
    "has several labels, each of them is a judgement, answered “on” where its probability "
    "reaches the threshold, and counts for its label. Independent errors at the same rates "
    "would have n·(1−p₁)·(1−p₂) mistakes in common, with p the share of right judgements; by "
    "class, at the rates within the class. Numbers of a kind of pair are means over its "
    "pairs; of two models of one kind neither is the first.\n\n"
    "Cohen's kappa compares how often both are right or both wrong with what independent "
    "models of the same accuracies would give: 1 is the same mistakes, 0 is chance. CAPA "
    "(Goel et al. 2025) does so with the probability of equal answers, and so tells wrong "
    "answers apart. Their intervals (delta method, with an added example in each of the four "
    "counts, after Agresti and Coull 1998) are over test images, with all their labels "
    "together; those of a kind of pair go from the mean of the lower to the mean of the upper "
    "ends. They say how well the values of these models are known, not how much other runs "
    "would differ. Mistakes are said to be more alike where the intervals of kappa do not "
    "overlap, and more often in common than by chance where that of kappa is above 0. "
    "Answers differ also where two are wrong in two ways. p is that of McNemar's "
    "exact test of whether two models are right equally often, “Holm” adjusts it for all "
    "pairs of models, and of a kind of pair the least p is given. With several labels an "
    "image there is none, since their judgements are not independent.\n\n"
    "Kappa, CAPA, the test and what chance gives are this study's addition."
)

FINDING = Finding(
    "in its text",
    "Two P-T make very similar mistakes, two RI-T more diverse ones. Images that P-T gets "
    "wrong and RI-T right are mostly hard or ambiguous; those that P-T gets right and RI-T "
    "wrong are mostly easy.",
)
