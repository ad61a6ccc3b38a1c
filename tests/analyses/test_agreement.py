import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tests.helpers import oracles
from tlx.analyses import agreement
from tlx.core import streams

C = 3
COUNTS = ("common", "only_a", "only_b", "neither")


@st.composite
def _predictions(draw):
    n = draw(st.sampled_from([0, 1, 5, 30]))  # few lengths, since each is compiled
    arrays = st.lists(st.integers(0, C - 1), min_size=n, max_size=n)
    return tuple(np.asarray(draw(arrays), np.int32) for _ in range(3))


@given(_predictions())
def test_mistakes_are_the_formulas(given_arrays):
    labels, a, b = given_arrays
    got = agreement.mistakes_from_predictions(labels, a, b, num_classes=C)
    for name, expected in oracles.mistakes(labels, a, b, C).items():
        assert getattr(got, name).dtype == jnp.int32
        np.testing.assert_array_equal(getattr(got, name), expected)
    np.testing.assert_array_equal(got.num_examples, np.bincount(labels, minlength=C))
    np.testing.assert_allclose(got.kappa, oracles.kappa(a == labels, b == labels), atol=1e-5)
    for c in range(C):
        of_class = labels == c
        kappa = oracles.kappa((a == labels)[of_class], (b == labels)[of_class])
        np.testing.assert_allclose(got.kappa_by_class[c], kappa, atol=1e-5)
        if of_class.any():
            rate = np.mean(((a != labels) & (b != labels))[of_class])
            np.testing.assert_allclose(got.common_rate[c], rate, rtol=1e-6)
        else:
            assert np.isnan([got.common_rate[c], got.only_a_rate[c], got.only_b_rate[c]]).all()
    if len(labels):
        np.testing.assert_allclose(got.accuracy_a, np.mean(a == labels), rtol=1e-6)
        np.testing.assert_allclose(got.accuracy_b, np.mean(b == labels), rtol=1e-6)
    else:
        assert np.isnan([got.accuracy_a, got.accuracy_b, got.kappa]).all()


@given(_predictions())
def test_exchanging_the_models(given_arrays):
    labels, a, b = given_arrays
    got = agreement.mistakes_from_predictions(labels, a, b, num_classes=C)
    back = agreement.mistakes_from_predictions(labels, b, a, num_classes=C)
    exchanged = got._replace(
        only_a=got.only_b,
        only_b=got.only_a,
        only_a_rate=got.only_b_rate,
        only_b_rate=got.only_a_rate,
        accuracy_a=got.accuracy_b,
        accuracy_b=got.accuracy_a,
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), back, exchanged)


def _run(batch_size=16, num_examples=50, nan_row=None):
    inputs, labels = models.make_data(num_examples)
    if nan_row is not None:
        inputs[nan_row] = np.nan
    a, b = models.make_params(0), models.make_params(1)
    stream = streams.from_arrays(inputs, labels, batch_size=batch_size)
    got = agreement.mistakes(models.apply_fn, a, models.apply_fn, b, stream, num_classes=C)
    answers = [np.argmax(models.apply_fn(p, inputs), -1) for p in (a, b)]
    return got, labels, answers


@pytest.mark.parametrize("batch_size", [1, 7, 16, 50, 64])
def test_streaming_is_the_count_of_stored_predictions(batch_size):
    got, labels, answers = _run(batch_size)
    stored = agreement.mistakes_from_predictions(labels, *answers, num_classes=C)
    jax.tree.map(np.testing.assert_array_equal, got, stored)


def test_a_model_agrees_with_itself():
    labels = np.array([0, 1, 2, 0])
    answers = np.array([0, 1, 0, 1])
    got = agreement.mistakes_from_predictions(labels, answers, answers, num_classes=C)
    assert got.kappa == 1
    np.testing.assert_array_equal(got.only_a, 0)
    right = agreement.mistakes_from_predictions(labels, labels, labels, num_classes=C)
    assert right.kappa == 1
    opposite = agreement.mistakes_from_predictions(
        np.array([0, 0]), np.array([0, 1]), np.array([1, 0]), num_classes=2
    )
    assert opposite.kappa == -1


def test_masked_rows_with_labels_out_of_range_change_nothing():
    metric = agreement.metric(C)
    logits = jnp.full((2, C), jnp.nan), jnp.full((2, C), jnp.nan)
    batch = {
        "inputs": np.zeros((2, 1)),
        "labels": np.array([-7, 99]),
        "mask": np.zeros(2, bool),
    }
    np.testing.assert_array_equal(metric.update(metric.init(), logits, batch), metric.init())


def test_an_answer_with_nan_is_wrong():
    got, labels, _ = _run(nan_row=0)
    clean, _, _ = _run()
    assert got.common[labels[0]] - clean.common[labels[0]] in (0, 1)
    assert got.num_examples.sum() == 50
    only_nan, *_ = _run(num_examples=1, nan_row=0)
    assert only_nan.common.sum() == 1


def test_an_empty_stream_has_no_data():
    got, *_ = _run(num_examples=0)
    assert got.num_examples.sum() == 0
    assert np.isnan([got.kappa, got.accuracy_a, *got.kappa_by_class]).all()


def test_merge_in_any_order():
    metric = agreement.metric(C)
    rng = np.random.default_rng(0)
    batches = [
        (
            tuple(rng.standard_normal((4, C)) for _ in range(2)),
            {"inputs": np.zeros((4, 1)), "labels": rng.integers(0, C, 4)},
        )
        for _ in range(3)
    ]
    a, b, c = (metric.update(metric.init(), *batch) for batch in batches)
    expected = metric.merge(metric.merge(a, b), c)
    np.testing.assert_array_equal(metric.merge(c, metric.merge(b, a)), expected)
    np.testing.assert_array_equal(metric.merge(metric.init(), expected), expected)


@pytest.mark.parametrize(
    ("labels", "a", "error", "message"),
    [
        ([0, 3], [0, 0], ValueError, "expected labels in 0 … 2, but 1 examples have others"),
        ([0, -1], [0, 0], ValueError, "but 1 examples have others"),
        ([0], [0, 0], ValueError, r"expected three vectors of one length \[N\]"),
        ([0.0, 1.0], [0, 0], TypeError, "expected labels as integers, got float32"),
    ],
)
def test_bad_predictions(labels, a, error, message):
    with pytest.raises(error, match=message):
        agreement.mistakes_from_predictions(labels, a, a, num_classes=C)


def test_logits_of_another_size():
    inputs, labels = models.make_data(8)
    params = models.make_params(0)
    stream = streams.from_arrays(inputs, labels, batch_size=4)
    with pytest.raises(ValueError, match=r"expected logits \[B, C\] = \(4, 5\)"):
        agreement.mistakes(models.apply_fn, params, models.apply_fn, params, stream, num_classes=5)


def test_stored_predictions_under_jit():
    labels, answers = np.array([0, 1, 2]), np.array([0, 2, 2])
    count = jax.jit(lambda x, y: agreement.mistakes_from_predictions(x, y, y, num_classes=C).common)
    np.testing.assert_array_equal(count(labels, answers), [0, 1, 0])
