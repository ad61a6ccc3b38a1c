import itertools
import re

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.helpers import oracles
from tlx.analyses.function import _chance, mistakes, predictions

C, MODELS = 4, 3
CELLS = [(False, False), (False, True), (True, False), (True, True)]  # who is wrong: a, b


def _softmax(logits):
    e = np.exp(logits - logits.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _given(seed=0, n=40, *, multilabel=False, models=MODELS, missing=None):
    """Probabilities of models that are right more often than not, and share some mistakes."""
    rng = np.random.default_rng(seed)
    hard = rng.standard_normal((n, C))
    own = rng.standard_normal((models, n, C))
    if multilabel:
        labels = rng.integers(0, 2, (n, C))
        logits = 1.5 * (2 * labels - 1) + hard + own
        return 1 / (1 + np.exp(-2 * logits)), labels
    labels = rng.integers(0, C, n)
    if missing is not None:
        labels[labels == missing] = (missing + 1) % C
    return _softmax(2 * (2 * np.eye(C)[labels] + hard + own)), labels


def _twin_inputs(probabilities, labels):
    """[M, N·J] answers, right, p(label) and the spread over answers, with classes and rows."""
    if labels.ndim == 1:
        spread, flat, classes = probabilities, labels, labels
        rows = np.arange(len(labels))
    else:
        spread = np.stack([1 - probabilities, probabilities], -1)
        spread = spread.reshape(len(probabilities), -1, 2)
        flat = labels.ravel()
        rows, classes = (part.ravel() for part in np.indices(labels.shape))
    answers = np.where(
        labels.ndim == 1, spread.argmax(-1), (spread[..., -1] >= 0.5).astype(np.int64)
    )
    of_label = spread[:, np.arange(len(flat)), flat]
    return answers, answers == flat, of_label, spread, classes, rows


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("n", [1, 40])
def test_every_number_is_the_formula(n, multilabel):
    probabilities, labels = _given(1, n, multilabel=multilabel)
    of = predictions.from_probabilities(probabilities, labels)
    got = mistakes.compare(of)
    answers, right, p, spread, classes, _ = _twin_inputs(probabilities, labels)
    np.testing.assert_allclose(got.accuracy, right.mean(1), rtol=1e-6)
    assert got.num_examples == n
    for a, b in itertools.product(range(MODELS), repeat=2):
        np.testing.assert_allclose(
            got.disagreement[a, b], (answers[a] != answers[b]).mean(), atol=1e-6
        )
        for c in (None, *range(C)):
            some = np.ones(len(classes), bool) if c is None else classes == c
            x, y = right[a, some], right[b, some]
            at = (a, b) if c is None else (a, b, c)
            name = "" if c is None else "_by_class"
            counts = [int(((~x == i) & (~y == j)).sum()) for i, j in CELLS]
            np.testing.assert_array_equal(getattr(got, f"cells{name}")[at], counts)
            kappa = (got.kappa if c is None else got.kappa_by_class).value[at]
            np.testing.assert_allclose(kappa, oracles.kappa(x, y), atol=1e-5)
            tests = [getattr(got, f"{p}{name}")[at] for p in ("p_value", "mid_p")]
            if not some.any() or (multilabel and c is None):
                assert np.isnan(tests).all()
            else:
                exact = _binomial_test(counts[1], counts[1] + counts[2])
                np.testing.assert_allclose(tests, exact, rtol=1e-5)
            if some.any():
                expected = some.sum() * (1 - x.mean()) * (1 - y.mean())
                rates = np.divide(counts, some.sum())
            else:
                expected, rates = np.nan, np.full(4, np.nan)
            np.testing.assert_allclose(
                getattr(got, f"expected_common{name}")[at], expected, rtol=1e-5, atol=1e-6
            )
            np.testing.assert_allclose(getattr(got, f"rates{name}")[at], rates, rtol=1e-6)
        observed = (spread[a] * spread[b]).sum(-1).mean()
        p_a, p_b = p[a].mean(), p[b].mean()
        chance = p_a * p_b + (1 - p_a) * (1 - p_b) / (spread.shape[-1] - 1)
        np.testing.assert_allclose(
            got.capa.value[a, b], (observed - chance) / (1 - chance), atol=1e-5
        )


def _binomial_test(k, n):
    """The exact and the mid-p-value, where no trials at all give 1."""
    if not n:
        return 1.0, 1.0
    exact = stats.binomtest(k, n, 0.5).pvalue
    low = min(k, n - k)
    mid = 2 * stats.binom.cdf(low, n, 0.5) - stats.binom.pmf(low, n, 0.5)
    return exact, min(mid, 1.0)


def test_mcnemar_is_the_binomial_test():
    pairs = np.array([(i, j) for i in range(9) for j in range(9)] + [(40, 90), (500, 380)])
    cells = np.stack([0 * pairs[:, 0] + 3, *pairs.T, 0 * pairs[:, 0]], -1)
    exact, mid = _chance.mcnemar(cells)
    expected = np.array([_binomial_test(i, i + j) for i, j in pairs])
    np.testing.assert_allclose(exact, expected[:, 0], rtol=1e-9)
    np.testing.assert_allclose(mid, expected[:, 1], rtol=1e-9)
    assert np.isnan(_chance.mcnemar(np.zeros(4, int))).all()


@pytest.mark.parametrize("multilabel", [False, True])
def test_intervals_are_the_delta_methods_by_differences(multilabel):
    """The influence of each example from numerical derivatives in its weight."""
    probabilities, labels = _given(2, multilabel=multilabel)
    got = mistakes.compare(predictions.from_probabilities(probabilities, labels), confidence=0.9)
    _, right, p, spread, _, rows = _twin_inputs(probabilities, labels)
    num = rows.max() + 1
    sure = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    overlap = (spread[0] * spread[1]).sum(-1)
    hard = (right[0] == right[1], right[0], right[1])
    for found, parts, rest in (
        (got.kappa, hard, 1),
        (got.capa, (overlap, p[0], p[1]), 1 / (spread.shape[-1] - 1)),
    ):
        means = [[part[rows == row].mean() for part in parts] for row in range(num)]
        values = np.concatenate([means, sure])

        def coefficient(weights, values=values, rest=rest):
            o, x, y = weights @ values / weights.sum()
            e = x * y + rest * (1 - x) * (1 - y)
            return (o - e) / (1 - e)

        ones = np.ones(num + 4)
        steps = 1e-5 * np.eye(num + 4)
        slopes = [(coefficient(ones + s) - coefficient(ones - s)) / 2e-5 for s in steps]
        error = np.sqrt(np.sum(np.square(slopes)))
        np.testing.assert_allclose(found.error[0, 1], error, rtol=1e-4)
        ends = coefficient(ones) + 1.6448536 * error * np.array([-1, 1])
        np.testing.assert_allclose([found.low[0, 1], found.high[0, 1]], ends, rtol=1e-4, atol=1e-5)


def _cells_of(p_a, p_b, kappa):
    both = kappa * (p_a * (1 - p_b) + p_b * (1 - p_a)) / 2 + p_a * p_b
    return np.array([1 - p_a - p_b + both, p_b - both, p_a - both, both])


# in 300 repetitions of a coverage of 0.95 fewer hits come once in 10,000
LEAST_HITS = stats.binom.ppf(1e-4, 300, 0.95)


@pytest.mark.parametrize("kappa", [0.0, 0.3, 0.6, 0.95])
@pytest.mark.parametrize(("error_a", "error_b"), [(0.4, 0.35), (0.1, 0.1), (0.05, 0.05)])
def test_kappas_interval_covers(error_a, error_b, kappa):
    cells = _cells_of(error_a, error_b, kappa)
    if (cells < 0).any():  # such error rates allow no such kappa
        cells = _cells_of(error_a, error_a, kappa)
    counts = np.random.default_rng(0).multinomial(200, cells, 300)
    got = _chance.estimate(_chance.SURE, counts, 1, 1.959964)
    assert np.sum((got.low <= kappa) & (kappa <= got.high)) >= LEAST_HITS
    assert np.mean(got.high - got.low) < 0.9  # and they say something


@pytest.mark.parametrize("multilabel", [False, True])
def test_capas_interval_covers(multilabel):
    rest = 1.0 if multilabel else 1 / (C - 1)
    probabilities, labels = _given(5, 60_000, multilabel=multilabel, models=2)
    of = predictions.from_probabilities(probabilities, labels)
    parts = (of.overlap[0, 1], of.probability[0], of.probability[1])
    rows = np.stack([np.asarray(part, np.float64).mean(-1) for part in parts], -1)
    o, x, y = rows.mean(0)
    chance = x * y + rest * (1 - x) * (1 - y)
    truth = (o - chance) / (1 - chance)
    hits = 0
    for sample in rows.reshape(300, 200, 3):
        got = _chance.estimate(sample, np.ones(200), rest, 1.959964)
        hits += got.low <= truth <= got.high
    assert LEAST_HITS <= hits <= 299


@given(st.integers(0, 99), st.booleans(), st.sampled_from([0, 2, 25]))
def test_laws(seed, multilabel, n):
    probabilities, labels = _given(seed, n, multilabel=multilabel)
    of = predictions.from_probabilities(probabilities, labels)
    got = mistakes.compare(of)
    np.testing.assert_array_equal(got.cells_by_class.sum(2), got.cells)
    swapped = got.cells_by_class.swapaxes(0, 1)[..., np.array([0, 2, 1, 3])]
    np.testing.assert_array_equal(swapped, got.cells_by_class)
    for value in (got.p_value, got.mid_p, got.disagreement, got.expected_common, *got.kappa):
        np.testing.assert_allclose(value, value.swapaxes(0, 1), rtol=1e-6)
    for value in got.capa:
        np.testing.assert_allclose(value, value.swapaxes(0, 1), rtol=1e-4, atol=1e-6)
    for each in (got.kappa, got.capa, got.kappa_by_class):
        np.testing.assert_array_equal(np.isnan(each.low), np.isnan(each.high))
        assert not (each.low > each.high).any()
        assert not (each.low < -1).any()
        assert not (each.high > 1).any()
    order = np.random.default_rng(seed).permutation(n)
    other = mistakes.compare(predictions.from_probabilities(probabilities[:, order], labels[order]))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), other, got)
    back = mistakes.compare(predictions.from_probabilities(probabilities[::-1], labels))
    np.testing.assert_array_equal(back.cells, got.cells[::-1, ::-1])
    np.testing.assert_allclose(back.capa.low, got.capa.low[::-1, ::-1], rtol=1e-4, atol=1e-6)


def test_models_that_never_err():
    labels = np.array([0, 1, 1])
    sure = np.eye(2)[labels]
    got = mistakes.compare(predictions.from_probabilities([sure, sure], labels))
    for each in (got.kappa, got.capa, got.kappa_by_class):
        np.testing.assert_array_equal(each.value, 1)
    np.testing.assert_array_equal(got.p_value, 1)
    np.testing.assert_array_equal(got.mid_p, 1)
    np.testing.assert_array_equal(got.expected_common, 0)
    assert (got.kappa.low < 0.5).all()  # three examples tell little
    np.testing.assert_array_equal(got.kappa.high, 1)
    assert np.isnan(got.kappa_by_class.low[0, 0, 0])  # of one example
    assert np.isfinite(got.kappa_by_class.low[0, 0, 1])


def test_opposite_models_and_those_of_one_kind():
    labels = np.array([0, 0, 1, 1])
    right = np.eye(2)[labels]
    half = np.eye(2)[[0, 1, 1, 0]]
    got = mistakes.compare(predictions.from_probabilities([half, half[:, ::-1], right], labels))
    assert got.kappa.value[0, 1] == -1
    assert got.capa.value[0, 1] == -1
    assert got.disagreement[0, 1] == 1
    assert got.kappa.value[0, 2] == 0  # a model that is always right agrees by chance alone
    np.testing.assert_array_equal(got.cells[0, 1], [0, 2, 2, 0])


def test_a_class_without_examples():
    got = mistakes.compare(predictions.from_probabilities(*_given(3, missing=2)))
    np.testing.assert_array_equal(got.cells_by_class[:, :, 2], 0)
    for value in (got.rates_by_class, got.expected_common_by_class, got.p_value_by_class):
        assert np.isnan(value[:, :, 2]).all()
        assert np.isfinite(np.delete(value, 2, 2)).all()
    for value in got.kappa_by_class:
        assert np.isnan(value[:, :, 2]).all()


def test_no_examples_and_one():
    got = mistakes.compare(predictions.from_probabilities(*_given(0, 0)))
    for value in (got.accuracy, got.disagreement, got.p_value, got.expected_common, got.rates):
        assert np.isnan(value).all()
    for value in (*got.kappa, *got.capa):
        assert np.isnan(value).all()
    one = mistakes.compare(predictions.from_probabilities(*_given(0, 1)))
    for each in (one.kappa, one.capa):
        assert np.isfinite(each.value).all()
        assert np.isnan([each.error, each.low, each.high]).all()


def test_an_answer_with_nan_is_wrong_and_leaves_no_capa():
    probabilities, labels = _given(4)
    clean = mistakes.compare(predictions.from_probabilities(probabilities, labels))
    probabilities[0, 3] = np.nan
    got = mistakes.compare(predictions.from_probabilities(probabilities, labels))
    assert np.isnan([got.capa.value[0], got.capa.low[0], got.capa.value[:, 0]]).all()
    np.testing.assert_array_equal(got.capa.value[1:, 1:], clean.capa.value[1:, 1:])
    assert np.isfinite([got.kappa.value, got.kappa.low]).all()
    assert got.cells.sum() == clean.cells.sum()


@pytest.mark.parametrize("multilabel", [False, True])
def test_confidence_of_each_cell(multilabel):
    probabilities, labels = _given(6, multilabel=multilabel)
    of = predictions.from_probabilities(probabilities, labels)
    got = mistakes.confidence_of(of)
    np.testing.assert_array_equal(got.num, mistakes.compare(of).cells)
    answers, right, p, spread, _, _ = _twin_inputs(probabilities, labels)
    for a, b in itertools.product(range(MODELS), repeat=2):
        for cell, (wrong_a, wrong_b) in enumerate(CELLS):
            chosen = np.flatnonzero((~right[a] == wrong_a) & (~right[b] == wrong_b))
            if not len(chosen):
                assert np.isnan([got.confidence[a, b, cell], got.margin[a, b, cell]]).all()
                continue
            sure = np.mean([spread[a, i, answers[a, i]] for i in chosen])
            np.testing.assert_allclose(got.confidence[a, b, cell], sure, rtol=1e-5)
            wrong = [np.sort(spread[a, i])[-1] for i in chosen]
            second = [np.sort(spread[a, i])[-2] for i in chosen]
            other = wrong if wrong_a else second
            margin = np.mean(p[a, chosen] - other)
            np.testing.assert_allclose(got.margin[a, b, cell], margin, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("multilabel", [False, True])
@pytest.mark.parametrize("which", mistakes.WHICH)
@pytest.mark.parametrize("by", mistakes.BY)
def test_examples_are_those_of_the_cell_in_order(which, by, multilabel):
    of = predictions.from_probabilities(*_given(7, multilabel=multilabel))
    rows, judgements = (np.asarray(x) for x in mistakes.examples(of, 0, 2, which=which, by=by))
    right = np.asarray(of.right)
    wanted = ~right[0] & (right[2] if which == "only_a" else ~right[2])
    assert {*zip(rows.tolist(), judgements.tolist(), strict=True)} == {
        (int(i), int(j)) for i, j in np.argwhere(wanted)
    }
    assert len(rows) == wanted.sum() > 1
    assert judgements.any() == multilabel
    models = [0] if which == "only_a" else [0, 2]
    value = np.mean(np.asarray(getattr(of, by), np.float64)[models], 0)[rows, judgements]
    steps = np.diff(value if by == "margin" else -value)
    assert (steps >= -1e-7).all()


def test_examples_with_ties_are_by_index_and_nan_is_last():
    num = 50  # many, since sorts that are not stable are so for a few
    tied = np.tile([0.9, 0.1], (num, 1))
    tied[1] = np.nan
    tied[::7] = [0.8, 0.2]
    sure = np.eye(2)[np.ones(num, int)]
    of = predictions.from_probabilities([tied, sure], np.ones(num, int))
    rows, _ = mistakes.examples(of, 0, 1)
    others = [i for i in range(num) if i % 7 and i != 1]
    np.testing.assert_array_equal(rows, [*others, *range(0, num, 7), 1])
    none, _ = mistakes.examples(of, 1, 0)
    assert none.shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"which": "comon"}, "unknown which 'comon'; did you mean 'common'? Known: common, only_a"),
        ({"by": "margins"}, "unknown by 'margins'; did you mean 'margin'? Known: confidence, mar"),
        ({"b": 3}, "expected b in 0 … 2, got 3"),
        ({"a": -1}, "expected a in 0 … 2, got -1"),
    ],
)
def test_errors(options, message):
    of = predictions.from_probabilities(*_given(0, 5))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        mistakes.examples(of, **({"a": 0, "b": 1} | options))


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_a_confidence_out_of_range(confidence):
    of = predictions.from_probabilities(*_given(0, 5))
    with pytest.raises(
        ValueError, match=f"expected a confidence between 0 and 1, got {confidence}"
    ):
        mistakes.compare(of, confidence=confidence)
