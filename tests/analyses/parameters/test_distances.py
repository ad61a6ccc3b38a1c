import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tests.helpers import oracles
from tlx.analyses.parameters import distances
from tlx.core import labels as labels_lib

FIELDS = ("l2", "relative", "cosine", "sum_of_tensor_norms")


def _labels(params):
    return labels_lib.from_names(params, lambda name: name.split("/")[0])


def _pair(seed=0):
    a, b = models.make_params(seed), models.make_params(seed + 1)
    return a, b, _labels(a)


def test_distances_are_the_formulas_in_float64():
    a, b, labels = _pair()
    got = distances.by_module(a, b, labels)
    assert got.modules == ("head", "hidden")
    for i, module in enumerate(got.modules):
        expected = oracles.distances(list(a[module].values()), list(b[module].values()))
        for name in FIELDS:
            np.testing.assert_allclose(getattr(got, name)[i], expected[name], rtol=1e-6)
    expected = oracles.distances(jax.tree.leaves(a), jax.tree.leaves(b))
    for name in FIELDS:
        np.testing.assert_allclose(getattr(got, f"total_{name}"), expected[name], rtol=1e-6)


@given(seed=st.integers(0, 20), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_distances_laws(seed, scale):
    a, b, labels = _pair(seed)
    got, back = distances.by_module(a, b, labels), distances.by_module(b, a, labels)
    bigger = distances.by_module(*(jax.tree.map(lambda x: scale * x, z) for z in (a, b)), labels)
    for name in (*FIELDS, *(f"total_{name}" for name in FIELDS)):
        value = getattr(got, name)
        np.testing.assert_allclose(getattr(back, name), value, rtol=1e-6, atol=1e-7)
        grows = scale if "l2" in name or "norms" in name else 1
        np.testing.assert_allclose(getattr(bigger, name), grows * value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got.total_l2, np.sqrt((got.l2**2).sum()), rtol=1e-6)
    np.testing.assert_allclose(
        got.total_sum_of_tensor_norms, got.sum_of_tensor_norms.sum(), rtol=1e-6
    )
    assert (got.sum_of_tensor_norms >= got.l2 * (1 - 1e-6)).all()


def test_equal_models_are_at_distance_zero():
    a, _, labels = _pair()
    got = distances.by_module(a, a, labels)
    for name in ("l2", "relative", "sum_of_tensor_norms"):
        np.testing.assert_array_equal(getattr(got, name), 0)
    np.testing.assert_allclose(got.cosine, 1, rtol=1e-6)


def test_zero_modules():
    a, b, labels = _pair()
    zero = {**a, "head": jax.tree.map(jnp.zeros_like, a["head"])}
    one = distances.by_module(zero, b, labels)
    assert np.isnan(one.cosine[0])
    np.testing.assert_allclose(one.relative[0], 2, rtol=1e-6)
    both = distances.by_module(zero, zero, labels)
    assert np.isnan(both.cosine[0])
    assert np.isnan(both.relative[0])
    assert both.l2[0] == 0
    assert np.isfinite(both.total_relative)


def test_not_a_number_stays_in_its_module():
    a, b, labels = _pair()
    a = {**a, "head": {**a["head"], "bias": a["head"]["bias"] * jnp.nan}}
    got = distances.by_module(a, b, labels)
    assert np.isnan(got.l2[0])
    assert np.isfinite(got.l2[1])
    assert np.isnan(got.total_l2)


def test_modules_in_a_given_order_and_a_head_of_another_shape():
    a, _, labels = _pair()
    other = models.make_params(1, classes=7)
    got = distances.by_module(a, other, labels, modules=("hidden",))
    assert got.modules == ("hidden",)
    expected = distances.by_module(a, models.make_params(1), labels)
    np.testing.assert_allclose(got.l2[0], expected.l2[1], rtol=1e-6)
    np.testing.assert_allclose(got.total_l2, got.l2[0], rtol=1e-6)
    ordered = distances.by_module(a, a, labels, modules=("hidden", "head"))
    assert ordered.modules == ("hidden", "head")


def test_counters_are_passed_over_and_low_precision_is_summed_in_float32():
    a = {"w": jnp.ones(10_000, jnp.bfloat16), "steps": jnp.int32(3)}
    b = {"w": jnp.zeros(10_000, jnp.bfloat16), "steps": jnp.int32(900)}
    got = distances.by_module(a, b, {"w": "w", "steps": "steps"})
    assert got.l2.dtype == jnp.float32
    assert dict(zip(got.modules, got.l2.tolist(), strict=True)) == {"steps": 0.0, "w": 100.0}
    assert got.total_l2 == 100


def test_no_parameters_have_no_distance():
    got = distances.by_module({}, {}, {})
    assert got.modules == ()
    assert got.l2.shape == (0,)
    assert got.total_l2 == 0
    assert np.isnan(got.total_cosine)


def test_models_that_differ_are_refused():
    a, _, labels = _pair()
    with pytest.raises(ValueError, match="params_a and params_b with the same leaves") as error:
        distances.by_module(a, models.make_params(1, classes=7), labels)
    assert "head/kernel" in str(error.value)
    assert "head/bias" in str(error.value)
    with pytest.raises(ValueError, match="unknown module 'haed'; did you mean 'head'"):
        distances.by_module(a, a, labels, modules=("haed",))


def test_distances_compile_once_for_models_of_one_shape():
    a, b, labels = _pair()
    distances.by_module(a, b, labels)
    before = distances._sums._cache_size()
    distances.by_module(b, models.make_params(5), labels)
    assert distances._sums._cache_size() == before
