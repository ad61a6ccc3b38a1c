"""Barriers: the height and its sampling error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tests.helpers import oracles
from tlx.analyses.landscape import barriers, interpolation
from tlx.core import metrics, streams

KINDS = barriers.KINDS
GRID = np.linspace(0, 1, 21, dtype=np.float32)


@st.composite
def _curves(draw):
    length = draw(st.sampled_from([0, 1, 6]))  # few lengths, since each is compiled
    inner = draw(st.lists(st.integers(1, 99), min_size=length, max_size=length, unique=True))
    alphas = np.float32([-0.5, 0, *sorted(i / 100 for i in inner), 1, 1.5])
    loss = st.floats(-100, 100, width=32)
    return alphas, np.float32(draw(st.lists(loss, min_size=len(alphas), max_size=len(alphas))))


@pytest.mark.parametrize("kind", KINDS)
@given(curve=_curves())
def test_barrier_is_the_formula(kind, curve):
    got = barriers.barrier(*curve, kind=kind)
    height, alpha = oracles.barrier(*curve, kind=kind)
    np.testing.assert_allclose(got.height, height, rtol=1e-5, atol=1e-4)
    at = np.flatnonzero(curve[0] == got.alpha)[0]
    again = oracles.barrier(
        np.float32([0, 1, got.alpha]) if 0 < alpha < 1 else np.float32([0, 1]),
        curve[1][[1, -2, at]] if 0 < alpha < 1 else curve[1][[1, -2]],
        kind,
    )[0]
    np.testing.assert_allclose(again, height, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@given(curve=_curves())
def test_barrier_is_symmetric_and_bounded_below(kind, curve):
    alphas, losses = curve[0][1:-1], curve[1][1:-1]
    got = barriers.barrier(alphas, losses, kind=kind).height
    back = barriers.barrier((1 - alphas)[::-1], losses[::-1], kind=kind).height
    np.testing.assert_allclose(got, back, rtol=1e-5, atol=1e-4)
    floor = 0 if kind == "chord" else abs(losses[0] - losses[-1]) / 2
    assert got >= floor - 1e-4


def test_barrier_of_a_straight_path_is_zero():
    got = barriers.barrier([0, 0.5, 1], [1.0, 2.0, 3.0], kind="chord")
    assert (float(got.height), float(got.alpha)) == (0, 0)
    assert float(barriers.barrier([0, 1], [1.0, 3.0], kind="endpoint_mean").height) == 1


def test_barrier_of_accuracy_is_its_fall():
    accuracy = np.float32([0.9, 0.1, 0.8])
    falls = [
        barriers.barrier([0, 0.5, 1], values, kind="chord").height
        for values in (-accuracy, 1 - accuracy)
    ]
    np.testing.assert_allclose(falls, 0.75, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_barrier_without_finite_losses(kind):
    alphas = [-1, 0, 0.5, 1, 2]
    nothing = barriers.barrier(alphas, [0, 0, np.nan, 0, 0], kind=kind)
    assert np.isnan(nothing.height)
    assert np.isnan(nothing.alpha)
    infinite = barriers.barrier(alphas, [0, 0, np.inf, 0, 0], kind=kind)
    assert np.isposinf(infinite.height)
    assert infinite.alpha == 0.5
    outside = barriers.barrier(alphas, [np.nan, 1, 2, 1, np.inf], kind=kind)
    assert float(outside.height) == 1


def test_barrier_under_jit_and_vmap():
    alphas = jnp.asarray([0.0, 0.5, 1.0])
    losses = jnp.asarray([[1.0, 3.0, 1.0], [0.0, 0.0, 2.0]])

    @jax.jit
    def heights(alphas, losses):
        return jax.vmap(lambda x: barriers.barrier(alphas, x, kind="chord").height)(losses)

    np.testing.assert_array_equal(heights(alphas, losses), [2, 0])
    assert np.isnan(heights(alphas + 0.1, losses)).all()


@pytest.mark.parametrize(
    ("alphas", "losses", "kind", "message"),
    [
        ([0, 1], [1.0, 2.0], "cord", "unknown kind of barrier 'cord'; did you mean 'chord'"),
        ([0, 1], [1.0], "chord", "expected one loss for each alpha, got 2 alphas and 1 losses"),
        ([1, 0], [1.0, 2.0], "chord", "expected alphas that increase"),
        ([0, 0.9], [1.0, 2.0], "chord", "among the alphas, .*, without 1"),
        ([0.5], [1.0], "chord", "without 0 and 1"),
        ([0, 1], [[1.0, 2.0]], "chord", r"expected losses as a vector \[K\]"),
    ],
)
def test_barrier_refuses(alphas, losses, kind, message):
    with pytest.raises(ValueError, match=message):
        barriers.barrier(alphas, losses, kind=kind)


POINTS = np.float32([-0.5, 0, 0.3, 0.7, 1])
MEANS = np.asarray([9, 0, 1.0, 1.2, 0.5])


def _interval(alphas, values, kind="chord", seed=0, num_resamples=500, **options):
    key = jax.random.key(seed)
    return barriers.barrier_interval(
        alphas, values, kind=kind, key=key, num_resamples=num_resamples, **options
    )


def _noisy_losses(mean, num_examples, rng):
    shared = rng.standard_normal((1, num_examples))
    own = rng.standard_normal((len(mean), num_examples))
    return np.float32(mean[:, None] + shared + own)


VALUES = _noisy_losses(MEANS, 60, np.random.default_rng(0))  # one shape, compiled once


@pytest.mark.parametrize("kind", KINDS)
def test_interval_is_that_of_resampling_one_at_a_time(kind):
    got = _interval(POINTS, VALUES, kind, num_resamples=4000)
    height, alpha = oracles.barrier(POINTS, VALUES.mean(1, dtype=np.float64), kind)
    np.testing.assert_allclose(got.height, height, rtol=1e-5)
    assert got.alpha == np.float32(alpha)
    low, middle, high = oracles.barrier_interval(POINTS, VALUES, kind, seed=1)
    np.testing.assert_allclose([got.low, got.high], [low, high], atol=0.05)
    np.testing.assert_allclose(got.bias, middle - height, atol=0.05)


@pytest.mark.parametrize("kind", KINDS)
def test_interval_of_the_line_backwards_is_the_same(kind):
    one, other = _interval(POINTS, VALUES, kind), _interval(1 - POINTS[::-1], VALUES[::-1], kind)
    for name in ("height", "low", "high", "bias"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-5)
    np.testing.assert_allclose(one.alpha, 1 - other.alpha, rtol=1e-6)


def test_interval_of_accuracy_is_that_of_its_fall():
    rates = np.asarray([[0.9], [0.9], [0.6], [0.3], [0.9]])
    correct = np.float32(np.random.default_rng(0).random(VALUES.shape) < rates)
    one, other = _interval(POINTS, -correct), _interval(POINTS, 1 - correct)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), one, other)
    assert one.low < one.height < one.high


def test_interval_covers_where_the_peak_is_clear_and_not_where_the_line_is_flat():
    rng = np.random.default_rng(0)
    covered, ratio = [], []
    for mean in (1 - np.abs(2 * GRID - 1), 0 * GRID):
        truth = mean.max()
        found = [
            _interval(GRID, _noisy_losses(mean, 400, rng), seed=i, num_resamples=200)
            for i in range(100)
        ]
        covered.append(np.mean([f.low <= truth <= f.high for f in found]))
        ratio.append(np.mean([f.bias / (f.high - f.low) for f in found]))
    assert 0.9 < covered[0] <= 1
    assert covered[1] < 0.3  # as the docstring warns
    assert ratio[0] < 0.06 < 0.13 < ratio[1]


def test_interval_grows_with_confidence_and_repeats_with_the_key():
    narrow, wide = (_interval(POINTS, VALUES, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high
    again = _interval(POINTS, VALUES, confidence=0.5)
    jax.tree.map(np.testing.assert_array_equal, narrow, again)


def test_interval_leaves_out_what_was_not_seen_and_what_is_outside():
    values = np.where(np.arange(60) < 40, VALUES, np.float32(np.nan))
    got = _interval(POINTS, values)
    height, _ = oracles.barrier(POINTS, VALUES[:, :40].mean(1, dtype=np.float64), "chord")
    np.testing.assert_allclose(got.height, height, rtol=1e-5)
    assert got.low < got.height < got.high
    outside = values.copy()
    outside[0] = np.inf
    np.testing.assert_array_equal(_interval(POINTS, outside), got)


def test_interval_without_data_is_nan():
    nan = np.float32(np.nan)
    assert np.isnan(_interval(POINTS, VALUES * nan)).all()
    assert np.isnan(_interval(POINTS, VALUES[:, :0])).all()
    one = _interval(POINTS, np.where(np.arange(60) == 7, VALUES, nan))
    height, alpha = oracles.barrier(POINTS, VALUES[:, 7], "chord")
    np.testing.assert_allclose([one.height, one.alpha], [height, alpha], rtol=1e-5)
    assert np.isnan([one.low, one.high, one.bias]).all()
    for bad in (np.nan, np.inf):
        broken = VALUES.copy()
        broken[2, 1] = bad
        assert np.isnan(_interval(POINTS, broken)).all()


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ([[0.0], [1.0], [2.0]], {}, r"expected values \[K, N\] with a row for each of 2 alphas"),
        ([0.0, 1.0], {}, r"got shape \(2,\); collect the loss of each example"),
        ([[0.0], [1.0]], {"kind": "mean"}, "unknown kind of barrier 'mean'"),
        ([[0.0], [1.0]], {"confidence": 1}, "expected a confidence between 0 and 1, got 1"),
        ([[0.0], [1.0]], {"num_resamples": 0}, "expected at least one resample, got 0"),
    ],
)
def test_interval_refuses(values, options, message):
    with pytest.raises(ValueError, match=message):
        _interval([0, 1], values, **options)


def test_interval_of_a_line_in_one_pass():
    stream = streams.from_arrays(*models.make_data(50), batch_size=16)
    each = metrics.collect(metrics.softmax_cross_entropy, stream.num_examples)
    metric = metrics.combine({"mean": metrics.classification(), "each": each})
    found = interpolation.line(
        models.apply_fn, metric, models.make_params(0), models.make_params(1), stream,
        alphas=[0, 0.25, 0.5, 1],
    )  # fmt: skip
    interval = _interval(found.alphas, found.results["each"])
    height = barriers.barrier(found.alphas, found.results["mean"]["loss"], kind="chord").height
    np.testing.assert_allclose(interval.height, height, rtol=1e-5, atol=1e-6)
    assert interval.low <= interval.high
