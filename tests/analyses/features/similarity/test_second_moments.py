"""Streamed moments give what the whole matrices give, however the examples come."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import oracles
from tlx.analyses.features.similarity import _scatter, _second_moments, cca, shape
from tlx.core import evaluate, streams

N = 40
LAYERS_X, LAYERS_Y = (("a", 3), ("b", 5)), (("c", 5),)

COMPARISONS = {
    "mean_cca": cca.make_mean_cca(),
    "svcca": cca.make_svcca(0.9),
    "pwcca": cca.make_pwcca(),
    "regression_r2": cca.make_regression_r2(),
    "procrustes": shape.make_procrustes(),
    "shape_distance_0": shape.make_shape_distance(0.0),
    "shape_distance_0.3": shape.make_shape_distance(0.3),
}

Features = tuple[dict[str, Any], dict[str, Any]]


def features(seed: int = 0, offset: float = 0, scale: float = 1) -> Features:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((N, 3))

    def layer(d: int) -> np.ndarray:
        rows = common @ rng.standard_normal((3, d)) + rng.standard_normal((N, d))
        return (rows + offset) * scale

    return {k: layer(d) for k, d in LAYERS_X}, {k: layer(d) for k, d in LAYERS_Y}


def rows(both: Features, taken: Any, dtype: Any) -> Features:
    x, y = ({k: jnp.asarray(v[taken], dtype) for k, v in side.items()} for side in both)
    return x, y


def stream(both: Features, sizes: Sequence[int], dtype: Any = jnp.float32) -> list[Any]:
    """A state for each batch, its rows in order, padded to N rows with NaN."""
    fold = _second_moments.metric(LAYERS_X, LAYERS_Y)
    update = jax.jit(fold.update)
    start, states = 0, []
    for size in sizes:
        taken = np.arange(start, start + N) % N
        start += size
        mask = np.arange(N) < size
        x, y = rows(both, taken, dtype)
        padded = tuple(
            {k: jnp.where(mask[:, None], v, jnp.nan) for k, v in side.items()} for side in (x, y)
        )
        batch = {"inputs": np.zeros(N), "mask": mask}
        states.append(update(fold.init(), padded, batch))
    return states


def merged(states: Sequence[Any]) -> _second_moments.Moments:
    fold = _second_moments.metric(LAYERS_X, LAYERS_Y)
    merge, total = jax.jit(fold.merge), fold.init()
    for state in states:
        total = merge(total, state)
    return fold.compute(total)


def spectra(x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    z = np.float64(x)
    return np.linalg.svd(z - z.mean(0), full_matrices=False)


def oracle(name: str, x: Any, y: Any) -> float:
    """Each measure of two matrices of full rank, from its formula."""
    (u, s, v), (q, t, _) = spectra(x), spectra(y)
    if name == "svcca":
        number_x, number_y = ((np.cumsum(z**2) < 0.9 * (z**2).sum()).sum() + 1 for z in (s, t))
        u, q, name = u[:, :number_x], q[:, :number_y], "mean_cca"
    a, rho, _ = np.linalg.svd(u.T @ q, full_matrices=False)
    if name == "mean_cca":
        return float(rho.mean())
    if name == "pwcca":
        weights = np.abs(a.T @ np.diag(s) @ v).sum(1)
        return float((weights * rho).sum() / weights.sum())
    if name == "regression_r2":
        return float(((u.T @ q * t) ** 2).sum() / (t**2).sum())
    alpha = float(name.rpartition("_")[2]) if name[-1].isdigit() else 1.0
    s, t = alpha * s + (1 - alpha), alpha * t + (1 - alpha)
    product = np.linalg.svd(s[:, None] * (u.T @ q) * t, compute_uv=False).sum()
    cosine = product / np.linalg.norm(s) / np.linalg.norm(t)
    return float(cosine if name == "procrustes" else np.arccos(cosine))


def check(
    moments: _second_moments.Moments, both: Features, names: Sequence[str], tolerance: float
) -> None:
    """The table of each measure, and the two CKA, against the formulas in float64."""
    for name in names:
        form = COMPARISONS[name].from_moments
        assert form is not None
        expected = [[oracle(name, x, y) for y in both[1].values()] for x in both[0].values()]
        found = np.asarray(_second_moments.table(form, moments))
        np.testing.assert_allclose(found, expected, atol=tolerance, err_msg=name)
    for estimator in ("biased", "debiased"):
        found = np.asarray(_second_moments.table(_second_moments.linear_cka(estimator), moments))
        cka = [
            [oracles.cka(x - x.mean(0), y - y.mean(0), estimator) for y in both[1].values()]
            for x in both[0].values()
        ]
        np.testing.assert_allclose(found, cka, atol=tolerance, err_msg=estimator)


@pytest.mark.parametrize("sizes", [(40,), (17, 17, 6), (1,) * 40], ids=str)
def test_any_batching_gives_the_whole(sizes: tuple[int, ...]) -> None:
    both = features()
    check(merged(stream(both, sizes)), both, ("mean_cca", "procrustes"), 2e-6)
    with jax.enable_x64(True):
        exact = merged(stream(both, sizes, jnp.float64))
        check(exact, both, tuple(COMPARISONS), 1e-11)
    assert int(exact.num_examples) == N


def test_padding_and_batches_without_a_mask_change_nothing() -> None:
    both = features()
    fold = _second_moments.metric(LAYERS_X, LAYERS_Y)
    whole = fold.compute(jax.jit(fold.update)(fold.init(), *unmasked(both)))
    padded = merged(stream(both, (N // 2, N // 2)))
    for a, b in zip(in_one_unit(whole), in_one_unit(padded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


def unmasked(both: Features) -> tuple[Features, dict[str, np.ndarray]]:
    return rows(both, np.arange(N), jnp.float32), {"inputs": np.zeros(N)}


def in_one_unit(moments: _second_moments.Moments) -> list[np.ndarray]:
    """All moments of layers and pairs, free of the units, which depend on the order."""
    x, y = (
        [np.ldexp(1.0, np.asarray(layer.exponent)) for layer in side]
        for side in (moments.x, moments.y)
    )
    found = []
    for layers, units in ((moments.x, x), (moments.y, y)):
        for layer, unit in zip(layers, units, strict=True):
            found += [layer.scatter * unit**2, layer.squares * unit**4]
    for row, unit in zip(moments.cross, x, strict=True):
        for pair, other in zip(row, y, strict=True):
            found += [pair.scatter * unit * other, pair.squares * (unit * other) ** 2]
    return [np.asarray(value) for value in found]


@settings(max_examples=10)
@given(order=st.permutations(range(5)), cut=st.integers(0, 5))
def test_any_order_and_grouping_of_merges_gives_the_same(order: list[int], cut: int) -> None:
    both = features()
    fold = _second_moments.metric(LAYERS_X, LAYERS_Y)
    with jax.enable_x64(True):
        states = stream(both, (11, 3, 13, 1, 12), jnp.float64)
        expected = merged(states)
        merge, ends = jax.jit(fold.merge), []
        for part in (order[:cut], order[cut:]):
            total = fold.init()
            for i in part:
                total = merge(total, states[i])
            ends.append(total)
        found = fold.compute(merge(*ends))
        for a, b in zip(in_one_unit(found), in_one_unit(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_the_empty_state_is_the_identity() -> None:
    fold = _second_moments.metric(LAYERS_X, LAYERS_Y)
    state = stream(features(offset=1e6), (40,))[0]
    merge = jax.jit(fold.merge)
    for found in (merge(fold.init(), state), merge(state, fold.init())):
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True):
            np.testing.assert_array_equal(a, b)
    empty = fold.compute(fold.init())
    assert int(empty.num_examples) == 0
    form = COMPARISONS["procrustes"].from_moments
    assert form is not None
    assert np.isnan(_second_moments.table(form, empty)).all()
    assert np.isnan(_second_moments.table(_second_moments.linear_cka("debiased"), empty)).all()


def test_more_rows_than_an_int32_holds_are_counted() -> None:
    """Positions of images; each merge doubles a state, so that only the number changes."""
    fold = _second_moments.metric(LAYERS_X, LAYERS_Y)
    merge = jax.jit(fold.merge)
    state = stream(features(), (40,))[0]
    before = fold.compute(state)
    for _ in range(28):
        state = merge(state, state)
    one_more = merge(state, stream(features(), (7,))[0])
    exact = [int(z.rows.high) * 2**24 + int(z.rows.low) for z in (state, one_more)]
    assert exact == [40 * 2**28, 40 * 2**28 + 7]
    moments = fold.compute(one_more)
    assert float(moments.num_examples) == pytest.approx(40 * 2**28, rel=1e-6)
    count = _scatter.Count(*(jnp.int32(value) for value in (3, 5)))
    assert float(count.as_float(jnp.dtype("float32"))) == 3 * 2**24 + 5 - 1  # to rounding
    form = COMPARISONS["procrustes"].from_moments
    assert form is not None
    found = _second_moments.table(form, moments)
    np.testing.assert_allclose(found, _second_moments.table(form, before), atol=1e-5)


@pytest.mark.parametrize("dim", [1, 3, 8])
def test_one_example_alone_unlike_the_rest_has_no_debiased_value(dim: int) -> None:
    """‖K~‖² is then exactly zero, and what the difference leaves is rounding."""
    most = 1000
    fold = _second_moments.metric((("a", dim),), None)
    whole = jax.jit(lambda *given: fold.update(fold.init(), *given))
    form = _second_moments.linear_cka("debiased")
    for n in (4, 16, 40, 100, 400, most):
        for seed in range(4):
            rng = np.random.default_rng(seed)
            x = np.repeat(10 * seed * rng.standard_normal((1, dim)), most, 0)
            x[rng.integers(n)] += rng.standard_normal(dim)
            given = {"inputs": np.zeros(most), "mask": np.arange(most) < n}
            moments = fold.compute(whole({"a": jnp.float32(x)}, given))
            assert np.isnan(_second_moments.table(form, moments)).all(), (n, seed)
            x[:2] += rng.standard_normal((2, dim))
            moments = fold.compute(whole({"a": jnp.float32(x)}, given))
            np.testing.assert_allclose(_second_moments.table(form, moments), 1, rtol=1e-5)


@pytest.mark.parametrize("offset", [10.0, 100.0])
def test_an_offset_costs_no_accuracy_in_float32(offset: float) -> None:
    x, y = features(1, offset)
    both = tuple({k: np.float64(np.float32(v)) for k, v in side.items()} for side in (x, y))
    check(merged(stream(both, (7, 13, 20))), both, ("mean_cca", "procrustes"), 3e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_no_scale_over_or_underflows(scale: float) -> None:
    both = features(2, scale=scale)
    moments = merged(stream(both, (7, 13, 20)))
    check(moments, features(2), ("mean_cca", "procrustes"), 2e-6)


def test_batches_of_one_class_each_and_constant_batches() -> None:
    x, y = features(3)
    for side in (x, y):
        for key, value in side.items():
            steps = np.repeat(np.random.default_rng(len(key)).standard_normal((4, 1)), 10, 0)
            side[key] = 0 * value + np.eye(4)[np.arange(N) // 10] @ value[:4] * 1e6 * steps**2
    both = (x, y)
    check(merged(stream(both, (10, 10, 10, 10))), both, ("procrustes",), 3e-6)


def test_broken_and_constant_layers_are_nan_and_leave_the_others_alone() -> None:
    x, y = features(4)
    for value in (np.nan, np.inf):
        broken = x["a"].copy()
        broken[5, 1] = value
        moments = merged(stream(({"a": broken, "b": x["b"]}, y), (7, 13, 20)))
        for form in some_forms():
            found = np.asarray(_second_moments.table(form, moments))
            assert np.isnan(found[0]).all()
            clean = _second_moments.table(form, merged(stream((x, y), (7, 13, 20))))
            np.testing.assert_allclose(found[1], np.asarray(clean)[1], atol=2e-6)
    constant = merged(stream((x, {"c": np.full_like(y["c"], 0.1)}), (7, 13, 20)))
    for form in some_forms():
        assert np.isnan(_second_moments.table(form, constant)).all()


def some_forms() -> list[_second_moments.FromMoments]:
    names = ("mean_cca", "pwcca", "regression_r2", "procrustes")
    found = [COMPARISONS[name].from_moments for name in names]
    forms = [form for form in found if form is not None]
    assert len(forms) == len(found)
    return [*forms, _second_moments.linear_cka("biased"), _second_moments.linear_cka("debiased")]


def test_a_model_with_itself_and_positions_through_evaluate() -> None:
    rng = np.random.default_rng(5)
    images = rng.standard_normal((10, 2, 3, 4)).astype(np.float32)

    def feature_fn(params: Any, inputs: Any) -> dict[str, Any]:
        return {"a": inputs @ params, "b": jnp.square(inputs)}

    params = jnp.asarray(rng.standard_normal((4, 2)).astype(np.float32))
    layers = (("a", 2), ("b", 4))
    fold = _second_moments.metric(layers, None, "positions")
    data = streams.from_arrays(images, batch_size=4)
    moments = evaluate(feature_fn, fold, params, data)
    assert int(moments.num_examples) == 60
    form = cca.make_regression_r2().from_moments
    assert form is not None
    x = np.float64(images).reshape(60, 4)
    made = [x @ np.float64(params), x**2]
    expected = [[oracle("regression_r2", a, b) for b in made] for a in made]
    np.testing.assert_allclose(_second_moments.table(form, moments), expected, atol=2e-6)


def test_what_float32_moments_lose_against_the_matrices() -> None:
    """The ratio of spreads is squared: fine to 100, small errors to 300, lost from 1000 on."""
    rng = np.random.default_rng(6)
    base = rng.standard_normal((N, 5))
    y = {"c": base + rng.standard_normal((N, 5))}
    errors = {}
    for ratio in (30, 300, 10_000):
        spread = np.geomspace(1, 1 / ratio, 5)
        b = (base * spread) @ np.linalg.qr(rng.standard_normal((5, 5)))[0]
        both = ({"a": base[:, :3], "b": np.float64(np.float32(b))}, y)
        form = COMPARISONS["regression_r2"].from_moments
        assert form is not None
        moments = merged(stream(both, (20, 20)))
        expected = oracle("regression_r2", both[0]["b"], y["c"])
        whole = abs(float(cca.regression_r2(both[0]["b"], y["c"])) - expected)
        assert whole < 1e-5
        errors[ratio] = abs(float(_second_moments.table(form, moments)[1, 0]) - expected)
    assert errors[30] < 2e-5
    assert errors[300] < 2e-3
    assert errors[10_000] > 1e-2
    assert form.whitens
    procrustes = COMPARISONS["procrustes"].from_moments
    assert procrustes is not None
    assert not procrustes.whitens


def test_size_counts_the_state() -> None:
    for layers_y in (LAYERS_Y, None):
        state = _second_moments.metric(LAYERS_X, layers_y).init()
        total = sum(leaf.size for leaf in jax.tree.leaves(state))
        few = 4 * (len(LAYERS_X) + len(LAYERS_X if layers_y is None else layers_y))
        assert 0 <= total - _second_moments.size(LAYERS_X, layers_y) <= few


def test_what_has_no_form_and_what_is_refused() -> None:
    assert cca.make_pwcca("released").from_moments is None
    assert _second_moments.metric(LAYERS_X, LAYERS_Y) is _second_moments.metric(LAYERS_X, LAYERS_Y)
    fold = _second_moments.metric(LAYERS_X, None)
    x = {"a": jnp.ones((4, 3)), "b": jnp.ones((4, 6))}
    with pytest.raises(ValueError, match=r"expected the rows of a, b in the shapes"):
        fold.update(fold.init(), x, {"inputs": np.zeros(4)})
