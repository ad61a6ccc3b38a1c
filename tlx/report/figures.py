"""Each of the page's figures in one call, for a notebook or a paper.

    from tlx.report import figures
    figures.barrier("runs/mini/records")

Most take a study's records, or the path of their folder, and draw what is in the records;
they compute nothing but means. ``heat_map``, ``same_layers`` and ``over_steps`` take results of
the similarity analyses as they come. Each returns a matplotlib Figure, which a notebook
shows. pyplot and its state are not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlx.report import (
    figures_of_results,
    panels_amount,
    panels_criticality,
    panels_depth,
    panels_landscape,
    panels_mistakes,
    panels_modules,
    panels_pairs,
    panels_similarity,
    panels_starts,
    panels_training,
)
from tlx.report.drawing import figure
from tlx.report.measures import Records, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "curves": panels_training.curves,
    "shuffle": panels_training.shuffle,
    "amount": panels_amount.amount,
    "domains": panels_amount.domains,
    "starts": panels_starts.starts,
    "transferability": panels_starts.transferability,
    "barrier": panels_pairs.barrier,
    "landscape": panels_landscape.landscape,
    "permutation": panels_landscape.permutation,
    "similarity": panels_similarity.similarity,
    "similarity_shuffled": panels_similarity.shuffled,
    "similarity_trajectory": panels_similarity.trajectory,
    "probes": panels_depth.probes,
    "partial_transfer": panels_depth.partial_transfer,
    "spectra": panels_depth.spectra,
    "rewinding": panels_modules.rewinding,
    "criticality": panels_criticality.criticality,
    "movement": panels_modules.movement,
    "distances": panels_pairs.distances,
    "mistakes": panels_mistakes.mistakes,
    "gallery": panels_mistakes.gallery,
}


def curves(records: Records) -> Figure:
    """Returns test accuracy and loss against the training step, P-T and RI-T.

    With a record "learning" also training accuracy; lines are kinds at learning rates, bands
    intervals over seeds, thin lines runs. Without, thick lines are means over the runs and
    bands one binomial standard error.

    Args:
        records: records that hold "learning" or "curves" of plain runs, or their folder's path.

    Raises:
        ValueError: no such record, or a path that is no folder.
        ImportError: no matplotlib; says the install command.
    """
    return _draw("curves", records)


def shuffle(records: Records) -> Figure:
    """Returns final test and average training accuracy by block size, as bars.

    Args, Raises: as ``curves``; the records hold a "sweep" of axis "shuffle".
    """
    return _draw("shuffle", records)


def amount(records: Records) -> Figure:
    """Returns final test and average training accuracy by the number of training images.

    Args, Raises: as ``curves``; the records hold "sweep" of "train_size".
    """
    return _draw("amount", records)


def domains(records: Records) -> Figure:
    """Returns what pretraining brings, and where P-T and RI-T end, by the target's distance.

    Args, Raises: as ``curves``; the records hold "sweep" of "target", and "domains".
    """
    return _draw("domains", records)


def starts(records: Records) -> Figure:
    """Returns accuracies of P-T by P's checkpoint that it starts from, and P's way to its basin.

    Args, Raises: as ``curves``; the records hold "sweep" of "init_step" or "checkpoints".
    """
    return _draw("starts", records)


def transferability(records: Records) -> Figure:
    """Returns the final accuracy of P-T against scores of P's checkpoints, a panel a score.

    Args, Raises: as ``curves``; the records hold "transferability".
    """
    return _draw("transferability", records)


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


def similarity_shuffled(records: Records) -> Figure:
    """Returns debiased CKA by layer on whole and on shuffled images, a panel a kind of pair.

    Args, Raises: as ``curves``; the records hold "similarity" of shuffled images too.
    """
    return _draw("similarity_shuffled", records)


def similarity_trajectory(records: Records) -> Figure:
    """Returns debiased CKA of the layers of a P-T, and of an RI-T, with P by training step.

    Args, Raises: as ``curves``; the records hold "similarity_trajectory".
    """
    return _draw("similarity_trajectory", records)


def probes(records: Records) -> Figure:
    """Returns how well the target's classes are read from each layer, by kind of model.

    Args, Raises: as ``curves``; the records hold "probes".
    """
    return _draw("probes", records)


def partial_transfer(records: Records) -> Figure:
    """Returns final test and average training accuracy by how many modules start from P.

    Args, Raises: as ``curves``; the records hold "curves" of such runs.
    """
    return _draw("partial_transfer", records)


def spectra(records: Records) -> Figure:
    """Returns the singular values of the layers of P, P-T and RI-T, a panel a layer.

    Args, Raises: as ``curves``; the records hold "spectra".
    """
    return _draw("spectra", records)


def rewinding(records: Records) -> Figure:
    """Returns what is lost where one module is set back to the start, or to a checkpoint.

    Args, Raises: as ``curves``; the records hold "rewinding".
    """
    return _draw("rewinding", records)


def criticality(records: Records) -> Figure:
    """Returns the error where one module is on its way back and in noise, as maps by module.

    Args, Raises: as ``curves``; the records hold "criticality".
    """
    return _draw("criticality", records)


def movement(records: Records) -> Figure:
    """Returns how far each module moved, and the cosine of two runs' movements.

    Args, Raises: as ``curves``; the records hold "movement" or "movement_alike".
    """
    return _draw("movement", records)


def distances(records: Records) -> Figure:
    """Returns distances in parameter space by module, absolute and relative.

    Args, Raises: as ``curves``; the records hold "distances".
    """
    return _draw("distances", records)


def mistakes(records: Records) -> Figure:
    """Returns mistakes in common and apart, in all and by class, and how alike and clear they are.

    Args, Raises: as ``curves``; the records hold "mistakes".
    """
    return _draw("mistakes", records)


def gallery(records: Records) -> Figure:
    """Returns images that P-T, RI-T or both get wrong, with their answers.

    Args, Raises: as ``curves``; the records hold "mistakes" of a P-T and an RI-T.
    """
    return _draw("gallery", records)


heat_map = figures_of_results.heat_map
same_layers = figures_of_results.same_layers
over_steps = figures_of_results.over_steps


def _draw(name: str, records: Records) -> Figure:
    return figure(PANELS[name](listed(records)))
