"""A record of a known kind has the fields of its kind, at writing and at reading, or is refused."""

import json
import re

import numpy as np
import pytest

from tlx import records
from tlx.records import KINDS, load, make_record, results, save, schema


def made(question):
    kind = KINDS[question]
    return make_record(
        question,
        inputs=dict.fromkeys(kind.inputs, "x"),
        options=dict.fromkeys(kind.options, 1),
        results=kind.results(*map(np.full, [(2,)] * 99, range(len(kind.results._fields)))),
    )


def test_every_kind_is_written_and_read(tmp_path):
    for question in KINDS:
        record = made(question)
        again = load(save(tmp_path, record))
        assert type(again.results) is type(record.results) is KINDS[question].results
        for i, name in enumerate(record.results._fields):
            np.testing.assert_array_equal(getattr(again, name), [i, i])


@pytest.mark.parametrize("question", KINDS)
def test_each_misspelt_field_is_told_with_the_nearest(question):
    record = made(question)
    fields = record.results._asdict()
    for name in fields:
        changed = {f"{k}x" if k == name else k: v for k, v in fields.items()}
        with pytest.raises(
            ValueError, match=f"have an unknown name '{name}x' \\(nearest: "
        ) as told:
            make_record(question, inputs=record.inputs, results=changed)
        is_needed = name not in KINDS[question].results._field_defaults
        assert (f"lack {name}" in str(told.value)) == is_needed


@pytest.mark.parametrize("question", KINDS)
def test_inputs_and_options_are_those_of_the_kind(question):
    record = made(question)
    for name in KINDS[question].inputs:
        inputs = {k: v for k, v in record.inputs.items() if k != name}
        with pytest.raises(ValueError, match=f"the inputs of '{question}' lack {name}"):
            make_record(question, inputs=inputs, results=record.results)
    for part in ("inputs", "options"):
        given = {"inputs": record.inputs, "options": record.options}
        given[part] = given[part] | {"mine": 1}
        with pytest.raises(ValueError, match=f"the {part} of '{question}' .* name 'mine'"):
            make_record(question, results=record.results, **given)


def test_a_file_of_other_fields_is_no_record(tmp_path):
    path = save(tmp_path, made("interpolation"))
    other = {k: v for k, v in made("interpolation").results._asdict().items() if k != "loss"}
    packed = records.store._pack(other)
    path.with_suffix(".npz").write_bytes(packed)
    described = json.loads(path.read_text())
    described["npz_sha256"] = records.store.hashlib.sha256(packed).hexdigest()
    del described["arrays"]["loss"]
    path.write_text(json.dumps(described))
    message = r"record .*: the results of 'interpolation' lack loss. Delete its .json and .npz"
    with pytest.raises(ValueError, match=message):
        load(path)
    assert records.find(tmp_path, "interpolation", described["key"]) is None


def test_results_are_attributes_of_the_record():
    record = made("study")
    assert record.seconds is record.results.seconds
    with pytest.raises(AttributeError, match=r"'study' has no result 'second' \(nearest: 'seconds"):
        _ = record.second
    mine = make_record("mine", inputs={}, results={"x": 1})
    assert mine.x == mine.results["x"] == 1


def test_incomplete_results_are_nan_where_unknown():
    found = results.incomplete(results.Interpolation, alphas=[0, 1], loss=[1, 2])
    assert np.isnan(found.barrier_chord)
    record = make_record("interpolation", inputs=made("interpolation").inputs, results=found)
    np.testing.assert_array_equal(record.loss, [1, 2])
    with pytest.raises(ValueError, match=r"unknown name 'lss' \(nearest: 'loss'\)"):
        results.incomplete(results.Interpolation, lss=[1])


def test_names_of_kinds_and_of_their_results_agree():
    for question, kind in KINDS.items():
        assert re.sub(r"(?<!^)(?=[A-Z])", "_", kind.results.__name__).lower() == question


def test_no_field_hides_behind_a_method_of_tuples():
    taken = {name for name in dir(tuple) if not name.startswith("__")}
    taken |= {*schema.Record._fields, "inputs", "options"}
    for kind in KINDS.values():
        assert not taken & {*kind.results._fields}
