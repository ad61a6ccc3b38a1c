"""Every registered measure against what its entry declares."""

import functools
import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlx.analyses.features.similarity import (
    _comparison,
    cca,
    cka,
    kernels,
    measures,
    neighbors,
    rsa,
    shape,
)

GOLDEN = json.loads((Path(__file__).parents[3] / "golden" / "similarity.json").read_text())
NAMES = tuple(measures.MEASURES)
DEBIASED = ("cka_debiased", "cka_rbf", "cka_polynomial", "cka_cosine", "distance_correlation")
N, D = 40, 5  # one shape wherever it will do: each is a compilation for each measure

every = pytest.mark.parametrize("name", NAMES)


def _features(seed, n=N, noise=1.0):
    """Two sets with a spectrum, a mean, and a shared part."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, D)) * np.geomspace(3, 0.5, D)
    return tuple(
        shared @ np.linalg.qr(rng.standard_normal((D, D)))[0]
        + noise * rng.standard_normal((n, D))
        + rng.standard_normal((1, D))
        for _ in range(2)
    )


def _orthogonal(rng):
    return np.linalg.qr(rng.standard_normal((D, D)))[0]


def _invertible(rng):
    """With a condition number of at most 10."""
    return _orthogonal(rng) * np.geomspace(1, 10 ** rng.uniform(-1, 1), D) @ _orthogonal(rng)


@functools.cache
def _compiled(name):
    comparison = measures.MEASURES[name].comparison

    @jax.jit
    def values(x, y, order):
        x, y = comparison.prepare(x), comparison.prepare(y)
        return comparison.compare(x, y), comparison.compare(x, comparison.reorder(y, order))

    return values


def _in_float64(name, x, y, order=None):
    """The measure of x and y, or of x and y[order] by reordering what was prepared."""
    with jax.enable_x64(True):
        value, reordered = _compiled(name)(x, y, np.arange(N) if order is None else order)
        return float(value if order is None else reordered)


TRANSFORMS = {
    "translation": lambda x, rng: x + 10 ** rng.uniform(-1, 3) * rng.standard_normal((1, D)),
    "scaling": lambda x, rng: 10 ** rng.uniform(-12, 12) * x,
    "orthogonal": lambda x, rng: x @ _orthogonal(rng),
    "linear": lambda x, rng: x @ _invertible(rng),
}
DECLARED = [(m.name, kind) for m in measures.MEASURES.values() for kind in sorted(m.invariances)]
UNDECLARED = [(name, kind) for name in NAMES for kind in TRANSFORMS if (name, kind) not in DECLARED]


def test_the_transforms_are_those_that_the_registry_knows():
    assert set(TRANSFORMS) == set(measures.INVARIANCES)
    assert all(m.invariances <= set(TRANSFORMS) for m in measures.MEASURES.values())


@pytest.mark.parametrize(("name", "kind"), DECLARED)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_declared_invariances_hold(name, kind, seed):
    rng = np.random.default_rng(seed)
    x, y = _features(seed)
    moved = [TRANSFORMS[kind](z, rng) for z in (x, y)]
    expected = _in_float64(name, x, y)
    np.testing.assert_allclose(_in_float64(name, *moved), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "kind"), DECLARED)
def test_declared_invariances_hold_in_float32(name, kind):
    rng = np.random.default_rng(1)
    x, y = (np.float32(z) for z in _features(1))
    moved = [np.float32(TRANSFORMS[kind](z, rng)) for z in (x, y)]
    if kind == "scaling":
        moved = [x * np.float32(1e-15), y * np.float32(1e15)]
    expected = _in_float64(name, *(np.float64(z) for z in moved))
    np.testing.assert_allclose(measures.between(name, *moved), expected, atol=2e-4)
    np.testing.assert_allclose(measures.between(name, x, y), expected, atol=1e-3)


@pytest.mark.parametrize(("name", "kind"), UNDECLARED)
def test_undeclared_invariances_are_broken(name, kind):
    x, y = (np.float32(z) for z in _features(0))
    value = measures.between(name, x, y)
    changes = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        if kind == "translation":  # by no more than some spreads
            moved = [z + 3 * rng.standard_normal((1, D)) for z in (x, y)]
        else:
            moved = [TRANSFORMS[kind](z, rng) for z in (x, y)]
        other = measures.between(name, *(np.float32(z) for z in moved))
        changes.append(abs(float(other - value)))
    assert max(changes) > 2e-2 * abs(value)


@every
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), noise=st.sampled_from([0.01, 1.0, 100.0]))
def test_symmetry_and_range(name, seed, noise):
    entry = measures.MEASURES[name]
    x, y = _features(seed, noise=noise)
    value, back = _in_float64(name, x, y), _in_float64(name, y, x)
    if name == "cka_feature_corrected" and math.isnan(value):
        assert math.isnan(back)  # a norm that is not positive, where all is noise
        return
    assert entry.low - 1e-9 <= value <= entry.high + 1e-9
    if entry.is_symmetric:
        assert abs(value - back) < 1e-9


@pytest.mark.parametrize("name", [m.name for m in measures.MEASURES.values() if not m.is_symmetric])
def test_what_is_not_declared_symmetric_is_not(name):
    x, y = (np.float32(z) for z in _features(0))
    value, back = measures.between(name, x, y), measures.between(name, y, x)
    assert abs(value - back) > 1e-2 * abs(value)


@every
def test_a_set_is_most_like_itself(name):
    entry = measures.MEASURES[name]
    x, y = _features(0)
    itself, other = (_in_float64(name, x, z) for z in (x, y))
    best = {True: 1.0, False: 0.0}[entry.higher_is_similar]
    if name == "cka_feature_corrected":
        assert itself > 1
    else:
        assert abs(itself - best) < 1e-7
    assert (itself > other) == entry.higher_is_similar


@every
@pytest.mark.parametrize("kind", ["constant", "constant and large", "NaN"])
def test_undefined_values_are_not_numbers(name, kind):
    y = np.float32(_features(0)[1])
    x = np.float32(np.random.default_rng(0).standard_normal((1, D))) * np.ones((N, 1), np.float32)
    if kind == "constant and large":
        x *= np.float32(1e15)
    elif kind == "NaN":
        x = y.copy()
        x[3, 2] = np.nan
    assert np.isnan(measures.between(name, x, y))
    assert np.isnan(measures.between(name, y, x))


@every
def test_reordering_is_preparing_what_is_reordered(name):
    x, y = _features(0)
    order = np.random.default_rng(0).permutation(N)
    got = _in_float64(name, x, y, order)
    assert abs(got - _in_float64(name, x, y[order])) < 1e-10
    assert abs(got - _in_float64(name, x, y)) > 1e-3


# Figures from elsewhere

# those of the family of correlations: in test_cca
REFERENCES = {
    "linear_cka_biased": measures.get("cka_biased").comparison,
    "linear_cka_debiased": measures.get("cka_debiased").comparison,
    "rbf_cka_sigma_half_median_distance": cka.make_cka(kernels.rbf(0.5), "biased"),
    "procrustes_nuclear_norm_similarity": measures.get("procrustes").comparison,
    "shape_angular_distance_alpha1": measures.get("shape_distance").comparison,
    "shape_angular_distance_alpha0": measures.get("shape_distance_whitened").comparison,
}


def _reference_input():
    rng = np.random.RandomState(1337)
    x, noise = rng.randn(100, 10), rng.randn(100, 10)
    return x, noise + x


@pytest.mark.parametrize("figure", REFERENCES)
def test_reference_values(figure):
    x, y = _reference_input()
    got = _comparison.between(REFERENCES[figure], np.float32(x), np.float32(y))
    assert got.dtype == np.float32
    assert abs(got - GOLDEN[figure]) < 1e-4
    with jax.enable_x64(True):
        got = np.asarray(_comparison.between(REFERENCES[figure], x, y))
    assert got.dtype == np.float64
    assert abs(got - GOLDEN[figure]) < 1e-9


@pytest.mark.parametrize("name", [name for name, kind in DECLARED if kind == "translation"])
def test_an_offset_changes_nothing_in_float32(name):
    x, y = _features(0)
    expected = _in_float64(name, x, y)
    for offset in (10, 30, 100):
        moved = [np.float32(z + offset * z.std()) for z in (x, y)]
        assert abs(measures.between(name, *moved) - expected) < 1e-3 * abs(expected)


# Chance


def _by_chance(name, n, num=100):
    """Values between unrelated features with independent values."""
    comparison = measures.MEASURES[name].comparison
    draws = np.random.default_rng(0).standard_normal((num, 2, n, D))

    @jax.jit
    def values(draws):
        return jax.lax.map(
            lambda pair: comparison.compare(*(comparison.prepare(z) for z in pair)), draws
        )

    return np.asarray(values(np.float32(draws)), np.float64)


@pytest.mark.parametrize("name", DEBIASED)
def test_debiased_values_of_unrelated_features(name):
    n = measures.MEASURES[name].needed(D, D)
    values = _by_chance(name, n)
    std = math.sqrt(2 / (n * (n - 3)))
    assert abs(values.mean()) < 4 * std / 10
    assert (values < 0).any()
    assert std < 0.05
    assert values.std() < 1.3 * std  # the rule for permutations; that over data is near it


@pytest.mark.parametrize(
    ("name", "power", "bound"),
    [
        ("cka_biased", 1, 0.1),
        ("distance_correlation_biased", 1, 0.1),
        ("mean_cca", 2, 0.1),
        ("svcca", 2, 0.1),
        ("pwcca", 2, 0.1),
        ("regression_r2", 1, 0.1),
        ("procrustes", 2, 0.1),
        ("rsa", 2, 0.1**2),
        ("mutual_knn", 1, 0.1),
        ("cknna", 1, 0.1),
        ("shape_distance_whitened", 2, 0.1),
    ],
)
def test_enough_examples_leave_little_to_chance(name, power, bound):
    """The rules of `_needed`, each for the power of the value that it is stated for."""
    n = measures.MEASURES[name].needed(D, D)
    values = _by_chance(name, n)
    if name.startswith("shape_distance"):
        values = np.cos(values)  # the rule is that of the similarity
    mean = (values**power).mean()
    assert mean < 1.1 * bound
    assert mean > 0.4 * bound or name == "rsa"  # a rule for the worst case, which this is not


# The registry


def test_entries_are_named_and_described():
    for name, entry in measures.MEASURES.items():
        assert entry.name == name
        assert "\n" not in entry.formula
        assert all((entry.formula, entry.cost, entry.reference))
        assert entry.low < entry.high
        assert entry.needed(3, 7) >= entry.comparison.least


def test_equal_options_are_the_same_comparison_however_they_are_given():
    """For which compiled code is found again."""
    assert len({cca.make_svcca(), cca.make_svcca(0.99), cca.make_svcca(variance=0.99)}) == 1
    assert cca.make_svcca(1) is cca.make_svcca(variance=np.float64(1))
    assert len({cca.make_pwcca(), cca.make_pwcca("projection"), measures.get("pwcca")[1]}) == 1
    assert cca.make_pwcca("released") is cca.make_pwcca(weights="released")
    assert cca.make_mean_cca() is cca.make_mean_cca()
    assert cca.make_regression_r2() is cca.make_regression_r2()
    assert shape.make_procrustes() is shape.make_procrustes()
    distances = shape.make_shape_distance(), shape.make_shape_distance(alpha=1)
    assert {*distances} == {shape.make_shape_distance(1.0), measures.get("shape_distance")[1]}
    assert rsa.make_rsa() is rsa.make_rsa("correlation", compare="spearman")
    assert neighbors.make_cknna() is neighbors.make_cknna(10) is neighbors.make_cknna(k=10)
    assert neighbors.make_mutual_knn() is neighbors.make_mutual_knn(10, dissimilarity="cosine")


def test_a_measure_of_ones_own():
    own = measures.get("svcca")._replace(name="svcca_90", comparison=cca.make_svcca(0.9))
    assert measures.get(own) is own
    x, y = _features(0)
    expected = cca.svcca(x, y, variance=0.9)
    assert float(measures.between(own, x, y)) == float(expected)
    assert abs(expected - measures.between("svcca", x, y)) > 1e-3


def test_deconfounded_cka_is_a_measure():
    x, y = (np.float32(z) for z in _features(0))
    both = np.float32(_features(1)[0])
    x, y = x + 3 * both, y + 3 * both
    own = measures.get("cka_debiased")._replace(
        name="without_both", comparison=cka.make_deconfounded_cka(both)
    )
    expected = cka.deconfounded_cka(x, y, both)
    np.testing.assert_allclose(measures.between(own, x, y), expected, rtol=1e-5)


def test_an_unknown_measure():
    with pytest.raises(ValueError, match="unknown measure 'cca'; did you mean"):
        measures.get("cca")
    with pytest.raises(ValueError, match=r"at least 4 examples for CKA .*, got 3"):
        measures.between("cka_debiased", np.ones((3, 2)), np.ones((3, 2)))
