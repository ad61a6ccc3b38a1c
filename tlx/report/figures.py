"""Each of the page's figures in one call, for a notebook or a paper.

    from tlx.report import figures
    figures.barrier("runs/mini/records")

Most take a study's records, or the path of their folder, and draw what is in the records;
they compute nothing but means. ``heat_map``, ``same_layers`` and ``over_steps`` take results of
the similarity analyses as they come. Each returns a matplotlib Figure, which a notebook
shows. pyplot and its state are not used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlx.report import (
    panels_criticality,
    panels_depth,
    panels_landscape,
    panels_layers,
    panels_map,
    panels_modules,
    panels_pairs,
    panels_similarity,
    panels_training,
    results,
)
from tlx.report.drawing import WIDTH, figure
from tlx.report.kinds import colour_of_words
from tlx.report.measures import Records, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "curves": panels_training.curves,
    "shuffle": panels_training.shuffle,
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
    "agreement": panels_pairs.agreement,
}

_MAP = "#3d4a6b"  # of results that belong to no kind of model
_OTHERS = ("#3d4a6b", "#a34a6f", "#7a7a1f", "#2f7f86", "#7b5aa6", "#8a5a2b")


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


def agreement(records: Records) -> Figure:
    """Returns mistakes in common and apart, in all and by class.

    Args, Raises: as ``curves``; the records hold "agreement".
    """
    return _draw("agreement", records)


def heat_map(result: Any, title: str | None = None) -> Figure:
    """Returns the similarity of all layers of one model (down) with all of another (across).

    White is 0, the full colour 1, or the greatest value where that is more; grey is below 0;
    undefined values are hatched. Up to 12 layers have their numbers in their cells; more have
    a scale, "−" where a value is negative and "+" where it is above 1.

    Args:
        result: with layers_x, layers_y and values [Lx, Ly], as ``similarity.cka_matrix``
            returns; numpy or jax arrays.
        title: None says what the result is, where it says so itself.

    Raises:
        TypeError: another kind of result. ValueError: values of another shape.
        ImportError: no matplotlib; says the install command.
    """
    found = results.matrix(result)
    shown = panels_map.Map(found.rows, found.columns, found.values, _MAP)
    pitch = 0.28 if max(found.values.shape) <= panels_layers.MANY else 0.12
    width = _width(0.5 + 0.075 * max(map(len, found.rows)) + pitch * len(found.columns))
    name = _measure(result) if title is None else title
    return figure([panels_map.heat_map("map", name, shown, width=width)], width=width)


def same_layers(results_by_name: Mapping[str, Any], title: str | None = None) -> Figure:
    """Returns the similarity of each layer with itself in the other model, a line a result.

    The band is the result's interval, where it has a finite one.

    Args:
        results_by_name: label of the line -> result, as of ``heat_map``. "two P-T",
            "P-T and RI-T" or "P-T / P" have the colours of these kinds.
        title: None says what the results are, where they say so themselves.

    Raises:
        ValueError: no results, or one whose models have no layer of the same name.
        TypeError, ImportError: as ``heat_map``.
    """
    if not results_by_name:
        raise ValueError("expected at least one result by name, got none")
    lines = []
    for i, (label, result) in enumerate(results_by_name.items()):
        names, (value, low, high) = results.matrix(result).same_layer()
        hue = colour_of_words(label) or _OTHERS[i % len(_OTHERS)]
        marker = "o" if len(names) <= panels_layers.MANY else ""
        lines.append(panels_layers.Line(label, hue, names, value, low, high, marker=marker))
    measures = {_measure(result) for result in results_by_name.values()}
    measure = measures.pop() if len(measures) == 1 else "similarity"
    measure = measure.replace("Similarity", "similarity")
    quantity = measure if title is None else "similarity"
    name = f"Same layer, {measure}" if title is None else title
    width = _width(1.5 + 0.1 * max(len(line.names) for line in lines))
    return figure([panels_layers.trend("layers", name, lines, quantity)], width=width)


def over_steps(
    steps: Sequence[float],
    found: Any,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """Returns the similarity of the same layers by training step or checkpoint, a line a layer.

    Steps stand on a logarithmic axis that has step 0; lines go from pale, the first layer, to
    dark, the last. Of more than 6 layers, 6 at equal distances are drawn unless named.

    Args:
        steps: [K], increasing from 0 or more.
        found: a result a step, as of ``heat_map``, or an array [K, L] with ``names``.
        names: the layers to draw, in order; of an array, one a column.
        title: None: "Same layer, by step".

    Raises:
        ValueError: lengths that do not fit, steps that do not increase, an unknown layer.
        TypeError: an array without names; as ``heat_map``. ImportError: as ``heat_map``.
    """
    by_step = results.trajectory(steps, found, names)
    chosen = panels_similarity.thinned(len(by_step.names))
    if names is not None and not hasattr(found, "shape"):
        chosen = list(range(len(by_step.names)))
    lines = panels_similarity.by_layer(by_step, chosen, _MAP)
    name = "Same layer, by step" if title is None else title
    panel = panels_layers.over_steps(
        "steps", name, by_step.step.tolist(), lines, quantity="similarity"
    )
    return figure([panel])


def _width(wanted: float) -> float:
    return min(max(WIDTH, wanted), 3 * WIDTH)


def _measure(result: Any) -> str:
    """Returns what a result's values are, e.g. "CKA" or the name of its measure."""
    given = getattr(result, "measure", None)
    return str(given) if given else "CKA" if hasattr(result, "debiased") else "Similarity"


def _draw(name: str, records: Records) -> Figure:
    return figure(PANELS[name](listed(records)))
