"""The section on copies of a run that part at a step."""

import numpy as np
import pytest

from tests.report.made import changed
from tests.report.synthetic_instability import HEIGHTS, every, instability
from tlx.report import figures
from tlx.report.question import NOTHING
from tlx.report.questions import PARTS
from tlx.report.questions.instability import numbers, words
from tlx.report.words.verdicts import AGREES, DIFFERS


def test_from_which_step_on_copies_share_a_basin():
    answer = words.answer(every())
    assert answer.short == (
        "Two copies of P-T share a basin from the start; two copies of RI-T share a basin from "
        "step 100 on, but not from step 10."
    )
    assert (
        "Copies of RI-T that part at step 0 are 60.2 [60.0, 60.4] points of accuracy apart on "
        in (answer.sentence)
    )
    assert "30.10 [29.98, 30.22] with their units in one order" in answer.sentence
    assert [check.verdict for check in answer.checks] == [AGREES, AGREES]


def test_what_the_paper_has_of_one_start():
    answer = words.answer([instability("P-T", heights=HEIGHTS["RI-T"])])
    assert answer.verdict == DIFFERS
    assert answer.short.startswith("Unlike in the paper, two copies of P-T share a basin from")


@pytest.mark.parametrize(
    ("heights", "half", "said"),
    [
        ((0.6, 0.3, 0.2), 0.005, "do not share a basin even where they part at step 100"),
        ((0.6, 0.3, 0.01), 0.05, "may or may not share a basin even where they part at step 100"),
        ((0.6, 0.0, 0.0), 0.005, "share a basin from step 10 on, but not from step 0"),
        ((0.6, 0.0, 0.3), 0.005, "do not share a basin even where they part at step 100"),
        ((0.0, 0.0, 0.0), 0.005, "share a basin from the start"),
    ],
)
def test_claims_are_made_by_intervals(heights, half, said):
    answer = words.answer([instability("RI-T", heights=heights, half=half)])
    assert said in answer.short


def test_one_run_has_its_interval_over_images_and_three_over_runs():
    (one,) = numbers.partings([instability("P-T")]).values()
    assert one.mean["accuracy_barrier"][0].interval == pytest.approx((-0.004, 0.006))
    three = numbers.partings(every())["P-T"].mean["accuracy_barrier"][0]
    half = 4.302653 * 0.001 / np.sqrt(3)
    assert three.interval == pytest.approx((0.002 - half, 0.002 + half))


def test_figure_table_and_caption():
    made = every()
    drawn = figures.instability(made)
    assert len(drawn.axes) == 4
    assert len(drawn.axes[0].lines) == 2 * (2 + 3)  # plain and aligned, and three runs
    table = PARTS["instability"].table(made)
    assert [row[:3] for row in table.rows] == [
        ("P-T", "0", "yes"), ("P-T", "10", "yes"), ("P-T", "100", "yes"),
        ("RI-T", "0", "no"), ("RI-T", "10", "no"), ("RI-T", "100", "yes"),
    ]  # fmt: skip
    caption = PARTS["instability"].caption(made)
    assert caption.startswith("Three P-T runs and three RI-T runs, each with copies")
    assert "bands 95% intervals over runs" in caption
    assert "intervals over test images" in PARTS["instability"].caption([instability("P-T")])


def test_without_copies_there_is_nothing():
    assert words.answer([]) is NOTHING
    assert PARTS["instability"].panels([]) == []
    assert PARTS["instability"].table([]) is None


def test_copies_that_part_by_noise_are_said_to_and_held_against_nothing():
    made = [changed(record, noise=0.01) for record in every()]
    caption = PARTS["instability"].caption(made)
    assert "have noise of 1% of each tensor's root mean square added there" in caption
    assert "another order" not in caption
    assert words.answer(every()).checks
    assert not words.answer(made).checks
    mixed = [*made, instability("RI-T", 4)]
    assert numbers.partings(mixed)["RI-T"].num_runs == 3
