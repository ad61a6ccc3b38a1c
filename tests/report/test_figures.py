"""Every figure in one call, with labels that do not overlap and settings left alone."""

import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.report import figures
from tlx.report.draw import panels
from tlx.report.draw.svg import svg
from tlx.report.questions import PARTS

NAMES = tuple(PARTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_in_one_call(records, root, name):
    before = dict(mpl.rcParams)
    drawn = getattr(figures, name)(records)
    assert dict(mpl.rcParams) == before
    assert isinstance(drawn, mpl.figure.Figure)
    assert all(axes.get_title(loc="left") for axes in drawn.axes)
    assert "<svg" in drawn._repr_svg_()
    assert len(getattr(figures, name)(root).axes) == len(drawn.axes)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_draw(name):
    with pytest.raises(ValueError, match="these records hold no data for this figure"):
        getattr(figures, name)([])


def test_axes_have_units(records):
    for name in ("training", "interpolation", "landscape", "permutation", "distances"):
        for axes in getattr(figures, name)(records).axes:
            assert axes.get_ylabel()


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


@pytest.mark.parametrize(
    ("blocked", "code"),
    [
        pytest.param(
            "jax flax matplotlib",
            "import tlx.report.summary as s; s.text(sys.argv[1])",
            id="summary needs neither jax nor matplotlib",
        ),
        pytest.param(
            "matplotlib",
            "import tlx.report.page, tlx.report.figures as f\n"
            "try: f.interpolation(sys.argv[1])\n"
            "except ImportError as e: assert \"pip install 'tlx[report]'\" in str(e), e\n"
            "else: raise SystemExit('no error')",
            id="without matplotlib it says the command",
        ),
    ],
)
def test_imports(root, blocked, code):
    start = f"import sys; sys.modules.update(dict.fromkeys({blocked.split()!r}))\n"
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    command = [sys.executable, "-c", start + code, str(root)]
    subprocess.run(command, check=True, env=env, timeout=120)
