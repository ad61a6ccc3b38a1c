"""Means over runs and over pairs of runs, with intervals that cover other runs of the recipe.

Of fewer than `ENOUGH` runs of a kind a measured number keeps the interval that it was recorded
with, which covers other test images.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from tlx.analyses.function import inference
from tlx.records import Record
from tlx.report.words.numbers import Estimate, mean

ENOUGH = 3
"""Runs of each kind from which on the interval is one over them."""

HOW = (
    "Of three runs of a kind or more, the mean over the pairs is given with a 95% interval over "
    "the runs: Student's t with the variance of the jackknife, which leaves one run out with all "
    "its pairs, since pairs that share a run are not independent; P is held fixed. What is "
    "measured of runs by themselves has Student's t interval. Of fewer runs, intervals are over "
    "the test images of these runs, and say nothing about other ones."
)
"""What a section says of it."""

Run = tuple[str, str]
"""A run's kind and name."""

RunPair = tuple[Run, Run]


def said(num_pairs: Iterable[int]) -> str:
    """What a caption says of lines and bands by the numbers of pairs; "" where there are few."""
    if max(num_pairs, default=0) < ENOUGH:
        return ""
    return " Thin lines are pairs, thick ones their mean, bands 95% intervals over runs."


def of_runs(each: Sequence[Estimate]) -> Estimate:
    """The mean of what was measured of several runs."""
    known = [e for e in each if e.known]
    if len(known) < ENOUGH:
        return mean(known)
    return _estimate(inference.mean_over_seeds([e.value for e in known]), min(e.n for e in known))


def are_enough(pairs: Sequence[RunPair]) -> bool:
    """Whether the interval of their mean is one over runs."""
    runs = {run for pair in pairs for run in pair}
    kinds = Counter(kind for kind, _ in runs if kind != "P")
    return min(kinds.values(), default=0) >= ENOUGH


def of_pairs(pairs: Sequence[RunPair], each: Sequence[Estimate]) -> Estimate:
    """The mean of what was measured of several pairs of runs."""
    known = [(pair, e) for pair, e in zip(pairs, each, strict=True) if e.known]
    pairs, estimates = [pair for pair, _ in known], [e for _, e in known]
    if not are_enough(pairs):
        return mean(estimates)
    values = np.array([e.value for e in estimates])
    return _estimate(_over(pairs, values), min(e.n for e in estimates))


def band(pairs: Sequence[RunPair], values: np.ndarray) -> inference.Estimate | None:
    """The mean over pairs of [M, ...], an estimate of arrays [...]; None of too few."""
    return _over(pairs, values) if are_enough(pairs) else None


def pairs_of(group: Sequence[Record]) -> list[RunPair]:
    """The two runs of each record."""
    return [
        (
            (str(r.inputs["kind_a"]), str(r.inputs["a"])),
            (str(r.inputs["kind_b"]), str(r.inputs["b"])),
        )
        for r in group
    ]


def _over(pairs: Sequence[RunPair], values: np.ndarray) -> inference.Estimate:
    """The mean over the pairs, of which one that is there twice counts once."""
    rows: dict[frozenset[Run], list[int]] = {}
    for row, pair in enumerate(pairs):
        rows.setdefault(frozenset(pair), []).append(row)
    once = np.array([values[own].mean(0) for own in rows.values()])
    return inference.mean_over_pairs(once, [pairs[own[0]] for own in rows.values()])


def _estimate(found: inference.Estimate, n: int) -> Estimate:
    ends = (found.low, found.high)
    if not np.isfinite(ends).all():
        return Estimate(found.value, n=n)
    return Estimate(found.value, found.error, n, ends, found.degrees)
