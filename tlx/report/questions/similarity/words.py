"""Do they compute the same features: the answer, its captions and its tables."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tlx.report.draw import layers
from tlx.report.question import NOTHING, Answer, Check, Finding, KeyNumber, of_two
from tlx.report.questions.similarity import numbers
from tlx.report.questions.similarity.numbers import BySteps, Layers
from tlx.report.read import over_runs
from tlx.report.read.selection import Records, confidence
from tlx.report.words import shuffles
from tlx.report.words.kinds import Pair, pair, pair_name, pair_words, pairs_counted, short
from tlx.report.words.numbers import NO_DATA, UNKNOWN, Estimate, count, significant, text
from tlx.report.words.sentences import capital
from tlx.report.words.table import Table
from tlx.report.words.verdicts import (
    AGREES,
    DIFFERS,
    LEAST_Z,
    MIXED,
    NO_INTERVAL,
    OPEN,
    P_T,
    RI_T,
    above,
    order,
)

_SIMILARITY = Table(
    ("CKA", "conv1", "layer1", "layer2", "layer3", "layer4"),
    (
        ("P-T & P", "0.6225", "0.4592", "0.2896", "0.1877", "0.0453"),
        ("P-T & P-T", "0.6710", "0.8230", "0.6052", "0.4089", "0.1628"),
        ("P-T & RI-T", "0.0036", "0.0011", "0.0022", "0.0003", "0.0808"),
        ("RI-T & RI-T", "0.0016", "0.0088", "0.0004", "0.0004", "0.0424"),
    ),
)

_SOURCE = pair("P", "P-T")


def answer(records: Records) -> Answer:
    """Do they compute the same features?"""
    found = numbers.layers(records)
    means = {k: v.mean for k, v in found.items()}
    one, other = means.get(P_T, UNKNOWN), means.get(RI_T, UNKNOWN)
    if not (one.known and other.known):
        return NOTHING
    checks = _ordering(means)
    lead = {
        AGREES: "Two P-T share more of their features than two RI-T",
        DIFFERS: "Unlike in the paper, two P-T share no more of their features than two RI-T",
        OPEN: "Two P-T share not measurably more of their features than two RI-T",
        NO_INTERVAL: "How much two P-T and two RI-T share of their features has no interval",
    }[checks[0].verdict]
    short = f"{lead}: the mean CKA over layers is {cka(one)} against {cka(other)}"
    sentence = short
    if checks[0].verdict != NO_INTERVAL:
        sentence += f", measurably higher at {_above(found[P_T], found[RI_T])}"
    more = [f"between {pair_words(k)} it is {cka(means[k])}" for k in (MIXED, _SOURCE)
            if means.get(k, UNKNOWN).known]  # fmt: skip
    sentence += f"; {' and '.join(more)}" if more else ""
    for name, groups in numbers.shuffled(records).items():
        sentence += _shuffled(name, groups)
    over = _over_steps(numbers.by_step(records))
    return Answer(f"{sentence}.{over}", short + ".", tuple(checks))


def _ordering(means: Mapping[Pair, Estimate]) -> list[Check]:
    """The order of the paper's table, of means over the layers; it is of whole images."""
    claims = [
        ("two P-T are more similar than two RI-T", P_T, RI_T),
        ("two P-T are more similar than P-T and RI-T", P_T, MIXED),
        ("P-T is more similar to P than to RI-T", _SOURCE, MIXED),
    ]
    every = [
        Check(claim, order(means.get(above, UNKNOWN), means.get(below, UNKNOWN)))
        for claim, above, below in claims
    ]
    return [check for check in every if check.verdict]


def _above(p_t: Layers, ri_t: Layers) -> str:
    """At how many layers two P-T are the more similar, e.g. "all 6 layers"."""
    shared = [(p_t.names.index(n), ri_t.names.index(n)) for n in p_t.names if n in ri_t.names]
    higher = [above(p_t.estimate(i), ri_t.estimate(j)) == "yes" for i, j in shared]
    number = "all" if all(higher) else f"{sum(higher)} of"
    return f"{number} {count(len(shared), 'layer', words=False)}"


def _shuffled(name: str, groups: Mapping[Pair, Layers]) -> str:
    """What two P-T and two RI-T share on shuffled images; nothing where there are not two."""
    means = {k: v.mean for k, v in groups.items()}
    one, other = means.get(P_T, UNKNOWN), means.get(RI_T, UNKNOWN)
    if not (one.known and other.known):
        return ""
    where = capital(f"with {shuffles.words(name)}")
    sentence = f". {where} it is {cka(one)} between two P-T, {cka(other)} between two RI-T"
    if means.get(_SOURCE, UNKNOWN).known:
        sentence += f" and {cka(means[_SOURCE])} between P-T and P"
    return sentence


def _over_steps(found: Mapping[Pair, BySteps]) -> str:
    """How similar a run is to P at its first and at its last checkpoint."""
    parts: list[str] = []
    for kinds, run in found.items():
        first, last = run.ends()
        if not (first.known and last.known):
            continue
        change = {AGREES: "falls", DIFFERS: "rises", OPEN: "does not measurably change"}
        verb = change.get(order(first, last), "goes")
        ends = f"from {cka(first)} at step {run.step[0]:,} to {cka(last)} at step {run.step[-1]:,}"
        kind = next((k for k in kinds if k != "P"), "P")
        subject = "that of" if parts else "Over the training, the mean similarity to P of"
        parts.append(f"{subject} {kind} {verb}, {ends}")
    return f" {'; '.join(parts)}." if parts else ""


def cka(value: Estimate) -> str:
    """A similarity with its interval, or to two decimals where none is known.

    To three decimals at the most: further ones near 1 say nothing about the models.
    """
    if value.interval is not None or not value.known:
        return text(value, most=3)
    number = f"{value.value:.2f}"
    return ("0.00" if math.isclose(float(number), 0.0) else number).replace("-", "−")


_SPATIAL = {
    "flatten": "Feature maps are flattened: an image is the vector of all their values.",
    "pool": "Feature maps are averaged over their positions.",
    "positions": "Each position of a feature map is an example.",
}


def caption(records: Records) -> str:
    """The caption of the similarity figure."""
    found = numbers.layers(records)
    pairs = pairs_counted({k: v.num_pairs for k, v in found.items()})
    several = any(v.num_pairs > 1 for v in found.values())
    band = _band(records, "similarity", found.values())
    if over_runs.said(v.num_pairs for v in found.values()):
        band = ""
    elif not band and several:
        band = " with the range as a band"
    n = max((v.num_images for v in found.values()), default=0)
    dotted = (
        " The dotted lines are what the biased one gives on average where images are paired at "
        "random."
        if any((v.chance > 0).any() for v in numbers.layers(records, "biased").values())
        else ""
    )
    return (
        "Above, CKA between the same layer of two models"
        f"{', means over the pairs' if several else ''} ({pairs}){band}; n = {n:,} test images."
        f"{over_runs.said(v.num_pairs for v in found.values())}{dotted} Below, "
        "debiased CKA of every layer of the first model (down) with every layer "
        "of the second (across), for the first pair of each kind: white is 0, the full colour 1, "
        "grey below 0, hatched undefined."
        + "".join(f" {_SPATIAL.get(name, name)}" for name in numbers.spatial(records))
        + _chance(found.values())
        + _marks(found.values())
    )


def _band(records: Records, question: str, found: Iterable[Layers]) -> str:
    if not any(v.is_interval for v in found):
        return ""
    return f" with {confidence(records, question) or 'confidence'} intervals as bands"


def _chance(found: Iterable[Layers]) -> str:
    """How far above random pairing the least of the values is."""
    known = np.concatenate([v.z[np.isfinite(v.z)] for v in found] or [np.zeros(0)])
    if not known.size or known.min() < LEAST_Z:
        return ""
    return (
        " Every debiased value of a layer with itself lies at least "
        f"{significant(known.min(), 2)} standard deviations (z) above what images paired at "
        "random give."
    )


def _marks(found: Iterable[Layers]) -> str:
    marks = {
        "†: too few images for the number of features.": any(v.too_few.any() for v in found),
        f"‡: no more than images paired at random may give (z below {LEAST_Z:g}).": any(
            (v.z < LEAST_Z).any() for v in found
        ),
    }
    return "".join(f" {text}" for text, there in marks.items() if there)


def shuffled_caption(records: Records) -> str:
    """The caption of the similarity on shuffled images."""
    by_shuffle = numbers.shuffled(records)
    every = [v for groups in by_shuffle.values() for v in groups.values()]
    n = max((v.num_images for v in every), default=0)
    return (
        "Debiased CKA between the same layer of two models trained and compared on images whose "
        "blocks are shuffled, by the size of the blocks (dashed, the paler the finer), and on "
        f"whole images (solid){_band(records, 'similarity', every)}; n = {n:,} test images. A "
        "P-T on shuffled images starts from the same P, which was trained on whole ones."
        + _marks(every)
    )


def by_step_caption(records: Records) -> str:
    """The caption of the similarity by training step."""
    found = numbers.by_step(records)
    runs = " and ".join(f"one {kind}" for kinds in found for kind in kinds if kind != "P")
    n = max((v.num_images for v in found.values()), default=0)
    most = max((len(v.names) for v in found.values()), default=0)
    drawn = f"of {most} layers some are drawn" if most > layers.MOST else "all layers"
    level = confidence(records, "similarity_by_step")
    band = any(np.isfinite(v.low).any() for v in found.values())
    return (
        f"Debiased CKA of the layers of {runs} with the same layers of the trained P, at the "
        "checkpoints that were kept. Pale is the first layer, dark the last "
        f"({drawn}){f'; bands are {level} intervals' if band and level else ''}; n = {n:,} test "
        "images of the target."
    )


PAPERS = (pair("P", "P-T"), P_T, MIXED, RI_T)
"""The rows of the paper's table."""


def table(records: Records) -> Table | None:
    """A row a kind of pair, a column a layer, as the paper's (debiased CKA); None: no data.

    "†" marks what is of too few images, "‡" what may be chance.
    """
    found = numbers.layers(records)
    names = _names(found)
    if not names:
        return None
    return Table(("debiased CKA", *map(short, names)), tuple(_rows(found, names, PAPERS)))


def shuffled_table(records: Records) -> Table | None:
    """The rows of `similarity` on shuffled images, by shuffle; None: no data.

    All of the paper's rows where two runs of a kind were trained, else those that there are.
    """
    by_shuffle = numbers.shuffled(records)
    names = list(dict.fromkeys(n for found in by_shuffle.values() for n in _names(found)))
    rows: list[tuple[str, ...]] = []
    for shuffle, found in by_shuffle.items():
        paired = P_T in found or RI_T in found
        own = _rows(found, names, PAPERS if paired else tuple(k for k in PAPERS if k in found))
        blocks = shuffles.words(shuffle).removesuffix(" shuffled")
        rows += [(blocks, *[""] * len(names)), *own]
    return Table(("debiased CKA", *map(short, names)), tuple(rows)) if rows else None


def _names(found: dict[Pair, Layers]) -> list[str]:
    return list(dict.fromkeys(n for v in found.values() for n in v.names))


def _rows(
    found: dict[Pair, Layers], names: list[str], kinds: Sequence[Pair]
) -> list[tuple[str, ...]]:
    every = [*kinds, *(k for k in found if k not in kinds)]
    return [(pair_name(k).replace(" / ", " & "), *_cells(found.get(k), names)) for k in every]


def _cells(found: Layers | None, names: list[str]) -> list[str]:
    if found is None:
        return [NO_DATA] * len(names)
    at = {n: i for i, n in enumerate(found.names)}
    return [_cell(found, at[n]) if n in at else "" for n in names]


def _cell(found: Layers, i: int) -> str:
    mark = "†" if found.too_few[i] else ""
    mark += "‡" if found.z[i] < LEAST_Z else ""
    return cka(found.estimate(i)) + mark


def key_numbers(records: Records) -> list[KeyNumber]:
    """How similar the features of two models are."""
    layers = numbers.layers(records)
    shared = of_two({k: cka(v.mean) for k, v in layers.items()})
    return [KeyNumber("Similarity of two, CKA", shared, answer(records).first)]


HOW = (
    "Linear CKA (Kornblith et al. 2019) between the features of two models on the same test "
    "images: ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) with centred, flattened features. The debiased estimator "
    "(Székely and Rizzo 2014; Song et al. 2012) is 0 in expectation for independent "
    "features, whatever their number, and can be negative; the biased one is not, and is "
    "large where features are many and images few: what it gives on average where each image "
    "of one model is paired with a random one of the other is its chance level. z is the "
    "debiased value over its standard deviation under such pairing, which has a closed form. "
    "The mean is over the layers that both models have. Layer s.b is block b of stage s.\n\n"
    "The interval of a pair is from the bootstrap over test images, the same resamples for every "
    "pair; that of a mean over layers, or over two pairs, goes from the mean of the lower to the "
    "mean of the upper ends. "
    + over_runs.HOW
    + " One value is said to be higher than another where their "
    "intervals do not overlap; without intervals nothing is said of it.\n\n"
    "On shuffled images, two models of a pair are trained and compared on images shuffled "
    "alike; P, which was trained on whole images, is then given the shuffled ones too. Over "
    "the training, a run is compared with P at each of its checkpoints; at step 0 a P-T has "
    "the weights of P except in its head. The paper reports neither: they are this study's "
    "addition."
)

FINDING = Finding(
    "Table 1",
    "Two P-T are highly similar across layers; P-T and RI-T, and two RI-T, are very little "
    "so. CKA of ResNet-50s on CheXpert:",
    _SIMILARITY,
)
