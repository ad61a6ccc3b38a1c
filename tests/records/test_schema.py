"""Digests are one name for one question; keys and results are checked with their paths."""

import dataclasses

import numpy as np
import pytest

from tlx.records import Record, canonical_json, digest, make_record, record_digest


@dataclasses.dataclass(frozen=True)
class Spec:
    name: str
    sizes: tuple[int, ...]


@pytest.mark.parametrize(
    ("obj", "expected"),
    [
        pytest.param(
            {}, "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a", id="empty"
        ),
        pytest.param(
            {"b": [1, 2.5, None, True], "a": "é"},
            "0b8cc543e984d4d7398f5f603a4b91d358a2565f1d6b6a058565d662854e37cf",
            id="mixed",
        ),
        pytest.param(
            0.1, "14be4b45f18e0d8c67b4f719b5144eee88497e413709d11d85b096d8e2346310", id="float"
        ),
    ],
)
def test_digest_is_the_literal_one(obj, expected):
    assert digest(obj) == expected


def test_record_digest_is_the_literal_one():
    key = {"options": {"alphas": 11}, "inputs": {"a": "x", "b": "y"}, "data": None}
    assert record_digest("interpolation", key) == (
        "77e0bc15ecc2bbc3c6938059bac27f376b161a78620300adf31456064f8de9b9"
    )


@pytest.mark.parametrize(
    ("one", "same"),
    [
        pytest.param({"a": 1, "b": 2}, {"b": 2, "a": 1}, id="order"),
        pytest.param({"a": (1, 2)}, {"a": [1, 2]}, id="tuple"),
        pytest.param([np.int32(3), np.float64(0.5), np.bool_(True)], [3, 0.5, True], id="scalars"),
        pytest.param(np.arange(4).reshape(2, 2), [[0, 1], [2, 3]], id="array"),
        pytest.param(np.str_("x"), "x", id="text"),
        pytest.param(Spec("n", (1, 2)), {"name": "n", "sizes": [1, 2]}, id="dataclass"),
        pytest.param(-0.0, 0.0, id="zero"),
    ],
)
def test_digest_is_the_same_for(one, same):
    assert canonical_json(one) == canonical_json(same)
    assert digest(one) == digest(same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(1, 1.0, id="int or float"),
        pytest.param(1, True, id="int or bool"),
        pytest.param("1", 1, id="text or int"),
        pytest.param(np.float32(0.1), 0.1, id="rounded"),
        pytest.param({"a": None}, {}, id="absent"),
    ],
)
def test_digest_differs_for(one, other):
    assert digest(one) != digest(other)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_a_key_that_is_not_finite_is_named_by_its_path(value):
    with pytest.raises(ValueError, match=r"key\.options\.rates\[1\] is (nan|inf)"):
        make_record("q", inputs={}, options={"rates": (0.1, value)}, results={})


def test_a_key_that_json_cannot_hold_is_named_by_its_path():
    with pytest.raises(TypeError, match=r"key\.inputs\.runs is a set, which JSON cannot hold"):
        make_record("q", inputs={"runs": {1}}, results={})
    with pytest.raises(TypeError, match=r"key\.data has the key 3: expected str keys"):
        make_record("q", inputs={}, data={3: "x"}, results={})
    with pytest.raises(ValueError, match=r"meta\.seconds is nan"):
        make_record("q", inputs={}, results={}, meta={"seconds": float("nan")})


@pytest.mark.parametrize("question", ["", "CKA", "a/b", "..", "a b", None])
def test_a_question_must_name_a_folder(question):
    with pytest.raises(ValueError, match="expected a lower-case name"):
        make_record(question, inputs={}, results={})


def test_results_may_hold_nan_and_text():
    record = make_record(
        "q", inputs={}, results={"x": [1.0, np.nan], "layers": ["a", "bc"], "n": 3}
    )
    assert record.results["x"].dtype == np.float64
    assert record.results["layers"].dtype.kind == "U"
    assert record.results["n"].shape == ()


@pytest.mark.parametrize("value", [None, {"a": 1}, np.array(["a", None], dtype=object)])
def test_results_that_npz_cannot_hold_are_named(value):
    with pytest.raises(TypeError, match=r"results\['x'\] has dtype object"):
        make_record("q", inputs={}, results={"x": value})


@pytest.mark.parametrize("name", ["", "../x", "/x", 3, "a b"])
def test_a_result_name_is_plain(name):
    with pytest.raises(ValueError, match="results has the name"):
        make_record("q", inputs={}, results={name: 1})


def test_inputs_are_a_mapping():
    with pytest.raises(TypeError, match=r"key\.inputs is a list"):
        make_record("q", inputs=[1], results={})
    assert Record("q", {}, {}, {}).inputs == {}
