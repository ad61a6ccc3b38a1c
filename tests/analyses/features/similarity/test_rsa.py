import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlx.analyses.features.similarity import _comparison, rsa

EUCLIDEAN = ("euclidean", "squared_euclidean")
NAMES = tuple(rsa.DISSIMILARITIES)
COMPARISONS = tuple(rsa.COMPARISONS)
CASES = [
    ("correlation", "spearman"),
    *((name, "pearson") for name in NAMES),
    *(("squared_euclidean", compare) for compare in COMPARISONS if compare != "pearson"),
]
"""Each dissimilarity and each comparison, and the default."""


def _features(n=24, dx=7, dy=7, seed=0):
    """Two sets that share a part, off the origin by about their spread.

    Of one shape in most tests, so that little is compiled.
    """
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 3))
    x = shared @ rng.standard_normal((3, dx)) + rng.standard_normal((n, dx))
    y = shared @ rng.standard_normal((3, dy)) + rng.standard_normal((n, dy))
    return x + rng.standard_normal(dx), y + rng.standard_normal(dy)


def _dissimilarity(a, b, name):
    if name == "correlation":
        a, b = a - a.mean(), b - b.mean()
    if name in EUCLIDEAN:
        return np.sum((a - b) ** 2) ** (0.5 if name == "euclidean" else 1)
    return 1 - a @ b / np.sqrt((a @ a) * (b @ b))


def _pairs(x, name):
    """The dissimilarities of the pairs, one at a time."""
    return np.array([_dissimilarity(a, b, name) for a, b in itertools.combinations(x, 2)])


def _ranks(values):
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def _pearson(a, b):
    a, b = a - a.mean(), b - b.mean()
    return a @ b / np.sqrt((a @ a) * (b @ b))


def _oracle(x, y, dissimilarity, compare):
    a, b = _pairs(x, dissimilarity), _pairs(y, dissimilarity)
    if compare == "cosine":
        return a @ b / np.sqrt((a @ a) * (b @ b))
    return _pearson(a, b) if compare == "pearson" else _pearson(_ranks(a), _ranks(b))


def _in_float64(*args, **options):
    with jax.enable_x64(True):
        return float(rsa.rsa(*args, **options))


def _in_float32(x, y, **options):
    return float(rsa.rsa(np.float32(x), np.float32(y), **options))


def _rotation(d, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


@pytest.mark.parametrize(("dissimilarity", "compare"), CASES)
def test_equals_the_formula(dissimilarity, compare):
    x, y = _features()
    options = {"dissimilarity": dissimilarity, "compare": compare}
    expected = _oracle(x, y, **options)
    assert _in_float64(x, y, **options) == pytest.approx(expected, abs=1e-13)
    assert _in_float32(x, y, **options) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("n", [3, 4, 5])  # even and odd, and the least
def test_every_pair_counts_once(n):
    x, y = _features(n)
    assert _in_float64(x, y) == pytest.approx(_oracle(x, y, "correlation", "spearman"), abs=1e-13)


def _small_integers():
    """Features with many ties among their distances, none of them at zero alone."""
    rng = np.random.default_rng(2)
    return rng.integers(0, 3, (24, 7)).astype(float), rng.integers(0, 2, (24, 7)).astype(float)


@pytest.mark.parametrize("in_precision", [_in_float64, _in_float32])
def test_tied_pairs_share_the_mean_of_their_ranks(in_precision):
    """Also where inner products of the centred features would split them by rounding."""
    x, y = _small_integers()
    got = in_precision(x, y, dissimilarity="squared_euclidean")
    assert got == pytest.approx(_oracle(x, y, "squared_euclidean", "spearman"), abs=1e-6)


def test_ranks_of_a_class_structure_survive_float32():
    """Two values only, whose inner products differ in their last bits."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 7, 24)
    x, y = np.eye(7)[labels], _features()[1] + 2 * rng.standard_normal((7, 7))[labels]
    expected = _oracle(x, y, "squared_euclidean", "spearman")
    got = _in_float32(x, y, dissimilarity="squared_euclidean")
    assert got == pytest.approx(expected, rel=1e-5)


def test_rho_a_is_the_mean_over_all_orders_of_the_ties():
    x = np.array([[0.0], [1.0], [2.0], [4.0]])  # distances 1 2 4 1 3 2
    y = np.array([[0.0], [1.0], [1.0], [3.0]])  # 1 1 3 0 2 2
    a, b = _pairs(x, "euclidean"), _pairs(y, "euclidean")

    def orders(values):
        every = map(np.array, itertools.permutations(range(1, 7)))
        pairs = list(itertools.permutations(range(6), 2))
        return [r for r in every if all(r[i] < r[j] for i, j in pairs if values[i] < values[j])]

    mean = np.mean([_pearson(r, s) for r in orders(a) for s in orders(b)])
    options = {"dissimilarity": "euclidean", "compare": "rho_a"}
    assert _in_float64(x, y, **options) == pytest.approx(mean, abs=1e-12)
    assert abs(mean - _oracle(x, y, "euclidean", "spearman")) > 0.01
    assert _in_float64(x, x, **options) < 0.99


@pytest.mark.parametrize("offset", [10, 30, 100])
@pytest.mark.parametrize(("dissimilarity", "compare"), [c for c in CASES if c[0] in EUCLIDEAN])
def test_an_offset_costs_no_accuracy(dissimilarity, compare, offset):
    x, y = _features()
    options = {"dissimilarity": dissimilarity, "compare": compare}
    expected = _in_float64(x, y, **options)
    got = _in_float32(x + offset * x.std(), y - offset * y.std(), **options)
    assert got == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("offset", [10, 30, 100])
@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine"])
def test_nearly_parallel_examples_are_told_apart(dissimilarity, offset):
    """Not invariant: the value is another, and that is what float32 must give."""
    rng = np.random.default_rng(4)
    x, y = _features()
    x, y = (np.float32(z + offset * rng.standard_normal(z.shape[1])) for z in (x, y))
    options = {"dissimilarity": dissimilarity, "compare": "pearson"}
    expected = _oracle(np.float64(x), np.float64(y), **options)
    assert _in_float32(x, y, **options) == pytest.approx(expected, rel=1e-5)


@given(st.integers(0, 2**32 - 1), st.floats(-6, 6))
def test_what_leaves_each_dissimilarity_unchanged(seed, exponent):
    rng = np.random.default_rng(seed)
    x, y = _features(seed=seed)
    n, d = x.shape
    scales, shift = 10 ** rng.uniform(-3, 3, (n, 1)), 10 * rng.standard_normal((1, d))
    same = {
        "correlation": [x * scales, x + 10 * rng.standard_normal((n, 1))],
        "cosine": [x * scales, x @ _rotation(d, seed)],
        "euclidean": [x + shift, x @ _rotation(d, seed) + shift],
        "squared_euclidean": [x + shift, x @ _rotation(d, seed) + shift],
    }
    for name, transformed in same.items():
        options = {"dissimilarity": name, "compare": "pearson"}
        expected = _in_float64(x, y, **options)
        for z in [*transformed, x * 10**exponent]:
            assert _in_float64(z, y, **options) == pytest.approx(expected, abs=1e-10)
            assert _in_float64(y, z, **options) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("dissimilarity", "transform"),
    [
        ("correlation", lambda x: x + 5 * np.arange(7)[None]),
        ("correlation", lambda x: x @ _rotation(7, 0)),
        ("cosine", lambda x: x + 5 * np.arange(7)[None]),
        ("cosine", lambda x: x + 3 * np.arange(24)[:, None]),
        ("euclidean", lambda x: x * (1 + np.arange(24))[:, None]),
        ("squared_euclidean", lambda x: x * (1 + np.arange(24))[:, None]),
        *((name, lambda x: x * 3.0 ** np.arange(7)[None]) for name in NAMES),
    ],
)
def test_what_changes_a_dissimilarity(dissimilarity, transform):
    x, y = _features()
    options = {"dissimilarity": dissimilarity, "compare": "pearson"}
    before, after = _in_float64(x, y, **options), _in_float64(transform(x), y, **options)
    assert abs(after - before) > 1e-2


@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_set_is_most_like_itself(compare):
    x, y = _features()
    options = {"dissimilarity": "squared_euclidean", "compare": compare}
    assert _in_float64(x, x, **options) == pytest.approx(1, abs=1e-12)
    assert _in_float64(x, y, **options) < 1 - 1e-3


@pytest.mark.parametrize("scale", [2.0**-50, 2.0**50])
@pytest.mark.parametrize("dissimilarity", NAMES)
def test_no_scale_over_or_underflows(dissimilarity, scale):
    x, y = _features()
    options = {"dissimilarity": dissimilarity, "compare": "pearson"}
    assert _in_float32(x * scale, y / scale, **options) == _in_float32(x, y, **options)


@pytest.mark.parametrize("dissimilarity", ["correlation", "cosine"])
def test_examples_of_very_different_scale(dissimilarity):
    x, y = _features()
    scales = 2.0 ** np.linspace(-50, 50, len(x)).round()[:, None]
    options = {"dissimilarity": dissimilarity, "compare": "pearson"}
    assert _in_float32(x * scales, y, **options) == _in_float32(x, y, **options)


def _with(x, index, value):
    x = x.copy()
    x[index] = value
    return x


_X, _Y = _features()
UNDEFINED = [
    *((f"constant, {name}", name, np.full_like(_X, 0.1) + np.arange(7)) for name in NAMES),
    *((f"NaN, {name}", name, _with(_X, (3, 2), np.nan)) for name in NAMES),
    *((f"infinite, {name}", name, _with(_X, (3, 2), np.inf)) for name in NAMES),
    ("zeros, cosine", "cosine", _with(_X, 3, 0)),
    ("equal features, correlation", "correlation", _with(_X, 3, 0.1)),
    ("parallel, cosine", "cosine", _X[:1] * np.linspace(0.1, 3, 24)[:, None]),
    ("parallel, correlation", "correlation", _X[:1] * np.linspace(0.1, 3, 24)[:, None] + 0.1),
]


@pytest.mark.parametrize(
    ("dissimilarity", "x"), [case[1:] for case in UNDEFINED], ids=[case[0] for case in UNDEFINED]
)
def test_undefined_is_nan(dissimilarity, x):
    options = {"dissimilarity": dissimilarity, "compare": "pearson"}
    for in_precision in (_in_float64, _in_float32):
        assert np.isnan(in_precision(x, _Y, **options))
        assert np.isnan(in_precision(_Y, x, **options))


@pytest.mark.parametrize("compare", COMPARISONS)
@pytest.mark.parametrize("x", [np.full_like(_X, 0.1), _with(_X, (3, 2), np.nan)])
def test_undefined_is_nan_in_each_comparison(compare, x):
    assert np.isnan(_in_float32(x, _Y, dissimilarity="squared_euclidean", compare=compare))


def test_the_correlation_over_one_feature_is_undefined():
    assert np.isnan(_in_float32(_X[:, :1], _Y))


@pytest.mark.parametrize("compare", COMPARISONS)
def test_pairs_that_are_all_equally_dissimilar(compare):
    x = 0.1 + np.eye(24)
    value = _in_float32(x, _Y, dissimilarity="squared_euclidean", compare=compare)
    assert 0 < value < 1 if compare == "cosine" else np.isnan(value)


@pytest.mark.parametrize("compare", ["spearman", "cosine"])
def test_reordering_what_is_prepared(compare):
    x, y = _features()
    order = np.random.default_rng(5).permutation(len(y))
    options = {"dissimilarity": "squared_euclidean", "compare": compare}
    comparison = rsa.make_rsa(**options)
    with jax.enable_x64(True):
        prepare = jax.jit(comparison.prepare)
        px, py = prepare(x), prepare(y)
        got = float(comparison.compare(px, comparison.reorder(py, order)))
        assert got == pytest.approx(_in_float64(x, y[order], **options), abs=1e-12)
        assert abs(got - float(comparison.compare(px, py))) > 1e-2


def test_equal_options_are_the_same_object_and_traced_once():
    assert rsa.make_rsa() is rsa.make_rsa(compare="spearman", dissimilarity="correlation")
    x, y = _features()
    _in_float32(x, y)
    traced = _comparison._between._cache_size()
    _in_float32(y + 1, x, compare="spearman")
    _in_float32(x, y, dissimilarity="correlation")
    assert _comparison._between._cache_size() == traced


def test_inside_a_jitted_function_and_on_any_shape():
    x, y = (jnp.float32(z) for z in _features())
    got = float(jax.jit(rsa.rsa)(x.reshape(-1, 1, 7), y))
    assert got == pytest.approx(_in_float32(x, y), abs=1e-6)
    counts = jnp.round(x * 3).astype(jnp.int32)
    assert float(rsa.rsa(counts, y)) == float(rsa.rsa(counts.astype(jnp.float32), y))


def test_features_of_different_widths():
    x, y = _features(dx=7, dy=4)
    expected = _oracle(x, y, "correlation", "spearman")
    assert _in_float64(x, y) == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dissimilarity": "euclid"},
            "unknown dissimilarity 'euclid'; did you mean 'euclidean'? Known: correlation, cosine, "
            "euclidean, squared_euclidean",
        ),
        (
            {"compare": "kendall"},
            "unknown comparison of dissimilarities 'kendall'. Known: cosine, pearson, rho_a, "
            "spearman",
        ),
    ],
)
def test_unknown_names(options, message):
    with pytest.raises(ValueError, match=r"^unknown") as error:
        rsa.rsa(*_features(), **options)
    assert str(error.value) == message


def test_too_few_examples():
    x, y = _features(2)
    with pytest.raises(ValueError, match=r"at least 3 examples for rsa \(cosine, pearson\), got"):
        rsa.rsa(x, y, dissimilarity="cosine", compare="pearson")
