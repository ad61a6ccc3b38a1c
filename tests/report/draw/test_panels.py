"""Panels as SVG text, and labels that do not overlap."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.report.draw import panels
from tlx.report.draw.svg import svg
from tlx.report.questions import PARTS


def test_equal_panels_give_equal_svg_and_ids_with_their_prefix(records):
    (panel, *_) = PARTS["training"].panels(records)
    one, again = svg(panel, "one"), svg(panel, "one")
    assert one == again
    assert "training step" in one
    other = svg(panel, "other")
    assert not _ids(one) & _ids(other)
    assert all(name.startswith("one-") for name in _ids(one))


def _ids(svg):
    return set(re.findall(r'\bid="([^"]+)"', svg))


@given(st.lists(st.floats(0, 1), max_size=8))
def test_labels_are_spread_apart_in_their_order(wanted):
    heights = [0.07] * len(wanted)
    placed = panels.spread(wanted, heights)
    ranked = sorted(range(len(wanted)), key=lambda i: wanted[i])
    for below, above in itertools.pairwise(ranked):
        assert placed[above] - placed[below] >= 0.07 - 1e-9


def test_labels_that_do_not_collide_stay():
    assert panels.spread([0.2, 0.8], [0.1, 0.1]) == pytest.approx([0.2, 0.8])
    assert panels.spread([0.5, 0.5], [0.1, 0.1]) == pytest.approx([0.45, 0.55])
