"""Every figure in one call, with settings left alone."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pytest

from tests.report.synthetic_checkpoints import pairs
from tlx.report import figures
from tlx.report.questions import PARTS

NAMES = tuple(PARTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_in_one_call(records, name):
    before = dict(mpl.rcParams)
    drawn = getattr(figures, name)(pairs() if name == "clusters" else records)
    assert dict(mpl.rcParams) == before
    assert isinstance(drawn, mpl.figure.Figure)
    assert all(axes.get_title(loc="left") for axes in drawn.axes)


def test_a_figure_reads_a_folder_and_shows_itself_in_a_notebook(records, root):
    drawn = figures.distances(root)
    assert len(drawn.axes) == len(figures.distances(records).axes)
    assert "<svg" in drawn._repr_svg_()


def test_the_figures_are_named_and_described():
    assert {*NAMES, "beside", "heat_map", "same_layers", "over_steps"} == set(dir(figures))
    assert figures.distances.__name__ == "distances"
    assert figures.distances.__doc__.startswith("The panels of distance by module")
    with pytest.raises(AttributeError, match=r"expected a figure of training, .*, got 'distance'"):
        _ = figures.distance


@pytest.mark.parametrize("name", NAMES)
def test_nothing_to_draw(name):
    with pytest.raises(ValueError, match="these records hold no data for this figure"):
        getattr(figures, name)([])


def test_several_studies_stand_side_by_side(records, root):
    drawn = figures.beside("interpolation", {"here": records, "there": root, "nothing": []})
    one = figures.interpolation(records)
    titles = [axes.get_title(loc="left") for axes in drawn.axes]
    assert len(titles) == 3 * len(one.axes)
    first = one.axes[0].get_title(loc="left")
    assert titles[:3] == [f"here: {first}", f"there: {first}", "nothing: no data"]
    across = {round(axes.get_position().x0, 3) for axes in drawn.axes[:3]}
    assert len(across) == 3
    assert len({axes.get_position().y0 for axes in drawn.axes[:2]}) == 1


def test_one_panel_of_several_studies(records):
    drawn = figures.beside("arms", {"a": records, "b": records}, panel="arms-final")
    assert len(drawn.axes) == 2
    with pytest.raises(ValueError, match=r"unknown panel of 'arms'.*arms-final"):
        figures.beside("arms", {"a": records}, panel="final")
    with pytest.raises(ValueError, match=r"unknown figure.*interpolation"):
        figures.beside("interpolate", {"a": records})
    with pytest.raises(ValueError, match="no data for this figure"):
        figures.beside("arms", {})


def test_axes_have_units(records):
    for name in ("training", "interpolation", "landscape", "permutation", "distances"):
        for axes in getattr(figures, name)(records).axes:
            assert axes.get_ylabel()


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
            "except ImportError as e: assert \"pip install '.[report]'\" in str(e), e\n"
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
