"""Panels of similarity: by layer, on shuffled images, by training step."""

from tlx.report.draw.layers import Line, Steps, by_layer, over_steps, thinned, trend
from tlx.report.draw.look import tints
from tlx.report.draw.maps import Map, heat_map
from tlx.report.draw.panels import Panel
from tlx.report.questions.similarity import numbers
from tlx.report.questions.similarity.numbers import BySteps, Layers
from tlx.report.read.over_runs import ENOUGH
from tlx.report.read.selection import Records
from tlx.report.words.kinds import Pair, colour, pair_colour, pair_marker, pair_name, pair_words
from tlx.report.words.shuffles import label

# The paper's four; the trend has the others too.
_NOT_SHOWN = ("P", "RI-T")


def similarity(records: Records) -> list[Panel]:
    """The panels of CKA by layer (both estimators) and a heat map a kind of pair."""
    panels = []
    for estimator in ("debiased", "biased"):
        found = numbers.layers(records, estimator)
        if found:
            lines = [_of_kind(kinds, value) for kinds, value in found.items()]
            panels.append(trend(estimator, f"Same layer, {estimator} CKA", lines))
    for kinds, (rows, columns, values) in numbers.matrices(records).items():
        if kinds != _NOT_SHOWN:
            shown = Map(rows, columns, values, pair_colour(kinds))
            name = f"map-{_slug(kinds)}"
            panels.append(heat_map(name, f"{pair_name(kinds)}, all layers", shown))
    return panels


def _of_kind(kinds: Pair, found: Layers) -> Line:
    banded = found.is_interval or found.num_pairs > 1
    above = found.chance > 0  # chance is drawn for the biased estimator, where it is recorded
    return Line(
        pair_name(kinds),
        pair_colour(kinds),
        found.names,
        found.value,
        found.low if banded else None,
        found.high if banded else None,
        marker=pair_marker(kinds),
        level=found.chance if above.any() else None,
        each=found.each if found.num_pairs >= ENOUGH else None,
    )


def similarity_shuffled(records: Records) -> list[Panel]:
    """A panel a kind of pair: CKA by layer on whole and on shuffled images."""
    by_shuffle = numbers.shuffled(records)
    if not by_shuffle:
        return []
    whole = {"none": numbers.layers(records)}
    groups = {**by_shuffle, **{k: v for k, v in whole.items() if v}}
    kinds = [k for k in _kinds(groups) if any(k in v for v in by_shuffle.values())]
    return [_by_shuffle(k, {name: v[k] for name, v in groups.items() if k in v}) for k in kinds]


def _kinds(groups: dict[str, dict[Pair, Layers]]) -> list[Pair]:
    return list(dict.fromkeys(k for v in [groups.get("none", {}), *groups.values()] for k in v))


def _by_shuffle(kinds: Pair, found: dict[str, Layers]) -> Panel:
    hues = tints(pair_colour(kinds), len(found))
    lines = [
        Line(
            label(name),
            hue,
            value.names,
            value.value,
            value.low if value.is_interval else None,
            value.high if value.is_interval else None,
            marker=pair_marker(kinds) if name == "none" else "",
            dashes="-" if name == "none" else (0, (4, 1.5)),
        )
        for (name, value), hue in zip(found.items(), hues, strict=True)
    ]
    return trend(f"shuffled-{_slug(kinds)}", f"{pair_name(kinds)}, by block size", lines)


def similarity_by_step(records: Records) -> list[Panel]:
    """A panel a kind of run: CKA of its layers with those of P, by training step."""
    found = numbers.by_step(records)
    return [_by_step(kinds, value) for kinds, value in found.items()]


def _by_step(kinds: Pair, found: BySteps) -> Panel:
    kind = next((k for k in kinds if k != "P"), "P")
    chosen = thinned(len(found.names))
    values = Steps(found.names, found.step, found.value, found.low, found.high)
    lines = by_layer(values, chosen, colour(kind))
    title = f"{pair_words(kinds)}, same layer"
    return over_steps(f"steps-{_slug(kinds)}", title, found.step.tolist(), lines)


def _slug(kinds: Pair) -> str:
    return pair_name(kinds).replace(" / ", "-").lower()
