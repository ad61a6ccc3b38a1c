"""A record with a missing or unknown name is told by it, for every kind of record."""

import numpy as np
import pytest

from tlx.records import fields, make_record

KINDS = sorted(fields.FIELDS)


def whole(question):
    own = fields.FIELDS[question]
    return make_record(
        question,
        inputs=dict.fromkeys(own.inputs, "x"),
        options=dict.fromkeys(own.options, 1),
        results=dict.fromkeys(own.needed | own.results, np.zeros(1)),
    )


def misspelt(record, part, name):
    """The record with an x after one of its names."""
    own = record.results if part == "results" else record.key[part]
    renamed = {f"{k}x" if k == name else k: v for k, v in own.items()}
    if part == "results":
        return record._replace(results=renamed)
    return record._replace(key=record.key | {part: renamed})


@pytest.mark.parametrize("question", KINDS)
def test_a_whole_record_has_no_problem(question):
    record, own = whole(question), fields.FIELDS[question]
    assert fields.problems(record) == fields.lacking(record) == []
    more = dict.fromkeys(own.optional, np.zeros(1))
    assert fields.problems(record._replace(results=record.results | more)) == []
    assert not own.needed & (own.results | own.optional)


@pytest.mark.parametrize("question", KINDS)
def test_each_misspelt_name_is_told_with_the_nearest(question):
    record = whole(question)
    parts = {"result": record.results, **{w: record.key[f"{w}s"] for w in ("input", "option")}}
    for what, name in [(what, name) for what, part in parts.items() for name in part]:
        changed = misspelt(record, f"{what}s", name)
        told = "; ".join(fields.problems(changed))
        needed = what == "result" and name in fields.FIELDS[question].needed
        assert (f"lacks {name}, without" if needed else f"lacks the {what} {name}") in told
        assert f"has an unknown {what} {f'{name}x'!r} (nearest: {name!r})" in told
        assert (fields.lacking(changed) == [name]) == needed


def test_an_unknown_kind_is_told():
    assert fields.problems(make_record("sweeps", inputs={}, results={})) == [
        "is of no known kind (nearest: 'sweep')"
    ]
    other = make_record("mine", inputs={}, results={})
    assert fields.problems(other) == ["is of no known kind"]
    assert fields.lacking(other) == []


def test_a_name_with_its_interval_is_three():
    names = fields.FIELDS["learning"].results
    assert {"final_mean", "final_low", "final_high"} <= names
    assert {"kappa_low", "kappa_high"} <= fields.FIELDS["mistakes"].results
