"""The barriers between all runs of a kind as a matrix, and the clusters that share a basin."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from tlx.report.draw.maps import Map, heat_map
from tlx.report.draw.panels import Panel
from tlx.report.questions.interpolation import numbers
from tlx.report.read.selection import Records
from tlx.report.words.kinds import ON_TARGET, colour, pair
from tlx.report.words.sentences import listed
from tlx.report.words.table import Table
from tlx.report.words.verdicts import ACCURACY_TOLERANCE


class Clusters(NamedTuple):
    """The runs of a kind.

    Attributes:
      runs: [R] names, cluster by cluster, the largest first.
      barrier: [R, R] accuracy barriers, fractions; 0 of a run with itself, NaN where not measured.
      sizes: of the clusters: runs that a chain of barriers within the tolerance connects.
    """

    runs: list[str]
    barrier: np.ndarray
    sizes: list[int]


def clusters(records: Records) -> dict[str, Clusters]:
    """By kind of run; of kinds with three runs or more."""
    found = {}
    for kind in ON_TARGET:
        heights = numbers.heights(records, pair(kind, kind))
        runs = sorted({run for ends in heights for run in ends})
        if len(runs) > 2:
            found[kind] = _clusters(runs, heights)
    return found


def _clusters(runs: list[str], heights: dict[tuple[str, str], float]) -> Clusters:
    barrier = np.full((len(runs), len(runs)), np.nan)
    np.fill_diagonal(barrier, 0.0)
    for (a, b), height in heights.items():
        i, j = runs.index(a), runs.index(b)
        barrier[i, j] = barrier[j, i] = height
    label = np.arange(len(runs))
    for i, j in np.argwhere(barrier <= ACCURACY_TOLERANCE):
        label[label == label[j]] = label[i]
    found = label.tolist()
    sizes = Counter(found)
    order = sorted(range(len(runs)), key=lambda i: (-sizes[found[i]], found[i], i))
    ranked = sorted(sizes.values(), reverse=True)
    return Clusters([runs[i] for i in order], barrier[np.ix_(order, order)], ranked)


def panels(records: Records) -> list[Panel]:
    """A map of the accuracy barriers for each kind."""
    return [
        heat_map(
            f"clusters-{kind.lower()}",
            f"Accuracy barrier between two {kind}",
            Map(own.runs, own.runs, own.barrier, colour(kind)),
        )
        for kind, own in clusters(records).items()
    ]


def caption(records: Records) -> str:
    """The caption of the maps."""
    del records
    return (
        "The accuracy barrier between each two runs of a kind: white is 0, the full colour all "
        f"accuracy. Runs that barriers of at most {100 * ACCURACY_TOLERANCE:g} points connect "
        "stand together. That fine-tuned models share one basin is not so for all tasks (Juneja et "
        "al. 2022, arXiv 2205.12411, found several)."
    )


def table(records: Records) -> Table | None:
    """A row a kind: how many clusters, and how large; None: no data."""
    rows = tuple(
        (kind, str(len(own.runs)), str(len(own.sizes)), listed([str(n) for n in own.sizes]))
        for kind, own in clusters(records).items()
    )
    return Table(("", "runs", "clusters", "runs in each"), rows) if rows else None
