"""Numbers are printed with the digits that their interval supports."""

import math

import pytest

from tlx.report.words.numbers import (
    UNKNOWN,
    Estimate,
    count,
    mean,
    percent,
    proportion,
    significant,
    text,
)


@pytest.mark.parametrize(
    ("value", "error", "expected"),
    [
        (0.96432, 0.00612, "96.4 ± 0.6%"),
        (0.96432, 0.0125, "96.4 ± 1.2%"),
        (0.96432, 0.03, "96 ± 3%"),
        (0.96432, 0.0961, "96 ± 10%"),
        (0.5, 0.000999, "50.00 ± 0.10%"),
        (-0.0001, 0.01, "0.0 ± 1.0%"),
        (-0.2, 0.03, "−20 ± 3%"),
        (0.5, math.nan, "50.0%"),
        (math.nan, 0.01, "no data"),
    ],
)
def test_percent(value, error, expected):
    assert percent(Estimate(value, error)) == expected


def test_text_without_its_error_keeps_its_digits():
    assert text(Estimate(12.345, 0.2), error=False) == "12.3"
    assert text(Estimate(12.345)) == "12.3"


@pytest.mark.parametrize(
    ("value", "interval", "expected"),
    [
        (2.1, (2.03, 2.17), "2.10 [2.03, 2.17]"),
        (0.784, (0.71, 0.85), "0.78 [0.71, 0.85]"),
        (-0.1, (-0.3, 0.0), "−0.10 [−0.30, 0.00]"),
        (0.0, (0.0, 0.0), "0 [0, 0]"),
    ],
)
def test_an_interval_stands_in_brackets(value, interval, expected):
    estimate = Estimate(value, 0.2, interval=interval)
    assert text(estimate) == expected
    assert text(estimate, error=False) == expected.partition(" ")[0]


def test_the_mean_of_intervals_has_the_mean_ends():
    one, other = Estimate(1.0, interval=(0.5, 2.0)), Estimate(2.0, interval=(1.5, 3.0))
    assert mean([one, other]).interval == (1.0, 2.5)
    assert mean([one, UNKNOWN]).interval == (0.5, 2.0)
    assert mean([one, Estimate(3.0)]).interval is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0"),
        (1e-9, "0"),
        (1234.5, "1,234"),
        (0.01234, "0.0123"),
        (-2.104, "−2.10"),
        (math.inf, "no data"),
    ],
)
def test_significant(value, expected):
    assert significant(value) == expected


def test_a_proportion_has_its_binomial_error():
    half = proportion(0.5, 100)
    assert half == Estimate(0.5, pytest.approx(0.05), 100)
    assert proportion(1.0, 100).error == pytest.approx(0.0099, rel=0.01)
    assert math.isnan(proportion(0.5, 0).error)
    assert not proportion(math.nan, 10).known


def test_the_mean_of_runs_on_the_same_examples_has_their_error():
    assert mean([Estimate(0.4, 0.1, 10), UNKNOWN, Estimate(0.6, 0.1, 8)]) == Estimate(0.5, 0.1, 8)
    assert mean([]) is UNKNOWN


def test_count():
    assert [count(n, "run") for n in (0, 1, 2, 1297)] == [
        "no runs",
        "one run",
        "two runs",
        "1,297 runs",
    ]
    assert count(2, "run", words=False) == "2 runs"
