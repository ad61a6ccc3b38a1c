import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.models import apply_fn, make_data, make_params, numpy_classification
from tlx.core import evaluate, metrics, streams

METRIC = metrics.mean(metrics.accuracy)
METRICS = {
    "mean": metrics.mean(metrics.softmax_cross_entropy),
    "classification": metrics.classification(),
    "collect": metrics.collect(metrics.softmax_cross_entropy, 40),
    "combine": metrics.combine({"c": metrics.classification(), "a": METRIC}),
}  # fmt: skip


def assert_close(a, b):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), a, b)


def states_of(metric, num_batches):
    params = make_params(0)
    stream = streams.from_arrays(*make_data(40), batch_size=-(-40 // num_batches))
    return [metric.update(metric.init(), apply_fn(params, b["inputs"]), b) for b in stream()]


@pytest.mark.parametrize("name", METRICS)
@given(order=st.permutations(range(5)))
def test_merge_is_a_commutative_monoid(name, order):
    metric = METRICS[name]
    states = states_of(metric, 5)
    left = functools.reduce(metric.merge, states, metric.init())
    right = functools.reduce(lambda s, t: metric.merge(t, s), [states[i] for i in order])
    assert_close(metric.compute(left), metric.compute(right))
    assert_close(metric.merge(metric.init(), left), left)
    assert_close(metric.merge(left, metric.init()), left)


@pytest.mark.parametrize("name", METRICS)
def test_update_is_merge_of_a_batch(name):
    metric = METRICS[name]
    params = make_params(0)
    first, second = states_of(metric, 2)
    batch = list(streams.from_arrays(*make_data(40), batch_size=20)())[1]
    grown = metric.update(first, apply_fn(params, batch["inputs"]), batch)
    assert_close(grown, metric.merge(first, second))


@pytest.mark.parametrize("name", METRICS)
def test_masked_rows_change_nothing_even_when_nan(name):
    metric = METRICS[name]
    params = make_params(0)
    inputs, labels = make_data(20)
    batch = {**next(streams.from_arrays(inputs, labels, batch_size=20)())}
    expected = metric.update(metric.init(), apply_fn(params, inputs), batch)
    padded = streams.pad_batch(batch, 32)
    padded["inputs"][20:] = np.nan
    found = metric.update(metric.init(), apply_fn(params, padded["inputs"]), padded)
    assert_close(metric.compute(found), metric.compute(expected))


@given(num_examples=st.integers(1, 40), batch_size=st.integers(1, 50))
def test_evaluate_meets_numpy_whatever_the_batch_size(num_examples, batch_size):
    params, (inputs, labels) = make_params(1), make_data(num_examples)
    stream = streams.from_arrays(inputs, labels, batch_size=batch_size)
    found = evaluate(apply_fn, metrics.classification(), params, stream)
    loss, accuracy = numpy_classification(params, inputs, labels)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], accuracy, rtol=1e-6)
    assert found["count"] == num_examples
    assert found["count"].dtype == jnp.int32


def test_empty_stream_is_nan_with_its_count():
    stream = streams.from_arrays(*make_data(0), batch_size=4)
    found = evaluate(apply_fn, metrics.classification(), make_params(0), stream)
    assert np.isnan(found["loss"])
    assert np.isnan(found["accuracy"])
    assert found["count"] == 0


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_nan(label):
    batch = {"labels": jnp.asarray([0, label])}
    logits = jnp.zeros((2, 3))
    for fn in (metrics.softmax_cross_entropy, metrics.accuracy):
        np.testing.assert_array_equal(np.isnan(fn(logits, batch)), [False, True])


def test_nan_logits_are_never_correct():
    logits = jnp.asarray([[jnp.nan, 0.0], [1.0, 0.0]])
    found = metrics.accuracy(logits, {"labels": jnp.asarray([0, 0])})
    np.testing.assert_array_equal(found, [0.0, 1.0])


def test_multilabel_meets_numpy():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((30, 5))
    labels = rng.integers(0, 2, (30, 5))
    p = 1 / (1 + np.exp(-logits))
    loss = -(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean()
    stream = streams.from_arrays(logits.astype(np.float32), labels, batch_size=7)
    found = evaluate(lambda _, x: x, metrics.multilabel(), {}, stream)
    np.testing.assert_allclose(found["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(found["accuracy"], ((p >= 0.5) == labels).mean(), rtol=1e-6)


def test_collect_keeps_the_streams_order_and_marks_the_unseen():
    inputs, labels = make_data(10)
    stream = streams.from_arrays(inputs, labels, batch_size=4)
    metric = metrics.collect(metrics.accuracy, 12)
    found = evaluate(apply_fn, metric, make_params(0), stream)
    expected = metrics.accuracy(apply_fn(make_params(0), inputs), {"labels": labels})
    np.testing.assert_array_equal(found[:10], expected)
    assert np.isnan(found[10:]).all()


def test_collect_needs_an_index():
    with pytest.raises(ValueError, match="expected batches with 'index'"):
        evaluate(
            apply_fn,
            metrics.collect(metrics.accuracy, 3),
            make_params(0),
            lambda: iter([dict(zip(("inputs", "labels"), make_data(3), strict=True))]),
        )


@given(num_examples=st.integers(0, 30), batch_size=st.integers(1, 12))
def test_stream_laws(num_examples, batch_size):
    inputs, labels = make_data(num_examples)
    stream = streams.from_arrays(inputs, labels, batch_size=batch_size)
    first, second = list(stream()), list(stream())
    assert len(first) == stream.num_batches
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert all(batch["inputs"].shape == (batch_size, 5) for batch in first)
    assert sum(batch["mask"].sum() for batch in first) == num_examples
    if first:
        index = np.concatenate([batch["index"][batch["mask"]] for batch in first])
        np.testing.assert_array_equal(index, np.arange(num_examples))


@pytest.mark.parametrize("size", [1, 2, 10])
def test_prefetch_is_the_same_stream(size):
    stream = streams.from_arrays(*make_data(25), batch_size=4)
    ahead = streams.prefetch(stream, size)
    for _ in range(2):
        jax.tree.map(np.testing.assert_array_equal, list(ahead()), list(stream()))
    next(iter(ahead()))  # left early


def test_prefetch_raises_where_the_batch_would_have_come():
    def broken():
        yield from list(streams.from_arrays(*make_data(4), batch_size=2)())
        raise OSError("disk gone")

    found = []
    with pytest.raises(OSError, match="disk gone"):
        found.extend(iter(streams.prefetch(broken)()))
    assert len(found) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: streams.from_arrays([1], batch_size=0), "batch_size of at least 1, got 0"),
        (
            lambda: streams.from_arrays([1, 2], [1], batch_size=1),
            "got 2 inputs and 1 labels",
        ),
        (
            lambda: streams.pad_batch({"inputs": np.ones(3)}, 2),
            "a batch of at most 2 rows, got 3",
        ),
        (lambda: streams.prefetch(lambda: iter(()), 0), "prefetch size of at least 1, got 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
