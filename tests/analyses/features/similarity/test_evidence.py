import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.analyses.features.similarity import _resampling, cka, evidence, measures
from tlx.analyses.features.similarity._comparison import Comparison, rows

N, D = 40, 4
KEY = jax.random.key(0)


def _correlation(higher=True):
    """|Pearson correlation| of the first features, or its negative as a distance: cheap."""

    def prepare(x):
        z = x[:, 0] - x[:, 0].mean()
        return z / jnp.sqrt((z * z).sum())

    def compare(x, y):
        return jnp.abs((x * y).sum()) if higher else -jnp.abs((x * y).sum())

    low, high = (0.0, 1.0) if higher else (-1.0, 0.0)
    return measures.get("mean_cca")._replace(
        name="correlation",
        comparison=Comparison(prepare, compare, rows, 3, "correlation"),
        higher_is_similar=higher,
        low=low,
        high=high,
    )


CORRELATION, AS_DISTANCE = _correlation(), _correlation(higher=False)


def _features(seed, noise=1.0, n=N):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, D)) * np.geomspace(2, 0.5, D)
    return tuple(np.float32(shared + noise * rng.standard_normal((n, D))) for _ in range(2))


# The null


@pytest.mark.parametrize("name", ["cka_debiased", "cka_rbf"])
def test_chance_is_as_the_closed_form_says(name):
    """Mean 0 and variance 2/(n(n − 3)) over permutations, whatever kernel and features."""
    num = 1000
    x, y = _features(0)
    got = evidence.evidence(name, x, y, key=KEY, num_permutations=num, num_resamples=0)
    std = math.sqrt(2 / (N * (N - 3)))
    assert abs(got.null_mean) < 4 * std / math.sqrt(num)
    np.testing.assert_allclose(got.null_std, std, rtol=0.12)  # its tail is heavier than normal
    np.testing.assert_allclose(got.z, (got.value - got.null_mean) / got.null_std, rtol=1e-4)


@pytest.mark.parametrize("measure", [CORRELATION, AS_DISTANCE], ids=["similarity", "distance"])
def test_the_null_is_that_of_all_orders(measure):
    x, y = (z[:6] for z in _features(3))
    got = evidence.evidence(measure, x, y, key=KEY, num_permutations=3000, num_resamples=0)
    null = [
        abs(np.corrcoef(x[:, 0], y[list(order), 0])[0, 1])
        for order in itertools.permutations(range(6))
    ]
    value = abs(np.corrcoef(x[:, 0], y[:, 0])[0, 1])
    sign = 1 if measure is CORRELATION else -1
    np.testing.assert_allclose(got.value, sign * value, rtol=1e-5)
    np.testing.assert_allclose(got.null_mean, sign * np.mean(null), atol=0.03)
    np.testing.assert_allclose(got.null_std, np.std(null), rtol=0.05)
    np.testing.assert_allclose(got.p_value, np.mean(np.array(null) > value - 1e-9), atol=0.04)


def test_p_values_are_valid():
    """Of unrelated features: P(p ≤ t) ≤ t, also for a level that the permutations just reach."""
    draws = np.random.default_rng(0).standard_normal((2000, 2, 12, 1)).astype(np.float32)

    @jax.jit
    def p_values(draws, keys):
        def one(pair, key):
            return evidence.evidence(
                CORRELATION, *pair, key=key, num_permutations=19, num_resamples=0
            ).p_value

        return jax.vmap(one)(draws, keys)

    p = np.asarray(p_values(draws, jax.random.split(KEY, len(draws))))
    assert p.min() >= 1 / 20 - 1e-6
    for level in (0.05, 0.1, 0.5):
        share = (p <= level + 1e-6).mean()
        assert abs(share - level) < 4 * math.sqrt(level * (1 - level) / len(p))


@pytest.mark.parametrize("name", ["procrustes", "shape_distance"])
def test_equal_sets_are_as_similar_as_can_be(name):
    x = _features(0)[0]
    got = evidence.evidence(name, x, x, key=KEY, num_permutations=99, num_resamples=20)
    np.testing.assert_allclose(got.p_value, 0.01)
    assert (got.z > 5) == (name == "procrustes")
    assert abs(got.z) > 5
    np.testing.assert_allclose([got.low, got.high], [got.value] * 2, atol=2e-3)


def test_values_equal_to_the_value_count():
    """Neighbours are counted, so that many permutations tie."""
    rng = np.random.default_rng(0)
    x, y = (np.sign(rng.standard_normal((N, 1))).astype(np.float32) for _ in range(2))
    got = evidence.evidence(CORRELATION, x, y, key=KEY, num_resamples=0)
    null = _resampling.null(
        CORRELATION.comparison,
        200,
        N,
        *(CORRELATION.comparison.prepare(jnp.asarray(z)) for z in (x, y)),
        jax.random.fold_in(KEY, 0),
    )
    close = np.isclose(null, got.value, rtol=1e-5)
    assert close.any()
    expected = (1 + ((np.asarray(null) > float(got.value)) | close).sum()) / 201
    np.testing.assert_allclose(got.p_value, expected, rtol=1e-6)


# The interval


@pytest.mark.parametrize("name", ["cka_debiased", "mean_cca", "mutual_knn"])
def test_coverage(name):
    """Of the value's mean over data sets; copies of examples, as a bootstrap has, ruin it."""
    comparison = measures.get(name).comparison
    draws = np.stack([np.stack(_features(seed)) for seed in range(200)])

    @jax.jit
    def intervals(draws, keys):
        def one(arguments):
            (x, y), key = arguments
            found = evidence.evidence(
                name, x, y, key=key, num_permutations=0, num_resamples=60, confidence=0.9
            )
            again = jax.random.randint(key, (N,), 0, N)
            copied = comparison.compare(comparison.prepare(x[again]), comparison.prepare(y[again]))
            return found.value, found.low, found.high, copied

        return jax.lax.map(one, (draws, keys))

    keys = jax.random.split(KEY, len(draws))
    value, low, high, copied = (np.asarray(a) for a in intervals(jnp.asarray(draws), keys))
    mean, std = value.mean(), value.std()
    share = ((low <= mean) & (mean <= high)).mean()
    # Of 0.9; a standard error over 200 sets is 0.02. Skewed near its upper end, CKA has 0.83 of
    # as few as 40 examples.
    assert (0.79 if name == "cka_debiased" else 0.84) < share < 0.96
    assert 0.8 < (high - low).mean() / (2 * 1.645 * std) < 1.5
    if name in ("mean_cca", "mutual_knn"):
        assert (copied - value).mean() > std / 2


def test_an_interval_stays_in_the_range():
    x, y = _features(0, noise=0.05, n=12)
    got = evidence.evidence(AS_DISTANCE, x, y, key=KEY, num_permutations=0)
    assert -1 <= got.low <= got.value <= got.high <= 0
    x, y = _features(0, noise=20.0, n=12)
    got = evidence.evidence(CORRELATION, x, y, key=KEY, num_permutations=0)
    assert got.low == 0 <= got.value <= got.high <= 1


def test_more_confidence_is_wider():
    x, y = _features(0)
    widths = []
    for confidence in (0.5, 0.9, 0.99):
        got = evidence.evidence(
            CORRELATION, x, y, key=KEY, num_permutations=0, confidence=confidence
        )
        widths.append(float(got.high - got.low))
    assert widths == sorted(widths)
    assert widths[2] > 2 * widths[0]


# Keys, blocks, degenerate cases


def test_results_depend_on_the_key_alone():
    x, y = _features(0)
    one, same = (evidence.evidence(CORRELATION, x, y, key=jax.random.key(7)) for _ in range(2))
    other = evidence.evidence(CORRELATION, x, y, key=jax.random.key(8))
    assert one == same
    assert one.null_mean != other.null_mean
    assert one.low != other.low
    assert one.value == other.value


def test_each_permutation_and_subset_has_its_own_key():
    x, y = (jnp.asarray(z) for z in _features(0))
    comparison = CORRELATION.comparison
    prepared = comparison.prepare(x), comparison.prepare(y)
    few, more = (_resampling.null(comparison, num, N, *prepared, KEY) for num in (5, 12))
    np.testing.assert_allclose(few, more[:5], rtol=1e-6)
    few, more = (evidence._subsets(comparison, num, x, y, KEY) for num in (5, 12))
    np.testing.assert_allclose(few, more[:5], rtol=1e-6)
    assert len(np.unique(more)) == 12


@pytest.mark.parametrize("floats", [1, _resampling.BLOCK // 7, _resampling.BLOCK])
def test_blocks_change_nothing(floats):
    got = _resampling.blocked(lambda i: 2 * i, 10, floats)
    np.testing.assert_array_equal(got, 2 * np.arange(10))


def test_nothing_asked_nothing_given():
    x, y = _features(0)
    got = evidence.evidence(CORRELATION, x, y, key=KEY, num_permutations=0, num_resamples=0)
    assert np.isfinite(got.value)
    assert all(np.isnan(getattr(got, k)) for k in ("null_mean", "null_std", "z", "p_value"))
    assert np.isnan(got.low)
    assert np.isnan(got.high)
    one = evidence.evidence(CORRELATION, x, y, key=KEY, num_permutations=1, num_resamples=0)
    assert one.p_value in (0.5, 1.0)
    assert np.isnan(one.null_std)
    assert np.isnan(one.z)


def test_too_few_examples_for_a_subset():
    x, y = (z[:3] for z in _features(0))
    got = evidence.evidence(CORRELATION, x, y, key=KEY, num_permutations=0)
    assert np.isfinite(got.value)
    assert np.isnan(got.low)
    assert np.isnan(got.high)
    x, y = (z[:4] for z in _features(0))
    one_less = evidence.evidence(CORRELATION, x, y, key=KEY, num_permutations=0)
    assert one_less.low < one_less.value < one_less.high


@pytest.mark.parametrize("name", ["procrustes", "shape_distance"])
def test_no_interval_where_every_subset_is_at_the_end_of_the_range(name):
    """Two examples are of one shape with any other two."""
    x, y = (z[:3] for z in _features(0))
    got = evidence.evidence(name, x, y, key=KEY, num_permutations=0, num_resamples=20)
    assert 0.1 < got.value < 0.99
    assert np.isnan(got.low)
    assert np.isnan(got.high)
    itself = evidence.evidence(name, x, x, key=KEY, num_permutations=0, num_resamples=20)
    np.testing.assert_allclose([itself.low, itself.high], [itself.value] * 2, atol=1e-3)


def test_a_measure_that_holds_all_examples_has_no_subsets():
    x, y = _features(0)
    held = cka.make_deconfounded_cka(_features(1)[0])
    own = measures.get("cka_debiased")._replace(name="own", comparison=held)
    with pytest.raises(ValueError, match=r"applies to subsets .* pass num_resamples=0"):
        evidence.evidence(own, x, y, key=KEY, num_permutations=0)
    got = evidence.evidence(own, x, y, key=KEY, num_permutations=19, num_resamples=0)
    np.testing.assert_allclose(got.p_value, 0.05)


@pytest.mark.parametrize("key", [0, None, np.zeros(2, np.uint32)])
def test_a_key_is_typed(key):
    with pytest.raises(TypeError, match=r"expected key to be .* jax\.random\.key\(0\), got"):
        evidence.evidence(CORRELATION, *_features(0), key=key)


def test_undefined_values_have_no_evidence():
    x, y = _features(0)
    constant = np.full_like(x, 0.5)
    got = evidence.evidence(CORRELATION, constant, y, key=KEY)
    assert got.num_examples == N
    assert got.too_few
    names = ("value", "null_mean", "null_std", "z", "p_value", "low", "high")
    assert all(np.isnan(getattr(got, name)) for name in names)


def test_too_few_examples_for_the_measure_are_told():
    x, y = _features(0)
    for wide, expected in ((False, False), (True, True)):
        z = np.concatenate([x] * 2, 1) if wide else x[:, :3]
        got = evidence.evidence(
            CORRELATION, z, y[:, :3], key=KEY, num_permutations=0, num_resamples=0
        )
        assert bool(got.too_few) is expected  # the rule of mean_cca: 31 of 3 features, 81 of 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "cca"}, "unknown measure 'cca'; did you mean"),
        ({"num_permutations": -1}, "of at least 0, got -1 and 200"),
        ({"num_resamples": -2}, "of at least 0, got 200 and -2"),
        ({"confidence": 95}, "expected a confidence between 0 and 1, got 95"),
        ({"x": np.zeros((3, 2)), "y": np.zeros((3, 2))}, "at least 4 examples .*, got 3"),
        ({"y": np.zeros((5, 2))}, "of the same examples, got shapes"),
    ],
)
def test_refused(options, message):
    x, y = _features(0)
    arguments = {"measure": "cka_debiased", "x": x, "y": y, "key": KEY} | options
    with pytest.raises(ValueError, match=message):
        evidence.evidence(**arguments)
