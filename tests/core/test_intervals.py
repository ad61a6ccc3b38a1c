import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.core import intervals

KEY = jax.random.key(0)


def _means(values, num_resamples=200, key=KEY):
    return np.asarray(intervals.resampled_means(values, num_resamples=num_resamples, key=key))


def _counts(seen, num_resamples=500):
    """How often each example was drawn, from means of indicators; unseen columns are NaN."""
    values = np.where(np.asarray(seen), np.eye(len(seen)), np.nan).astype(np.float32)
    return _means(values[np.asarray(seen)], num_resamples) * np.sum(seen)


@pytest.mark.parametrize("seen", [[True] * 6, [False, True, True, False, True, True, True]])
def test_a_resample_draws_as_many_examples_as_were_seen(seen):
    counts = _counts(seen)
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-5)
    np.testing.assert_allclose(counts.sum(1), np.sum(seen), rtol=1e-5)
    n = np.sum(seen)
    np.testing.assert_allclose(counts.mean(0), 1, atol=5 / np.sqrt(500))
    covariance = np.eye(n) - 1 / n  # of multinomial counts
    np.testing.assert_allclose(np.cov(counts.T), covariance, atol=0.35)


def test_spread_and_correlation_are_those_of_means():
    rng = np.random.default_rng(0)
    values = rng.multivariate_normal([5, 5], [[1, 0.9], [0.9, 1]], 300).T.astype(np.float32)
    found = _means(values, 4000)
    expected = np.cov(values, bias=True) / 300
    np.testing.assert_allclose(found.mean(0), values.mean(1), atol=5 * 0.06 / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(found.T), expected, rtol=0.15)


def test_intervals_hold_the_mean_as_often_as_they_say():
    values = np.random.default_rng(1).standard_normal((400, 60)).astype(np.float32)
    low, high = intervals.percentile_interval(_means(values, 500), 0.9)
    held = np.mean((np.asarray(low) <= 0) & (np.asarray(high) >= 0))
    assert 0.84 < held < 0.94


@given(offset=st.floats(-1e3, 1e3, width=32), scale=st.sampled_from([1e-3, 1.0, 10.0]))
def test_means_move_with_the_values(offset, scale):
    values = np.random.default_rng(2).standard_normal((3, 20)).astype(np.float32)
    moved = _means(np.float32(scale) * values + np.float32(offset))
    atol = 1e-6 * (abs(offset) + scale)
    np.testing.assert_allclose(moved, scale * _means(values) + offset, rtol=1e-5, atol=atol)


def test_equal_values_have_no_spread():
    assert (_means(np.full((2, 9), 0.1, np.float32)) == np.float32(0.1)).all()


def test_blocks_and_the_number_of_resamples_change_nothing(monkeypatch):
    values = np.random.default_rng(3).standard_normal((2, 30)).astype(np.float32)
    expected = _means(values, 50)
    np.testing.assert_allclose(_means(values, 20), expected[:20], rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(intervals, "BLOCK", 100)
    intervals._resampled.clear_cache()
    np.testing.assert_allclose(_means(values, 50), expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(_means(values, 50, jax.random.key(1)), expected)


def test_values_without_a_mean():
    values = np.random.default_rng(4).standard_normal((3, 8)).astype(np.float32)
    values[1, 2], values[2, 3] = np.nan, np.inf
    found = _means(values)
    assert np.isfinite(found[:, 0]).all()
    assert np.isnan(found[:, 1:]).all()
    for few in (values[:1, :1], values[:1, :0], np.full((1, 4), np.nan, np.float32)):
        assert np.isnan(_means(few)).all()


def test_percentile_interval_is_numpys():
    samples = np.random.default_rng(5).standard_normal((101, 2, 3)).astype(np.float32)
    found = intervals.percentile_interval(samples, 0.8)
    np.testing.assert_allclose(found, np.quantile(samples, [0.1, 0.9], axis=0), rtol=1e-5)
    samples[4, 1, 2] = np.nan
    assert np.isnan(intervals.percentile_interval(samples, 0.8)[0]).sum() == 1


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.0, 0.1), "yes"),
        ((0.05, 0.2), "open"),
        ((0.1, 0.2), "open"),
        ((0.11, 0.2), "no"),
        ((np.nan, np.nan), "open"),
        ((np.inf, np.inf), "no"),
        ((np.nan, 0.05), "open"),
        ((0.2, 0.05), "open"),
    ],
)
def test_verdict(interval, expected):
    assert intervals.verdict(*interval, 0.1) == expected


def test_the_worst_verdict():
    assert intervals.worst(["yes", "no", "open"]) == "no"
    assert intervals.worst(["yes", "open"]) == "open"
    assert intervals.worst([]) == "yes"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: _means(np.zeros(3)), r"expected values as an array \[K, N\], got shape \(3,\)"),
        (lambda: _means(np.zeros((1, 3)), 0), "expected at least one resample, got 0"),
        (lambda: intervals.percentile_interval([1.0], 95), "between 0 and 1, got 95"),
        (lambda: intervals.percentile_interval([], 0.9), r"R at least 1, got shape \(0,\)"),
    ],
)
def test_bad_input(function, message):
    with pytest.raises(ValueError, match=message):
        function()
