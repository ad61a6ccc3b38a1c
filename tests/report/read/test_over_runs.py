"""Means over runs and over pairs of runs, with intervals over runs from three of each on."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from tests.report.made import record_of
from tlx.analyses.function import inference
from tlx.report.read import over_runs
from tlx.report.words.numbers import UNKNOWN, Estimate
from tlx.report.words.verdicts import above

KINDS = {"P": "P", "a": "P-T", "b": "RI-T"}
OF_IMAGES = Estimate(1.0, 0.1, 10, (0.0, 2.0))


def pair(a, b):
    return (KINDS[a[0]], a), (KINDS[b[0]], b)


def over(values):
    """The mean of {(a, b): value}, each with an interval over images as well."""
    each = [OF_IMAGES._replace(value=value) for value in values.values()]
    return over_runs.of_pairs([pair(*names) for names in values], each)


@pytest.mark.parametrize("runs", [3, 5])
def test_all_pairs_of_enough_runs_have_an_interval_over_runs(runs):
    names = [f"a{i}" for i in range(runs)]
    pairs = list(itertools.combinations(names, 2))
    values = np.random.default_rng(runs).normal(size=len(pairs))
    found = over(dict(zip(pairs, values, strict=True)))
    expected = inference.mean_over_pairs(values, pairs)
    ends = (expected.low, expected.high)
    assert found == Estimate(expected.value, expected.error, 10, ends, runs - 1)
    band = over_runs.band([pair(*names) for names in pairs], np.stack([values, -values], 1))
    np.testing.assert_allclose([x[0] for x in band[:3]], expected[:3])
    turned = [-expected.value, -expected.high, -expected.low]
    np.testing.assert_allclose([x[1] for x in band[:3]], turned)


def test_the_one_p_is_held_fixed():
    found = over({("P", "a1"): 1.0, ("P", "a2"): 2.0, ("P", "a3"): 4.0})
    half = stats.t.ppf(0.975, 2) * stats.sem([1, 2, 4])
    assert found.interval == pytest.approx((7 / 3 - half, 7 / 3 + half))


@pytest.mark.parametrize(
    "values",
    [
        {("a1", "a2"): 1.0},
        {("P", "a1"): 1.0},
        {("P", "a1"): 1.0, ("P", "a2"): 1.0},
        {("a1", "b1"): 1.0, ("a2", "b1"): 1.0, ("a3", "b1"): 1.0},
        {("a1", "b1"): 1.0, ("a2", "b2"): 1.0},
        {("a1", "b1"): 1.0, ("a2", "b2"): 1.0, ("a1", "b2"): 1.0, ("a2", "b1"): 1.0},
        {("a1", "a2"): 1.0, ("a1", "a3"): math.nan},
    ],
    ids=str,
)
def test_few_runs_keep_the_interval_over_images(values):
    found = over(values)
    assert (found.value, found.interval, found.n) == (1.0, (0.0, 2.0), 10)
    assert found.error == pytest.approx(0.1)
    known = [pair(*names) for names, value in values.items() if math.isfinite(value)]
    assert over_runs.band(known, np.ones((len(known), 2))) is None


def test_pairs_of_two_kinds_that_share_no_run():
    found = over({(f"a{i}", f"b{i}"): float(i**2) for i in range(4)})
    half = stats.t.ppf(0.975, 3) * stats.sem([0, 1, 4, 9])
    assert found.interval == pytest.approx((3.5 - half, 3.5 + half))


def test_the_same_pair_twice_is_one_pair():
    once = {("a1", "a2"): 1.0, ("a1", "a3"): 2.0, ("a2", "a3"): 4.0}
    pairs = [pair(*names) for names in [*once, ("a2", "a1")]]
    each = [Estimate(value) for value in [0.0, 2.0, 4.0, 2.0]]
    assert over_runs.of_pairs(pairs, each) == over(once)._replace(n=0)


def test_nothing_known_is_unknown():
    assert over({("a1", "b1"): math.nan}) == UNKNOWN
    assert over_runs.of_pairs([], []) == UNKNOWN
    assert over_runs.of_runs([]) == UNKNOWN


def test_runs_have_a_t_interval_from_three_on():
    each = [OF_IMAGES._replace(value=value, n=n) for value, n in ((1.0, 10), (2.0, 9), (4.0, 8))]
    half = stats.t.ppf(0.975, 2) * stats.sem([1, 2, 4])
    found = over_runs.of_runs([*each, UNKNOWN])
    assert found.value == pytest.approx(7 / 3)
    assert found.interval == pytest.approx((7 / 3 - half, 7 / 3 + half))
    assert found.n == 8
    assert over_runs.of_runs(each[:2]).interval == (0.0, 2.0)


def test_pairs_of_records():
    record = record_of(
        "distances",
        inputs={"a": "P-T 1", "b": "P", "kind_a": "P-T", "kind_b": "P"},
        results={"total_l2": 1.0},
    )
    assert over_runs.pairs_of([record]) == [(("P-T", "P-T 1"), ("P", "P"))]


def test_a_caption_says_what_is_drawn():
    assert over_runs.said([1, 1]) == over_runs.said([]) == ""
    assert "over runs" in over_runs.said([1, 3])


def test_two_means_over_runs_are_compared_by_their_difference():
    """Their intervals overlap, and yet their difference is clear."""
    each = [[Estimate(value + shift) for value in (1.0, 2.0, 3.0, 2.0, 2.0)] for shift in (0, 1.2)]
    low, high = map(over_runs.of_runs, each)
    assert low.interval[1] > high.interval[0]
    assert above(high, low) == "yes"
    assert above(low, high) == "no"
    assert above(high._replace(degrees=math.nan), low) == "open"
    assert above(low, low) == "open"
