"""Procrustes similarity and shape metrics against plain float64 numpy, and their laws."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

from tlx.analyses.features.similarity import _comparison, shape

ALPHAS = (0.0, 0.3, 1.0)


def oracle(x: np.ndarray, y: np.ndarray, alpha: float) -> float:
    """The cosine after partial whitening by XᵀX and the best orthogonal map."""
    whitened = []
    width = max(x.shape[1], y.shape[1])
    for features in (x, y):
        z = np.asarray(features, np.float64)
        z = z - z.mean(0)
        squares, v = np.linalg.eigh(z.T @ z)
        real = squares > 1e-10 * squares.max()
        inverse = np.where(real, 1 / np.sqrt(np.where(real, squares, 1)), 0)
        z = z @ (v * (alpha + (1 - alpha) * inverse)) @ v.T
        whitened.append(np.pad(z, ((0, 0), (0, width - z.shape[1]))))
    a, b = whitened
    turn = scipy.linalg.orthogonal_procrustes(a, b)[0]
    return float((a @ turn * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))


def features(seed: int, n: int, dims: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 3))
    return [common @ rng.standard_normal((3, d)) + rng.standard_normal((n, d)) + 1 for d in dims]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("dims", [(5, 5), (3, 7), (4, 40)], ids=str)
def test_equals_the_definition(alpha: float, dims: tuple[int, int]) -> None:
    x, y = features(0, 20, dims)
    cosine = oracle(x, y, alpha)
    with jax.enable_x64(True):
        distance = float(shape.shape_distance(x, y, alpha=alpha))
        assert distance == pytest.approx(np.arccos(cosine), abs=1e-9)
        if alpha == 1:
            assert float(shape.procrustes(x, y)) == pytest.approx(cosine, abs=1e-10)
    distance = float(shape.shape_distance(x, y, alpha=alpha))
    assert distance == pytest.approx(np.arccos(cosine), abs=5e-6)


def test_dependent_features_count_once() -> None:
    x, y = features(1, 20, (4, 5))
    x = np.concatenate([x, x @ np.ones((4, 3))], 1)
    for alpha in ALPHAS:
        expected = np.arccos(oracle(x, y, alpha))
        assert float(shape.shape_distance(x, y, alpha=alpha)) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("offset", [10.0, 30.0, 100.0])
def test_an_offset_costs_no_accuracy_in_float32(alpha: float, offset: float) -> None:
    x, y = (z.astype(np.float32) for z in features(2, 20, (5, 5)))
    expected = np.arccos(oracle(x, y, alpha))
    moved = (x + np.float32(offset) * x.std(), y - np.float32(offset) * y.std())
    assert float(shape.shape_distance(*moved, alpha=alpha)) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("exponent", [-15, 15])
def test_no_scale_over_or_underflows(exponent: int) -> None:
    x, y = (z.astype(np.float32) for z in features(3, 20, (5, 5)))
    factor = np.float32(10.0**exponent)
    for alpha in (0.0, 1.0):
        expected = np.arccos(oracle(x, y, alpha))
        found = shape.shape_distance(x * factor, y / factor, alpha=alpha)
        assert float(found) == pytest.approx(expected, abs=5e-6)
    # between the ends the scale is part of the definition: the whole as it is, or whitened
    expected = np.arccos(oracle(x, y, 1.0 if exponent > 0 else 0.0))
    found = shape.shape_distance(x * factor, y * factor, alpha=0.5)
    assert float(found) == pytest.approx(expected, abs=5e-6)


def test_undefined_is_nan() -> None:
    x, y = features(4, 20, (5, 5))
    constant, broken = np.full_like(x, 0.1), x.copy()
    broken[4, 1] = np.nan
    for a, b in ((constant, y), (x, constant), (constant, constant), (broken, y), (x, broken)):
        assert np.isnan(shape.procrustes(a, b))
        for alpha in ALPHAS:
            assert np.isnan(shape.shape_distance(a, b, alpha=alpha))


@pytest.mark.parametrize("alpha", ALPHAS)
@given(seed=st.integers(0, 10**6))
def test_is_a_metric(alpha: float, seed: int) -> None:
    x, y, z = features(seed, 20, (5, 5, 5))
    with jax.enable_x64(True):

        def distance(a: Any, b: Any) -> float:
            return float(shape.shape_distance(a, b, alpha=alpha))

        assert distance(x, z) <= distance(x, y) + distance(y, z) + 1e-9
        assert distance(x, y) == pytest.approx(distance(y, x), abs=1e-9)
        assert distance(x, y) > 0.01
        turned = y @ np.linalg.qr(np.random.default_rng(seed).standard_normal((5, 5)))[0] + 7
        assert distance(y, turned) < 1e-6
        assert distance(x, turned) == pytest.approx(distance(x, y), abs=1e-9)


def test_which_alphas_see_the_scale_and_linear_maps() -> None:
    x, y = features(5, 20, (5, 5))
    stretch = np.diag([1.0, 2.0, 3.0, 4.0, 5.0])
    with jax.enable_x64(True):
        for alpha in ALPHAS:
            plain = float(shape.shape_distance(x, y, alpha=alpha))
            scaled = float(shape.shape_distance(3 * x, y, alpha=alpha))
            mapped = float(shape.shape_distance(x @ stretch, y, alpha=alpha))
            assert (abs(scaled - plain) < 1e-9) == (alpha in (0, 1))
            assert (abs(mapped - plain) < 1e-9) == (alpha == 0)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_reordered_prepared_form_is_that_of_the_reordered_features(alpha: float) -> None:
    x, y = features(6, 20, (5, 5))
    order = np.random.default_rng(0).permutation(20)
    made = shape.make_shape_distance(alpha)
    with jax.enable_x64(True):
        prepare = jax.jit(made.prepare)
        reordered = made.reorder(prepare(jnp.asarray(y)), jnp.asarray(order))
        found = jax.jit(made.compare)(prepare(jnp.asarray(x)), reordered)
        expected = _comparison.between(made, x, y[order])
        assert float(found) == pytest.approx(float(expected), abs=1e-10)


def test_equal_options_share_compiled_code_and_wrong_ones_are_refused() -> None:
    assert shape.make_shape_distance(0.5) is shape.make_shape_distance(0.5)
    assert shape.make_procrustes() is shape.make_procrustes()
    x, y = features(7, 10, (3, 4))
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="expected alpha in 0 … 1"):
            shape.shape_distance(x, y, alpha=alpha)
    with pytest.raises(ValueError, match="at least 2 examples for Procrustes similarity, got 1"):
        shape.procrustes(x[:1], y[:1])
