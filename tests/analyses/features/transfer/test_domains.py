import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg

from tlx.analyses.features.transfer import domains
from tlx.core import streams

SEEDS = st.integers(0, 99)


def normals(seed, num, dim, *, rank=None):
    """Rows about a mean of their own, with directions of their own."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((rank or dim, dim))
    return rng.standard_normal(dim) + rng.standard_normal((num, len(mix))) @ mix


def frechet(x, y):
    """In float64, as the public function rounds to."""
    return np.hypot(*domains._parts(np.asarray(x, np.float64), np.asarray(y, np.float64)))


def by_the_formula(x, y):
    """d from the matrices, ‖μx − μy‖² + tr(Σx + Σy − 2(Σx Σy)^½)."""
    of_x, of_y = (np.cov(z, rowvar=False).reshape(z.shape[1], -1) for z in (x, y))
    root = linalg.sqrtm(of_x @ of_y)
    squared = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(of_x + of_y - 2 * root.real)
    return np.sqrt(squared)


@pytest.mark.parametrize(("n", "m", "dim"), [(60, 40, 5), (40, 60, 1), (200, 90, 12)])
def test_it_is_the_formula(n, m, dim):
    x, y = normals(0, n, dim), normals(1, m, dim)
    np.testing.assert_allclose(frechet(x, y), by_the_formula(x, y), rtol=1e-9)
    np.testing.assert_allclose(domains.frechet(x, y), by_the_formula(x, y), rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "m", "dim", "rank"), [(6, 9, 20, 20), (30, 30, 20, 3), (40, 5, 8, 8)]
)
def test_singular_covariances(n, m, dim, rank):
    """tr (Σx Σy)^½ is the sum of the roots of the eigenvalues of Σx Σy, which are real."""
    x, y = normals(0, n, dim, rank=rank), normals(1, m, dim, rank=rank)
    of_x, of_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    eigenvalues = np.maximum(np.linalg.eigvals(of_x @ of_y).real, 0)
    eigenvalues[eigenvalues < 1e-9 * eigenvalues.max()] = 0
    squared = np.trace(of_x) + np.trace(of_y) - 2 * np.sqrt(eigenvalues).sum()
    squared += np.square(x.mean(0) - y.mean(0)).sum()
    np.testing.assert_allclose(frechet(x, y), np.sqrt(squared), rtol=1e-6)


def test_covariances_that_commute_differ_by_their_standard_deviations():
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)
    x, y = 3 + signs * [2.0, 5.0], 7 + signs * [1.0, 9.0]
    expected = np.sqrt(4**2 + 4**2 + 1**2 + 4**2)
    np.testing.assert_allclose(frechet(x, y), expected, rtol=1e-12)


@given(SEEDS, st.sampled_from([(30, 5), (6, 12), (2, 3)]))
def test_laws_of_a_distance(seed, shape):
    (n, dim), rng = shape, np.random.default_rng(seed)
    x, y, z = normals(seed, n, dim), normals(seed + 1, n + 4, dim), normals(seed + 2, n, dim)
    d = frechet(x, y)
    np.testing.assert_allclose(frechet(y, x), d, rtol=1e-10)
    assert 0 <= d <= frechet(x, z) + frechet(z, y)
    turn, shift = np.linalg.qr(rng.standard_normal((dim, dim)))[0], rng.standard_normal(dim)
    np.testing.assert_allclose(frechet(x @ turn + shift, y @ turn + shift), d, rtol=1e-10)
    np.testing.assert_allclose(frechet(rng.permutation(x), rng.permutation(y)), d, rtol=1e-10)
    np.testing.assert_allclose(frechet(-7 * x, -7 * y), 7 * d, rtol=1e-10)
    np.testing.assert_allclose(frechet(x, x + shift), np.linalg.norm(shift), rtol=1e-10)
    assert frechet(x, rng.permutation(x)) < 1e-6 * np.linalg.norm(x)


def test_it_is_above_0_where_only_a_covariance_or_a_mean_is_other():
    x = normals(0, 50, 4)
    mean = x.mean(0)
    of_means, of_covariances = domains._parts(x, mean + 2 * (x - mean))
    assert of_means < 1e-12
    np.testing.assert_allclose(of_covariances, np.sqrt(np.trace(np.cov(x.T))), rtol=1e-10)


def test_small_samples_are_apart_by_what_the_docstring_says():
    rng = np.random.default_rng(0)
    for dim, num in ((8, 80), (16, 40)):
        draws = rng.standard_normal((60, 2, num, dim))
        mean = np.mean([frechet(x, y) ** 2 for x, y in draws])
        np.testing.assert_allclose(mean, dim * (dim + 5) / (2 * num), rtol=0.1)


def test_undefined_is_nan():
    x = normals(0, 9, 3)
    broken = np.where(np.arange(3) == 1, np.inf, x)
    for other in (x[:1], x[:0], np.full((4, 3), np.nan), broken):
        assert np.isnan(domains.frechet(x, other))
        assert np.isnan(domains.frechet(other, x))
    assert domains.frechet(np.ones((2, 3)), np.ones((5, 3))) == 0  # constants are defined
    assert domains.frechet(np.ones((2, 0)), np.ones((5, 0))) == 0


def test_axes_are_flattened_and_any_real_dtype_is_taken():
    x, y = normals(0, 20, 12), normals(1, 30, 12)
    expected = domains.frechet(x, y)
    assert domains.frechet(x.reshape(20, 2, 2, 3), y.reshape(30, 2, 2, 3)) == expected
    half = domains.frechet(jnp.asarray(x, jnp.bfloat16), y.astype(np.float32))
    np.testing.assert_allclose(half, expected, rtol=2e-2)
    # the numerical rule is some 1e-15; which bit is left depends on the processor
    assert domains.frechet(np.eye(3, dtype=bool), np.eye(3, dtype=np.int8)) <= 1e-14


def layers_of(params, inputs):
    return {"images": inputs * params, "pixels": inputs[:, 0, 0]}


def images(seed, num, size=3):
    return np.random.default_rng(seed).standard_normal((num, size, size, 2)).astype(np.float32)


@pytest.mark.parametrize("spatial", ["pool", "flatten"])
def test_streams_give_the_distance_of_their_features(spatial):
    x, y = images(0, 23), 2 * images(1, 31) + 1
    weights = np.float32(3)
    got = domains.distance(
        layers_of,
        weights,
        streams.from_arrays(x, batch_size=8),
        streams.from_arrays(y, batch_size=31),
        layer="images",
        spatial=spatial,
    )
    rows = [
        (3 * z).mean((1, 2)) if spatial == "pool" else (3 * z).reshape(len(z), -1) for z in (x, y)
    ]
    np.testing.assert_allclose(got.distance, domains.frechet(*rows), rtol=1e-5)
    apart = np.linalg.norm(rows[0].mean(0) - rows[1].mean(0))
    np.testing.assert_allclose(got.of_means, apart, rtol=1e-5)
    np.testing.assert_allclose(np.hypot(got.of_means, got.of_covariances), got.distance, rtol=1e-6)
    assert (got.num_features, got.num_x, got.num_y) == (rows[0].shape[1], 23, 31)


def test_masked_rows_leave_no_trace_and_each_stream_is_read_once():
    x, y, passes = images(0, 20), images(1, 20), []

    def masked(z):
        def start():
            passes.append(len(z))
            for i in range(0, 20, 5):
                inputs = np.full((10, 3, 3, 2), np.nan, np.float32)
                inputs[::2] = z[i : i + 5]
                yield {"inputs": inputs, "mask": np.arange(10) % 2 == 0}

        return start

    plain = [streams.from_arrays(z, batch_size=20) for z in (x, y)]
    one = np.float32(1)
    expected = domains.distance(layers_of, one, *plain, layer="images")
    got = domains.distance(layers_of, one, masked(x), masked(y), layer="images")
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert passes == [20, 20]
    none = lambda: iter([{"inputs": x, "mask": np.zeros(20, bool)}])  # noqa: E731
    empty = domains.distance(layers_of, one, none, plain[1], layer="images")
    assert np.isnan([empty.distance, empty.of_means, empty.of_covariances]).all()
    assert (empty.num_x, empty.num_y) == (0, 20)


def test_images_of_two_sizes_may_be_pooled():
    pair = [streams.from_arrays(images(0, 9, size), batch_size=9) for size in (3, 4)]
    got = domains.distance(layers_of, np.float32(1), *pair, layer="images")
    assert (got.num_features, np.isfinite(got.distance)) == (2, True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: domains.frechet(np.ones((4, 2)), np.ones((4, 3))),
            ValueError,
            "expected as many features in both sets, got 2 and 3",
        ),
        (lambda: domains.frechet(1.0, 2.0), ValueError, "expected features [N, ...], got shape ()"),
        (
            lambda: domains.frechet(np.ones((4, 2)) * 1j, np.ones((4, 2))),
            TypeError,
            "expected real features, got dtype complex128",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        call()


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        (
            (3, 3),
            {"layer": "image"},
            "unknown layer 'image'; did you mean 'images'? Known: images, pixels",
        ),
        ((3, 3), {"spatial": "positions"}, "unknown spatial 'positions'. Known: flatten, pool"),
        (
            (3, 4),
            {"spatial": "flatten"},
            "expected as many features of 'images' from both streams, got 18 and 32; pool them, "
            'spatial="pool"',
        ),
    ],
    ids=str,
)
def test_errors_before_any_pass(sizes, options, message):
    pair = [streams.from_arrays(images(0, 9, size), batch_size=9) for size in sizes]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        domains.distance(layers_of, np.float32(1), *pair, **{"layer": "images", **options})


def test_empty_stream():
    pair = [streams.from_arrays(images(0, num), batch_size=9) for num in (9, 0)]
    message = "expected streams with at least one batch each, got an empty one"
    with pytest.raises(ValueError, match=f"^{message}$"):
        domains.distance(layers_of, np.float32(1), *pair, layer="images")
