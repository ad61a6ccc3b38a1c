"""Panels about the similarity of features: by layer, on shuffled images, by training step."""

from __future__ import annotations

import numpy as np

from tlx.report import measures_similarity
from tlx.report.drawing import Panel
from tlx.report.kinds import Pair, colour, pair_colour, pair_marker, pair_name, pair_words, short
from tlx.report.measures import Records, shuffle_label
from tlx.report.measures_similarity import MOST, Layers, Trajectory
from tlx.report.panels_layers import Line, over_steps, shades, tints, trend
from tlx.report.panels_map import Map, heat_map

# The paper's four; the trend has the others too.
_NOT_SHOWN = ("P", "RI-T")


def similarity(records: Records) -> list[Panel]:
    """Returns the panels of CKA by layer (both estimators) and a heat map a kind of pair."""
    panels = []
    for estimator in ("debiased", "biased"):
        found = measures_similarity.layers(records, estimator)
        if found:
            lines = [_of_kind(kinds, value) for kinds, value in found.items()]
            panels.append(trend(estimator, f"Same layer, {estimator} CKA", lines))
    for kinds, (rows, columns, values) in measures_similarity.matrices(records).items():
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
    )


def shuffled(records: Records) -> list[Panel]:
    """Returns a panel a kind of pair: CKA by layer on whole and on shuffled images."""
    by_shuffle = measures_similarity.shuffled(records)
    if not by_shuffle:
        return []
    whole = {"none": measures_similarity.layers(records)}
    groups = {**by_shuffle, **{k: v for k, v in whole.items() if v}}
    kinds = [k for k in _kinds(groups) if any(k in v for v in by_shuffle.values())]
    return [_by_shuffle(k, {name: v[k] for name, v in groups.items() if k in v}) for k in kinds]


def _kinds(groups: dict[str, dict[Pair, Layers]]) -> list[Pair]:
    return list(dict.fromkeys(k for v in [groups.get("none", {}), *groups.values()] for k in v))


def _by_shuffle(kinds: Pair, found: dict[str, Layers]) -> Panel:
    hues = tints(pair_colour(kinds), len(found))
    lines = [
        Line(
            shuffle_label(name),
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


def trajectory(records: Records) -> list[Panel]:
    """Returns a panel a kind of run: CKA of its layers with those of P, by training step."""
    found = measures_similarity.trajectories(records)
    return [_by_step(kinds, value) for kinds, value in found.items()]


def _by_step(kinds: Pair, found: Trajectory) -> Panel:
    kind = next((k for k in kinds if k != "P"), "P")
    chosen = thinned(len(found.names))
    lines = by_layer(found, chosen, colour(kind))
    title = f"{pair_words(kinds)}, same layer"
    return over_steps(f"steps-{_slug(kinds)}", title, found.step.tolist(), lines)


def by_layer(found: Trajectory, chosen: list[int], base: str) -> list[Line]:
    """Returns a line a layer over the steps, pale for the first and dark for the last."""
    return [
        Line(short(found.names[i]), hue, (), found.value[:, i], found.low[:, i], found.high[:, i])
        for i, hue in zip(chosen, shades(base, len(chosen)), strict=True)
    ]


def thinned(number: int) -> list[int]:
    """Returns which of so many layers are drawn: MOST at equal distances, the ends included."""
    if number <= MOST:
        return list(range(number))
    return sorted({round(i) for i in np.linspace(0, number - 1, MOST)})


def _slug(kinds: Pair) -> str:
    return pair_name(kinds).replace(" / ", "-").lower()
