"""How much data, how far a domain: the answer, its captions and its tables."""

import math

from tlx.report.question import NOTHING, Answer, Check, Finding
from tlx.report.questions.amount import numbers
from tlx.report.questions.amount.numbers import Domains
from tlx.report.read import sweeps
from tlx.report.read.selection import Records
from tlx.report.read.sweeps import (
    Sweep,
    adjusted,
    chance_covered,
    rate_said,
    runs_counted,
    whiskers_said,
)
from tlx.report.words.numbers import (
    NO_DATA,
    Estimate,
    count,
    in_points,
    percent,
    points,
    significant,
)
from tlx.report.words.table import Table
from tlx.report.words.verdicts import AGREES, DIFFERS, OPEN, above_zero, order, together


def answer(records: Records) -> Answer:
    """How much data, how far a domain?"""
    sizes, targets = (sweeps.sweep(records, axis) for axis in ("train_size", "target"))
    far = numbers.domains(records)
    said = [_by_size(sizes) if sizes else "", _by_target(targets, far) if targets else ""]
    checks = []
    if targets:
        gains = [sweeps.difference(targets, i) for i in range(len(targets.values))]
        checks = [
            Check("P-T ends above RI-T on every target", _all(gains)),
            Check("pretraining brings more where the target resembles the source",
                  _resembles(targets, far)),
        ]  # fmt: skip
    said = [sentence for sentence in said if sentence]
    found = tuple(check for check in checks if check.verdict)
    return Answer(" ".join(said), said[0], found) if said else NOTHING


def _by_size(found: Sweep) -> str:
    """What pretraining brings with the fewest and with the most images."""
    known = [i for i in range(len(found.values)) if found.difference_of(i).known]
    known.sort(key=lambda i: int(found.train_size[i]))
    if not known:
        return ""
    few, many = known[0], known[-1]
    one, other = (sweeps.difference(found, i) for i in (few, many))
    images = count(int(found.train_size[few]), "training image", words=False)
    first = f"With {images} {_gain(found, few)}"
    if few == many:
        return f"{first}."
    lead = {
        AGREES: "Pretraining brings more with the fewest training images than with the most",
        DIFFERS: "Pretraining brings less with the fewest training images than with the most",
    }.get(order(one, other), _NOT_TOLD.format("fewer training images"))
    return f"{lead}. {first}, with {found.train_size[many]:,} it is {in_points(other)}."


_NOT_TOLD = "Pretraining does not bring measurably more with {}"


def _by_target(found: Sweep, far: Domains | None) -> str:
    """What pretraining brings on the nearest and on the farthest target."""
    ends = _ends(found, far)
    if ends is None or far is None:
        best = [i for i in range(len(found.values)) if found.difference_of(i).known]
        parts = [f"{in_points(sweeps.difference(found, i))} on {found.values[i]}" for i in best]
        return f"The accuracy of P-T less that of RI-T is {', '.join(parts)}." if parts else ""
    near, remote = ends
    gain = sweeps.difference(found, remote)
    lead = {
        AGREES: "Pretraining brings more on the target nearest to the source than on the farthest",
        DIFFERS: "Unlike in the paper, pretraining brings less on the target nearest to the source "
        "than on the farthest",
    }.get(_resembles(found, far), _NOT_TOLD.format("a target nearer to the source"))
    names = [
        f"{found.values[i]} (Fréchet distance {significant(far.distance[found.values[i]], 2)})"
        for i in (near, remote)
    ]
    return f"{lead}: on {names[0]} {_gain(found, near)}, on {names[1]} it is {in_points(gain)}."


def _resembles(found: Sweep, far: Domains | None) -> str:
    """Whether more is gained on the nearest target than on the farthest; "" without two.

    Only where it is measured too that the one is nearer.
    """
    ends = _ends(found, far)
    if ends is None or far is None:
        return ""
    nearer = order(*(far.of(found.values[i]) for i in reversed(ends)))
    more = order(*(sweeps.difference(found, i) for i in ends))
    return more if nearer == AGREES else nearer


def _ends(found: Sweep, far: Domains | None) -> tuple[int, int] | None:
    """The nearest and the farthest target with a known gain; None where there are not two."""
    if far is None:
        return None
    known = [
        i
        for i, name in enumerate(found.values)
        if found.difference_of(i).known and math.isfinite(far.distance.get(name, math.nan))
    ]
    known.sort(key=lambda i: far.distance[found.values[i]])
    return (known[0], known[-1]) if len(known) > 1 else None


def _all(gains: list[Estimate]) -> str:
    """Whether all gains are above 0 by their intervals; "" where none is known."""
    known = any(gain.known for gain in gains)
    return together(above_zero(gain) or OPEN for gain in gains) if known else ""


def _gain(found: Sweep, i: int) -> str:
    """What P-T and RI-T reach, and the difference, in words."""
    gain = sweeps.difference(found, i)
    ends = (percent(found.final_of(kind, i), error=False) for kind in ("P-T", "RI-T"))
    return f"P-T ends at {' and RI-T at '.join(ends)}, a difference of {in_points(gain)}"


def caption(records: Records) -> str:
    """The caption of the figure by the number of training images."""
    found = sweeps.sweep(records, "train_size")
    if found is None:
        return ""
    return (
        "Test accuracy after the last step, and mean training accuracy over the run, by the number "
        f"of training images of the target ({runs_counted(found)}). {whiskers_said(found)}"
        + rate_said(found)
    )


def domains_caption(records: Records) -> str:
    """The caption of the figure by distance."""
    found, far = sweeps.sweep(records, "target"), numbers.domains(records)
    if found is None or far is None:
        return ""
    layer = f", layer {far.layer}" if far.layer else ""
    floor = (
        f" The floor, {significant(far.floor)}, is that of the source's training images to its "
        "test images."
        if math.isfinite(far.floor)
        else ""
    )
    source = f", {far.source}" if far.source else ""
    chance = chance_covered(found)
    return (
        "What P-T ends above RI-T, and where both end, by target, against the Fréchet distance "
        f"of the target's test images to the source's{source}, in P's features "
        f"({far.num_features:,} features{layer}; n = {far.num_images:,} images each or "
        f"more).{floor} {runs_counted(found)}. {whiskers_said(found)}"
        + (f" Those of the differences cover {chance}." if chance else "")
        + rate_said(found)
    )


_COLUMNS = (
    "P-T, test", "RI-T, test", "P-T − RI-T", "p, adj.", "P-T, training", "RI-T, training", "runs",
)  # fmt: skip


def table(records: Records) -> Table | None:
    """A row a number of training images; None: no data."""
    found = sweeps.sweep(records, "train_size")
    if found is None:
        return None
    rows = tuple(
        (f"{found.train_size[i]:,}" if found.train_size[i] else value, *_cells(found, i))
        for i, value in enumerate(found.values)
    )
    return Table(("images", *_COLUMNS), rows)


def domains_table(records: Records) -> Table | None:
    """A row a target, the nearest to the source first, and the floor; None: no data."""
    found, far = sweeps.sweep(records, "target"), numbers.domains(records)
    if found is None and far is None:
        return None
    distance = far.distance if far else {}
    names = list(dict.fromkeys([*(found.values if found else ()), *distance]))
    names.sort(key=lambda n: d if math.isfinite(d := distance.get(n, math.nan)) else math.inf)
    nothing = ("",) * len(_COLUMNS)
    rows = [
        (
            name,
            significant(distance[name]) if name in distance else NO_DATA,
            *(
                _cells(found, found.values.index(name))
                if found and name in found.values
                else nothing
            ),
        )
        for name in names
    ]
    if far:
        floor = "source (floor)"
        rows.insert(0, (floor, significant(far.floor), *nothing))
    return Table(("target", "distance", *_COLUMNS), tuple(rows))


def _cells(found: Sweep, i: int) -> tuple[str, ...]:
    runs = [found.seeds_of(kind, i) for kind in ("P-T", "RI-T")]
    return (
        *(percent(found.final_of(kind, i)) for kind in ("P-T", "RI-T")),
        points(sweeps.difference(found, i)),
        adjusted(found, i),
        *(percent(found.average_of(kind, i), error=False) for kind in ("P-T", "RI-T")),
        " + ".join(map(str, runs)),
    )


HOW = (
    "Fewer training images are drawn at random, the same for all runs, and fewer are part of "
    "more; the training is the same otherwise, so that a run on fewer images sees each of "
    "them more often. On other targets the training is that on the plain one, with a head for "
    "their classes.\n\n"
    "The distance of two domains is the Fréchet distance between normal distributions fitted "
    "to their features in P (Dowson and Landau 1982; the Fréchet inception distance of Heusel "
    "et al. 2017 is its square): d² = ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), with μ the mean "
    "and Σ the covariance of the test images' features. Few images make it too large: beside "
    "it stands a floor, the distance of the source's training images to its test images.\n\n"
    "The difference is the mean final test accuracy of P-T less that of RI-T, each at its own "
    "learning rate where several were tried; p is that of no difference, adjusted after Holm "
    "for all values of the axis. Pretraining is said to bring more at one value than at "
    "another where the intervals of their differences do not overlap, and P-T to end above "
    "RI-T where the interval is above 0; without intervals over several runs it is left open. "
    "One target is nearer than another where their distances, give or take the floor, do not "
    "overlap. "
    "The numbers of images and the distances are this study's addition."
)

FINDING = Finding(
    "in its text and Figure 3",
    "Feature reuse is very important, especially where the target resembles the source. The "
    "relative drop from P-T to RI-T on whole images is printed as 42 on real, 40 on clipart "
    "and 22 on quickdraw. This page has no numbers of the paper's about other amounts of "
    "data, or about distances between domains.",
)
