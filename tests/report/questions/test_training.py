"""Runs taken together and by shuffle: what the records say, and no more than that."""

import itertools

import numpy as np
import pytest

from tests.report.made import changed
from tests.report.synthetic import curve
from tests.report.synthetic_sweeps import PAPERS, learning, shuffled, with_arm
from tlx.report import figures, page, summary
from tlx.report.questions import PARTS
from tlx.report.questions.shuffle import words as shuffle_words
from tlx.report.questions.training import numbers
from tlx.report.questions.training import words as training_words
from tlx.report.read import sweeps
from tlx.report.words.verdicts import AGREES, DIFFERS, NO_INTERVAL, OPEN

RUNS = [curve(kind, "none", r) for kind in ("P-T", "RI-T") for r in (0, 1)]
NAN = float("nan")


def test_a_sweep_is_read_at_the_chosen_rate():
    record = shuffled()
    found = sweeps.sweep([record], "shuffle")
    results = record.results
    assert found.values[0] == "pixel"
    assert found.values[-1] == "none"
    value = found.final_of("RI-T", 2)
    assert value.value == pytest.approx(results.final[1, 2, 0].mean())
    assert value.interval == (results.final_low[1, 2], results.final_high[1, 2])
    assert value.n == 1_397
    assert found.difference_of(2).value == results.difference[2]
    assert found.drop_of(2).interval == (results.drop_low[2], results.drop_high[2])
    assert found.speed_of(2).interval == (results.speed_low[2], results.speed_high[2])
    assert (found.rate_of("P-T", 2), found.seeds_of("P-T", 2)) == (0.05, 3)
    assert not found.final_of("P", 2).known
    assert sweeps.sweep([record], "target") is None
    assert numbers.mean_curves([record]) is None


def test_the_plain_target_is_taken_from_the_sweep_where_it_has_it():
    record = shuffled()
    found = numbers.plain([record, *RUNS])
    assert found.final["P-T"].value == record.results.final_mean[0, -1]
    assert found.ends_higher == found.learns_faster == AGREES
    without = numbers.plain([shuffled(("pixel", "block:1")), *RUNS])
    assert without.final["P-T"].interval is None
    assert without.final["P-T"].value == pytest.approx(0.965, abs=0.005)


@pytest.mark.parametrize(
    ("wider", "swap", "verdict"),
    [(0.0, False, AGREES), (0.0, True, DIFFERS), (0.05, False, OPEN)],
    ids=["apart", "the other way", "wide intervals"],
)
def test_without_a_sweep_intervals_over_seeds_decide(wider, swap, verdict):
    made = learning(rates=(0.05,), swap=swap)
    ends = {"final_low": made.results.final_low - wider}
    ends |= {"final_high": made.results.final_high + wider}
    made = changed(made, **ends)
    answer = training_words.answer([made, *RUNS])
    assert answer.verdict == verdict
    assert "above the step chosen on validation images." in answer.sentence


def test_one_run_a_kind_is_never_as_in_the_paper():
    answer = shuffle_words.answer([shuffled(num_seeds=1)])
    assert {c.verdict for c in answer.checks} == {NO_INTERVAL}
    assert answer.sentence.startswith("Whether what survives shuffling helps is open")
    assert "(no interval over several runs)" in answer.sentence
    assert "P-T learns measurably faster at 0 of 7 settings." in answer.sentence
    assert "Of one run a bar has no interval" in PARTS["shuffle"].caption([shuffled(num_seeds=1)])


def test_an_interval_with_0_in_it_leaves_the_claim_open():
    wide = shuffle_words.answer([shuffled(half=0.2)])
    assert [c.verdict for c in wide.checks] == [OPEN, AGREES]
    other = shuffle_words.answer([shuffled(swap=True)])
    assert other.verdict == DIFFERS
    assert other.sentence.startswith("Unlike in the paper, ")


def test_an_undefined_drop_is_a_dash():
    record = shuffled()
    gone = {n: getattr(record, n).copy() for n in ("drop", "drop_low", "drop_high")}
    for values in gone.values():
        values[0] = NAN
    made = changed(record, **gone)
    table = PARTS["shuffle"].table([made])
    assert table.rows[0][table.columns.index("drop, %")] == "–"
    texts = [t.get_text() for t in figures.shuffle([made]).axes[0].texts]
    assert texts.count("–") == 1


def test_whole_images_alone_and_old_runs_are_no_figure():
    assert PARTS["shuffle"].panels([shuffled(("none",))]) == []
    old = [curve(kind, "block:4", 0) for kind in ("P-T", "RI-T")]
    assert PARTS["shuffle"].panels(old) == []
    assert PARTS["shuffle"].table(old) is None


def test_many_ways_of_shuffling_fill_the_page_and_do_not_overlap():
    panels = PARTS["shuffle"].panels([shuffled(PAPERS)])
    assert all(panel.is_wide for panel in panels)
    drawn = figures.shuffle([shuffled(PAPERS)])
    drawn.canvas.draw()
    for axes in drawn.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(boxes) == len(PAPERS) == 19
        assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(boxes))
    assert not any(p.is_wide for p in PARTS["shuffle"].panels([shuffled()]))
    assert "wide" in page.render([shuffled(PAPERS)])


def test_curves_have_a_line_a_kind_and_rate_and_say_how_steps_were_chosen():
    axes = figures.training([learning(), *RUNS]).axes
    assert len(axes) == 3
    labels = {t.get_text().split(":")[0] for t in axes[0].texts}
    assert labels == {"P-T 0.05", "P-T 0.1", "RI-T 0.05", "RI-T 0.1"}
    caption = PARTS["training"].caption([learning(), *RUNS])
    assert "95% t intervals of the mean over seeds" in caption
    assert "100 validation images" in caption
    assert len(PARTS["training"].table([learning()]).rows) == 4


def test_one_run_has_no_band_and_no_validation_no_diamond():
    made = learning(rates=(0.1,), num_seeds=1, num_valid=0)
    drawn = figures.training([made])
    assert all("(no band: one run)" in axes.get_xlabel() for axes in drawn.axes)
    assert not any(line.get_marker() == "D" for line in drawn.axes[0].lines)
    assert "no validation images" in PARTS["training"].caption([made])
    assert "optimism, points" not in PARTS["training"].table([made]).columns
    assert np.isnan(numbers.mean_curves([made]).selected).all()


def test_of_one_run_each_the_answer_says_so():
    said = "With one run of each it holds for other test images, and says nothing of other runs."
    alone = learning(rates=(0.05,), num_seeds=1)
    assert said in training_words.answer([alone, shuffled(num_seeds=1)]).sentence
    several = learning(rates=(0.05,))
    assert said not in training_words.answer([several, shuffled()]).sentence


def test_the_interval_of_a_share_ends_at_all_images():
    record = shuffled()
    made = changed(record, final_high=np.full((2, len(record.values)), 1.3))
    found = sweeps.sweep([made], "shuffle")
    assert found.final_of("P-T", 0).interval[1] == 1
    assert found.final_of("P-T", 0).interval[0] == record.results.final_low[0, 0]


def test_where_runs_from_the_mean_of_the_fine_tuned_ones_end():
    made = [with_arm(shuffled(), share=-0.1, arm="C-T"), *RUNS]
    sentence = training_words.answer(made).sentence
    assert "from the mean of all P-T, one start for all C-T, it ends at 99" in sentence
    assert sentence.endswith("3.0 [2.8, 3.2] points above P-T.")
    assert "C-T" not in training_words.answer([shuffled(), *RUNS]).sentence
    assert "C-T" not in summary.headline(made).columns
