"""The section on lines between models: its parts on checkpoints and on clusters of runs."""

import numpy as np
import pytest

from tests.report.synthetic_checkpoints import every, interpolation, line, pairs
from tlx.report import figures
from tlx.report.questions import PARTS
from tlx.report.questions.interpolation import checkpoints, clusters


def test_lines_between_checkpoints_are_means_over_runs():
    found = checkpoints.lines(every())
    assert list(found) == ["start / last", "best / last", "best / best"]
    assert list(found["start / last"]) == ["P-T", "RI-T"]
    own = found["start / last"]["P-T"]
    assert own.accuracy.shape == (3, 5)
    assert own.ends[1].value == pytest.approx(0.91)
    half = 4.302653 * 0.01 / np.sqrt(3)
    assert own.ends[1].interval == pytest.approx((0.91 - half, 0.91 + half))
    assert own.highest.value == pytest.approx(0.93)
    between = found["best / best"]["RI-T"]
    assert between.accuracy_barrier.value == pytest.approx(0.6)
    assert between.loss_barrier.value == pytest.approx(1.2)


def test_one_line_keeps_its_interval_over_images():
    (own,) = checkpoints.lines([every()[0]])["start / last"].values()
    assert own.loss_barrier.interval is not None
    assert "thin lines" not in PARTS["checkpoint_interpolation"].caption([every()[0]])


def test_the_figure_and_the_table_of_checkpoints():
    made = every()
    drawn = figures.checkpoint_interpolation(made)
    assert len(drawn.axes) == 3
    assert len(drawn.axes[0].lines) == 2 * (3 + 1)
    table = PARTS["checkpoint_interpolation"].table(made)
    assert len(table.rows) == 6
    assert table.rows[0][:3] == ("start / last", "P-T", "3")
    assert "thin lines" in PARTS["checkpoint_interpolation"].caption(made)


@pytest.mark.parametrize(
    ("apart", "sizes", "first"),
    [((), [5], "P-T 1"), (("P-T 1", "P-T 3"), [3, 2], "P-T 2"), (("P-T 2",), [4, 1], "P-T 1")],
)
def test_clusters_of_runs(apart, sizes, first):
    found = clusters.clusters(pairs(apart))["P-T"]
    assert found.sizes == sizes
    assert found.runs[0] == first
    assert sorted(found.runs) == [f"P-T {i}" for i in range(1, 6)]
    np.testing.assert_array_equal(found.barrier, found.barrier.T)
    assert (np.diag(found.barrier) == 0).all()
    assert (found.barrier[: sizes[0], : sizes[0]] < 0.02).all()
    table = PARTS["clusters"].table(pairs(apart))
    assert table.rows[0][2] == str(len(sizes))


def test_a_chain_of_small_barriers_connects_and_a_missing_pair_does_not():
    made = [
        interpolation("a", "b", 0.0),
        interpolation("b", "c", 0.0),
        interpolation("a", "c", 0.5),
    ]
    assert clusters.clusters(made)["P-T"].sizes == [3]
    found = clusters.clusters([interpolation("a", "b", 0.0), interpolation("c", "d", 0.0)])["P-T"]
    assert found.sizes == [2, 2]
    assert np.isnan(found.barrier[0, 2])
    assert len(figures.clusters(made).axes) == 1


def test_two_groups_that_a_barrier_connects_late_are_one():
    made = [interpolation(*ends, 0.0) for ends in ("ab", "ad", "cd")]
    made += [interpolation(*ends, 0.5) for ends in ("ac", "bc", "bd")]
    assert clusters.clusters(made)["P-T"].sizes == [4]


def test_two_runs_are_no_clusters():
    made = [interpolation("a", "b", 0.0)]
    assert clusters.clusters(made) == {}
    assert PARTS["clusters"].table(made) is None
    assert (
        PARTS["checkpoint_interpolation"].table([line("other", "P-T 1", "P-T 1", [0.5] * 5)])
        is None
    )
