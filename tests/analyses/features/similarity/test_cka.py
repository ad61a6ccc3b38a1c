import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import features, oracles
from tlx.analyses.features.similarity import _comparison, cka, kernels
from tlx.core import tree

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "similarity.json").read_text())
ESTIMATORS = ("debiased", "biased")
TOLERANCE = 1e-4


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_reference_values(estimator):
    x, y = features.reference_input()
    expected = GOLDEN[f"linear_cka_{estimator}"]
    got = cka.cka(np.float32(x), np.float32(y), estimator=estimator)
    assert abs(got - expected) < 1e-6
    with jax.enable_x64(True):
        got = np.asarray(cka.cka(x, y, estimator=estimator))
    assert got.dtype == np.float64
    assert abs(got - expected) < 1e-11


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("n", "dx", "dy"), [(4, 3, 2), (5, 100, 3), (20, 20, 20), (40, 3, 7)])
def test_either_form_is_the_formula(estimator, n, dx, dy):
    x, y = features.correlated(n, dx, dy)
    got = cka.cka(np.float32(x), np.float32(y), estimator=estimator)
    np.testing.assert_allclose(got, oracles.cka(x, y, estimator), atol=2e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_feature_and_gram_form_are_one_number(estimator):
    x, y = features.correlated(40, 3, 7)
    wide = np.concatenate([x, np.zeros((40, 200))], 1)  # zeros choose the Gram form
    got = [cka.cka(np.float32(z), np.float32(y), estimator=estimator) for z in (x, wide)]
    np.testing.assert_allclose(*got, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", [(20, 40), (60, 5)], ids=["gram form", "feature form"])
@given(seed=st.integers(0, 1000), log_scale=st.floats(-12, 12))
def test_invariances(estimator, shape, seed, log_scale):
    n, dims = shape
    x, y = features.correlated(n, dims, dims, seed)
    rng = np.random.default_rng(seed + 1)
    rotation = np.linalg.qr(rng.standard_normal((dims, dims)))[0]
    order = rng.permutation(n)

    def of(x, y):
        return cka.cka(np.float32(x), np.float32(y), estimator=estimator)

    expected = of(x, y)
    for other in (
        of(y, x),
        of(x @ rotation, y),
        of(10.0**log_scale * x, y),
        of(x + rng.standard_normal((1, dims)), y),
        of(x[order], y[order]),
    ):
        np.testing.assert_allclose(other, expected, atol=2e-5)
    np.testing.assert_allclose(of(x, x @ rotation), 1, atol=1e-5)
    assert abs(expected) <= 1 + 1e-6


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("offset", [10, 30, 100])
@pytest.mark.parametrize("rows", [100, 12], ids=["feature form", "gram form"])
def test_an_offset_changes_nothing_in_float32(estimator, offset, rows):
    x, y = (z[:rows] for z in features.reference_input())
    moved = np.float32(x + offset * x.std()), np.float32(y + offset * y.std())
    got = cka.cka(*moved, estimator=estimator)
    np.testing.assert_allclose(got, oracles.cka(x, y, estimator), atol=TOLERANCE)


@pytest.mark.parametrize("n", [32, 256])
def test_bias_of_independent_features(n):
    rng = np.random.default_rng(0)
    values = np.array(
        [
            [
                cka.cka(*rng.standard_normal((2, n, 10)).astype(np.float32), estimator=estimator)
                for estimator in ("biased", "debiased")
            ]
            for _ in range(20)
        ]
    )
    expected = GOLDEN["independent_normals_20_seeds_d10_biased_debiased"][str(n)]
    error = values.std(0) / np.sqrt(20)
    assert (abs(values.mean(0) - expected) < 5 * error).all()
    assert (values[:, 1] < 0).any()


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dims", [2, 200])
def test_undefined_values_are_not_numbers(estimator, dims):
    other = np.random.default_rng(0).standard_normal((16, dims)).astype(np.float32)
    constant = np.full((16, dims), 0.1, np.float32) * np.arange(1, dims + 1, dtype=np.float32)
    assert np.isnan(cka.cka(constant, other, estimator=estimator))
    assert np.isnan(cka.cka(other, constant, estimator=estimator))
    broken = other.copy()
    broken[3, 1] = np.nan
    assert np.isnan(cka.cka(broken, other, estimator=estimator))


@pytest.mark.parametrize(("n", "dims"), [(16, 2), (100, 8), (16, 200)])
def test_one_example_alone_is_no_debiased_similarity(n, dims):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        other = rng.standard_normal((n, dims)).astype(np.float32)
        alone = np.full((n, dims), 0.3, np.float32)
        alone[seed % n] += rng.standard_normal(dims).astype(np.float32)
        assert np.isnan(cka.cka(alone, other))
        assert np.isnan(cka.cka(alone, alone))
        assert cka.cka(alone, other, estimator="biased") > 0


def test_low_precision_and_integers_are_computed_in_float32():
    x, y = features.correlated(20, 20, 20)
    low = jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16)
    got = cka.cka(*low)
    assert got.dtype == jnp.float32
    expected = oracles.cka(*(np.asarray(z, np.float64) for z in low), "debiased")
    np.testing.assert_allclose(got, expected, atol=1e-5)
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), np.uint8)
    expected = oracles.cka(images, x, "debiased")
    np.testing.assert_allclose(cka.cka(images, np.float32(x)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ((3, 2), (3, 2), {}, r"at least 4 examples for CKA \(linear, debiased\), got 3"),
        ((5, 2), (6, 2), {}, r"of the same examples, got shapes \(5, 2\) and \(6, 2\)"),
        ((5, 2), (5, 2), {"estimator": "bias"}, "unknown estimator 'bias'; did you mean 'biased'"),
    ],
)
def test_two_matrices_are_refused(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        cka.cka(np.zeros(x), np.zeros(y), **options)


def test_linear_cka_traces_and_differentiates():
    x, y = (jnp.asarray(z, jnp.float32) for z in features.correlated(8, 3, 20))
    value, slope = jax.jit(jax.value_and_grad(cka.cka))(x, y)
    np.testing.assert_allclose(value, cka.cka(x, y), rtol=1e-5)
    step = 1e-2 * slope / jnp.linalg.norm(slope)
    rise = cka.cka(x + step, y) - cka.cka(x - step, y)
    np.testing.assert_allclose(rise / 2e-2, jnp.linalg.norm(slope), rtol=1e-2)


# Kernels


def _squares(x):
    return ((x[:, None] - x[None]) ** 2).sum(-1)


def _kernel(name, x, bandwidth=0.5):
    """The Gram matrix, from the formula."""
    z = x - x.mean(0)
    if name == "linear":
        return z @ z.T
    if name == "cosine":
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        return unit @ unit.T
    if name == "distance":
        return -np.sqrt(_squares(x))
    if name == "rbf":
        return np.exp(-_squares(x) / (2 * bandwidth**2 * np.median(_squares(x))))
    return (z @ z.T / (z**2).sum(1).mean() + 1) ** 3


KERNELS = {
    "linear": kernels.linear(),
    "cosine": kernels.cosine(),
    "distance": kernels.distance(),
    "rbf": kernels.rbf(),
    "polynomial": kernels.polynomial(),
}


def _cka_of(k, l_, estimator):
    hsic, n = (oracles.hsic1, len(k)) if estimator == "debiased" else (oracles.hsic0, len(k))
    assert n == len(l_)
    return hsic(k, l_) / np.sqrt(hsic(k, k) * hsic(l_, l_))


@pytest.mark.parametrize(
    ("name", "n", "dx", "dy", "estimator"),
    [
        *((name, 9, 30, 4, "debiased") for name in KERNELS),
        ("rbf", 8, 30, 4, "debiased"),  # the median lies between two distances
        # the estimator sees Gram matrices or features, and no kernel
        ("polynomial", 9, 30, 4, "biased"),
        *((name, 40, 3, 7, each) for name in ("linear", "cosine") for each in ESTIMATORS),
    ],
)
def test_kernels_are_their_formulas(name, n, dx, dy, estimator):
    x, y = features.correlated(n, dx, dy)
    expected = _cka_of(_kernel(name, x), _kernel(name, y), estimator)
    got = cka.cka(np.float32(x), np.float32(y), kernel=KERNELS[name], estimator=estimator)
    np.testing.assert_allclose(got, expected, atol=3e-5)
    with jax.enable_x64(True):
        got = np.asarray(cka.cka(x, y, kernel=KERNELS[name], estimator=estimator))
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


def test_the_scale_of_numbers_is_that_of_the_largest_magnitude():
    scaled, exponent = tree.unit_scale(jnp.asarray([[-3e30, 1.0], [2.0, -5.0]]))
    assert 0.5 <= np.abs(scaled).max() < 1
    np.testing.assert_allclose(np.ldexp(np.float64(scaled), int(exponent))[0, 0], -3e30, rtol=1e-7)


def test_reference_value_of_the_rbf_kernel():
    x, y = features.reference_input()
    expected = GOLDEN["rbf_cka_sigma_half_median_distance"]
    options = {"kernel": kernels.rbf(0.5), "estimator": "biased"}
    assert abs(cka.cka(np.float32(x), np.float32(y), **options) - expected) < 1e-6
    with jax.enable_x64(True):
        assert abs(float(cka.cka(x, y, **options)) - expected) < 1e-11


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("name", KERNELS)
def test_any_kernel_of_constant_features_is_not_a_number(name, estimator):
    other = np.random.default_rng(0).standard_normal((16, 5)).astype(np.float32)
    constant = np.full((16, 5), 0.1, np.float32) * np.arange(1, 6, dtype=np.float32)
    broken = np.where(other > 2, np.nan, other)
    assert np.isnan(broken).any()
    for strange in (constant, np.zeros_like(constant), broken):
        got = cka.cka(strange, other, kernel=KERNELS[name], estimator=estimator)
        assert np.isnan(got)


@pytest.mark.parametrize("bandwidth", [10.0, 300.0])
def test_a_wide_rbf_kernel_keeps_its_digits(bandwidth):
    x, y = features.correlated(60, 10, 10)
    kernel = kernels.rbf(bandwidth)
    k, l_ = (_kernel("rbf", z, bandwidth) - 1 for z in (x, y))  # what centring takes away anyway
    expected = _cka_of(k, l_, "debiased")
    np.testing.assert_allclose(
        cka.cka(np.float32(x), np.float32(y), kernel=kernel), expected, atol=1e-5
    )


def test_the_length_of_an_example_does_not_matter_to_the_cosine_kernel():
    x, y = (np.float32(z) for z in features.correlated(60, 5, 5))
    expected = cka.cka(x, y, kernel=kernels.cosine())
    x[3] *= 2.0**-66
    x[5] *= 2.0**50
    np.testing.assert_allclose(cka.cka(x, y, kernel=kernels.cosine()), expected, atol=1e-6)


def test_equal_options_give_the_same_object():
    assert kernels.rbf() is kernels.rbf(0.5) is kernels.rbf(bandwidth=0.5)
    assert kernels.polynomial() is kernels.polynomial(3, offset=1)
    kernel = kernels.linear()
    assert cka.make_cka(kernel, "biased") is cka.make_cka(kernel=kernel, estimator="biased")


@pytest.mark.parametrize("shape", [(20, 40), (60, 5)], ids=["gram form", "feature form"])
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("scale", [1e-25, 1e19])
def test_no_kernel_depends_on_the_scale(name, scale, shape):
    n, dims = shape
    x, y = (np.float32(z) for z in features.correlated(n, dims, dims))
    got = [cka.cka(np.float32(s) * x, y, kernel=KERNELS[name]) for s in (1.0, scale)]
    np.testing.assert_allclose(*got, atol=1e-5)


@pytest.mark.parametrize("make", [lambda: kernels.rbf(0.0), lambda: kernels.polynomial(2.5)])
def test_kernels_refuse(make):
    with pytest.raises(
        ValueError, match=r"expected an? (bandwidth above 0|integer degree of at least 1)"
    ):
        make()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_distance_correlation_is_the_formula(estimator):
    x, y = features.correlated(15, 3, 2)
    a, b = (np.sqrt(_squares(z)) for z in (x, y))
    n = len(x)
    if estimator == "biased":
        a, b = (m - m.mean(0) - m.mean(1)[:, None] + m.mean() for m in (a, b))
    else:  # Szekely and Rizzo 2014, eq. 2.5
        a, b = (
            m - m.sum(0) / (n - 2) - m.sum(1)[:, None] / (n - 2) + m.sum() / ((n - 1) * (n - 2))
            for m in (a, b)
        )
        for m in (a, b):
            np.fill_diagonal(m, 0)
    expected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    got = cka.distance_correlation(np.float32(x), np.float32(y), estimator=estimator)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_distance_correlation_sees_what_linear_cka_does_not():
    x = np.linspace(-1, 1, 101, dtype=np.float32)[:, None]
    assert abs(cka.cka(x, x**2)) < 0.03
    assert cka.distance_correlation(x, x**2) > 0.2


# Sampled features


def _feature_corrected(x, y):
    """By the plain sum over pairs of different features in each norm."""

    def norm(z):
        own = [z[:, [q]] @ z[:, [q]].T for q in range(z.shape[1])]
        pairs = [
            oracles.hsic1(own[p], own[q])
            for p in range(len(own))
            for q in range(len(own))
            if p != q
        ]
        return np.mean(pairs)

    between = oracles.hsic1(x @ x.T, y @ y.T) / (x.shape[1] * y.shape[1])
    return between / np.sqrt(norm(x) * norm(y))


@pytest.mark.parametrize(("n", "dx", "dy"), [(12, 9, 10), (40, 6, 7)])
def test_feature_corrected_is_the_formula(n, dx, dy):
    x, y = features.correlated(n, dx, dy)
    expected = _feature_corrected(x, y)
    for scale in (1.0, 1e12):
        got = cka.cka(np.float32(scale * x), np.float32(y), estimator="feature_corrected")
        np.testing.assert_allclose(got, expected, rtol=1e-4)
    with jax.enable_x64(True):
        got = float(cka.cka(x, y, estimator="feature_corrected"))
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_feature_corrected_does_not_fall_with_fewer_features():
    """Two populations of neurons that read the same variables: their true CKA is 1."""
    rng = np.random.default_rng(0)
    variables = rng.standard_normal((200, 4)) * np.array([3.0, 2.0, 1.0, 0.5])
    found = {}
    for dims in (20, 80):
        pairs = [
            [
                np.float32(variables @ rng.standard_normal((4, dims)))
                + 2 * rng.standard_normal((200, dims)).astype(np.float32)
                for _ in range(2)
            ]
            for _ in range(40)
        ]
        for estimator in ("debiased", "feature_corrected"):
            values = [cka.cka(x, y, estimator=estimator) for x, y in pairs]
            found[estimator, dims] = np.mean(values)
    assert found["debiased", 20] < 0.9
    # the ratio of two unbiased estimates is not unbiased; that is of the order 1 / dims
    assert abs(found["feature_corrected", 20] - 1) < 0.08
    assert abs(found["feature_corrected", 80] - 1) < 0.03


def test_feature_corrected_is_undefined_without_shared_structure():
    single = np.random.default_rng(0).standard_normal((20, 1)).astype(np.float32)
    assert np.isnan(cka.cka(single, single, estimator="feature_corrected"))


def test_feature_corrected_refuses_other_kernels():
    x = np.zeros((5, 2), np.float32)
    with pytest.raises(ValueError, match=r"expected the linear kernel .* got rbf"):
        cka.cka(x, x, kernel=kernels.rbf(), estimator="feature_corrected")


# Less a confounder


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_deconfounded_is_the_partial_correlation(estimator):
    x, y = features.correlated(40, 3, 3)
    given = np.concatenate([x[:, :2], y[:, :1]], 1)
    r = [oracles.cka(*pair, estimator) for pair in ((x, y), (x, given), (y, given))]
    expected = (r[0] - r[1] * r[2]) / np.sqrt((1 - r[1] ** 2) * (1 - r[2] ** 2))
    got = cka.deconfounded_cka(*(np.float32(z) for z in (x, y, given)), estimator=estimator)
    np.testing.assert_allclose(got, expected, atol=2e-5)
    held = cka.make_deconfounded_cka(np.float32(given), estimator)
    got = _comparison.between(held, np.float32(x), np.float32(y))
    np.testing.assert_allclose(got, expected, atol=2e-5)


def test_what_the_confounder_explains_is_taken_away():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((100, 5)) * np.array([5, 3, 2, 1, 1.0])
    nets = [np.tanh(inputs @ np.linalg.qr(rng.standard_normal((5, 5)))[0] / 9) for _ in range(2)]
    x, y = (np.float32(net) for net in nets)
    plain = cka.cka(x, y)
    assert plain > 0.9
    assert cka.deconfounded_cka(x, y, np.float32(inputs)) < plain - 0.05
    assert np.isnan(cka.deconfounded_cka(np.float32(inputs), y, np.float32(inputs)))


def test_deconfounded_refuses():
    x = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    with pytest.raises(ValueError, match=r"features .* of the same examples, got shapes"):
        cka.deconfounded_cka(x, x, x[:5])
    held = cka.make_deconfounded_cka(x[:5])
    with pytest.raises(ValueError, match="expected the 5 examples of the confounder, got 6"):
        _comparison.between(held, x, x)
    with pytest.raises(ValueError, match="unknown estimator 'feature_corrected'"):
        cka.deconfounded_cka(x, x, x, estimator="feature_corrected")


# Permutations


@pytest.mark.parametrize("estimator", ["debiased", "biased", "feature_corrected"])
@pytest.mark.parametrize(("n", "dims"), [(60, 5), (20, 40)], ids=["rows", "gram"])
def test_reordering_the_prepared_form_reorders_the_examples(estimator, n, dims):
    x, y = (np.float32(z) for z in features.correlated(n, dims, dims))
    comparison = cka.make_cka(kernels.linear(), estimator)
    order = np.random.default_rng(0).permutation(n)
    prepare = jax.jit(comparison.prepare)
    moved = jax.jit(comparison.reorder)(prepare(y), order)
    got = jax.jit(comparison.compare)(prepare(x), moved)
    np.testing.assert_allclose(got, _comparison.between(comparison, x, y[order]), atol=1e-6)


def test_mean_and_variance_over_all_permutations():
    """The closed forms of `_hsic`, against each of the 720 orders of 6 examples."""
    from itertools import permutations

    x, y = features.correlated(6, 3, 2)
    centring = np.eye(6) - 1 / 6
    k, l_ = (centring @ z @ z.T @ centring for z in (x, y))
    every_row = np.ones(6, bool)
    form = jax.jit(lambda z: cka._hsic.grams(kernels.linear(), [z], every_row, False))
    ours = [form(np.float32(z)) for z in (x, y)]
    found = jax.jit(cka._hsic.cross)(*ours)
    unit = 2.0 ** (int(ours[0].exponent[0]) + int(ours[1].exponent[0]))
    every = [np.array(order) for order in permutations(range(6))]
    debiased = [18 * oracles.hsic1(k, l_[np.ix_(p, p)]) for p in every]
    biased = [25 * oracles.hsic0(k, l_[np.ix_(p, p)]) for p in every]
    np.testing.assert_allclose(np.mean(debiased), 0, atol=1e-9)
    np.testing.assert_allclose(found.variance[0, 0] * unit**2, np.var(debiased), rtol=1e-4)
    np.testing.assert_allclose(found.chance[0, 0] * unit, np.mean(biased), rtol=1e-4)
