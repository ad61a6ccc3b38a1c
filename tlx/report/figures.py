"""Each of the page's figures in one call, for a notebook or a paper.

    from tlx.report import figures
    figures.barrier("runs/mini/records")

Each takes a study's records, or the path of their folder, and returns a matplotlib Figure,
which a notebook shows; it draws what is in the records and computes nothing but means.
pyplot and its state are not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlx.report import panels_landscape, panels_pairs, panels_training
from tlx.report.drawing import figure
from tlx.report.measures import Records, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "curves": panels_training.curves,
    "shuffle": panels_training.shuffle,
    "barrier": panels_pairs.barrier,
    "landscape": panels_landscape.landscape,
    "permutation": panels_landscape.permutation,
    "similarity": panels_pairs.similarity,
    "distances": panels_pairs.distances,
    "agreement": panels_pairs.agreement,
}


def curves(records: Records) -> Figure:
    """Returns test accuracy and loss against the training step, P-T and RI-T.

    Thin lines are runs, thick ones means, bands one binomial standard error.

    Args:
        records: records that hold "curves" of unshuffled runs, or the path of their folder.

    Raises:
        ValueError: no such record, or a path that is no folder.
        ImportError: no matplotlib; says the install command.
    """
    return _draw("curves", records)


def shuffle(records: Records) -> Figure:
    """Returns final test and average training accuracy against the block size.

    Args, Raises: as ``curves``; the records hold "curves" of shuffled runs too.
    """
    return _draw("shuffle", records)


def barrier(records: Records) -> Figure:
    """Returns accuracy and loss along the straight lines between two models.

    Args, Raises: as ``curves``; the records hold "interpolation".
    """
    return _draw("barrier", records)


def landscape(records: Records) -> Figure:
    """Returns loss and accuracy on planes through three models, and the pairs as basins.

    For a basin, how far the loss rises above its mean in the set, by noise at its border and
    by steps out of it, against their size delta.

    Args, Raises: as ``curves``; the records hold "plane" or "basin".
    """
    return _draw("landscape", records)


def permutation(records: Records) -> Figure:
    """Returns accuracy and loss between two RI-T, as trained and with their units matched.

    Args, Raises: as ``curves``; the records hold "permutation" of two RI-T.
    """
    return _draw("permutation", records)


def similarity(records: Records) -> Figure:
    """Returns CKA by layer, debiased and biased, and all layers against all, by kind of pair.

    Args, Raises: as ``curves``; the records hold "similarity".
    """
    return _draw("similarity", records)


def distances(records: Records) -> Figure:
    """Returns distances in parameter space by module, absolute and relative.

    Args, Raises: as ``curves``; the records hold "distances".
    """
    return _draw("distances", records)


def agreement(records: Records) -> Figure:
    """Returns mistakes in common and apart, in all and by class.

    Args, Raises: as ``curves``; the records hold "agreement".
    """
    return _draw("agreement", records)


def _draw(name: str, records: Records) -> Figure:
    return figure(PANELS[name](listed(records)))
