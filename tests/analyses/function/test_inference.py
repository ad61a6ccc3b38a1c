import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special, stats

from tlx.analyses.function import inference

A, B = np.array([0.71, 0.74, 0.69]), np.array([0.62, 0.68, 0.61])
LONGER = np.array([0.5, 0.58, 0.66, 0.49, 0.6])
LEVELS = [0.9, 0.95, 0.99]
NUMBERS = st.lists(st.floats(-1, 1), min_size=2, max_size=6)


def ends(found):
    return found.low, found.high


def held(found, truth):
    return np.mean([f.low <= truth <= f.high for f in found])


def within(share, least, most, num):
    """A share of `num` cases, where the true one is least … most, by four standard errors."""
    error = 4 * np.sqrt(np.array([least, most]) * (1 - np.array([least, most])) / num)
    return least - error[0] <= share <= most + error[1]


def answers(rng, seeds, num, seed_spread, means=(1.0, 0.6)):
    """Right and wrong of two recipes that share the examples, and their true accuracies."""
    both = rng.standard_normal(num)
    right = []
    for mean in means:
        example = np.sqrt(0.8) * both + np.sqrt(0.2) * rng.standard_normal(num)
        noise = 0.7 * rng.standard_normal((seeds, num))
        right.append(mean + seed_spread * rng.standard_normal((seeds, 1)) + example + noise > 0)
    return *right, special.ndtr(np.array(means) / np.sqrt(1 + 0.7**2 + seed_spread**2))


@pytest.mark.parametrize("confidence", LEVELS)
def test_mean_over_seeds_is_students(confidence):
    found = inference.mean_over_seeds(LONGER, confidence=confidence)
    mean, half = LONGER.mean(), stats.t.ppf((1 + confidence) / 2, 4)
    error = np.sqrt(((LONGER - mean) ** 2).sum() / 4 / 5)
    expected = [mean, mean - half * error, mean + half * error, error]
    np.testing.assert_allclose(found[:4], expected, rtol=1e-12)
    assert found.n == 5


def test_one_seed_has_no_interval():
    found = inference.mean_over_seeds([0.5])
    assert (found.value, found.n) == (0.5, 1)
    assert np.isnan(found[1:4]).all()
    assert np.isnan(inference.mean_over_seeds([])[:4]).all()
    found = inference.difference([0.5], [0.25, 0.25], paired=False)
    assert (found.value, found.num_seeds, found.chance) == (0.25, (1, 2), ())
    assert np.isnan(found[1:5]).all()
    assert np.isnan(inference.difference([], [0.25], paired=False)[:5]).all()


def test_equal_values_have_no_spread():
    found = inference.mean_over_seeds([0.1] * 3)
    assert found == (0.1, 0.1, 0.1, 0.0, 3, 2)
    # means of 3 and of 7 times 0.1 differ in their last digit if summed as they are
    found = inference.difference([0.1] * 3, [0.1] * 7, paired=False)
    assert found[:5] == (0, 0, 0, 0, 1)
    assert inference.difference([0.2] * 3, [0.1] * 3, paired=True).p_value == 0
    found = inference.relative_drop([0.5] * 3, [0.25] * 2, paired=False)
    assert found[:5] == (50, 50, 50, 0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 1])
def test_what_is_not_finite_gives_nan(bad, at):
    values = np.array([0.5, 0.6, 0.7])
    values[at] = bad
    assert np.isnan(inference.mean_over_seeds(values)[:4]).all()
    assert np.isnan(inference.difference(values, A, paired=True)[:5]).all()
    assert np.isnan(inference.relative_drop(A, values, paired=False)[:5]).all()
    rows = np.outer(values, np.arange(4.0) + 1)
    assert np.isnan(inference.over_seeds_and_examples(rows, rows, paired=False)[:5]).all()


@pytest.mark.parametrize("confidence", LEVELS)
def test_difference_is_scipys(confidence):
    for found, expected in (
        (
            inference.difference(A, LONGER, paired=False, confidence=confidence),
            stats.ttest_ind(A, LONGER, equal_var=False),
        ),
        (
            inference.difference(A, B, paired=True, confidence=confidence),
            stats.ttest_rel(A, B),
        ),
    ):
        np.testing.assert_allclose(ends(found), expected.confidence_interval(confidence), 1e-9)
        np.testing.assert_allclose(found.p_value, expected.pvalue, rtol=1e-9)
        np.testing.assert_allclose(found.value / found.error, expected.statistic, rtol=1e-9)
        assert (found.num_examples, found.chance) == (0, ("seeds",))


@given(NUMBERS, NUMBERS, st.floats(-5, 5), st.booleans())
def test_laws_of_differences(a, b, shift, paired):
    if paired:
        a, b = a[: len(b)], b[: len(a)]
    found = inference.difference(a, b, paired=paired)
    back = inference.difference(b, a, paired=paired)
    np.testing.assert_allclose([found.value, *ends(found)], [-back.value, -back.high, -back.low])
    assert back.p_value == pytest.approx(found.p_value, nan_ok=True)
    outside = not found.low <= 0 <= found.high
    if abs(found.p_value - 0.05) > 1e-9:
        assert outside == (found.p_value < 0.05)
    moved = inference.difference(np.add(a, shift), np.add(b, shift), paired=paired)
    np.testing.assert_allclose([moved.value, *ends(moved)], [found.value, *ends(found)], atol=1e-9)


def test_pairing_takes_away_what_is_shared():
    shared = np.array([0.3, 0.5, 0.8])
    a, b = shared + np.array([0.01, 0.02, 0.03]), shared
    apart, together = (inference.difference(a, b, paired=p) for p in (False, True))
    assert apart.value == pytest.approx(together.value)
    assert together.high - together.low < 0.1 * (apart.high - apart.low)


def test_welchs_interval_holds_the_difference():
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((1500, 6)) * np.repeat([0.01, 0.03], 3)
    found = [inference.difference(x[:3], x[3:], paired=False) for x in draws]
    assert within(held(found, 0), 0.94, 0.965, len(draws))


def counts(only_a, only_b, num):
    """Right and wrong answers with these counts."""
    a, b = np.zeros(num, bool), np.zeros(num, bool)
    a[:only_a], b[only_a : only_a + only_b] = True, True
    return a, b


@pytest.mark.parametrize(("only_a", "only_b", "num"), [(9, 4, 40), (4, 9, 40), (5, 0, 30)])
def test_ends_of_examples_are_where_the_score_is_z(only_a, only_b, num):
    found = inference.difference_of_examples(*counts(only_a, only_b, num), confidence=0.9)
    for delta, side in zip(ends(found), (1, -1), strict=True):
        least, most = max(0, -delta), (1 - delta) / 2

        def unlikely(q, delta=delta):
            rest = num - only_a - only_b
            return -(
                special.xlogy(only_a, q + delta)
                + special.xlogy(only_b, q)
                + special.xlogy(rest, 1 - 2 * q - delta)
            )

        bounded = {"bounds": (least, most), "method": "bounded", "options": {"xatol": 1e-12}}
        q = optimize.minimize_scalar(unlikely, **bounded).x
        score = (only_a - only_b - num * delta) / np.sqrt(num * (2 * q + delta * (1 - delta)))
        assert score == pytest.approx(side * stats.norm.ppf(0.95), rel=1e-4)


def test_two_models_that_agree_on_all_examples():
    found = inference.difference_of_examples(*counts(0, 0, 20))
    z = stats.norm.ppf(0.975)
    np.testing.assert_allclose(ends(found), np.array([-1, 1]) * z**2 / (20 + z**2), rtol=1e-12)
    assert (found.value, found.p_value, found.chance) == (0, 1, ("examples",))
    found = inference.difference_of_examples(*counts(6, 0, 6))
    assert (found.value, found.high) == (1, 1)
    assert 0 < found.low < 1
    assert np.isnan(inference.difference_of_examples([], [])[:5]).all()


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 9))
def test_mcnemars_p_and_exchange(only_a, only_b, others):
    a, b = counts(only_a, only_b, only_a + only_b + others + 1)
    found, back = (
        inference.difference_of_examples(a, b),
        inference.difference_of_examples(b, a),
    )
    assert found.p_value == pytest.approx(back.p_value)
    np.testing.assert_allclose(ends(found), (-back.high, -back.low), atol=1e-12)
    if only_a + only_b:
        exact = stats.binomtest(only_a, only_a + only_b).pvalue
        assert found.p_value == pytest.approx(exact)
    plain = inference.over_seeds_and_examples(a[None], b[None], paired=False)
    assert found.value == pytest.approx(plain.value)
    assert found.error == pytest.approx(plain.error, nan_ok=True)


def test_intervals_of_examples_hold_the_difference():
    """Not simulated: summed over all outcomes of 50 examples."""
    num = 50
    outcomes = np.array([p for p in itertools.product(range(36), repeat=2) if sum(p) <= 35])
    found = np.array([ends(inference.difference_of_examples(*counts(*p, num))) for p in outcomes])
    n_a, n_b = outcomes.T
    coverages = []
    for apart, skew in itertools.product([0.04, 0.08, 0.15, 0.3], [0, 0.5, 0.9, 1]):
        truth = apart * skew
        cells = np.stack([n_a, n_b, num - n_a - n_b], -1)
        shares = [(apart + truth) / 2, (apart - truth) / 2, 1 - apart]
        chance = stats.multinomial.pmf(cells, num, shares)
        assert chance.sum() > 0.999
        inside = (found[:, 0] <= truth + 1e-12) & (found[:, 1] >= truth - 1e-12)
        coverages.append(chance[inside].sum())
    assert min(coverages) > 0.93
    assert np.mean(coverages) < 0.975


def plain_variance(a, b, paired):
    """The components of the variance of the difference, from their definitions, in loops."""
    (seeds_a, n), (seeds_b, _) = a.shape, b.shape

    def left(x, s, i):
        return x[s, i] - x[s].mean() - x[:, i].mean() + x.mean()

    examples = np.var([a[:, i].mean() - b[:, i].mean() for i in range(n)], ddof=1) / n
    if paired:
        seeds = [(np.var([a[s].mean() - b[s].mean() for s in range(seeds_a)], ddof=1), seeds_a)]
        rest = [(left(a, s, i) - left(b, s, i)) ** 2 for s in range(seeds_a) for i in range(n)]
        both = sum(rest) / ((seeds_a - 1) * (n - 1)) / (seeds_a * n)
    else:
        seeds = [(np.var([row.mean() for row in x], ddof=1), len(x)) for x in (a, b)]
        both = 0
        for x, s_x in ((a, seeds_a), (b, seeds_b)):
            rest = [left(x, s, i) ** 2 for s in range(s_x) for i in range(n)]
            both += sum(rest) / ((s_x - 1) * (n - 1)) / (s_x * n)
    parts = [(v / s, s - 1) for v, s in seeds] + [(examples, n - 1)]
    total = sum(v for v, _ in parts)
    variance = max(total - both, total - examples, examples)
    return variance, variance**2 / sum(v**2 / d for v, d in parts)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("seed_spread", [0.0, 0.1, 0.5])
def test_seeds_and_examples_are_the_components(paired, seed_spread):
    rng = np.random.default_rng(3)
    a, b, _ = answers(rng, 4, 30, seed_spread)
    b = b if paired else b[:3]
    found = inference.over_seeds_and_examples(a, b, paired=paired, confidence=0.9)
    a, b = a.astype(float), b.astype(float)
    variance, degrees = plain_variance(a, b, paired)
    half = stats.t.ppf(0.95, degrees) * np.sqrt(variance)
    value = a.mean() - b.mean()
    np.testing.assert_allclose(found[:3], [value, value - half, value + half], rtol=1e-9)
    np.testing.assert_allclose(found.error, np.sqrt(variance), rtol=1e-9)
    expected = 2 * stats.t.sf(abs(value) / np.sqrt(variance), degrees)
    np.testing.assert_allclose(found.p_value, expected, rtol=1e-9)
    assert found[5:] == ((4, len(b)), 30, ("seeds", "examples"))


def test_one_source_of_chance_alone():
    rng = np.random.default_rng(4)
    a, b, _ = answers(rng, 3, 40, 0.3)
    for one, other in ((a[:1], b[:1]), (a[:1], b)):  # b then as it is, a mean of its seeds
        found = inference.over_seeds_and_examples(one, other, paired=False)
        expected = stats.ttest_rel(one.mean(0), other.mean(0))
        np.testing.assert_allclose(ends(found), expected.confidence_interval(), rtol=1e-9)
        assert found.chance == ("examples",)
    same = inference.over_seeds_and_examples(a[[0, 0]], b[[0, 0]], paired=False)
    np.testing.assert_allclose(
        same[:5], inference.over_seeds_and_examples(a[:1], b[:1], paired=False)[:5], rtol=1e-9
    )
    seeds = inference.difference(A, B, paired=False)
    for num, chance in ((1, ("seeds",)), (7, ("seeds", "examples"))):
        rows = np.repeat(A[:, None], num, 1), np.repeat(B[:, None], num, 1)
        found = inference.over_seeds_and_examples(*rows, paired=False)
        np.testing.assert_allclose(found[:5], seeds[:5], rtol=1e-9)
        assert (found.chance, found.num_examples) == (chance, num)


@pytest.mark.parametrize("seed_spread", [0.0, 0.05, 0.3])
def test_intervals_over_both_hold_the_difference(seed_spread):
    rng = np.random.default_rng(5)
    draws = [answers(rng, 3, 100, seed_spread) for _ in range(700)]
    truth = draws[0][2]
    found = [inference.over_seeds_and_examples(a, b, paired=False) for a, b, _ in draws]
    assert within(held(found, truth[0] - truth[1]), 0.945, 0.98, len(draws))
    found = [inference.relative_drop(a, b, paired=False) for a, b, _ in draws]
    assert within(held(found, 100 * (1 - truth[1] / truth[0])), 0.945, 0.98, len(draws))
    if seed_spread == 0.3:
        one = [inference.over_seeds_and_examples(a[:1], b[:1], paired=True) for a, b, _ in draws]
        assert held(one, truth[0] - truth[1]) < 0.8  # examples say nothing of seeds


@pytest.mark.parametrize("confidence", LEVELS)
def test_drops_end_where_students_test_rejects(confidence):
    found = inference.relative_drop(A, B, paired=True, confidence=confidence)
    assert found.value == pytest.approx(100 * (A.mean() - B.mean()) / A.mean())
    for end in ends(found):
        of_ratio = stats.ttest_1samp(B - (1 - end / 100) * A, 0)
        assert of_ratio.pvalue == pytest.approx(1 - confidence)
    found = inference.relative_drop(A, LONGER, paired=False, confidence=confidence)
    ratio = LONGER.mean() / A.mean()
    scaled = stats.ttest_ind(LONGER, ratio * A, equal_var=False)
    t = stats.t.ppf((1 + confidence) / 2, scaled.df)
    for end in ends(found):
        r = 1 - end / 100
        spread = np.sqrt(LONGER.var(ddof=1) / 5 + r**2 * A.var(ddof=1) / 3)
        assert abs(LONGER.mean() - r * A.mean()) / spread == pytest.approx(t)
    plain = inference.difference(A, LONGER, paired=False)
    assert found.p_value == plain.p_value


def test_drops_of_rows_end_where_the_difference_is_open():
    rng = np.random.default_rng(6)
    a, b, _ = answers(rng, 3, 60, 0.2)
    a = a.astype(float)
    for paired in (False, True):
        found = inference.relative_drop(a, b, paired=paired)
        assert found.chance == ("seeds", "examples")
        assert found.value == pytest.approx(100 * (1 - b.mean() / a.mean()))
        own = inference.over_seeds_and_examples(
            b, (1 - found.value / 100) * a, paired=paired
        )  # no difference; its error is that of the ratio times the mean of a
        assert own.value == pytest.approx(0, abs=1e-12)
        assert found.error == pytest.approx(100 * own.error / a.mean())
    same = inference.relative_drop(a, 0.75 * a, paired=True)
    np.testing.assert_allclose(same[:3], 25, rtol=1e-6)


@given(st.floats(0.01, 100))
def test_drops_have_no_unit(scale):
    found = inference.relative_drop(A, B, paired=False)
    scaled = inference.relative_drop(scale * A, scale * B, paired=False)
    np.testing.assert_allclose(scaled[:4], found[:4], rtol=1e-9)


def test_drops_of_what_may_be_zero():
    found = inference.relative_drop([0.01, 0.03, -0.01], [0.2, 0.3, 0.1], paired=False)
    assert found.value == pytest.approx(-1900)
    assert np.isnan(ends(found)).all()
    assert found.chance == ("seeds",)
    found = inference.relative_drop([0.0, 0.0], [0.2, 0.3], paired=False)
    assert np.isnan(found[:4]).all()
    assert inference.relative_drop(A, np.zeros(3), paired=False)[:3] == (100, 100, 100)
    assert np.isnan(ends(inference.relative_drop(A[:1], B, paired=False))).all()


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(
    ("means", "spreads"),
    [((0.05, 0.03), (0.005, 0.005)), ((0.6, 0.3), (0.02, 0.02)), ((0.95, 0.8), (0.003, 0.006))],
)
def test_intervals_hold_the_drop(seeds, means, spreads):
    rng = np.random.default_rng(7)
    draws = np.array(means) + spreads * rng.standard_normal((1000, seeds, 2))
    found = [inference.relative_drop(*d.T, paired=False) for d in draws]
    truth = 100 * (means[0] - means[1]) / means[0]
    assert within(held(found, truth), 0.94, 0.965, len(draws))


P_VALUES = st.lists(st.one_of(st.just(np.nan), st.floats(0, 1)), max_size=8)


@given(P_VALUES)
def test_adjusted_p_values(p):
    p = np.array(p)
    known = np.flatnonzero(~np.isnan(p))
    m = len(known)
    holm, hochberg = inference.holm(p), inference.benjamini_hochberg(p)
    for got in (holm, hochberg):
        np.testing.assert_array_equal(np.isnan(got), np.isnan(p))
    if m:
        expected = stats.false_discovery_control(p[known])
        np.testing.assert_allclose(hochberg[known], expected, rtol=1e-12)
    rank = {i: sum(p[j] < p[i] or (p[j] == p[i] and j < i) for j in known) for i in known}
    for i in known:
        before = [(m - rank[j]) * p[j] for j in known if rank[j] <= rank[i]]
        after = [m / (rank[j] + 1) * p[j] for j in known if rank[j] >= rank[i]]
        assert holm[i] == pytest.approx(min(1, max(before)))
        assert hochberg[i] == pytest.approx(min(1, *after))
        assert p[i] <= hochberg[i] + 1e-15
        assert hochberg[i] <= holm[i] + 1e-15


def test_adjusted_tables_keep_their_shape():
    found = inference.holm([[0.01, np.nan], [0.04, 0.03]])
    np.testing.assert_allclose(found, [[0.03, np.nan], [0.06, 0.06]])


def test_any_array_will_do():
    right = jnp.array([[True, False, True], [True, True, False]])
    found = inference.over_seeds_and_examples(right, ~right, paired=False)
    assert found.value == pytest.approx(1 / 3)
    assert all(type(x) is float for x in found[:5])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: inference.mean_over_seeds(0.5), r"expected values as an array \[S\], got shape"),
        (lambda: inference.mean_over_seeds([0.5], confidence=95), "between 0 and 1, got 95"),
        (
            lambda: inference.difference(A, LONGER, paired=True),
            "as many seeds of a as of b for paired=True, got 3 and 5",
        ),
        (
            lambda: inference.difference(A[None], B[None], paired=True),
            r"expected a as an array \[S\], got shape \(1, 3\)",
        ),
        (
            lambda: inference.relative_drop(A, 0.5, paired=False),
            r"expected b as an array \[S\] or \[S, N\], got shape \(\)",
        ),
        (
            lambda: inference.relative_drop(A[None], B, paired=False),
            r"on the same examples, got shapes \(1, 3\) and \(3,\)",
        ),
        (
            lambda: inference.difference_of_examples([1, 0], [1]),
            r"on the same examples, got shapes \(1, 2\) and \(1, 1\)",
        ),
        (
            lambda: inference.difference_of_examples([1, 0, 1], [1, np.nan, 2]),
            "expected right_b of 0 and 1, got 2 other values",
        ),
        (lambda: inference.holm([0.5, 1.5, -1]), "expected p-values in 0 … 1, got 2 outside"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def jackknife(values, pairs, confidence=0.95):
    """The delete-one-run jackknife of the mean over all pairs, from its definition."""
    runs = sorted({run for pair in pairs for run in pair})
    without = [
        np.mean([v for v, pair in zip(values, pairs, strict=True) if run not in pair])
        for run in runs
    ]
    r = len(runs)
    variance = (r - 1) / r * np.sum((np.array(without) - np.mean(without)) ** 2)
    half = stats.t.ppf((1 + confidence) / 2, r - 1) * np.sqrt(variance)
    return np.mean(values) - half, np.mean(values) + half


@pytest.mark.parametrize("runs", [3, 4, 5, 10])
@pytest.mark.parametrize("confidence", LEVELS)
def test_mean_over_pairs_is_the_jackknife_over_runs(runs, confidence):
    rng = np.random.default_rng(runs)
    pairs = list(itertools.combinations(range(runs), 2))
    values = 100 + rng.standard_normal(len(pairs))
    found = inference.mean_over_pairs(values, pairs, confidence=confidence)
    np.testing.assert_allclose(ends(found), jackknife(values, pairs, confidence), rtol=1e-12)
    np.testing.assert_allclose(found.value, values.mean(), rtol=1e-14)
    assert found.n == len(pairs)


def test_pairs_that_share_no_run_are_independent():
    pairs = [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h"), ("i", "j")]
    found = inference.mean_over_pairs(LONGER, pairs)
    np.testing.assert_allclose(found[:4], inference.mean_over_seeds(LONGER)[:4], rtol=1e-12)


def test_a_run_in_all_pairs_is_held_fixed():
    found = inference.mean_over_pairs(LONGER, [(seed, "P") for seed in range(5)])
    np.testing.assert_allclose(found[:4], inference.mean_over_seeds(LONGER)[:4], rtol=1e-12)


def test_mean_over_pairs_does_not_depend_on_order_or_names():
    rng = np.random.default_rng(3)
    pairs = list(itertools.combinations("abcde", 2))
    values = rng.standard_normal((len(pairs), 2, 3))
    found = inference.mean_over_pairs(values, pairs)
    order = rng.permutation(len(pairs))
    other = inference.mean_over_pairs(
        values[order], [(hash(pairs[i][1]), hash(pairs[i][0])) for i in order]
    )
    for x, y in zip(found[:4], other[:4], strict=True):
        assert x.shape == (2, 3)
        np.testing.assert_allclose(x, y, rtol=1e-12)
    one = inference.mean_over_pairs(values[:, 1, 2], pairs)
    np.testing.assert_allclose([x[1, 2] for x in found[:4]], one[:4], rtol=1e-12)


def test_mean_over_pairs_without_spread_or_without_values():
    pairs = [(0, 1), (0, 2), (1, 2)]
    found = inference.mean_over_pairs(np.full(3, 0.1), pairs)
    assert found == (0.1, 0.1, 0.1, 0.0, 3, 2)
    found = inference.mean_over_pairs([[1.0, np.nan], [2.0, 1.0], [np.inf, 1.0]], pairs)
    assert all(np.isnan(part).all() for part in found[:4])
    found = inference.mean_over_pairs([0.3], [("a", "b")])
    assert found.value == 0.3
    assert np.isnan(found[1:4]).all()
    assert np.isnan(inference.mean_over_pairs([], []).value)


@pytest.mark.parametrize(
    ("values", "pairs", "message"),
    [
        ([1.0, 2.0], [(0, 1)], "of 1 pairs"),
        (1.0, [(0, 1)], "of 1 pairs"),
        ([1.0], [(0, 0)], "two different runs"),
        ([1.0], [(0, 1, 2)], "two different runs"),
        ([1.0, 2.0], [(0, 1), (1, 0)], r"\(1, 0\) twice"),
    ],
)
def test_mean_over_pairs_names_what_is_wrong(values, pairs, message):
    with pytest.raises(ValueError, match=message):
        inference.mean_over_pairs(values, pairs)


@pytest.mark.parametrize("runs", [3, 5, 10])
@pytest.mark.parametrize(
    ("of", "least", "most"),
    [("runs", 0.949, 0.951), ("both", 0.96, 0.973), ("distance", 0.943, 0.96)],
)
def test_mean_over_pairs_covers(runs, of, least, most):
    rng, num = np.random.default_rng(runs), 4000
    pairs = list(itertools.combinations(range(runs), 2))
    one, other = np.array(pairs).T
    effect = rng.standard_normal((runs, 8, num))
    values = effect[one, 0] + effect[other, 0]
    if of == "both":
        values = values + np.sqrt(2) * rng.standard_normal(values.shape)
    if of == "distance":
        values = np.sum((effect[one] - effect[other]) ** 2, 1)
    truth = 16 if of == "distance" else 0
    found = inference.mean_over_pairs(values, pairs)
    assert within(np.mean((found.low <= truth) & (truth <= found.high)), least, most, num)


def test_the_difference_of_means_is_welchs():
    means = [inference.mean_over_seeds(x, confidence=0.5) for x in (A, LONGER)]
    found = inference.difference_of_means(*means, confidence=0.9)
    expected = inference.difference(A, LONGER, paired=False, confidence=0.9)
    np.testing.assert_allclose(found[:4], expected[:4], rtol=1e-12)
    assert found.n == 3
    other = inference.difference_of_means(*means[::-1], confidence=0.9)
    np.testing.assert_allclose(ends(other)[::-1], [-x for x in ends(found)], rtol=1e-12)


def test_the_difference_of_means_without_spread_or_interval():
    equal = inference.mean_over_seeds([0.5, 0.5, 0.5])
    assert ends(inference.difference_of_means(equal, equal)) == (0.0, 0.0)
    spread = inference.mean_over_seeds(A)
    found = inference.difference_of_means(spread, equal)
    np.testing.assert_allclose(ends(found), [x - 0.5 for x in ends(spread)], rtol=1e-12)
    one = inference.difference_of_means(spread, inference.mean_over_seeds([0.5]))
    assert one.value == spread.value - 0.5
    assert np.isnan(ends(one)).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        inference.difference_of_means(spread, spread, confidence=1.0)


def test_the_difference_of_means_place_by_place():
    rng = np.random.default_rng(0)
    pairs = list(itertools.combinations(range(4), 2))
    x, y = rng.standard_normal((2, 6, 3))
    found = inference.difference_of_means(
        inference.mean_over_pairs(x, pairs), inference.mean_over_pairs(y, pairs)
    )
    for i in range(3):
        one = inference.difference_of_means(
            inference.mean_over_pairs(x[:, i], pairs), inference.mean_over_pairs(y[:, i], pairs)
        )
        np.testing.assert_allclose([part[i] for part in found[:4]], one[:4], rtol=1e-12)


def test_the_difference_of_means_over_pairs_covers():
    rng, num = np.random.default_rng(5), 4000
    pairs = list(itertools.combinations(range(5), 2))
    one, other = np.array(pairs).T
    means = []
    for spread in (1.0, 3.0):
        effect = spread * rng.standard_normal((5, num))
        noise = rng.standard_normal((10, num))
        means.append(inference.mean_over_pairs(effect[one] + effect[other] + noise, pairs))
    low, high = ends(inference.difference_of_means(*means))
    assert within(np.mean((low <= 0) & (high >= 0)), 0.945, 0.965, num)


def test_masked_arrays_do_not_lose_their_mask():
    masked = np.ma.array([0.8, 0.9, 0.85, -999.0], mask=[0, 0, 0, 1])
    for call in (
        lambda: inference.mean_over_seeds(masked),
        lambda: inference.difference([masked], [masked], paired=True),
        lambda: inference.holm(masked),
    ):
        with pytest.raises(TypeError, match=r"got a masked array \[4\]; drop what is masked"):
            call()
    assert inference.mean_over_seeds(masked.compressed()).n == 3
