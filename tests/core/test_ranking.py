"""The area under the ROC curve of several labels, over a whole set."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.core import auc, evaluate, evaluate_path, metrics, streams

NUM, LABELS = 23, 3


def numpy_auc(scores, targets):
    """P(positive above negative) + P(tie) / 2 over all pairs."""
    above, below = scores[targets], scores[~targets]
    if not len(above) or not len(below):
        return np.nan
    pairs = above[:, None].astype(np.float64) - below[None, :]
    return np.mean((pairs > 0) + 0.5 * (pairs == 0))


def data(seed, levels=6):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, (NUM, LABELS)).astype(np.float32)
    return scores, rng.random((NUM, LABELS)) < 0.4


def identity(params, inputs):
    return inputs * params["scale"]


ONE = {"scale": jnp.float32(1)}


def found(scores, targets, batch_size=5):
    stream = streams.from_arrays(scores, targets.astype(np.float32), batch_size=batch_size)
    return evaluate(identity, auc.ranking(NUM, LABELS), ONE, stream)


@given(seed=st.integers(0, 1000), batch_size=st.sampled_from([4, NUM + 4]))
def test_all_pairs_decide_for_any_batch_size(seed, batch_size):
    scores, targets = data(seed)
    results = found(scores, targets, batch_size)
    expected = [numpy_auc(scores[:, j], targets[:, j]) for j in range(LABELS)]
    np.testing.assert_allclose(results["auc_of_label"], expected, rtol=1e-6)
    np.testing.assert_allclose(results["auc"], np.nanmean(expected), rtol=1e-6)
    stream = streams.from_arrays(scores, targets.astype(np.float32), batch_size=5)
    plain = evaluate(identity, metrics.multilabel(), ONE, stream)
    np.testing.assert_allclose(results["loss"], plain["loss"], rtol=1e-6)
    assert results["count"] == NUM


@given(order=st.permutations(range(5)))
def test_merge_is_a_commutative_monoid(order):
    metric = auc.ranking(NUM, LABELS)
    scores, targets = data(0)
    batches = list(streams.from_arrays(scores, targets.astype(np.float32), batch_size=5)())
    states = [metric.update(metric.init(), b["inputs"], b) for b in batches]
    left = functools.reduce(metric.merge, states, metric.init())
    right = functools.reduce(lambda s, t: metric.merge(t, s), [states[i] for i in order])
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(close, metric.compute(left), metric.compute(right))
    jax.tree.map(np.testing.assert_array_equal, metric.merge(metric.init(), left), left)


@given(seed=st.integers(0, 1000))
def test_only_the_order_of_scores_counts_and_turned_labels_give_the_rest(seed):
    scores, targets = data(seed, levels=1000)
    everywhere = jnp.ones(NUM, bool)
    area = auc.area_under_roc(jnp.asarray(scores), jnp.asarray(targets), everywhere)
    same = auc.area_under_roc(jnp.asarray(np.exp(scores / 99)), jnp.asarray(targets), everywhere)
    np.testing.assert_array_equal(area, same)
    turned = auc.area_under_roc(jnp.asarray(scores), jnp.asarray(~targets), everywhere)
    np.testing.assert_allclose(area + turned, 1, rtol=1e-6)


def test_masked_rows_change_nothing_and_nan_is_told():
    scores, targets = data(3)
    mask = np.arange(NUM) < 15
    dirty = np.where(mask[:, None], scores, np.nan)
    area = auc.area_under_roc(jnp.asarray(dirty), jnp.asarray(targets), jnp.asarray(mask))
    expected = [numpy_auc(scores[:15, j], targets[:15, j]) for j in range(LABELS)]
    np.testing.assert_allclose(area, expected, rtol=1e-6)
    dirty[2, 1] = np.nan
    area = auc.area_under_roc(jnp.asarray(dirty), jnp.asarray(targets), jnp.asarray(mask))
    np.testing.assert_array_equal(np.isnan(area), [False, True, False])


def test_a_label_without_positives_has_no_area_and_is_left_out_of_the_mean():
    scores, targets = data(4)
    targets[:, 0] = False
    results = found(scores, targets)
    assert np.isnan(results["auc_of_label"][0])
    np.testing.assert_allclose(results["auc"], np.mean(results["auc_of_label"][1:]), rtol=1e-6)
    assert np.isnan(found(scores, np.zeros_like(targets))["auc"])


def test_along_a_path():
    scores, targets = data(5)
    stream = streams.from_arrays(scores, targets.astype(np.float32), batch_size=5)
    path = lambda t: {"scale": t}  # noqa: E731 - a path is a function
    results = evaluate_path(
        identity, auc.ranking(NUM, LABELS), path, jnp.array([-1.0, 0.0, 1.0]), stream
    )
    one = found(scores, targets)["auc_of_label"]
    np.testing.assert_allclose(results["auc_of_label"][2], one, rtol=1e-6)
    np.testing.assert_allclose(results["auc_of_label"][0], 1 - one, rtol=1e-5)
    np.testing.assert_allclose(results["auc_of_label"][1], 0.5, rtol=1e-6)


def test_it_needs_an_index():
    batch = {"inputs": np.zeros((2, 3), np.float32), "labels": np.zeros((2, 3), np.float32)}
    with pytest.raises(ValueError, match="expected batches with 'index'"):
        evaluate(identity, auc.ranking(2, 3), ONE, lambda: iter([batch]))
