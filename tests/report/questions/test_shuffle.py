"""The section on shuffled images: features, statistics, and the arm that has the latter alone."""

import numpy as np
import pytest

from tests.report.made import changed
from tests.report.synthetic_sweeps import shuffled, with_arm
from tlx.report import figures, summary
from tlx.report.questions import PARTS
from tlx.report.questions.shuffle import words


def test_what_is_owed_to_features_and_to_statistics():
    answer = words.answer([with_arm(shuffled(), share=0.75)])
    assert "In weights it is features: random weights" in answer.sentence
    assert "(S-T) end at 74" in answer.sentence
    assert "points are owed to features and 7.4" in answer.sentence


@pytest.mark.parametrize(
    ("half", "share", "lead"),
    [
        (0.3, 0.75, "Whether it is features in weights is too close to call"),
        (0.02, -0.75, "In weights features hurt"),
    ],
)
def test_features_are_claimed_by_the_interval_alone(half, share, lead):
    assert (
        f"{lead}: random weights" in words.answer([with_arm(shuffled(half=half), share)]).sentence
    )


def test_without_the_arm_nothing_is_said_of_it():
    made = [shuffled()]
    assert "S-T" not in words.answer(made).sentence
    assert PARTS["arms"].panels(made) == []
    assert PARTS["arms"].table(made) is None
    assert PARTS["arms"].caption(made) == ""
    assert "S-T" not in summary.headline(made).columns


def test_the_arm_has_a_figure_a_table_and_a_column():
    made = [with_arm(shuffled())]
    drawn = figures.arms(made)
    (sweep,) = made
    features, statistics = (line.get_ydata() for line in drawn.axes[0].lines if len(
        line.get_xdata()) == 7)  # fmt: skip
    np.testing.assert_allclose(features, 100 * sweep.contrast[0])
    np.testing.assert_allclose(statistics, 100 * sweep.contrast[1])
    table = PARTS["arms"].table(made)
    assert table.columns[1] == "S-T, test"
    assert len(table.rows) == 7
    drop = f"{sweep.contrast_drop[0, -1]:.1f}".replace("-", "−")
    assert table.columns[4] == "(P-T − S-T) / P-T, %"
    assert table.rows[-1][4].startswith(f"{drop} [")
    assert "whiskers are 95% intervals over runs and" in PARTS["arms"].caption(made)
    headline = summary.headline(made)
    assert headline.columns[1:] == ("P-T", "S-T", "RI-T", "paper")
    row = next(r for r in headline.rows if r[0] == "Final, 8×8 blocks shuffled")
    assert row[2] != "no data"
    assert row[-1] == "agrees"
    finest = [r[0] for r in headline.rows if r[0].startswith("Final, ")]
    assert finest == [f"Final, {b}×{b} blocks shuffled" for b in (4, 8, 16)]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((0.1, 0.2), "The advantage shrinks with shuffling: on whole images it is"),
        ((-0.1, 0.2), "Whether the advantage shrinks with shuffling is too close to call: on"),
        ((-0.2, -0.1), "The advantage grows with shuffling: on whole images it is"),
    ],
)
def test_whether_the_advantage_shrinks(ends, said):
    record = shuffled()
    given = {n: getattr(record, n).copy() for n in ("from_plain_low", "from_plain_high")}
    for values, end in zip(given.values(), ends, strict=True):
        values[0] = end
    sentence = words.answer([changed(record, **given)]).sentence
    assert said in sentence
    assert "points larger than with all pixels permuted" in sentence
    assert "with shuffling" not in words.answer([shuffled(num_seeds=1)]).sentence
