"""What is in which layer: the answer, its captions and its tables."""

from collections.abc import Mapping

import numpy as np

from tlx.report.question import NOTHING, Answer, Finding
from tlx.report.questions.depth import figure, numbers
from tlx.report.questions.depth.numbers import WAYS, Probes, Spectrum, percentages
from tlx.report.read import learning
from tlx.report.read.selection import Records
from tlx.report.words.kinds import short
from tlx.report.words.numbers import (
    NO_DATA,
    UNKNOWN,
    Estimate,
    count,
    difference,
    percent,
    significant,
    text,
)
from tlx.report.words.table import Table
from tlx.report.words.verdicts import OPEN, above, order


def answer(records: Records) -> Answer:
    """What is in which layer, and how many of them have to be transferred?"""
    probed, trained = _probes(records)
    found = [f"{probed}{trained}.", _enough(records), _freezing(records), _spectra(records)]
    said = [sentence for sentence in found if sentence.strip(".")]
    return Answer(" ".join(said), f"{probed}." if probed else said[0]) if said else NOTHING


def _probes(records: Records) -> tuple[str, str]:
    """Where P holds the target's classes best, against random weights; and after training."""
    best = {}
    found = numbers.linear_probes(records)
    for kind, own in found.items():
        layer = own.best()
        if layer is not None:
            best[kind] = layer
    if not ("P" in best and "RI" in best):
        every = [
            f"{percentages(found[kind].of(name))} from layer {short(name)} of {_named(kind)}"
            for kind, name in best.items()
        ]
        lead = (
            "The most of the target's test images that a linear probe was measured to get right is"
        )
        return (f"{lead} {' and '.join(every)}" if every else ""), ""
    layer = best["P"]
    p, random = found["P"].of(layer), found["RI"].of(best["RI"])
    better = "better" if above(p, random) == "yes" else "not measurably better"
    same = found["RI"].of(layer)
    there = f"{percentages(same)} with random weights"
    if layer != best["RI"]:
        there += f" ({percentages(random)} at their highest, {short(best['RI'])})"
    probed = (
        f"The target's classes can be read from P {better} than from random weights: from layer "
        f"{short(layer)}, P's highest, a linear probe gets {percentages(p)} of the test images "
        f"right, against {there}"
    )
    return probed, _trained(found, layer)


def _named(kind: str) -> str:
    return "random weights" if kind == "RI" else kind


def _trained(found: Mapping[str, Probes], layer: str) -> str:
    """What is read from the same layer after training on the target."""
    own = {k: found[k].of(layer) for k in ("P-T", "RI-T") if k in found}
    parts = [f"{percentages(value)} in {kind}" for kind, value in own.items() if value.known]
    return f"; after training on the target it is {' and '.join(parts)}" if parts else ""


def _enough(records: Records) -> str:
    """How many first modules of P bring a model as far as P-T."""
    tuned = numbers.final_by_k(numbers.partial(records).get("first", {}))
    whole = learning.final(learning.curves(records), "P-T")
    if not (tuned and whole.known):
        return ""
    lower = [k for k, value in tuned.items() if above(whole, value) == "yes"]
    below = f"measurably below P-T ({percent(whole)})"
    most = max(tuned)
    if most in lower:
        tried = ", the most that were tried," if most > 1 else ""
        return f"With {_first(most)}{tried} a run ends {below}: {percent(tuned[most])}."
    # The first k from which on none that was tried is.
    k = min(k for k in tuned if k > max(lower, default=-1))
    less = max(lower, default=None)
    where = f"; with k = {less} one does, {percent(tuned[less])}" if less is not None else ""
    more = " or more" if k < most else ""
    return f"With {_first(k)}{more} no run ends {below}: {percent(tuned[k])}{where}."


def _first(k: int) -> str:
    return (
        f"P's first {count(k, 'module')}" if k > 1 else "P's first module" if k else "fresh weights"
    )


def _freezing(records: Records) -> str:
    """What it changes that the modules taken from P are not trained."""
    runs = numbers.partial(records)
    tuned, frozen = (numbers.final_by_k(runs.get(way, {})) for way in ("first", "first:frozen"))
    changes = {k: difference(frozen[k], tuned[k]) for k in tuned if k in frozen and k > 0}
    if not changes:
        return ""
    ends = sorted(changes, key=lambda k: changes[k].value)
    said = [f"{_signed(changes[k])} points (k = {k})" for k in dict.fromkeys((ends[0], ends[-1]))]
    lead = "Freezing the modules taken from P changes the accuracy by"
    if all(order(frozen[k], tuned[k]) == OPEN for k in changes):
        lead = "Freezing the modules taken from P makes no measurable difference:"
    return f"{lead} {' to '.join(said)}."


def _signed(change: Estimate) -> str:
    return ("+" if change.value > 0 else "") + text(change, 100.0)


def _spectra(records: Records) -> str:
    """How the stable ranks of P-T and of RI-T compare with those of P."""
    found = numbers.spectra(records)
    parts = []
    for kind in ("P-T", "RI-T"):
        if "P" in found and kind in found:
            ratios = numbers.ratios(found[kind], found["P"])
            if ratios.size:
                low, high = (significant(v, 2) for v in (ratios.min(), ratios.max()))
                middle = significant(float(np.median(ratios)), 2)
                parts.append((kind, f"{middle} ({low} to {high})"))
    if not parts:
        return ""
    (kind, ratio), *more = parts
    also = "".join(f", that of {other} {of}" for other, of in more)
    return (
        f"In the median over layers (least to greatest), the stable rank of {kind} is {ratio} "
        f"times that of P{also}."
    )


_SPATIAL = {
    "flatten": " Feature maps are flattened.",
    "pool": " Feature maps are averaged over their positions.",
}

OPERATORS = {
    "circular": "convolutions as maps of whole feature maps with their borders joined",
    "reshaped": "the kernels of convolutions as matrices",
    "operator": "convolutions as maps of whole feature maps with their own stride and borders",
}


def probes_caption(records: Records) -> str:
    """The caption of the linear probes."""
    found = numbers.linear_probes(records)
    runs = ", ".join(f"{v.num_runs} {kind}" for kind, v in found.items())
    train, test = (max(getattr(v, n) for v in found.values()) for n in ("num_train", "num_images"))
    random = " RI has random weights, before any training." if "RI" in found else ""
    gains = (
        " The second panel is what training added to random weights, with the intervals of a "
        "difference between independent samples."
        if "RI" in found and len(found) > 1
        else ""
    )
    spatial = sorted({v.spatial for v in found.values()})
    return (
        "The target's classes as a linear probe reads them from each layer, fitted to "
        f"{train:,} training images; bands are 95% intervals over n = {test:,} test images "
        f"({runs}).{random}{gains}" + "".join(_SPATIAL.get(name, "") for name in spatial)
    )


def partial_transfer_caption(records: Records) -> str:
    """The caption of the runs that take only some modules from P."""
    runs = numbers.partial(records)
    every = [c for own in runs.values() for found in own.values() for c in found]
    n, train = (max((getattr(c, name) for c in every), default=0)
                for name in ("num_test", "num_train"))  # fmt: skip
    frozen = (
        " Dashed: those taken from P stay as they are." if any("frozen" in w for w in runs) else ""
    )
    some = "the first k modules start"
    if any(way.startswith("except") for way in runs):
        some = "the first k modules, or all but those, start"
    return (
        f"Fine-tuning where only {some} from P ({count(len(every), 'run')}); the others start "
        f"fresh, and all is trained as P-T is, which need not be as RI-T is.{frozen} The "
        "horizontal lines are P-T, which takes all modules of the body, and RI-T. Bars and bands "
        f"are one binomial standard error (n = {n:,} test images"
        f"{f', {train:,} training images' if train else ''})."
    )


def spectra_caption(records: Records) -> str:
    """The caption of the singular values."""
    found = numbers.spectra(records)
    names = len({name for s in found.values() for name in s.names})
    shown = len(figure.drawn(found))
    seen = OPERATORS.get(numbers.operator(records), "")
    return (
        f"Singular values of {'the' if shown == names else f'{shown} of {names}'} layers, the "
        f"largest first{f': {seen}' if seen else ''}. One model of each kind "
        f"({', '.join(s.run for s in found.values())}), after its last step. Values below "
        f"1/{1 / figure.CUT:,.0f} of the largest of all are cut off."
    )


def probes_table(records: Records) -> Table | None:
    """A row a layer: its features, and the accuracy of each kind's probe; None: no data."""
    found = numbers.linear_probes(records)
    if not found:
        return None
    names = list(dict.fromkeys(n for v in found.values() for n in v.names))
    features = {
        name: number
        for v in reversed(found.values())
        for name, number in zip(v.names, v.num_features.tolist(), strict=True)
    }
    rows = tuple(
        (
            short(name),
            f"{features[name]:,.0f}" if features[name] >= 0 else "",
            *(text(v.of(name), 100.0, most=1) if name in v.names else "" for v in found.values()),
        )
        for name in names
    )
    return Table(("layer", "features", *(f"{kind}, %" for kind in found)), rows)


def partial_transfer_table(records: Records) -> Table | None:
    """A row a k, and rows of P-T and RI-T: final test accuracies; None: no data."""
    runs = numbers.partial(records)
    if not runs:
        return None
    final = {way: numbers.final_by_k(own) for way, own in runs.items()}
    ks = sorted({k for own in runs.values() for k in own})
    rows = [
        (
            f"k = {k}",
            *(percent(final[w].get(k, UNKNOWN)) if k in runs[w] else "" for w in runs),
        )
        for k in ks
    ]
    whole = learning.curves(records)
    for kind in ("P-T", "RI-T"):
        level = learning.final(whole, kind)
        if level.known:
            rows.append((kind, percent(level), *[""] * (len(runs) - 1)))
    return Table(("modules from P", *(WAYS[way] for way in runs)), tuple(rows))


def spectra_table(records: Records) -> Table | None:
    """A row a layer: stable rank and spectral norm of each kind; None: no data."""
    found = numbers.spectra(records)
    names = list(dict.fromkeys(name for s in found.values() for name in s.names))
    if not names:
        return None
    fields = (("stable_rank", "stable rank"), ("spectral_norm", "largest value"))
    columns = [f"{kind}, {words}" for _, words in fields for kind in found]
    rows = tuple(
        (
            "/".join(map(short, name.split("/"))),
            *(_cell(own, field, name) for field, _ in fields for own in found.values()),
        )
        for name in names
    )
    return Table(("layer", *columns), rows)


def _cell(found: Spectrum, field: str, name: str) -> str:
    if name not in found.names:
        return ""
    value = float(getattr(found, field)[found.names.index(name)])
    return "∞" if value == float("inf") else significant(value) if value == value else NO_DATA


HOW = (
    "A probe is a linear classifier on the features of one layer (Alain and Bengio 2016), "
    "here a ridge regression on the one-hot classes of the target's training images, its "
    "strength chosen by generalised cross-validation on those images; the class is that of "
    "the largest output. Its accuracy is that on the test images, in brackets its 95% "
    "interval (Wilson). One model is said to be better than another where their intervals "
    "do not overlap; the intervals of the gain over random weights are Newcombe's (1998). "
    "RI is a net before training; layer s.b is block b of stage s.\n\n"
    "Partial transfer follows Yosinski et al. (2014): a run starts with the first k modules "
    "of P's body, or with all but those, and with fresh weights in the others; the modules "
    "from P are then trained with the rest, or frozen. “Measurably below” is more than two "
    "standard errors of the difference; that no run is says no more than that the test images "
    "do not tell them apart.\n\n"
    "The singular values of a convolution are those of the linear map of whole feature maps "
    "with their borders joined and stride 1 (Sedghi et al. 2019), or of what the caption "
    "says. The stable rank is the sum of the squares of the values over the largest "
    "square."
)

FINDING = Finding(
    "in its conclusion and a review",
    "A review lists the spectrum of the modules among the paper's experiments, and its "
    "conclusion proposes the top singular values and directions of each module as a start "
    "for training. This page has no numbers of the paper's about them.",
)
