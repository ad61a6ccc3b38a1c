"""The section about where to start from, and what is missing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report import synthetic_starts as made
from tests.report.made import changed
from tests.report.synthetic import curve
from tlx.report import figures
from tlx.report.questions import PARTS, QUESTIONS
from tlx.report.questions.starts import figure, numbers, words
from tlx.report.read import sweeps
from tlx.report.section import make, render
from tlx.report.words.numbers import UNKNOWN, Estimate
from tlx.report.words.verdicts import AGREES, DIFFERS, NO_INTERVAL, OPEN

BASIN = "early checkpoints lie outside the last one's basin, later ones in it"


def without_numbers(record):
    numbers = {
        name: np.full(np.shape(value), np.nan)
        for name, value in record.results._asdict().items()
        if np.asarray(value).dtype.kind == "f"
    }
    return changed(record, **numbers)


def verdicts_of(*records, name="starts"):
    return [check.verdict for check in QUESTIONS[name].answer(records).checks]


def test_the_answer_about_starts():
    answer = QUESTIONS["starts"].answer(made.starts_records())
    ends = (
        "From step 64 on, no checkpoint of P is measurably worse to start from than the last "
        "(step 600): P-T ends at 96.4 [95.6, 97.2]% from it and at 96.5 [95.7, 97.3]% from the "
        "last, a difference of 0.1 [−0.7, 0.9] points."
    )
    assert answer.short == ends
    assert answer.sentence == (
        f"{ends} Training from the one before the last is still measurably slower. P enters the "
        "basin of its last checkpoint between steps 16 and 150: up to step 16 a barrier of the "
        "error stands between them, from step 150 on none. Of four scores that need no "
        "fine-tuning, LogME has the highest measured weighted τ with what fine-tuning gave: 0.97 "
        "(adjusted p <0.001)."
    )
    assert [tuple(c) for c in answer.checks] == [
        ("a checkpoint before the last is as good a start, to within a point", AGREES),
        (BASIN, AGREES),
    ]


@pytest.mark.parametrize(
    ("ends", "verdict", "lead"),
    [
        pytest.param(np.linspace(0.7, 0.9, 8), DIFFERS, "Unlike in the paper, only", id="rises"),
        pytest.param(np.full(8, 0.9), OPEN, "No checkpoint of P, not even the first", id="flat"),
        pytest.param(np.linspace(0.9, 0.7, 8), OPEN, "No checkpoint of P, not even", id="falls"),
        pytest.param(
            np.array([0.7, 0.9, 0.7, 0.9, 0.9, 0.9, 0.9, 0.9]), AGREES, "From step 16 on", id="dip"
        ),
    ],
)
def test_a_plateau_is_called_one_only_where_the_runs_tell_an_earlier_start_from_it(
    ends, verdict, lead
):
    record = made.starts(ends=ends)
    assert verdicts_of(record) == [verdict]
    assert QUESTIONS["starts"].answer([record]).sentence.startswith(lead)


def test_starts_with_one_run_each_have_no_verdict_and_no_interval():
    record = made.starts(num_seeds=1)
    assert verdicts_of(record) == [NO_INTERVAL]
    answer = QUESTIONS["starts"].answer([record])
    assert answer.sentence == (
        "From the last checkpoint of P (step 600) P-T ends at 96.5%, from that of step 0 at "
        "91.5%. Without intervals over several runs of each, none can be called as good as the "
        "last."
    )
    table = PARTS["starts"].table([record])
    assert "[" not in table.text()
    assert table.rows[0] == ("0", "91.5%", "5.0", "", "70.0%", "1")
    assert "No intervals: one run each." in PARTS["starts"].caption([record])
    assert "ring" not in PARTS["starts"].caption([record])


def test_only_one_checkpoint():
    record = made.starts(steps=(600,), ends=np.array([0.9]), speeds=np.array([0.8]))
    assert verdicts_of(record) == [""]
    assert QUESTIONS["starts"].answer([record]).sentence == (
        "From the last checkpoint of P (step 600) P-T ends at 90.0 [89.2, 90.8]%; no other "
        "checkpoint was tried."
    )
    assert len(figures.starts([record]).axes) == 2


@pytest.mark.parametrize(
    ("half", "verdict"), [(0.008, AGREES), (0.02, OPEN), (1e-9, AGREES), (np.nan, NO_INTERVAL)]
)
def test_as_good_needs_an_interval_within_a_point(half, verdict):
    ends = np.array([0.7, 0.7, 0.7, 0.7, 0.9, 0.9, 0.9, 0.9])
    record = made.starts(ends=ends, half=half)
    assert verdicts_of(record) == [verdict]


def test_a_start_that_is_a_little_worse_is_not_against_the_paper():
    record = made.starts(ends=np.linspace(0.87, 0.9, 8), half=0.001)
    assert verdicts_of(record) == [OPEN]
    assert (
        QUESTIONS["starts"]
        .answer([record])
        .sentence.startswith(
            "The checkpoint of P before the last is measurably worse to start from than the last "
            "(step 600): from the last P-T ends at 90.00 [89.90, 90.10]%, from the one before it"
        )
    )


@pytest.mark.parametrize(
    ("speeds", "said"),
    [
        (
            np.linspace(0.7, 0.9, 8),
            "Training from the one before the last is still measurably slower.",
        ),
        (
            np.full(8, 0.9),
            "None of them trains measurably slower.",
        ),
        (
            0.9 - 0.2 * (np.arange(8) < 4),
            "From step 64 on, none trains measurably slower.",
        ),
        (
            0.9 - 0.2 * (np.arange(8) < 6),
            "From step 300 on, none trains measurably slower.",
        ),
    ],
)
def test_speed_and_final_accuracy(speeds, said):
    assert said in QUESTIONS["starts"].answer([made.starts(speeds=speeds)]).sentence


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ("no yes", AGREES),
        ("no open yes", AGREES),
        ("no open open yes yes", AGREES),
        ("no no", DIFFERS),
        ("yes yes", DIFFERS),
        ("yes open", DIFFERS),
        ("yes no", DIFFERS),
        ("no yes no yes", DIFFERS),
        ("open open", OPEN),
        ("no open", OPEN),
        ("open yes", OPEN),
        ("open no yes", OPEN),
        ("no yes open", OPEN),
        ("no", ""),
        ("", ""),
    ],
)
def test_entering_the_basin(verdicts, expected):
    assert words.enters(verdicts.split()) == expected


@given(st.lists(st.sampled_from(["yes", "no", "open"]), min_size=2, max_size=7))
def test_whether_p_enters_the_basin_is_what_all_ways_to_decide_the_open_ones_allow(verdicts):
    def way(decided):
        first = decided.index("yes") if "yes" in decided else len(decided)
        return 0 < first < len(decided) and "no" not in decided[first:]

    ways = [[]]
    for verdict in verdicts:
        either = ("yes", "no") if verdict == "open" else (verdict,)
        ways = [[*own, choice] for own in ways for choice in either]
    possible = any(map(way, ways))
    found = words.enters(verdicts)
    assert (found == DIFFERS) == (not possible)
    if all(map(way, ways)):
        assert found == AGREES


@pytest.mark.parametrize(
    ("verdicts", "said"),
    [
        (
            ("yes",) * 8,
            "Unlike in the paper, P is in the basin of its last checkpoint from its first one on "
            "(in it: step 0, 1, 4, 16, 64, 150, 300).",
        ),
        (
            ("no",) * 7 + ("yes",),
            "Unlike in the paper, P is not in the basin of its last checkpoint before the last "
            "itself (outside it: step 0, 1, 4, 16, 64, 150, 300).",
        ),
        (
            ("yes",) * 4 + ("no",) * 3 + ("yes",),
            "Unlike in the paper, P is in the basin of its last checkpoint early and outside it "
            "later (outside it: step 64, 150, 300; in it: step 0, 1, 4, 16).",
        ),
        (
            ("no",) * 4 + ("open",) * 3 + ("yes",),
            "P may enter the basin of its last checkpoint on the way (outside it: step 0, 1, 4, "
            "16; undecided: step 64, 150, 300).",
        ),
    ],
)
def test_what_is_said_of_the_basin(verdicts, said):
    assert QUESTIONS["starts"].answer([made.checkpoints(verdicts)]).sentence == said


def test_checkpoints_are_put_in_order():
    forward = made.checkpoints()
    names = ("step", "accuracy", "barrier", "barrier_low", "barrier_high", "verdict")
    backward = changed(forward, **{n: getattr(forward, n)[::-1] for n in names})
    one, other = (numbers.checkpoints([r]) for r in (forward, backward))
    assert one.verdict == other.verdict
    for x, y in zip(one[:3], other[:3], strict=True):
        np.testing.assert_array_equal(x, y)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=6))
def test_never_below_is_the_first_from_which_on_no_end_is_above_0(low):
    first = numbers.never_below([Estimate(x + 1, interval=(x, x + 2)) for x in low])
    assert all(end <= 0 for end in low[first:])
    assert first == 0 or low[first - 1] > 0


def test_never_below_is_unknown_where_an_end_is():
    known = Estimate(0.2, interval=(0.1, 0.3))
    assert numbers.never_below([known]) == 1
    assert numbers.never_below([known, Estimate(0.2)]) is None
    assert numbers.never_below([known, UNKNOWN]) is None
    assert numbers.never_below([]) is None


def test_the_records_own_earliest_start_is_the_one():
    record = made.starts(earliest=150)
    found = sweeps.sweep([record], "init_step")
    assert numbers.as_good(found) == found.values.index("150")


def test_scores_that_do_not_rank_the_checkpoints():
    record = changed(made.transferability(), p_holm=np.full(4, 0.2))
    assert QUESTIONS["starts"].answer([record]).sentence == (
        "Of four scores that need no fine-tuning, LogME has the highest measured weighted τ with "
        "what fine-tuning gave: 0.97 (adjusted p = 0.200)."
    )
    unknown = changed(made.transferability(), p_holm=np.full(4, np.nan))
    assert (
        QUESTIONS["starts"]
        .answer([unknown])
        .sentence.endswith(
            "LogME has the highest measured weighted τ with what fine-tuning gave: 0.97."
        )
    )


def test_the_table_of_starts_has_all_steps():
    own = made.checkpoints(("no", "yes", "yes"), steps=(0, 16, 600))
    table = PARTS["starts"].table([made.starts(), own])
    assert [row[0] for row in table.rows] == [f"{s:,}" for s in made.STEPS]
    assert table.rows[0] == (
        "0", "10.0%", "10.0 [9.0, 11.0]", "no", "91.5 [90.7, 92.3]%", "5.0 [4.2, 5.8]", "<0.001",
        "70.0%", "3",
    )  # fmt: skip
    assert table.rows[1][1:4] == ("", "", "")
    assert table.rows[-1][1:4] == ("95.0%", "", "(last)")
    assert table.rows[-1][5:7] == ("", "")


def test_captions():
    records = [*made.starts_records(), curve("RI-T", "none", 0)]
    assert PARTS["starts"].caption(records) == (
        "P-T by the checkpoint of P that it starts from: test accuracy after the last step, and "
        "the mean training accuracy over the run (3 P-T runs each, n = 1,397 test images). "
        "Whiskers are 95% intervals over runs. Of 2 learning rates each mean is at the one with "
        "the highest mean accuracy on validation images. The ring is the earliest checkpoint from "
        "which on none ends measurably below the last; the interval of that difference covers "
        "runs and test images. The horizontal line is RI-T. Shaded: the accuracy of P's "
        "checkpoints on the source. The barrier is the largest rise of the 0-1 error above the "
        "chord on the linear interpolation to P's last checkpoint, the band its 95% "
        "interval; filled marks are in the basin of the last, crosses outside, hollow ones "
        "undecided (n = 2,000 test images of the source)."
    )
    assert PARTS["domains"].caption(records) == (
        "What P-T ends above RI-T, and where both end, by target, against the Fréchet distance of "
        "the target's test images to the source's, source digits, in P's features (64 features, "
        "layer pooled; n = 1,000 images each or more). The floor, 1.20, is that of the source's "
        "training images to its test images. 3 P-T and 3 RI-T runs each, n = 1,397 test images. "
        "Whiskers are 95% intervals over runs. Those of the differences cover runs and test "
        "images. Of 2 learning rates each mean is at the one with the highest mean accuracy on "
        "validation images."
    )
    assert "n = 400 training images" in PARTS["transferability"].caption(records)
    assert "(3 P-T and 3 RI-T runs each, n = 1,397" in PARTS["amount"].caption(records)


def test_what_the_figure_of_starts_shows():
    records = [*made.starts_records(), curve("RI-T", "none", 0)]
    final, speed, barrier = figures.starts(records).axes
    said = [text.get_text() for text in final.texts]
    assert "RI-T" in said
    assert "not measurably\nlower from\nhere on" in said
    marks = [line.get_marker() for line in final.lines if len(line.get_xdata()) == 1]
    assert [m for m in marks if m in ("x", "D", "o")][:8] == [*"xxxxDooo"]
    assert [t.get_text() for t in speed.texts] == []
    assert "allowed: 2" in [t.get_text() for t in barrier.texts]


def test_figures_of_one_record_alone():
    assert len(figures.starts([made.starts()]).axes) == 2
    assert len(figures.starts([made.checkpoints()]).axes) == 1
    assert len(figures.amount([made.amount(num_seeds=1)]).axes) == 2


@pytest.mark.parametrize("name", ["starts", "amount"])
def test_undefined_numbers_are_no_data(name):
    records = [without_numbers(r) for r in made.starts_records()]
    answer = QUESTIONS[name].answer(records)
    assert not {AGREES, DIFFERS} & {c.verdict for c in answer.checks}
    section = make(QUESTIONS[name], records)
    assert section.num_figures == 0
    assert "no data" in render(section, 1)
    for part in section.figures:
        assert "nan" not in part.table.text()


def test_some_undefined_numbers_are_left_out_of_the_figure():
    record = made.starts()
    ends = ("final_mean", "final_low", "final_high", "difference_low")
    half = {n: np.where(np.arange(8) == 3, np.nan, getattr(record, n)) for n in ends}
    final, _ = figures.starts([changed(record, **half, earliest=-1)]).axes
    assert np.isfinite(final.get_ylim()).all()
    assert verdicts_of(changed(record, **half, earliest=-1)) == [NO_INTERVAL]


def test_a_page_of_only_one_of_the_questions():
    section = make(QUESTIONS["starts"], [made.transferability()])
    assert [bool(part.pictures) for part in section.figures] == [False, True]
    assert "<h3>In the paper <small>Figure 7</small></h3>" in render(section, 1)
    assert figure.starts([made.transferability()]) == []
