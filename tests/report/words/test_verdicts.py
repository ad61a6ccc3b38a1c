"""No sentence claims an order that the intervals do not support: the comparison, then the page."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlx.report.words.numbers import UNKNOWN, Estimate
from tlx.report.words.verdicts import (
    AGREES,
    DIFFERS,
    NO_INTERVAL,
    OPEN,
    ZERO,
    above,
    above_zero,
    ends,
    order,
    together,
)

SOME = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, math.nan, math.inf, -math.inf])
INTERVALS = st.none() | st.tuples(SOME, SOME)
ESTIMATES = st.builds(lambda v, e, i: Estimate(v, e, interval=i), SOME, SOME, INTERVALS)
KNOWN = st.tuples(*[st.floats(-9, 9)] * 3).map(sorted).map(
    lambda v: Estimate(v[1], interval=(v[0], v[2]))
)  # fmt: skip


def is_interval(estimate):
    if not math.isfinite(estimate.value) or estimate.interval is None:
        return False
    low, high = estimate.interval
    return math.isfinite(low) and math.isfinite(high) and low <= high


MANY = settings(max_examples=300)


@MANY
@given(ESTIMATES, ESTIMATES)
def test_only_intervals_apart_are_an_order(one, other):
    found = above(one, other)
    if found != "open" and one.interval is not None and other.interval is not None:
        assert is_interval(one)
        assert is_interval(other)
        (low, high), (least, most) = one.interval, other.interval
        assert (low > most) if found == "yes" else (high < least)
    back = {"yes": "no", "no": "yes", "open": "open"}
    assert above(other, one) == back[found]
    assert above(one, one) == "open"


@MANY
@given(KNOWN, KNOWN)
def test_known_intervals_decide(one, other):
    (low, high), (least, most) = one.interval, other.interval
    assert above(one, other) == ("yes" if low > most else "no" if high < least else "open")
    said = {"yes": AGREES, "no": DIFFERS, "open": OPEN}
    assert order(one, other) == said[above(one, other)]
    assert above_zero(one) == order(one, Estimate(0.0, interval=(0.0, 0.0)))


@MANY
@given(ESTIMATES, SOME)
def test_a_threshold_is_passed_by_the_whole_interval_only(one, threshold):
    found = above(one, threshold)
    if not math.isfinite(threshold):
        assert found == "open"
    elif one.interval is not None:
        low, high = one.interval if is_interval(one) else (math.nan, math.nan)
        assert found == ("yes" if low > threshold else "no" if high <= threshold else "open")


@MANY
@given(KNOWN, KNOWN, st.floats(0, 9), st.floats(-9, 9))
def test_a_wider_interval_decides_no_more(one, other, wider, threshold):
    low, high = one.interval
    wide = one._replace(interval=(low - wider, high + wider))
    for against in (other, threshold):
        assert above(wide, against) in ("open", above(one, against))


def test_intervals_that_touch_are_open_and_a_threshold_may_be_reached():
    one, other = Estimate(1.5, interval=(1.0, 2.0)), Estimate(2.5, interval=(2.0, 3.0))
    assert above(one, other) == above(other, one) == "open"
    assert above(one, 2.0) == "no"
    assert above(one, 1.0) == "open"
    assert above(one, np.nextafter(1.0, 0.0)) == "yes"
    exact = Estimate(1.0, interval=(1.0, 1.0))
    assert above(exact, exact) == "open"
    assert above(exact, 1.0) == "no"


def test_errors_alone_make_an_interval_of_two_standard_errors():
    one, other = Estimate(5.0, 3.0), Estimate(0.0, 4.0)
    assert ends(one) == (-1.0, 11.0)
    assert above(one, other) == "open"
    # of the difference: 10 ± 2·5, though the two intervals overlap from 5 to 8
    assert above(Estimate(10.5, 3.0), other) == "yes"
    assert above(other, Estimate(10.5, 3.0)) == "no"
    assert above(Estimate(10.0, 3.0), other) == "open"
    assert above(Estimate(9.0, 3.0), 2.0) == "yes"
    assert above(Estimate(8.0, 3.0), 2.0) == "open"


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (Estimate(3.0), NO_INTERVAL),
        (Estimate(3.0, 0.0), NO_INTERVAL),
        (Estimate(3.0, math.inf), NO_INTERVAL),
        (Estimate(3.0, interval=(4.0, 2.0)), NO_INTERVAL),
        (Estimate(3.0, 0.1, interval=(math.nan, 4.0)), NO_INTERVAL),
        (Estimate(3.0, interval=(2.0, math.inf)), NO_INTERVAL),
        (UNKNOWN, ""),
        (Estimate(math.inf, interval=(2.0, 4.0)), ""),
        (Estimate(3.0, interval=(0.0, 4.0)), OPEN),
    ],
)
def test_without_an_interval_there_is_no_verdict(one, verdict):
    assert order(one, ZERO) == verdict
    assert above(one, ZERO) == above(one, 0.0) == "open"
    assert order(ZERO, one) == verdict


def test_together_one_that_differs_decides_then_an_open_one():
    every = [AGREES, NO_INTERVAL, OPEN, DIFFERS]
    for i, verdict in enumerate(every):
        assert together(every[: i + 1]) == verdict
    assert together(["", ""]) == together([]) == ""
