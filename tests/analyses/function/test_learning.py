import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tlx.analyses.function import inference, learning

STEP = [0, 10, 20, 40, 80]
VALUES = [0.1, 0.5, 0.4, 0.8, 0.7]


@st.composite
def curves(draw, least=2):
    num = draw(st.integers(least, 6))
    gaps = draw(st.lists(st.integers(1, 50), min_size=num, max_size=num))
    values = draw(st.lists(st.floats(0, 1, width=32), min_size=num, max_size=num))
    return np.cumsum(gaps) - gaps[0], np.array(values)


def dense(step, values, num=20001):
    """The curve drawn with straight lines, at many steps."""
    at = np.linspace(step[0], step[-1], num)
    return at, np.interp(at, step, values)


def test_average_leaves_out_what_was_before_training():
    assert learning.average(STEP, VALUES) == pytest.approx((0.5 + 0.4 + 0.8 + 0.7) / 4)
    assert learning.average(STEP[1:], VALUES[1:]) == learning.average(STEP, VALUES)
    assert learning.average(STEP, [math.nan, *VALUES[1:]]) == learning.average(STEP, VALUES)
    assert math.isnan(learning.average(STEP, [*VALUES[:4], math.nan]))
    assert math.isnan(learning.average([0], [0.5]))
    assert math.isnan(learning.average([], []))


@given(curves())
def test_area_is_the_mean_of_the_drawn_curve(curve):
    area = learning.area_under(*curve)
    assert area == pytest.approx(dense(*curve)[1].mean(), abs=1e-3)
    assert min(curve[1]) - 1e-12 <= area <= max(curve[1]) + 1e-12


@given(curves(), st.floats(0.01, 0.99), st.floats(0.1, 10))
def test_area_does_not_depend_on_where_the_curve_was_evaluated(curve, part, unit):
    step, values = curve
    between = step[0] + part * (step[1] - step[0])
    more = np.insert(step.astype(float), 1, between)
    area = learning.area_under(more, np.interp(more, step, values))
    assert area == pytest.approx(learning.area_under(step, values), abs=1e-12)
    assert learning.area_under(unit * step, values) == pytest.approx(area, abs=1e-12)


def test_area_of_no_range():
    assert learning.area_under([0, 4], [0.2, 0.6]) == pytest.approx(0.4)
    assert math.isnan(learning.area_under([3], [0.5]))
    assert math.isnan(learning.area_under([], []))
    assert math.isnan(learning.area_under(STEP, [math.nan, *VALUES[1:]]))


@given(curves(least=1), st.floats(0, 1))
def test_steps_to_is_where_the_drawn_curve_arrives(curve, level):
    step, values = curve
    found = learning.steps_to(step, values, level)
    if values.max() < level:
        assert found == math.inf
        return
    at, drawn = dense(step, values)
    assert np.interp(found, step, values) >= level - 1e-9
    assert (drawn[at < found - 1e-9] < level).all()


@pytest.mark.parametrize(
    ("level", "expected"),
    [(0.1, 0), (0.05, 0), (0.3, 5), (0.5, 10), (0.6, 30), (0.8, 40), (0.81, math.inf)],
)
def test_steps_to_levels(level, expected):
    assert learning.steps_to(STEP, VALUES, level) == pytest.approx(expected)


def test_steps_to_with_unknown_values():
    holed = [0.1, math.nan, 0.6, 0.7, math.nan]
    assert learning.steps_to(STEP, holed, 0.05) == 0
    for level in (0.3, 0.65, 0.9, math.nan):
        assert math.isnan(learning.steps_to(STEP, holed, level))
    assert learning.steps_to(STEP, [0.1, 0.2, 0.3, 0.4, math.nan], 0.35) == pytest.approx(30)
    assert math.isnan(learning.steps_to([], [], 0.5))
    assert learning.steps_to([7], [0.4], 0.5) == math.inf


def test_best_is_the_first_of_equals():
    assert learning.best(STEP, [0.1, 0.8, 0.3, 0.8, 0.2]) == (10, 0.8)
    assert learning.best(STEP, [math.nan, 0.2, 0.3, math.nan, 0.1]) == (20, 0.3)
    assert np.isnan(learning.best(STEP, [math.nan] * 5)).all()
    assert np.isnan(learning.best([], [])).all()


def test_final_is_the_last():
    assert learning.final(STEP, VALUES) == (80, 0.7)
    last = learning.final(STEP, [*VALUES[:4], math.nan])
    assert last.step == 80
    assert math.isnan(last.value)
    assert np.isnan(learning.final([], [])).all()


def test_selection():
    validation = [0.1, 0.4, 0.6, 0.6, 0.5]
    found = learning.select(STEP, validation, VALUES)
    assert found[:4] == (20, 0.4, 40, 0.8)
    assert found.optimism == pytest.approx(0.4)
    assert learning.select(STEP, VALUES, VALUES) == (40, 0.8, 40, 0.8, 0)
    holed = learning.select(STEP, validation, [0.1, 0.5, math.nan, 0.8, 0.7])
    assert (holed.step, *holed[2:4]) == (20, 40, 0.8)
    assert np.isnan([holed.value, holed.optimism]).all()
    assert np.isnan(learning.select(STEP, [math.nan] * 5, VALUES)[:2]).all()
    assert np.isnan(learning.select([], [], [])).all()


@given(curves(), st.randoms())
def test_optimism_is_never_negative(curve, random):
    step, test = curve
    validation = [random.random() for _ in test]
    found = learning.select(step, validation, test)
    assert found.optimism >= 0
    assert found.value == test[np.argmax(validation)]
    assert (found.best_step, found.best_value) == learning.best(step, test)


def test_a_greatest_of_noise_is_above_its_mean():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((300, 2, 20))
    found = [learning.select(range(20), *pair) for pair in noise]
    honest = np.mean([f.value for f in found])
    expected = stats.norm.expect(lambda x: 20 * x * stats.norm.cdf(x) ** 19)  # of 20 normals
    assert abs(honest) < 4 / np.sqrt(300)
    assert np.mean([f.optimism for f in found]) == pytest.approx(expected, abs=4 * 1.2 / 300**0.5)


def test_band_is_the_interval_at_each_step():
    rows = np.random.default_rng(1).random((4, 3))
    found = learning.band(rows, confidence=0.9)
    for t, column in enumerate(rows.T):
        estimate = inference.mean_over_seeds(column, confidence=0.9)
        got = [getattr(found, name)[t] for name in ("mean", "low", "high", "n")]
        np.testing.assert_array_equal(got, [*estimate[:3], 4])
        low, high = stats.ttest_1samp(column, 0).confidence_interval(0.9)
        np.testing.assert_allclose(got[1:3], [low, high])


def test_band_of_runs_of_other_lengths():
    found = learning.band([[0.1, 0.2, math.nan], [0.3, math.nan, math.nan]])
    np.testing.assert_allclose(found.mean, [0.2, 0.2, math.nan])
    np.testing.assert_array_equal(found.n, [2, 1, 0])
    np.testing.assert_array_equal(np.isnan(found.low), [False, True, True])
    one = learning.band([VALUES])
    np.testing.assert_array_equal(one.mean, VALUES)
    assert np.isnan([one.low, one.high]).all()
    for shape in ((0, 3), (2, 0)):
        empty = learning.band(np.zeros(shape))
        assert [len(field) for field in empty] == [shape[1]] * 4
        assert empty.n.sum() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: learning.average([0, 1], [0.5]),
            r"expected steps and values as two \[T\], got shapes \(2,\), \(1,\)",
        ),
        (
            lambda: learning.best([[0, 1]], [[0.5, 0.6]]),
            r"as two \[T\], got shapes \(1, 2\), \(1, 2\)",
        ),
        (
            lambda: learning.steps_to([0, 5, 5], [0.1, 0.2, 0.3], 0.2),
            "expected steps that increase, got 5 after 5; sort the evaluations",
        ),
        (
            lambda: learning.area_under([0, math.nan, 5], [0.1, 0.2, 0.3]),
            "expected steps that increase, got nan after 0",
        ),
        (
            lambda: learning.select([0, 1], [0.1], [0.1, 0.2]),
            r"as two \[T\], got shapes \(2,\), \(1,\)",
        ),
        (
            lambda: learning.band(VALUES),
            r"expected curves as an array \[S, T\], got shape \(5,\)",
        ),
        (lambda: learning.band(np.zeros((0, 0)), confidence=1), "between 0 and 1, got 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_area_is_over_the_steps_that_there_are():
    np.testing.assert_allclose(learning.area_under([10, 20, 50], [0.2, 0.4, 1.0]), 24 / 40)
