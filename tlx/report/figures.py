"""Each of the page's figures in one call, for a notebook or a paper.

    from tlx.report import figures
    figures.interpolation("runs/mini/records")

There is a function for each figure of the page, `NAMES`. It takes a study's records, or the path
of their folder, and draws what is in the records; it computes nothing but means. `beside` draws one
of them for several studies. `heat_map`, `same_layers` and `over_steps` take results of the
similarity analyses as they come. Each returns a matplotlib Figure, which a notebook shows. pyplot
and its state are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tlx.core.checks import unknown
from tlx.report.draw import layers, maps, results
from tlx.report.draw.panels import WIDTH, Panel, figure
from tlx.report.question import Part
from tlx.report.questions import PARTS
from tlx.report.read.selection import Source, listed
from tlx.report.words.kinds import colour_of_words
from tlx.report.words.numbers import NO_DATA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = tuple(PARTS)
"""The figures of the page, each a function of this module."""

_MAP = "#3d4a6b"  # of results that belong to no kind of model
_OTHERS = ("#3d4a6b", "#a34a6f", "#7a7a1f", "#2f7f86", "#7b5aa6", "#8a5a2b")


def __getattr__(name: str) -> Callable[[Source], Figure]:
    if name in PARTS:
        return _drawing(PARTS[name])
    raise AttributeError(
        f"expected a figure of {', '.join(NAMES)}, beside, heat_map, same_layers, over_steps, got "
        f"{name!r}"
    )


def __dir__() -> list[str]:
    return [*NAMES, "beside", "heat_map", "over_steps", "same_layers"]


def _drawing(part: Part) -> Callable[[Source], Figure]:
    """The function that draws a part of the page, described by what its panels are."""

    def draw(records: Source) -> Figure:
        return figure(part.panels(listed(records)))

    draw.__name__ = draw.__qualname__ = part.name
    draw.__doc__ = f"""{(part.panels.__doc__ or "").rstrip()}

    Args:
      records: a study's records, or the path of their folder.

    Raises:
      ValueError: they hold nothing for this figure, or the path is no folder.
      ImportError: no matplotlib; says the install command.
    """
    return draw


def beside(name: str, studies: Mapping[str, Source], panel: str | None = None) -> Figure:
    """One figure of the page for several studies, a column each.

    Args:
      name: of the figure, one of `NAMES`.
      studies: what stands over each column -> a study's records, or the path of their folder.
      panel: the name of the panel to draw, None: all of them, a row each.

    Raises:
      ValueError: an unknown figure or panel, no studies, a path that is no folder, or records that
        hold nothing for it.
      ImportError: no matplotlib; says the install command.
    """
    if name not in PARTS:
        raise ValueError(unknown("figure", name, NAMES))
    found = {study: PARTS[name].panels(listed(records)) for study, records in studies.items()}
    names = dict.fromkeys(p.name for own in found.values() for p in own)
    if panel is not None and panel not in names:
        raise ValueError(unknown(f"panel of {name!r}", panel, names))
    rows = [panel] if panel is not None else list(names)
    drawn = [_of_study(study, own, row) for row in rows for study, own in found.items()]
    return figure(drawn, columns=max(1, len(studies)))


def _of_study(study: str, panels: Sequence[Panel], name: str) -> Panel:
    """A study's panel of this name, with the study in its title; an empty one if it has none."""
    for panel in panels:
        if panel.name == name:
            title = f"{study}: {panel.title}"
            return panel._replace(name=f"{study} {name}", title=title, is_wide=False)
    return Panel(f"{study} {name}", f"{study}: {NO_DATA}", lambda axes: axes.set_axis_off())


def heat_map(result: Any, title: str | None = None) -> Figure:
    """The similarity of all layers of one model (down) with all of another (across).

    White is 0, the full colour 1, or the greatest value where that is more; grey is below 0;
    undefined values are hatched. Up to 12 layers have their numbers in their cells; more have
    a scale, "−" where a value is negative and "+" where it is above 1.

    Args:
      result: with layers_x, layers_y and values [Lx, Ly], as `features.cka_matrix`
        returns; numpy or jax arrays.
      title: None says what the result is, where it says so itself.

    Raises:
      TypeError: another kind of result. ValueError: values of another shape.
      ImportError: no matplotlib; says the install command.
    """
    found = results.matrix(result)
    shown = maps.Map(found.rows, found.columns, found.values, _MAP)
    pitch = 0.28 if max(found.values.shape) <= layers.MANY else 0.12
    width = _width(0.5 + 0.075 * max(map(len, found.rows)) + pitch * len(found.columns))
    name = _measure(result) if title is None else title
    return figure([maps.heat_map("map", name, shown, width=width)], width=width)


def same_layers(results_by_name: Mapping[str, Any], title: str | None = None) -> Figure:
    """The similarity of each layer with itself in the other model, a line a result.

    The band is the result's interval, where it has a finite one.

    Args:
      results_by_name: label of the line -> result, as of `heat_map`. "two P-T",
        "P-T and RI-T" or "P-T / P" have the colours of these kinds.
      title: None says what the results are, where they say so themselves.

    Raises:
      ValueError: no results, or one whose models have no layer of the same name.
      TypeError, ImportError: as `heat_map`.
    """
    if not results_by_name:
        raise ValueError("expected at least one result by name, got none")
    lines = []
    for i, (label, result) in enumerate(results_by_name.items()):
        names, (value, low, high) = results.matrix(result).same_layer()
        hue = colour_of_words(label) or _OTHERS[i % len(_OTHERS)]
        marker = "o" if len(names) <= layers.MANY else ""
        lines.append(layers.Line(label, hue, names, value, low, high, marker=marker))
    measures = {_measure(result) for result in results_by_name.values()}
    measure = measures.pop() if len(measures) == 1 else "similarity"
    measure = measure.replace("Similarity", "similarity")
    quantity = measure if title is None else "similarity"
    name = f"Same layer, {measure}" if title is None else title
    width = _width(1.5 + 0.1 * max(len(line.names) for line in lines))
    return figure([layers.trend("layers", name, lines, quantity)], width=width)


def over_steps(
    steps: Sequence[float],
    found: Any,
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
) -> Figure:
    """The similarity of the same layers by training step or checkpoint, a line a layer.

    Steps stand on a logarithmic axis that has step 0; lines go from pale, the first layer, to
    dark, the last. Of more than 6 layers, 6 at equal distances are drawn unless named.

    Args:
      steps: [K], increasing from 0 or more.
      found: a result a step, as of `heat_map`, or an array [K, L] with `names`.
      names: the layers to draw, in order; of an array, one a column.
      title: None: "Same layer, by step".

    Raises:
      ValueError: lengths that do not fit, steps that do not increase, an unknown layer.
      TypeError: an array without names; as `heat_map`. ImportError: as `heat_map`.
    """
    by_step = results.trajectory(steps, found, names)
    chosen = layers.thinned(len(by_step.names))
    if names is not None and not hasattr(found, "shape"):
        chosen = list(range(len(by_step.names)))
    lines = layers.by_layer(by_step, chosen, _MAP)
    name = "Same layer, by step" if title is None else title
    panel = layers.over_steps("steps", name, by_step.step.tolist(), lines, quantity="similarity")
    return figure([panel])


def _width(wanted: float) -> float:
    return min(max(WIDTH, wanted), 3 * WIDTH)


def _measure(result: Any) -> str:
    """What a result's values are, e.g. "CKA" or the name of its measure."""
    given = getattr(result, "measure", None)
    return str(given) if given else "CKA" if hasattr(result, "debiased") else "Similarity"
