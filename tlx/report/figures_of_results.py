"""Figures of results of the similarity analyses as they come, in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlx.report import panels_layers, panels_map, panels_similarity, results
from tlx.report.drawing import WIDTH, figure
from tlx.report.kinds import colour_of_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAP = "#3d4a6b"  # of results that belong to no kind of model
_OTHERS = ("#3d4a6b", "#a34a6f", "#7a7a1f", "#2f7f86", "#7b5aa6", "#8a5a2b")


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
