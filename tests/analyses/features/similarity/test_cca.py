"""The family of canonical correlations against plain float64 numpy, and its laws."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlx.analyses.features.similarity import _comparison, cca

GOLDEN = json.loads((pathlib.Path(__file__).parents[3] / "golden/similarity.json").read_text())

MEASURES: dict[str, Callable[..., Any]] = {
    "mean_cca": cca.mean_cca,
    "svcca": lambda x, y: cca.svcca(x, y, variance=0.8),
    "pwcca": cca.pwcca,
    "released": lambda x, y: cca.pwcca(x, y, weights="released"),
    "regression_r2": cca.regression_r2,
}

BUILDERS = {
    "mean_cca": cca.make_mean_cca,
    "svcca": lambda: cca.make_svcca(0.8),
    "pwcca": lambda: cca.make_pwcca("projection"),
    "released": lambda: cca.make_pwcca("released"),
    "regression_r2": cca.make_regression_r2,
}

CENTRED = ("mean_cca", "svcca", "pwcca", "regression_r2")


def basis(x: np.ndarray) -> np.ndarray:
    """An orthonormal basis of the centred columns, without those that depend on others."""
    z = x - x.mean(0)
    kept: list[np.ndarray] = []
    for column in z.T:
        rest = column.copy()
        for _ in range(2):
            for q in kept:
                rest = rest - (q @ rest) * q
        if np.linalg.norm(rest) > 1e-9 * np.linalg.norm(z):
            kept.append(rest / np.linalg.norm(rest))
    return np.stack(kept, 1)


def oracle(name: str, x: np.ndarray, y: np.ndarray) -> float:
    """Each measure from its definition; features [n, D] of any rank."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if name == "regression_r2":
        z, w = x - x.mean(0), y - y.mean(0)
        left = w - z @ np.linalg.lstsq(z, w, rcond=1e-10)[0]
        return float(1 - (left**2).sum() / (w**2).sum())
    if name == "svcca":
        x, y = (leading(z, 0.8) for z in (x, y))
    q_x = basis(x)
    a, rho, _ = np.linalg.svd(q_x.T @ basis(y), full_matrices=False)
    weights = np.ones_like(rho)
    if name == "pwcca":
        weights = np.abs((q_x @ a).T @ (x - x.mean(0))).sum(1)
    return float((weights * rho).sum() / weights.sum())


def leading(x: np.ndarray, variance: float) -> np.ndarray:
    z = x - x.mean(0)
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    number = int(np.argmax(np.cumsum(s**2) / (s**2).sum() >= variance)) + 1
    return u[:, :number] * s[:number]


def features(seed: int, n: int, dims: tuple[int, int], ranks: tuple[int, int] = (99, 99)) -> Any:
    """Two sets of features that share a part, of full rank or less."""
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((n, 3))
    made = []
    for d, rank in zip(dims, ranks, strict=True):
        own = common @ rng.standard_normal((3, d)) + rng.standard_normal((n, d))
        if rank < d:
            own[:, rank:] = own[:, :rank] @ rng.standard_normal((rank, d - rank))
        made.append(own + 0.5)
    return made


def golden_input() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(1337)
    x = rng.randn(100, 10)
    return x, rng.randn(100, 10) + x


@pytest.mark.parametrize(
    ("key", "measure"),
    [
        ("mean_cca_correlation", cca.mean_cca),
        ("svcca_99_percent", cca.svcca),
        ("pwcca", MEASURES["released"]),
    ],
)
def test_reference_values(key: str, measure: Callable[..., Any]) -> None:
    x, y = golden_input()
    assert float(measure(x, y)) == pytest.approx(GOLDEN[key], abs=1e-4)
    with jax.enable_x64(True):
        assert float(measure(x, y)) == pytest.approx(GOLDEN[key], abs=1e-9)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize(
    ("dims", "ranks"),
    [((5, 7), (99, 99)), ((9, 4), (99, 99)), ((6, 6), (4, 5)), ((4, 40), (99, 99))],
    ids=["narrow-wide", "wide-narrow", "dependent", "more features than examples"],
)
def test_equals_the_definition(name: str, dims: Any, ranks: Any) -> None:
    x, y = features(0, 24, dims, ranks)
    expected = oracle(name, x, y)
    with jax.enable_x64(True):
        assert float(MEASURES[name](x, y)) == pytest.approx(expected, abs=1e-10)
    if dims in ((6, 6), (4, 40)):  # where float32 has to tell rounding from directions
        assert float(MEASURES[name](x, y)) == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("offset", [10.0, 30.0, 100.0])
def test_an_offset_costs_no_accuracy_in_float32(name: str, offset: float) -> None:
    x, y = (z.astype(np.float32) for z in features(1, 24, (5, 7)))
    expected = oracle(name, x, y)
    scale = np.float32(offset)
    x, y = x + scale * x.std(), y - scale * y.std()
    assert float(MEASURES[name](x, y)) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("name", CENTRED)
@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_no_scale_over_or_underflows(name: str, scale: float) -> None:
    x, y = (z.astype(np.float32) for z in features(2, 24, (5, 7)))
    scaled = (x * np.float32(scale), y / np.float32(scale))
    assert float(MEASURES[name](*scaled)) == pytest.approx(oracle(name, x, y), abs=3e-6)


@pytest.mark.parametrize("name", MEASURES)
def test_undefined_is_nan(name: str) -> None:
    x, y = features(3, 24, (5, 7))
    constant_x, constant_y = (np.full_like(z, 0.1) for z in (x, y))
    broken_x, broken_y = (np.where(z == z[4, 1], np.nan, z) for z in (x, y))
    for a, b in ((constant_x, y), (x, constant_y), (constant_x, constant_y)):
        assert np.isnan(MEASURES[name](a, b))
    for a, b in ((broken_x, y), (x, broken_y)):
        assert np.isnan(MEASURES[name](a, b))


@pytest.mark.parametrize("name", MEASURES)
def test_a_reordered_prepared_form_is_that_of_the_reordered_features(name: str) -> None:
    x, y = features(4, 24, (5, 7))
    order = np.random.default_rng(0).permutation(24)
    made = BUILDERS[name]()
    with jax.enable_x64(True):
        prepare = jax.jit(made.prepare)
        reordered = made.reorder(prepare(jnp.asarray(y)), jnp.asarray(order))
        found = jax.jit(made.compare)(prepare(jnp.asarray(x)), reordered)
        expected = _comparison.between(made, x, y[order])
        assert float(found) == pytest.approx(float(expected), abs=1e-10)
        assert float(found) != pytest.approx(float(_comparison.between(made, x, y)), abs=1e-3)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_which_are_symmetric_and_which_are_not(seed: int) -> None:
    x, y = features(seed, 24, (5, 7))
    with jax.enable_x64(True):
        for name in ("mean_cca", "svcca", "released"):
            there, back = MEASURES[name](x, y), MEASURES[name](y, x)
            assert float(there) == pytest.approx(float(back), abs=1e-9)
        assert abs(cca.pwcca(x, y) - cca.pwcca(y, x)) > 1e-7
        assert abs(cca.regression_r2(x, y) - cca.regression_r2(y, x)) > 1e-7


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_what_an_invertible_map_changes(seed: int) -> None:
    x, y = features(seed, 24, (5, 7))
    rng = np.random.default_rng(seed)
    map_x, map_y = (rng.standard_normal((d, d)) + 3 * np.eye(d) for d in (5, 7))
    with jax.enable_x64(True):
        mapped = float(cca.mean_cca(x @ map_x, y @ map_y))
        assert mapped == pytest.approx(float(cca.mean_cca(x, y)), abs=1e-9)
        assert float(cca.pwcca(x, y @ map_y)) == pytest.approx(float(cca.pwcca(x, y)), abs=1e-9)
        r2 = float(cca.regression_r2(x, y))
        assert float(cca.regression_r2(x @ map_x, y)) == pytest.approx(r2, abs=1e-9)
        turn = np.linalg.qr(map_y)[0]
        assert float(cca.regression_r2(x, y @ turn)) == pytest.approx(r2, abs=1e-9)


def test_all_of_the_variance_is_mean_cca_and_little_of_it_one_direction() -> None:
    x, y = features(5, 24, (5, 7))
    with jax.enable_x64(True):
        assert float(cca.svcca(x, y, variance=1)) == pytest.approx(float(cca.mean_cca(x, y)))
        one = [leading(z, 1e-6)[:, 0] for z in (x, y)]
        expected = abs(np.corrcoef(*one)[0, 1])
        assert float(cca.svcca(x, y, variance=1e-6)) == pytest.approx(expected)


def test_many_examples_in_float32_keep_small_directions() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20_000, 4))
    y = x + rng.standard_normal((20_000, 4))
    x, y = (z * np.array([1, 0.1, 0.01, 0.001]) for z in (x, y))
    expected = oracle("mean_cca", x, y)
    assert float(cca.mean_cca(x, y)) == pytest.approx(expected, abs=1e-5)


def test_equal_options_share_compiled_code() -> None:
    assert cca.make_svcca(0.9) is cca.make_svcca(0.9)
    assert cca.make_pwcca() is cca.make_pwcca(weights="projection")
    assert cca.make_pwcca("released") is cca.make_pwcca("released")
    x, y = features(6, 24, (5, 7))
    traced = jax.jit(lambda a, b: [f(a, b) for f in MEASURES.values()])
    expected = [float(f(x, y)) for f in MEASURES.values()]
    size = _comparison._between._cache_size()  # type: ignore[attr-defined]
    assert [float(f(x, y)) for f in MEASURES.values()] == expected
    assert _comparison._between._cache_size() == size  # type: ignore[attr-defined]
    x, y = np.float32(x), np.float32(y)
    np.testing.assert_allclose(traced(x, y), expected, atol=1e-6)


def test_errors() -> None:
    x, y = features(7, 10, (3, 4))
    with pytest.raises(ValueError, match="expected variance above 0 and up to 1, got 0"):
        cca.svcca(x, y, variance=0)
    with pytest.raises(ValueError, match="projection"):
        cca.pwcca(x, y, weights="projected")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got 4 features and 3 examples"):
        cca.pwcca(x[:3], y[:3], weights="released")
    with pytest.raises(ValueError, match="at least 2 examples for mean CCA, got 1"):
        cca.mean_cca(x[:1], y[:1])
