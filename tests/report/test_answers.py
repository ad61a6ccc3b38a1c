"""Sentences follow the numbers, also against the paper, and say when there is nothing."""

import pytest

from tests.report.made import changed, nan, without
from tests.report.synthetic import curve, distances, interpolation, similarity
from tests.report.synthetic_checkpoints import pairs
from tlx.report import question, summary
from tlx.report.questions import PARTS, QUESTIONS
from tlx.report.questions.interpolation import words as interpolation_words
from tlx.report.questions.training import words as training_words
from tlx.report.words.verdicts import AGREES, DIFFERS, OPEN

SWAP = {"P-T": "RI-T", "RI-T": "P-T"}
IN_THE_PAPER = [name for name in QUESTIONS if name != "depth"]
BETWEEN_KINDS = [name for name in IN_THE_PAPER if name not in ("amount", "starts")]


def swapped(record):
    """Returns the record with P-T called RI-T and the other way round."""
    inputs = dict(record.inputs)
    for name in {"kind", "kind_a", "kind_b"} & set(inputs):
        inputs[name] = SWAP.get(inputs[name], inputs[name])
    if "kinds" in inputs:
        inputs["kinds"] = [SWAP.get(k, k) for k in inputs["kinds"]]
    results = record.results._asdict()
    if "kinds" in results:
        results["kinds"] = [SWAP.get(k, k) for k in map(str, results["kinds"])]
    for name in {"difference", "speed"} & set(results):
        ends = [-results[f"{name}{end}"] for end in ("", "_high", "_low")]
        results |= dict(zip((name, f"{name}_low", f"{name}_high"), ends, strict=True))
    return changed(record, inputs=inputs, **results)


@pytest.mark.parametrize("name", IN_THE_PAPER)
def test_as_in_the_paper(records, name):
    answer = QUESTIONS[name].answer(records)
    assert {c.verdict for c in answer.checks} == {AGREES} == {answer.verdict}
    assert "nlike in the paper" not in answer.sentence
    assert answer.sentence.endswith(".")
    assert answer.short.endswith(".")


@pytest.mark.parametrize("name", BETWEEN_KINDS)
def test_against_the_paper(records, name):
    answer = QUESTIONS[name].answer([swapped(r) for r in records])
    assert answer.verdict == DIFFERS
    assert answer.sentence.startswith("Unlike in the paper, ")


@pytest.mark.parametrize("name", QUESTIONS)
def test_without_records(name):
    answer = QUESTIONS[name].answer([])
    assert answer == question.NOTHING
    assert answer.verdict == ""
    made = [part.table([]) for part in QUESTIONS[name].parts if part.table]
    assert made == [None] * len(made)


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("kind", ["P-T", "RI-T"])
def test_with_one_kind_only(records, name, kind):
    names = ("kind", "kind_a", "kind_b")
    kinds = [
        {r.inputs[k] for k in names if k in r.inputs}
        | {*r.inputs.get("kinds", ()), *map(str, r.results._asdict().get("kinds", ()))}
        for r in records
    ]
    own = [r for r, found in zip(records, kinds, strict=True) if found <= {kind}]
    answer = QUESTIONS[name].answer(own)
    if name == "training":
        assert answer.sentence.startswith(f"So far only {kind} has been measured")
    elif name == "interpolation":
        assert answer.sentence.startswith(f"Two {kind} are connected")
    elif name == "landscape":
        assert answer.sentence.startswith(f"Two {kind} ")
    elif name == "depth":
        assert answer.sentence.endswith(f"from layer 3.1 of {kind}.")
    elif name == "starts":  # of P-T; P's own checkpoints are of neither kind
        lead = {"P-T": "From step 64 on", "RI-T": "P enters the basin"}[kind]
        assert answer.sentence.startswith(lead)
    elif name == "instability":
        assert answer.sentence.startswith(f"Two copies of {kind} share a basin from ")
    else:
        assert answer == question.NOTHING


def test_too_close_to_call():
    made = [curve("P-T", "none", 0), swapped(curve("P-T", "none", 1))]
    answer = training_words.answer(made)
    assert answer.verdict == OPEN
    assert answer.sentence.startswith("Where P-T and RI-T end is too close to call: ")


@pytest.mark.parametrize(
    ("name", "make", "fields"),
    [
        ("interpolation", interpolation, ("barrier_chord",)),
        ("interpolation", interpolation, ("accuracy_barrier",)),
        ("similarity", similarity, ("debiased",)),
        ("distances", distances, ("total_l2",)),
    ],
)
def test_undefined_numbers_decide_nothing(name, make, fields):
    made = [nan(make(a, b), *fields) for a, b in (("pt0", "pt1"), ("rit0", "rit1"))]
    assert QUESTIONS[name].answer(made) == question.NOTHING
    assert not any(row[-1] for row in summary.headline(made).rows)
    PARTS[name].table(made).text()


def test_the_barriers_of_the_fixture(records):
    sentence = interpolation_words.answer(records).sentence
    assert "Two P-T are connected without a barrier" in sentence
    assert "Two RI-T are connected only across a barrier" in sentence
    rise = "points below the chord, the loss rises"
    assert f"78 [76, 80] {rise} 2.10 [2.04, 2.16] above it" in sentence
    old = [without_intervals(r) for r in records]
    assert f"78.0 ± 1.1 {rise} 2.10 above it" in interpolation_words.answer(old).sentence


def without_intervals(record):
    return without(record, lambda name: name.endswith(("_low", "_high")))


def test_summary_is_plain_text_within_the_line(records, root):
    text = summary.text(records)
    assert text == summary.text(root) == summary.text(str(root))
    assert max(map(len, text.splitlines())) <= 100
    assert "Final test accuracy" in text
    for asked in QUESTIONS.values():
        assert asked.title in text


def test_summary_without_records(tmp_path):
    assert summary.text(tmp_path).count("No data.") == len(QUESTIONS) == 12
    with pytest.raises(ValueError, match="the folder does not exist"):
        summary.text(tmp_path / "typo")


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.table])
def test_tables_have_a_cell_a_column(records, name):
    table = PARTS[name].table(pairs() if name == "clusters" else records)
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert table.html().count("<td ") == len(table.rows) * (len(table.columns) - 1)
    assert len(table.text().splitlines()) == len(table.rows) + 2


def test_tables_escape():
    from tlx.report.words.table import Table

    assert "2 [1,\u00a03]" in Table(("a", "b"), (("x", "2 [1, 3]"),)).html()
    assert "<script>" not in Table(("a<b", "c"), (("<script>", "&"),)).html()


def test_what_several_studies_found_stands_side_by_side(records, root):
    numbers, claims = summary.beside({"here": records, "there": root, "nothing": []})
    assert numbers.columns == ("95% intervals", "here", "there", "nothing")
    assert claims.columns == ("paper", "here", "there", "nothing")
    headline = summary.headline(records)
    kinds = headline.columns[1:-1]
    for row in headline.rows:
        for kind, cell in zip(kinds, row[1:-1], strict=True):
            beside = [r for r in numbers.rows if r[0] == f"{row[0]}, {kind}"]
            assert beside == ([] if cell == "no data" else [(beside[0][0], cell, cell, "no data")])
    expected = [c.claim for answer in summary.answers(records).values() for c in answer.checks]
    assert [row[0] for row in claims.rows] == list(dict.fromkeys(expected))
    assert all(row[1] == row[2] != "no data" and row[3] == "no data" for row in claims.rows)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("similarity", "Similarity of two, CKA"),
        ("distances", "Distance of two, l2"),
        ("mistakes", "Error agreement, kappa"),
    ],
)
def test_a_row_of_two_of_a_kind_is_held_against_that_claim_alone(records, name, row):
    (number,) = QUESTIONS[name].key_numbers(records)
    answer = QUESTIONS[name].answer(records)
    assert number.name == row
    assert number.verdict == answer.checks[0].verdict != ""
    other = answer._replace(checks=(*answer.checks[:1], question.Check("another", DIFFERS)))
    assert (other.first, other.verdict) == (number.verdict, DIFFERS)
    assert question.NOTHING.first == ""


def test_several_studies_are_some():
    with pytest.raises(ValueError, match="expected at least one study by name"):
        summary.beside({})
