import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models as net
from tlx.analyses.function import predictions
from tlx.core import streams

C = 3
ARRAYS = ("answers", "right", "probability", "confidence", "margin", "overlap", "labels")


def _softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _twin(logits, labels, threshold=0.5):
    """One judgement at a time, in float64."""
    logits = np.asarray(logits, np.float64)
    num_models = len(logits)
    judged = labels.reshape(len(labels), -1)
    shape = (num_models, *judged.shape)
    got = {name: np.zeros(shape) for name in ("probability", "confidence", "margin")}
    got |= {"answers": np.zeros(shape, int), "right": np.zeros(shape, bool)}
    got["overlap"] = np.zeros((num_models, *shape))
    got["labels"] = judged
    for row, column in np.ndindex(judged.shape):
        label = judged[row, column]
        spreads = []
        for m in range(num_models):
            if labels.ndim == 1:
                p = _softmax(logits[m, row])
                answer = int(p.argmax())
            else:
                one = 1 / (1 + np.exp(-logits[m, row, column]))
                p, answer = np.array([1 - one, one]), int(one >= threshold)
            spreads.append(p)
            got["answers"][m, row, column] = answer
            got["right"][m, row, column] = answer == label
            got["probability"][m, row, column] = p[label]
            got["confidence"][m, row, column] = p[answer]
            others = [p[k] for k in range(len(p)) if k != label]
            got["margin"][m, row, column] = p[label] - max(others)
        for i, j in np.ndindex(num_models, num_models):
            got["overlap"][i, j, row, column] = (spreads[i] * spreads[j]).sum()
    return got


def _assert_is(got, expected, atol=1e-6):
    for name in ARRAYS:
        value = getattr(got, name)
        wanted = expected[name] if isinstance(expected, dict) else getattr(expected, name)
        assert value.shape == wanted.shape, name
        if jnp.issubdtype(value.dtype, jnp.floating):
            np.testing.assert_allclose(value, wanted, atol=atol, err_msg=name)
        else:
            np.testing.assert_array_equal(value, wanted, err_msg=name)


def _models(number=3):
    return [(net.apply_fn, net.make_params(seed)) for seed in range(number)]


def _data(num_examples=40, multilabel=False):
    inputs, labels = net.make_data(num_examples)
    if multilabel:
        labels = np.random.default_rng(1).integers(0, 2, (num_examples, C))
    return inputs, labels.astype(np.int32)


@functools.cache
def _collected(multilabel):
    inputs, labels = _data(multilabel=multilabel)
    return predictions.collect(_models(), streams.from_arrays(inputs, labels, batch_size=16))


@pytest.mark.parametrize(("multilabel", "threshold"), [(False, 0.5), (True, 0.5), (True, 0.2)])
def test_predictions_are_the_formulas_in_float64(multilabel, threshold):
    inputs, labels = _data(multilabel=multilabel)
    stream = streams.from_arrays(inputs, labels, batch_size=16)
    got = predictions.collect(_models(), stream, threshold=threshold)
    logits = np.stack([fn(params, inputs) for fn, params in _models()])
    expected = _twin(logits, labels, threshold)
    _assert_is(got, expected)
    assert 0 < got.right.mean() < 1
    assert (got.num_classes, got.threshold) == (C, threshold if multilabel else None)
    assert got.num_answers == (2 if multilabel else C)
    wanted = np.broadcast_to(np.arange(C), labels.shape) if multilabel else labels[:, None]
    np.testing.assert_array_equal(got.classes, wanted)
    stored = 1 / (1 + np.exp(-logits)) if multilabel else _softmax(logits)
    _assert_is(predictions.from_probabilities(stored, labels, threshold=threshold), expected)


@given(st.integers(0, 99), st.booleans())
def test_laws(seed, multilabel):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (7, C)) if multilabel else rng.integers(0, C, 7)
    logits = 3 * rng.standard_normal((2, 7, C))
    stored = 1 / (1 + np.exp(-logits)) if multilabel else _softmax(logits)
    got = predictions.from_probabilities(stored, labels)
    np.testing.assert_array_equal(got.margin > 0, got.right)
    np.testing.assert_array_equal(got.confidence == got.probability, got.right)
    np.testing.assert_allclose(got.overlap, got.overlap.swapaxes(0, 1), rtol=1e-6)
    assert (got.overlap <= jnp.minimum(got.confidence[None], got.confidence[:, None]) + 1e-6).all()
    back = predictions.from_probabilities(stored[::-1], labels)
    np.testing.assert_array_equal(back.right, got.right[::-1])
    np.testing.assert_allclose(back.overlap, got.overlap[::-1, ::-1], rtol=1e-6)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 40, 64])
def test_batches_and_padding_change_nothing(multilabel, batch_size):
    inputs, labels = _data(multilabel=multilabel)
    stream = streams.from_arrays(inputs, labels, batch_size=batch_size)
    _assert_is(predictions.collect(_models(), stream), _collected(multilabel))


@pytest.mark.parametrize("multilabel", [False, True])
def test_masked_rows_are_left_out_and_rows_keep_their_order(multilabel):
    inputs, labels = _data(multilabel=multilabel)
    rows = np.sort(np.random.default_rng(1).permutation(80)[:40])
    order = np.random.default_rng(2).permutation(40)
    wide = np.full((80, inputs.shape[1]), np.nan, np.float32)
    filler = np.float32(np.nan) if multilabel else np.int32(99)  # what is masked may be anything
    marks = np.full((80, *labels.shape[1:]), filler)
    wide[rows], marks[rows] = inputs[order], labels[order]
    mask = np.isin(np.arange(80), rows)

    def masked():
        for part in np.split(np.arange(80), 8):
            yield {"inputs": wide[part], "labels": marks[part], "mask": mask[part]}

    got = predictions.collect(_models(), masked)
    base = _collected(multilabel)
    for name in ARRAYS:
        expected = np.asarray(getattr(base, name))[..., order, :]
        np.testing.assert_allclose(getattr(got, name), expected, atol=1e-6, err_msg=name)


def test_models_in_one_pass_are_each_alone_and_applied_once_a_batch():
    calls = []

    def counted(number, params, inputs):
        jax.debug.callback(lambda: calls.append(number))
        return net.apply_fn(params, inputs)

    passes = []
    inputs, labels = _data()
    stream = streams.from_arrays(inputs, labels, batch_size=16)

    def once():
        passes.append(1)
        return stream()

    fns = [functools.partial(counted, number) for number in range(3)]
    given_models = [(fn, params) for fn, (_, params) in zip(fns, _models(), strict=True)]
    together = predictions.collect(given_models, once)
    jax.effects_barrier()
    assert passes == [1]
    assert sorted(calls) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    for number, model in enumerate(_models()):
        alone = predictions.collect([model], stream)
        for name in ARRAYS[:5]:
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[number])
        own = together.overlap[number, number]
        np.testing.assert_allclose(alone.overlap[0, 0], own, rtol=1e-6)


def test_models_of_one_shape_are_compiled_once():
    traces = []

    def fn(params, inputs):
        traces.append(inputs.shape)
        return net.apply_fn(params, inputs)

    inputs, labels = _data()
    stream = streams.from_arrays(inputs, labels, batch_size=16)
    predictions.collect([(fn, net.make_params(seed)) for seed in range(2)], stream)
    before = len(traces)
    predictions.collect([(fn, net.make_params(seed)) for seed in range(4)], stream)
    assert len(traces) == before


@pytest.mark.parametrize("multilabel", [False, True])
def test_nan_is_no_answer_and_wrong(multilabel):
    inputs, labels = _data(multilabel=multilabel)
    inputs[3] = np.nan
    got = predictions.collect(_models(), streams.from_arrays(inputs, labels, batch_size=16))
    assert (got.answers[:, 3] == predictions.NO_ANSWER).all()
    assert not got.right[:, 3].any()
    for name in ("probability", "confidence", "margin", "overlap"):
        is_nan = np.isnan(getattr(got, name)).all((0, -1) if name != "overlap" else (0, 1, -1))
        np.testing.assert_array_equal(is_nan, np.arange(40) == 3)
    base = _collected(multilabel)
    np.testing.assert_array_equal(np.delete(got.right, 3, 1), np.delete(base.right, 3, 1))


def test_a_row_with_a_nan_among_its_classes_has_no_numbers():
    got = predictions.from_probabilities([[[0.9, np.nan, 0.1]]], np.array([0]))
    assert got.answers.item() == predictions.NO_ANSWER
    assert np.isnan([got.probability.item(), got.confidence.item(), got.margin.item()]).all()


def test_a_label_with_nan_leaves_the_others_alone():
    got = predictions.from_probabilities([[[0.9, np.nan, 0.2]]], np.array([[1, 1, 1]]))
    np.testing.assert_array_equal(got.answers, [[[1, -1, 0]]])
    np.testing.assert_array_equal(got.right, [[[True, False, False]]])


def test_ties_take_the_first_and_half_is_one():
    got = predictions.from_probabilities([[[0.4, 0.4, 0.2]]], np.array([1]))
    assert got.answers.item() == 0
    assert got.margin.item() == 0
    several = predictions.from_probabilities([[[0.5, 0.49]]], np.array([[1, 1]]))
    np.testing.assert_array_equal(several.answers, [[[1, 0]]])
    nearly = jnp.array([[[0.0, -1e-12]]])  # whose sigmoids are both 0.5 in float32
    stream = streams.from_arrays(np.zeros((1, 1), np.float32), np.array([[1, 1]]), batch_size=1)
    found = predictions.collect([(lambda p, x: p + 0 * x, nearly[0])], stream)
    np.testing.assert_array_equal(found.answers, [[[1, 0]]])
    close = jnp.array([[0.0, 1e-12, -1.0]])  # equal in float32 after the softmax
    one = streams.from_arrays(np.zeros((1, 1), np.float32), np.array([1]), batch_size=1)
    assert predictions.collect([(lambda p, x: p + 0 * x, close)], one).right.item()


def test_low_precision_is_computed_in_float32():
    inputs, labels = _data()
    stream = streams.from_arrays(inputs, labels, batch_size=16)
    fn = lambda p, x: net.apply_fn(p, x).astype(jnp.bfloat16)  # noqa: E731
    got = predictions.collect([(fn, net.make_params(0))], stream)
    assert got.probability.dtype == jnp.float32
    logits = np.asarray(fn(net.make_params(0), inputs), np.float64)
    _assert_is(got, _twin(logits[None], labels))


def test_all_masked_is_no_data():
    inputs, labels = _data()

    def masked():
        yield {"inputs": inputs, "labels": labels, "mask": np.zeros(40, bool)}

    got = predictions.collect(_models(2), masked)
    assert got.right.shape == (2, 0, 1)
    assert got.overlap.shape == (2, 2, 0, 1)
    none = predictions.from_probabilities(np.zeros((2, 0, C)), np.zeros(0, int))
    assert none.right.shape == (2, 0, 1)


def _stored(**changes):
    stored = {"probabilities": np.full((2, 4, C), 1 / C), "labels": np.array([0, 1, 2, 0])}
    return predictions.from_probabilities(**(stored | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"probabilities": [np.full((4, C), 1 / C), np.full((3, C), 1 / C)]},
            ValueError,
            "expected probabilities [N, C] of all models for labels of shape (4,), as (4, 3), "
            "got\n  model 1: (3, 3)",
        ),
        ({"probabilities": []}, ValueError, "expected at least one model, got none"),
        (
            {"probabilities": np.zeros((1, 4))},
            ValueError,
            "expected probabilities [N, C] of all models for labels of shape (4,), got (4,)",
        ),
        (
            {"probabilities": np.ones((1, 4, 1))},
            ValueError,
            "expected probabilities of at least two classes, got shape (4, 1); a single output "
            "for a label of 0 and 1 takes labels [N, 1]",
        ),
        (
            {"probabilities": np.full((1, 4, C), -2.0)},
            ValueError,
            "expected probabilities of model 0 in 0 … 1, got -2 … -2; pass logits through "
            "softmax or sigmoid",
        ),
        (
            {"probabilities": np.full((1, 4, C), 0.5)},
            ValueError,
            "expected probabilities of model 0 that sum to 1 over the classes, got others; "
            "several labels an example take labels [N, C]",
        ),
        (
            {"labels": np.array([0, 1, 3, -1])},
            ValueError,
            "expected labels in 0 … 2, got 2 with other values, such as 3; mask such examples out",
        ),
        (
            {"labels": np.full((4, C), 2)},
            ValueError,
            "expected labels of 0 and 1, got 12 with other values, such as 2; mask such "
            "examples out",
        ),
        (
            {"labels": np.zeros((4, 1, 1), int)},
            ValueError,
            "expected labels as [N], or as [N, C] of 0 and 1, got (4, 1, 1)",
        ),
        (
            {"labels": np.zeros(4)},
            TypeError,
            "expected labels [N] as integers, got dtype float64; several labels an example have "
            "the shape [N, C]",
        ),
        ({"threshold": 1.0}, ValueError, "expected a threshold between 0 and 1, got 1.0"),
    ],
)
def test_errors_of_stored_probabilities(changes, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        _stored(**changes)


def test_errors_of_streams():
    inputs, labels = _data()
    with pytest.raises(ValueError, match="expected a stream with at least one batch, got none"):
        predictions.collect(_models(), streams.from_arrays(inputs[:0], labels[:0], batch_size=4))
    with pytest.raises(ValueError, match=r"expected batches with 'labels', got the keys \['index'"):
        predictions.collect(_models(), streams.from_arrays(inputs, batch_size=4))
    other = (net.apply_fn, net.make_params(1, classes=5))
    with pytest.raises(ValueError, match=r"expected logits \[N, C\] of all models.*") as raised:
        predictions.collect([*_models(1), other], streams.from_arrays(inputs, labels, batch_size=4))
    assert str(raised.value).endswith("as (4, 3), got\n  model 1: (4, 5)")
    labels[20] = 7
    with pytest.raises(ValueError, match="got 1 with other values, such as 7; mask"):
        predictions.collect(_models(), streams.from_arrays(inputs, labels, batch_size=4))
