import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import oracles
from tlx.analyses.features.similarity import _comparison, neighbors, rsa

N = 24


def _features(n=N, dx=7, dy=7, seed=0):
    """Two sets that share a part, off the origin by about their spread."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 3))
    x = shared @ rng.standard_normal((3, dx)) + rng.standard_normal((n, dx))
    y = shared @ rng.standard_normal((3, dy)) + rng.standard_normal((n, dy))
    return x + rng.standard_normal(dx), y + rng.standard_normal(dy)


def _unit(x):
    return x / np.sqrt((x**2).sum(1, keepdims=True))


def _nearest(x, k, dissimilarity="cosine"):
    """The k nearest of each example, found one by one; where nothing ties."""
    if dissimilarity == "correlation":
        x = x - x.mean(1, keepdims=True)
    if dissimilarity in ("correlation", "cosine"):
        x = _unit(x)
    found = []
    for i, row in enumerate(x):
        others = [(((row - x[j]) ** 2).sum(), j) for j in range(len(x)) if j != i]
        found.append({j for _, j in sorted(others)[:k]})
    return found


def _mutual_knn(x, y, k, dissimilarity):
    pairs = zip(_nearest(x, k, dissimilarity), _nearest(y, k, dissimilarity), strict=True)
    return np.mean([len(a & b) / k for a, b in pairs])


def _masked(x, near):
    """Inner products of the rows scaled to length 1, where j is near i."""
    x, out = _unit(x), np.zeros((len(x), len(x)))
    for i, j in itertools.product(range(len(x)), repeat=2):
        if j in near[i]:
            out[i, j] = x[i] @ x[j]
    return out


def _h(a, b):
    n, one = len(a), np.ones(len(a))
    together = sum(a[i, j] * b[j, i] for i, j in itertools.product(range(n), repeat=2))
    return together + a.sum() * b.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ a @ b @ one


def _cknna(x, y, k):
    near_x, near_y = _nearest(x, k), _nearest(y, k)
    both = [a & b for a, b in zip(near_x, near_y, strict=True)]
    x_alone, y_alone = _masked(x, near_x), _masked(y, near_y)
    together = _h(_masked(x, both), _masked(y, both))
    return together / np.sqrt(_h(x_alone, x_alone) * _h(y_alone, y_alone))


def _in_float64(function, *args, **options):
    with jax.enable_x64(True):
        return float(function(*args, **options))


def _in_float32(function, x, y, **options):
    return float(function(np.float32(x), np.float32(y), **options))


def _rotation(d, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, d)))[0]


@pytest.mark.parametrize("k", [2, 10])
@pytest.mark.parametrize("dissimilarity", ["cosine", "euclidean"])
def test_mutual_knn_equals_the_formula(dissimilarity, k):
    x, y = _features()
    options = {"k": k, "dissimilarity": dissimilarity}
    expected = _mutual_knn(x, y, **options)
    assert 0 < expected < 1
    assert _in_float64(neighbors.mutual_knn, x, y, **options) == pytest.approx(expected, abs=1e-14)
    assert _in_float32(neighbors.mutual_knn, x, y, **options) == pytest.approx(expected, abs=1e-6)


def test_mutual_knn_by_correlation():
    x, y = _features()
    got = _in_float64(neighbors.mutual_knn, x, y, k=10, dissimilarity="correlation")
    assert got == pytest.approx(_mutual_knn(x, y, 10, "correlation"), abs=1e-14)


@pytest.mark.parametrize("k", [2, 10, 23])
def test_cknna_equals_the_formula(k):
    x, y = _features()
    expected = _cknna(x, y, k)
    assert _in_float64(neighbors.cknna, x, y, k=k) == pytest.approx(expected, abs=1e-12)
    assert _in_float32(neighbors.cknna, x, y, k=k) == pytest.approx(expected, abs=1e-5)


def test_cknna_of_all_neighbours_is_the_debiased_cka_of_the_scaled_rows():
    x, y = _features()
    expected = oracles.cka(_unit(x), _unit(y), "debiased")
    got = _in_float64(neighbors.cknna, x, y, k=N - 1)
    assert got == pytest.approx(expected, abs=1e-12)
    assert abs(got - oracles.cka(x, y, "debiased")) > 1e-2  # the rows being scaled matters
    assert abs(got - _in_float64(neighbors.cknna, x, y, k=10)) > 1e-2


@pytest.mark.parametrize("offset", [10, 30, 100])
def test_cknna_of_all_neighbours_of_nearly_parallel_examples(offset):
    """Not invariant to the offset: float32 must give the value that it has with it."""
    rng = np.random.default_rng(1)
    x, y = (np.float32(z + offset * rng.standard_normal(z.shape[1])) for z in _features())
    expected = oracles.cka(_unit(np.float64(x)), _unit(np.float64(y)), "debiased")
    assert _in_float32(neighbors.cknna, x, y, k=N - 1) == pytest.approx(expected, rel=1e-3)


def _shares(x, k):
    """m_ij by squared distances, from its definition; features of small whole numbers."""
    n, found = len(x), np.zeros((len(x), len(x)))
    for i in range(n):
        d = {j: ((x[i] - x[j]) ** 2).sum() for j in range(n) if j != i}
        border = sorted(d.values())[k - 1]
        closer = [j for j in d if d[j] < border]
        tied = [j for j in d if d[j] == border]
        found[i, closer], found[i, tied] = 1, (k - len(closer)) / len(tied)
    return found


def _tied(seed, n=N):
    """Two sets of few different examples, independent of each other."""
    rng = np.random.default_rng(seed)
    return np.eye(7)[rng.integers(0, 4, n)], np.eye(7)[rng.integers(0, 5, n)]


@pytest.mark.parametrize(
    ("in_precision", "dtype"), [(_in_float64, np.float64), (_in_float32, np.float32)]
)
def test_ties_share_the_places(in_precision, dtype):
    x, y = _tied(0)
    near_x, near_y = _shares(x, 10), _shares(y, 10)
    assert ((near_x > 0) & (near_x < 1)).any()
    np.testing.assert_allclose(near_x.sum(1), 10)
    expected = np.minimum(near_x, near_y).sum() / (10 * N)
    moved = x @ _rotation(7, 0) + 10, y - 3  # what is equal but for rounding ties as well
    for pair in ((x, y), moved):
        got = in_precision(neighbors.mutual_knn, *pair, dissimilarity="euclidean")
        # N² shares are summed, in any order
        assert got == pytest.approx(expected, rel=N * float(np.finfo(dtype).eps))


def test_cknna_with_ties_is_the_formula():
    x = _tied(0)[0]
    y = _features()[1]
    near_x = _shares(x, 10)  # by distance, which for these is as by cosine
    near_y = np.array([[j in near for j in range(N)] for near in _nearest(y, 10)])
    k, l_ = (_unit(z) @ _unit(z).T for z in (x, y))
    both = np.minimum(near_x, near_y)
    expected = _h(both * k, both * l_) / np.sqrt(
        _h(near_x * k, near_x * k) * _h(near_y * l_, near_y * l_)
    )
    assert _in_float64(neighbors.cknna, x, y) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("make", [neighbors.make_mutual_knn, neighbors.make_cknna])
def test_ties_do_not_depend_on_the_order(make):
    """Reordering is exact, an equal set is most alike, and the two orders commute."""
    x, _ = (jnp.float32(z) for z in _tied(1))
    comparison = make(10)
    prepare = jax.jit(comparison.prepare)
    order = np.random.default_rng(0).permutation(N)
    again = comparison.reorder(prepare(x), order)
    np.testing.assert_allclose(again.near, prepare(x[order]).near, atol=1e-6)
    assert float(comparison.compare(again, again)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("make", [neighbors.make_mutual_knn, neighbors.make_cknna])
def test_p_values_of_sets_with_ties_are_valid(make):
    """Of independent sets; had both taken the first of those that tie, all p would be least."""
    comparison, sets, num = make(5), 60, 39
    draws = np.stack([np.stack(_tied(seed)) for seed in range(sets)]).astype(np.float32)
    rng = np.random.default_rng(0)
    orders = np.stack([[rng.permutation(N) for _ in range(num)] for _ in range(sets)])

    @jax.jit
    def p_values(draws, orders):
        def one(arguments):
            (x, y), orders = arguments
            x, y = comparison.prepare(x), comparison.prepare(y)
            null = jax.vmap(lambda order: comparison.compare(x, comparison.reorder(y, order)))
            value = comparison.compare(x, y)
            return (1 + (null(orders) >= value - 1e-6).sum()) / (1 + num), value

        return jax.lax.map(one, (draws, orders))

    p, values = map(np.asarray, p_values(draws, orders))
    assert np.isfinite(values).all()
    level = 0.05
    assert (p <= level + 1e-6).mean() <= level + 3 * np.sqrt(level * (1 - level) / sets)
    assert p.min() < 0.2 < p.mean() < 0.8


def test_equal_examples_tie_exactly_in_float32():
    """Whatever offset and width: 16 pairs of copies in a row are each other's nearest."""
    x = np.repeat(np.random.default_rng(6).standard_normal((16, 333)), 2, axis=0) + 10
    comparison = neighbors.make_mutual_knn(1, "euclidean")
    near = np.asarray(jax.jit(comparison.prepare)(np.float32(x)).near) == 1
    assert (near.argmax(1) == np.arange(32) + np.tile([1, -1], 16)).all()
    distances = np.asarray(jax.jit(rsa.DISSIMILARITIES["euclidean"])(np.float32(x)))
    assert (distances[near] == 0).all()
    assert (distances == 0).sum() == 64  # and the diagonal


def test_neighbours_by_chance_are_k_in_n_less_1():
    """The mean over all orders of one set is exactly that."""
    x, y = _features(5)
    comparison = neighbors.make_mutual_knn(2, "euclidean")
    with jax.enable_x64(True):
        px, py = map(jax.jit(comparison.prepare), (x, y))
        orders = np.array(list(itertools.permutations(range(5))))
        values = jax.vmap(lambda order: comparison.compare(px, comparison.reorder(py, order)))
        assert float(jax.jit(values)(orders).mean()) == pytest.approx(2 / 4, abs=1e-12)


@pytest.mark.parametrize("function", [neighbors.mutual_knn, neighbors.cknna])
def test_a_set_is_most_like_itself(function):
    x, y = _features()
    assert _in_float64(function, x, x, k=10) == pytest.approx(1, abs=1e-12)
    assert _in_float64(function, x, y, k=10) < 0.9


def test_exchanging_the_sets():
    x, y = _features()
    assert _in_float64(neighbors.mutual_knn, x, y) == _in_float64(neighbors.mutual_knn, y, x)
    values = [_in_float64(neighbors.cknna, *pair, k=10) for pair in ((x, y), (y, x))]
    assert abs(values[0] - values[1]) > 1e-4  # as the docstring says


@given(st.integers(0, 2**32 - 1), st.floats(-6, 6))
def test_what_leaves_the_neighbours_unchanged(seed, exponent):
    rng = np.random.default_rng(seed)
    x, y = _features(seed=seed)
    scales, shift = 10 ** rng.uniform(-3, 3, (N, 1)), 10 * rng.standard_normal((1, 7))
    turned, scaled = x @ _rotation(7, seed), x * 10**exponent
    cases = [
        (neighbors.mutual_knn, "cosine", [turned, scaled, x * scales]),
        (neighbors.mutual_knn, "euclidean", [turned + shift, scaled]),
        (neighbors.cknna, None, [turned, scaled, x * scales]),
    ]
    for function, dissimilarity, transformed in cases:
        options = {"k": 10} | ({"dissimilarity": dissimilarity} if dissimilarity else {})
        expected = _in_float64(function, x, y, **options)
        for z in transformed:
            assert _in_float64(function, z, y, **options) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("function", "dissimilarity", "transform"),
    [
        (neighbors.mutual_knn, "cosine", lambda x: x - x.mean(0)[None]),
        (neighbors.mutual_knn, "euclidean", lambda x: x * (1 + np.arange(N))[:, None]),
        (neighbors.mutual_knn, "cosine", lambda x: x * 3.0 ** np.arange(7)[None]),
        (neighbors.mutual_knn, "euclidean", lambda x: x * 3.0 ** np.arange(7)[None]),
        (neighbors.cknna, None, lambda x: x + 5 * np.arange(7)[None]),
        (neighbors.cknna, None, lambda x: x * 3.0 ** np.arange(7)[None]),
    ],
)
def test_what_changes_the_neighbours(function, dissimilarity, transform):
    x, y = _features()
    options = {"k": 10} | ({"dissimilarity": dissimilarity} if dissimilarity else {})
    before = _in_float64(function, x, y, **options)
    assert abs(_in_float64(function, transform(x), y, **options) - before) > 1e-2


@pytest.mark.parametrize("offset", [10, 30, 100])
def test_an_offset_leaves_the_nearest_by_distance(offset):
    x, y = _features()
    options = {"k": 10, "dissimilarity": "euclidean"}
    got = _in_float32(neighbors.mutual_knn, x + offset * x.std(), y - offset * y.std(), **options)
    expected = _in_float64(neighbors.mutual_knn, x, y, **options)
    assert got == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [2.0**-50, 2.0**50])
def test_no_scale_over_or_underflows(scale):
    x, y = _features()
    every_scale = 2.0 ** np.linspace(-50, 50, N).round()[:, None]
    for function in (neighbors.mutual_knn, neighbors.cknna):
        expected = _in_float32(function, x, y, k=10)
        assert _in_float32(function, x * scale, y * every_scale, k=10) == expected


def _with(x, index, value):
    x = x.copy()
    x[index] = value
    return x


_X, _Y = _features()
UNDEFINED = {
    "constant": np.full_like(_X, 0.1) + np.arange(7),
    "zeros": np.zeros_like(_X),
    "NaN": _with(_X, (3, 2), np.nan),
    "infinite": _with(_X, (3, 2), np.inf),
    "an example of zeros": _with(_X, 3, 0),
    "parallel": _X[:1] * np.linspace(0.1, 3, N)[:, None],
}


@pytest.mark.parametrize("case", UNDEFINED)
def test_undefined_is_nan(case):
    for function in (neighbors.mutual_knn, neighbors.cknna):
        for in_precision in (_in_float64, _in_float32):
            assert np.isnan(in_precision(function, UNDEFINED[case], _Y, k=10))
            assert np.isnan(in_precision(function, _Y, UNDEFINED[case], k=10))


@pytest.mark.parametrize("case", ["constant", "zeros", "NaN"])
def test_undefined_by_distance_is_nan(case):
    options = {"k": 10, "dissimilarity": "euclidean"}
    assert np.isnan(_in_float32(neighbors.mutual_knn, UNDEFINED[case], _Y, **options))
    assert np.isfinite(
        _in_float32(neighbors.mutual_knn, UNDEFINED["an example of zeros"], _Y, **options)
    )


def test_cknna_is_nan_where_one_example_alone_differs():
    """With all neighbours: the U-centred matrix is zero, and rounding is no value."""
    x = np.repeat(_X[:1], N, axis=0)
    x[4] = _X[1]
    for in_precision in (_in_float64, _in_float32):
        assert np.isnan(in_precision(neighbors.cknna, x, _Y, k=N - 1))


@pytest.mark.parametrize(
    "comparison", [neighbors.make_mutual_knn(10), neighbors.make_cknna(10)], ids=lambda c: c.name
)
def test_reordering_what_is_prepared(comparison):
    x, y = _features()
    order = np.random.default_rng(5).permutation(N)
    with jax.enable_x64(True):
        prepare = jax.jit(comparison.prepare)
        px, py = prepare(x), prepare(y)
        got = float(comparison.compare(px, comparison.reorder(py, order)))
        expected = float(_comparison.between(comparison, x, y[order]))
        assert got == pytest.approx(expected, abs=1e-12)
        assert abs(got - float(comparison.compare(px, py))) > 1e-2


def test_equal_options_are_the_same_object_and_traced_once():
    assert neighbors.make_mutual_knn() is neighbors.make_mutual_knn(dissimilarity="cosine", k=10)
    assert neighbors.make_cknna() is neighbors.make_cknna(k=np.int64(10))
    x, y = _features()
    _in_float32(neighbors.cknna, x, y)
    traced = _comparison._between._cache_size()
    _in_float32(neighbors.cknna, y, x + 1, k=10)
    assert _comparison._between._cache_size() == traced


def test_inside_a_jitted_function_and_on_any_shape():
    x, y = (jnp.float32(z) for z in _features())
    for function in (neighbors.mutual_knn, neighbors.cknna):
        got = float(jax.jit(function)(x.reshape(N, 1, 7), y))
        assert got == pytest.approx(_in_float32(function, x, y), abs=1e-6)


@pytest.mark.parametrize(
    ("function", "n", "options", "message"),
    [
        (neighbors.mutual_knn, N, {"k": 0}, "expected k of at least 1, got 0"),
        (neighbors.cknna, N, {"k": 1}, "expected k of at least 2, got 1"),
        (
            neighbors.mutual_knn,
            11,
            {},
            "expected at least 12 examples for mutual_knn with k = 10, got 11",
        ),
        (neighbors.cknna, 10, {}, "expected at least 11 examples for cknna with k = 10, got 10"),
        (neighbors.cknna, 3, {"k": 2}, "expected at least 4 examples for cknna with k = 2, got 3"),
        (
            neighbors.mutual_knn,
            N,
            {"dissimilarity": "cosin"},
            "unknown dissimilarity 'cosin'; did you mean 'cosine'? Known: correlation, cosine, "
            "euclidean, squared_euclidean",
        ),
    ],
)
def test_values_that_are_refused(function, n, options, message):
    with pytest.raises(ValueError, match=r".") as error:
        function(*_features(n), **options)
    assert str(error.value) == message


@pytest.mark.parametrize("function", [neighbors.mutual_knn, neighbors.cknna])
def test_k_is_an_integer(function):
    with pytest.raises(TypeError, match="integer"):
        function(*_features(), k=10.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_the_kth_least_of_a_row_counts_equals(dtype, k):
    rng = np.random.default_rng(0)
    d = rng.integers(0, 6, (20, 10)).astype(dtype)  # many are equal
    d[:, 3], d[0] = np.inf, 2
    with jax.enable_x64(dtype == np.float64):
        found = neighbors._kth_least(jnp.asarray(d), k)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.sort(d, 1)[:, k - 1])
