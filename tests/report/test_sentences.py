"""What the sentences of a page claim of made-up records, with and without intervals."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.report import synthetic_starts
from tests.report.made import changed, without
from tests.report.synthetic import curve, distances, interpolation, of_distances, similarity
from tests.report.synthetic_mistakes import mistakes
from tests.report.synthetic_sweeps import learning
from tlx.report import page, section, summary
from tlx.report.questions import PARTS, QUESTIONS
from tlx.report.questions.distances import numbers
from tlx.report.questions.distances import words as distances_words
from tlx.report.questions.interpolation import words as interpolation_words
from tlx.report.questions.similarity import words as similarity_words
from tlx.report.words.verdicts import (
    ACCURACY_TOLERANCE,
    AGREES,
    DIFFERS,
    LOSS_TOLERANCE,
    NO_INTERVAL,
    OPEN,
    P_T,
    RI_T,
    above_zero,
)


def on_the_line(dip, loss, *, kinds=("rit0", "rit1")):
    (low, value, high), (least, height, most) = dip, loss
    ends = {"accuracy_barrier": value, "accuracy_barrier_low": low, "accuracy_barrier_high": high}
    ends |= {"barrier_chord": height, "barrier_chord_low": least, "barrier_chord_high": most}
    return changed(interpolation(*kinds), **ends, num_examples=50)


def test_a_dip_of_10_from_3_to_18_points_is_not_without_a_barrier():
    made = [on_the_line((0.03, 0.10, 0.18), (0.0, 0.01, 0.02), kinds=k)
            for k in (("pt0", "pt1"), ("rit0", "rit1"))]  # fmt: skip
    answer = interpolation_words.answer(made)
    assert [c.verdict for c in answer.checks] == [DIFFERS, AGREES]
    assert "without a barrier" not in answer.sentence
    assert "Two RI-T are connected only across a barrier" in answer.sentence


def test_a_loss_barrier_that_reaches_the_tolerance_is_open():
    made = on_the_line((0.0, 0.0, 0.01), (0.0, 0.05, 0.10), kinds=("pt0", "pt1"))
    answer = interpolation_words.answer([made])
    assert answer.verdict == OPEN
    assert answer.sentence.startswith("Whether a barrier stands between two P-T is open: along")
    at = on_the_line(
        (0.0, 0.0, ACCURACY_TOLERANCE), (0.0, 0.02, LOSS_TOLERANCE), kinds=("pt0", "pt1")
    )
    assert interpolation_words.answer([at]).verdict == AGREES


def test_two_distances_of_one_pair_each_are_no_order():
    made = [
        changed(distances(*pair), total_l2=total)
        for pair, total in ((("pt0", "pt1"), 10.0), (("rit0", "rit1"), 10.01))
    ]
    answer = distances_words.answer(made)
    assert answer.verdict == NO_INTERVAL
    assert answer.sentence.startswith("So far apart are two P-T and two RI-T: 10.0 against 10.0")
    assert answer.sentence.endswith("; one pair each, no interval.")
    row = next(row for row in summary.headline(made).rows if row[0].startswith("Distance"))
    assert row[-1] == "no interval"


@pytest.mark.parametrize(
    ("factor", "verdict", "lead"),
    [
        (1.0, OPEN, "Whether two P-T or two RI-T are nearer to each other is too close to call"),
        (3.0, AGREES, "Two P-T lie closer together than two RI-T: "),
        (0.3, DIFFERS, "Unlike in the paper, two P-T lie farther apart than two RI-T: "),
    ],
)
def test_distances_of_several_runs_are_compared(factor, verdict, lead):
    made = []
    for record in of_distances():
        total = 10.0 + 0.1 * int(record.inputs["a"][-1])
        if record.inputs["kind_a"] == "RI-T":
            total *= factor
        made.append(changed(record, total_l2=total))
    answer = distances_words.answer(made)
    assert answer.checks[0].verdict == verdict
    assert answer.sentence.startswith(lead)
    assert ("a factor of" in answer.sentence) == (verdict == AGREES)


def test_distances_that_grow_do_so_in_every_run():
    found = numbers.distances(of_distances())
    assert all(above_zero(found[kinds].growth) == AGREES for kinds in (P_T, RI_T))
    flat = [changed(r, l2=np.ones(len(r.results.l2))) for r in of_distances()]
    assert above_zero(numbers.distances(flat)[P_T].growth) == OPEN
    falls = [changed(r, l2=np.asarray(r.results.l2)[::-1]) for r in of_distances()]
    assert above_zero(numbers.distances(falls)[P_T].growth) == DIFFERS


# Sentences with random intervals.

SHARE = st.tuples(*[st.floats(0, 0.1)] * 3).map(sorted)


@settings(max_examples=60)
@given(SHARE, SHARE, st.sampled_from([("pt0", "pt1"), ("rit0", "rit1")]))
def test_a_barrier_is_said_of_whole_intervals(dip, loss, kinds):
    sentence = interpolation_words.answer([on_the_line(dip, loss, kinds=kinds)]).sentence
    without = dip[2] <= ACCURACY_TOLERANCE and loss[2] <= LOSS_TOLERANCE
    across = dip[0] > ACCURACY_TOLERANCE or loss[0] > LOSS_TOLERANCE
    assert ("without a barrier" in sentence) == without
    assert ("only across a barrier" in sentence) == across
    assert ("is open" in sentence) == (not without and not across)


@given(st.lists(st.sampled_from([0.0, 0.03, 0.1]), min_size=2, max_size=4))
def test_of_several_pairs_each_has_its_own_verdict(lows):
    made = [on_the_line((low, low, low + 0.015), (0.0, 0.0, 0.01)) for low in lows]
    answer = interpolation_words.answer(made)
    number = sum(low > 0 for low in lows)
    expected = AGREES if number == len(lows) else DIFFERS
    assert answer.verdict == expected
    if 0 < number < len(lows):
        assert f"of {len(lows)} pairs of two RI-T {number} have a barrier" in answer.sentence


def with_kappa(p_t, ri_t):
    record = MISTAKES
    is_p_t = np.asarray(record.results.kinds) == "P-T"
    table = np.where(is_p_t[:, None, None], p_t, ri_t)
    table = np.broadcast_to(table, (len(is_p_t), *table.shape[1:])) + np.zeros((1, len(is_p_t), 1))
    low, value, high = np.moveaxis(table, -1, 0)
    return changed(record, kappa=value, kappa_low=low, kappa_high=high)


def with_cka(low, value, high, kind):
    record = similarity(f"{kind}0", f"{kind}1")
    names = ("low", "debiased", "high")
    return changed(record, **{n: np.full((6, 6), v) for n, v in
                              zip(names, (low, value, high), strict=True)})  # fmt: skip


def with_final(p_t, ri_t):
    record = learning(rates=(0.05,))
    ends = np.transpose([p_t, ri_t])
    return changed(record, final_low=ends[0], final_mean=ends[1], final_high=ends[2])


MISTAKES = mistakes(num=300)
RUNS = [curve(kind, "none", 0) for kind in ("P-T", "RI-T")]
HALF = st.tuples(*[st.floats(0.01, 0.99)] * 3).map(sorted)
COMPARED = {
    "mistakes": (lambda one, other: [with_kappa(one, other)], "more similar mistakes than"),
    "similarity": (
        lambda one, other: [with_cka(*one, "pt"), with_cka(*other, "rit")],
        "wo P-T share more",
    ),
    "training": (lambda one, other: [with_final(one, other), *RUNS], "ends higher"),
}


@pytest.mark.parametrize("name", COMPARED)
@settings(max_examples=40)
@given(one=HALF, other=HALF)
def test_more_is_said_of_intervals_apart(name, one, other):
    make, words = COMPARED[name]
    answer = QUESTIONS[name].answer(make(one, other))
    tiny = 1e-9  # means of the ends are rounded
    decided = one[0] > other[2] + tiny or one[2] < other[0] - tiny
    close = abs(one[0] - other[2]) < tiny or abs(one[2] - other[0]) < tiny
    if not close:
        verdict = OPEN if not decided else AGREES if one[0] > other[2] else DIFFERS
        assert answer.checks[0].verdict == verdict
        assert (words in answer.short) or verdict != AGREES
        assert (words not in answer.short) or verdict != OPEN
        assert ("nlike in the paper" in answer.short) == (verdict == DIFFERS)


# The whole page.

COUNTS = {"num_examples", "num_test", "num_train", "num_images", "train_size"}
ENDS = re.compile(r"(^|.*_)(low|high)")
CLAIM = re.compile(
    r"[Uu]nlike in the paper|closer together|farther apart|without a barrier|only across|"
    r"not live in one basin|live in one basin:|lowers|(?<!not )\b(ends|is|at) higher|"
    r"shares? more|(?<!measurably )\bmore similar mistakes|still helps|brings (more|less)|"
    r"carry less|(?<!measurably )better than|measurably (higher(?! at 0)|faster at [1-9a])|"
    r"measurably more than a point with (?!no)|a run ends|still measurably|P enters|"
    r"\b(falls|rises), from|do not share a basin|copies of \S+ share a basin"
)


def without_intervals(record):
    """As it would be of one run each and no interval: nothing says how well a number is known."""
    gone = without(record, ENDS.fullmatch)
    results = gone.results._asdict()
    results = {name: np.zeros_like(results[name]) for name in COUNTS & set(results)}
    if record.question == "sweep":
        results["chance"] = np.full(np.shape(record.values), "")
    return gone._replace(results=gone.results._replace(**results))


def overlapping(record):
    """With ends of all intervals so far out that nothing is told from anything."""
    far = {"low": -1e3, "high": 1e3}
    arrays = record.results._asdict()
    results = {
        name: np.full(np.shape(value), far[found[2]])
        for name, value in arrays.items()
        if (found := ENDS.fullmatch(name))
    }
    results |= {name: np.ones_like(arrays[name]) for name in COUNTS & set(arrays)}
    return record._replace(results=record.results._replace(**results))


def singles(records):
    """One pair of runs and one run of each kind, which have no interval over runs."""
    seen = set()
    for record in records:
        kinds = [record.inputs.get(n) for n in ("kind", "kind_a", "kind_b", "path", "shuffle")]
        name = (record.question, *kinds)
        if record.question not in ("distances", "criticality", "instability") or name not in seen:
            yield record
        seen.add(name)


def said(records):
    """All that the page says of the records, without its figures."""
    every = [QUESTIONS[name].answer(records) for name in QUESTIONS]
    text = [section._checks(answer.checks) for answer in every]
    text += [part.caption(records) for part in PARTS.values() if part.panels(records)]
    return every, "\n".join(
        [summary.text(records), *text, *(question.how for question in QUESTIONS.values())]
    )


@pytest.mark.parametrize("blur", [without_intervals, overlapping])
def test_no_verdict_where_nothing_is_told_apart(records, blur):
    made = [blur(r) for r in singles(records)]
    every, text = said(made)
    for answer in every:
        assert {c.verdict for c in answer.checks} <= {"", OPEN, NO_INTERVAL}
        assert [m[0] for m in CLAIM.finditer(f"{answer.sentence} {answer.short}")] == []
    assert "as in the paper" not in text
    assert {row[-1] for row in summary.headline(made).rows} <= {"", "too close", "no interval"}


def test_verdicts_where_the_intervals_are_clear(records):
    every, text = said(records)
    assert all(answer.verdict == AGREES for answer in every if answer.checks)
    assert text.count("<b>as in the paper</b>") == sum(len(a.checks) for a in every) > 20
    assert all(CLAIM.search(a.sentence) for a in every)
    assert "no interval" not in summary.headline(records).text()


def test_the_page_without_intervals(records):
    some = [r for r in singles(records) if r.question in ("distances", "interpolation", "basin")]
    text = page.render([without_intervals(r) for r in some])
    assert text.count('class="answer"') == 3
    assert "as in the paper" not in text
    assert "nlike in the paper" not in text


NAMES = ("difference", "speed")


@pytest.mark.parametrize("gone", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_decide_nothing(gone):
    made = synthetic_starts.starts_records()
    fields = [f"{name}{end}" for name in NAMES for end in ("_low", "_high")]
    spoilt = [
        changed(r, **{f: np.full(np.shape(getattr(r, f)), gone) for f in fields})
        if r.question == "sweep" else r for r in made
    ]  # fmt: skip
    for name in ("starts", "amount"):
        sweeps = QUESTIONS[name].answer([r for r in spoilt if r.question != "checkpoints"])
        assert {c.verdict for c in sweeps.checks} <= {"", NO_INTERVAL}


def test_reversed_ends_decide_nothing():
    made = on_the_line((0.18, 0.1, 0.03), (0.02, 0.01, 0.0))
    assert interpolation_words.answer([made]).verdict == OPEN
    one, other = with_cka(0.9, 0.8, 0.7, "pt"), with_cka(0.3, 0.2, 0.1, "rit")
    assert similarity_words.answer([one, other]).verdict == NO_INTERVAL
