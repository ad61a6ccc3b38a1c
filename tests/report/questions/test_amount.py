"""The section about the number of images and other targets, and what is missing."""

import numpy as np
import pytest

from tests.report import synthetic_starts as made
from tests.report.questions.test_starts import changed, verdicts_of
from tlx.report import figures
from tlx.report.question import NOTHING
from tlx.report.questions import PARTS, QUESTIONS
from tlx.report.questions.amount import figure
from tlx.report.words.verdicts import AGREES, DIFFERS, NO_INTERVAL, OPEN


def test_the_answer_about_the_target():
    answer = QUESTIONS["amount"].answer(made.starts_records())
    assert answer.sentence == (
        "Pretraining brings more with the fewest training images than with the most. With 50 "
        "training images P-T ends at 88.0% and RI-T at 60.0%, a difference of 28.0 [27.2, 28.8] "
        "points, with 1,600 it is 5.0 [4.2, 5.8] points. Pretraining brings more on the target "
        "nearest to the source than on the farthest: on usps (Fréchet distance 3.1) P-T "
        "ends at 96.0% and RI-T at 82.0%, a difference of 14.0 [13.2, 14.8] points, on clothes "
        "(Fréchet distance 24) it is 3.0 [2.2, 3.8] points."
    )
    assert [tuple(c) for c in answer.checks] == [
        ("P-T ends above RI-T on every target", AGREES),
        ("pretraining brings more where the target resembles the source", AGREES),
    ]


def test_targets_with_one_run_each_have_no_verdict_and_no_interval():
    records = [made.amount(num_seeds=1), made.targets(num_seeds=1), made.domains()]
    assert verdicts_of(*records, name="amount") == [NO_INTERVAL, NO_INTERVAL]
    sentence = QUESTIONS["amount"].answer(records).sentence
    assert "[" not in sentence
    assert sentence.startswith("Pretraining does not bring measurably more with fewer training")
    for name in ("amount", "domains"):
        assert "[" not in PARTS[name].table(records).text()
        assert "cover" not in PARTS[name].caption(records)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ((0.14, 0.12, 0.05), [AGREES, AGREES]),
        ((0.05, 0.12, 0.14), [AGREES, DIFFERS]),
        ((0.05, 0.12, 0.05), [AGREES, OPEN]),
        ((0.05, 0.12, 0.0), [OPEN, AGREES]),
        ((-0.05, 0.12, 0.14), [DIFFERS, DIFFERS]),
        ((0.05, np.nan, 0.05), [OPEN, OPEN]),
    ],
)
def test_targets_near_and_far(gains, expected):
    assert verdicts_of(made.targets(gains), made.domains(), name="amount") == expected


@pytest.mark.parametrize(
    ("distances", "floor", "expected"),
    [
        ((3.1, 7.4), 1.2, AGREES),
        ((3.1, 5.4), 1.2, OPEN),
        ((3.1, 3.1), 0.0, OPEN),
        ((3.1, 7.4), np.nan, NO_INTERVAL),
    ],
)
def test_a_target_is_nearer_only_where_the_floor_tells_so(distances, floor, expected):
    far = changed(made.domains(dict(zip(made.TARGETS, distances, strict=False))), floor=floor)
    records = [made.targets((0.14, 0.05)), far]
    assert verdicts_of(*records, name="amount") == [AGREES, expected]
    says = "brings more on the target nearest" in QUESTIONS["amount"].answer(records).sentence
    assert says == (expected == AGREES)


def test_targets_without_distances():
    records = [made.targets((0.14, 0.03))]
    answer = QUESTIONS["amount"].answer(records)
    assert answer.sentence == (
        "The accuracy of P-T less that of RI-T is 14.0 [13.2, 14.8] points on usps, 3.0 [2.2, 3.8] "
        "points on pen digits."
    )
    assert [c.verdict for c in answer.checks] == [AGREES]
    assert figure.domains(records) == []
    assert [row[1] for row in PARTS["domains"].table(records).rows] == ["no data"] * 2


def test_distances_without_runs():
    records = [made.domains()]
    assert QUESTIONS["amount"].answer(records) == NOTHING
    assert figure.domains(records) == []
    assert [row[:3] for row in PARTS["domains"].table(records).rows[:2]] == [
        ("source (floor)", "1.20", ""),
        ("usps", "3.10", ""),
    ]


def test_a_target_without_a_distance_is_left_out_of_the_figure_only():
    far = made.domains({"usps": 3.1, "kana": np.nan, "clothes": 24.0})
    records = [made.targets(), far]
    gain, ends = figures.domains(records).axes
    assert [len(line.get_xdata()) for line in gain.lines if line.get_marker() == "o"] == [2]
    assert [len(line.get_xdata()) for line in ends.lines if line.get_marker() == "s"] == [2]
    names = [row[0] for row in PARTS["domains"].table(records).rows]
    assert names == ["source (floor)", "usps", "clothes", "pen digits", "kana", "letters"]


def test_names_of_targets_do_not_cover_each_other():
    crowd = {f"target {i}": 5 + 0.2 * i for i in range(5)}
    gains = dict.fromkeys(crowd, 0.1)
    record = changed(made.targets(tuple(gains.values())), values=list(crowd))
    gain, _ = (figure := figures.domains([record, made.domains(crowd)])).axes
    figure.canvas.draw()
    boxes = [t.get_window_extent() for t in gain.texts if t.get_text() in crowd]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
