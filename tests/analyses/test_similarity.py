import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import oracles
from tlx.analyses import similarity
from tlx.core import streams

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "similarity.json").read_text())
ESTIMATORS = similarity.ESTIMATORS
TOLERANCE = 1e-4


def _reference_input():
    rng = np.random.RandomState(1337)
    x, noise = rng.randn(100, 10), rng.randn(100, 10)
    return x, noise + x


def _correlated(n, dx, dy, seed=0):
    """Features with a spectrum, of which half are shared."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 3))
    x = shared @ rng.standard_normal((3, dx)) + rng.standard_normal((n, dx))
    y = shared @ rng.standard_normal((3, dy)) + rng.standard_normal((n, dy))
    return x, y


def first_ten(params, inputs):
    return {"z": inputs[:, :10]}


def the_rest(params, inputs):
    return {"z": inputs[:, 10:]}


def three_layers(params, inputs):
    hidden = jnp.tanh(inputs @ params["first"])
    return {
        "input": inputs.reshape(len(inputs), 2, -1),
        "hidden": hidden.reshape(len(hidden), 3, 2, -1),
        "logits": hidden @ params["second"],
    }


def _params(seed):
    rng = np.random.default_rng(seed)
    shapes = {"first": (10, 12), "second": (12, 2)}
    return {k: jnp.asarray(rng.standard_normal(v), jnp.float32) for k, v in shapes.items()}


def _inputs(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 10)).astype(np.float32)


def _matrix(inputs, batch_size, params=(0, 1), **options):
    stream = streams.from_arrays(inputs, batch_size=batch_size)
    x, y = (_params(seed) for seed in params)
    return similarity.cka_matrix(three_layers, x, three_layers, y, stream, **options)


def _expected(inputs, batch_size, estimator, params=(0, 1)):
    batches = [inputs[i : i + batch_size] for i in range(0, len(inputs), batch_size)]
    fx, fy = (
        [jax.tree.map(np.float64, three_layers(_params(s), b)) for b in batches] for s in params
    )
    names = ("input", "hidden", "logits")
    return np.array(
        [
            [
                oracles.minibatch_cka(
                    [(u[i], v[j]) for u, v in zip(fx, fy, strict=True)], estimator
                )
                for j in names
            ]
            for i in names
        ]
    )


# Two matrices


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_reference_values(estimator):
    x, y = _reference_input()
    expected = GOLDEN[f"linear_cka_{estimator}"]
    got = similarity.linear_cka(np.float32(x), np.float32(y), estimator=estimator)
    assert abs(got - expected) < 1e-6
    with jax.enable_x64(True):
        got = np.asarray(similarity.linear_cka(x, y, estimator=estimator))
    assert got.dtype == np.float64
    assert abs(got - expected) < 1e-11


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    ("n", "dx", "dy"), [(4, 3, 2), (5, 100, 3), (20, 20, 20), (40, 3, 7), (64, 500, 10)]
)
def test_either_form_is_the_formula(estimator, n, dx, dy):
    x, y = _correlated(n, dx, dy)
    got = similarity.linear_cka(np.float32(x), np.float32(y), estimator=estimator)
    np.testing.assert_allclose(got, oracles.cka(x, y, estimator), atol=2e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_feature_and_gram_form_are_one_number(estimator):
    x, y = _correlated(30, 4, 6)
    wide = np.concatenate([x, np.zeros((30, 200))], 1)  # zeros choose the Gram form
    got = [
        similarity.linear_cka(np.float32(z), np.float32(y), estimator=estimator) for z in (x, wide)
    ]
    np.testing.assert_allclose(*got, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("shape", [(24, 6, 30), (60, 5, 4)], ids=["gram form", "feature form"])
@given(seed=st.integers(0, 1000), log_scale=st.floats(-12, 12))
def test_invariances(estimator, shape, seed, log_scale):
    n, dx, dy = shape
    x, y = _correlated(n, dx, dy, seed)
    rng = np.random.default_rng(seed + 1)
    rotation = np.linalg.qr(rng.standard_normal((dx, dx)))[0]
    order = rng.permutation(n)

    def cka(x, y):
        return similarity.linear_cka(np.float32(x), np.float32(y), estimator=estimator)

    expected = cka(x, y)
    for other in (
        cka(y, x),
        cka(x @ rotation, y),
        cka(10.0**log_scale * x, y),
        cka(x + rng.standard_normal((1, dx)), y),
        cka(x[order], y[order]),
    ):
        np.testing.assert_allclose(other, expected, atol=2e-5)
    np.testing.assert_allclose(cka(x, x @ rotation), 1, atol=1e-5)
    assert abs(expected) <= 1 + 1e-6


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("offset", [10, 30, 100])
@pytest.mark.parametrize("rows", [100, 12], ids=["feature form", "gram form"])
def test_an_offset_changes_nothing_in_float32(estimator, offset, rows):
    x, y = (z[:rows] for z in _reference_input())
    moved = np.float32(x + offset * x.std()), np.float32(y + offset * y.std())
    got = similarity.linear_cka(*moved, estimator=estimator)
    np.testing.assert_allclose(got, oracles.cka(x, y, estimator), atol=TOLERANCE)
    stream = streams.from_arrays(np.concatenate(moved, 1), batch_size=rows)
    got = similarity.cka_matrix(first_ten, {}, the_rest, {}, stream, estimator=estimator)
    np.testing.assert_allclose(got.values[0, 0], oracles.cka(x, y, estimator), atol=TOLERANCE)


@pytest.mark.parametrize("n", [32, 64, 128, 256])
def test_bias_of_independent_features(n):
    rng = np.random.default_rng(0)
    values = np.array(
        [
            [
                similarity.linear_cka(
                    *rng.standard_normal((2, n, 10)).astype(np.float32), estimator=estimator
                )
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
    other = np.random.default_rng(0).standard_normal((16, 5)).astype(np.float32)
    constant = np.full((16, dims), 0.1, np.float32) * np.arange(1, dims + 1, dtype=np.float32)
    assert np.isnan(similarity.linear_cka(constant, other, estimator=estimator))
    assert np.isnan(similarity.linear_cka(other, constant, estimator=estimator))
    broken = other.copy()
    broken[3, 2] = np.nan
    assert np.isnan(similarity.linear_cka(broken, other, estimator=estimator))


@pytest.mark.parametrize("dims", [2, 200])
def test_one_example_alone_is_no_debiased_similarity(dims):
    rng = np.random.default_rng(0)
    other = rng.standard_normal((16, 5)).astype(np.float32)
    alone = np.full((16, dims), 0.3, np.float32)
    alone[5] += rng.standard_normal(dims).astype(np.float32)
    assert np.isnan(similarity.linear_cka(alone, other))
    assert similarity.linear_cka(alone, other, estimator="biased") > 0


def test_low_precision_and_integers_are_computed_in_float32():
    x, y = _correlated(20, 4, 4)
    low = jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16)
    got = similarity.linear_cka(*low)
    assert got.dtype == jnp.float32
    expected = oracles.cka(*(np.asarray(z, np.float64) for z in low), "debiased")
    np.testing.assert_allclose(got, expected, atol=1e-5)
    images = np.random.default_rng(0).integers(0, 255, (20, 8, 8, 3), np.uint8)
    expected = oracles.cka(images, x, "debiased")
    np.testing.assert_allclose(similarity.linear_cka(images, np.float32(x)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        ((3, 2), (3, 2), {}, "CKA needs at least 4 examples, got 3"),
        ((5, 2), (6, 2), {}, r"of the same examples, got shapes \(5, 2\) and \(6, 2\)"),
        ((5, 2), (5, 2), {"estimator": "bias"}, "unknown estimator 'bias'; did you mean 'biased'"),
    ],
)
def test_two_matrices_are_refused(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        similarity.linear_cka(np.zeros(x), np.zeros(y), **options)


def test_linear_cka_traces_and_differentiates():
    x, y = (jnp.asarray(z, jnp.float32) for z in _correlated(8, 3, 20))
    value, slope = jax.jit(jax.value_and_grad(similarity.linear_cka))(x, y)
    np.testing.assert_allclose(value, similarity.linear_cka(x, y), rtol=1e-5)
    step = 1e-2 * slope / jnp.linalg.norm(slope)
    rise = similarity.linear_cka(x + step, y) - similarity.linear_cka(x - step, y)
    np.testing.assert_allclose(rise / 2e-2, jnp.linalg.norm(slope), rtol=1e-2)


# Streams


@pytest.mark.parametrize("batch_size", [20, 25, 50, 100])
def test_reference_minibatch_values(batch_size):
    x, y = _reference_input()
    stream = streams.from_arrays(np.float32(np.concatenate([x, y], 1)), batch_size=batch_size)
    got = similarity.cka_matrix(first_ten, {}, the_rest, {}, stream)
    expected = GOLDEN["minibatch_debiased_cka_consecutive_batches"][str(batch_size)]
    assert abs(got.values[0, 0] - expected) < 1e-6


def test_reference_minibatch_value_in_float64():
    with jax.enable_x64(True):
        stream = streams.from_arrays(np.concatenate(_reference_input(), 1), batch_size=20)
        got = np.asarray(similarity.cka_matrix(first_ten, {}, the_rest, {}, stream).values)
    expected = GOLDEN["minibatch_debiased_cka_consecutive_batches"]["20"]
    assert got.dtype == np.float64
    assert abs(got[0, 0] - expected) < 1e-11


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("batch_size", [8, 16, 17, 50, 64])
def test_all_pairs_are_the_formula(estimator, batch_size):
    inputs = _inputs(50)  # the last batch of 16 has 2 rows, of 8 has 2, of 17 has 16
    got = _matrix(inputs, batch_size, estimator=estimator)
    assert got.layers_x == got.layers_y == ("input", "hidden", "logits")
    expected = _expected(inputs, batch_size, estimator)
    np.testing.assert_allclose(got.values, expected, atol=2e-5)
    np.testing.assert_array_equal(got.values, getattr(got, estimator))
    left_out = 2 if batch_size in (8, 16) else 0
    assert (int(got.num_examples), int(got.num_left_out)) == (50 - left_out, left_out)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_one_batch_is_linear_cka(estimator):
    inputs = _inputs(30)
    got = _matrix(inputs, 30, estimator=estimator).values
    x, y = (three_layers(_params(seed), inputs) for seed in (0, 1))
    for i, name in enumerate(x):
        expected = similarity.linear_cka(x[name], y[name], estimator=estimator)
        np.testing.assert_allclose(got[i, i], expected, atol=1e-5)


def test_a_model_with_itself_is_symmetric_and_computed_once():
    inputs = _inputs(30)
    params = _params(0)
    stream = streams.from_arrays(inputs, batch_size=16)
    traced = []

    def counted(params, inputs):
        traced.append(1)
        return three_layers(params, inputs)

    got = similarity.cka_matrix(counted, params, counted, params, stream).values
    assert len(traced) == 2  # once for the names, once for the numbers
    np.testing.assert_allclose(got, got.T, atol=1e-6)
    np.testing.assert_allclose(np.diag(got), 1, atol=1e-6)
    copy = jax.tree.map(jnp.copy, params)
    other = similarity.cka_matrix(counted, params, counted, copy, stream).values
    np.testing.assert_allclose(got, other, atol=1e-6)


def test_exchanging_the_models_transposes():
    inputs = _inputs(40)
    got, back = _matrix(inputs, 16), _matrix(inputs, 16, params=(1, 0))
    np.testing.assert_allclose(got.values, back.values.T, atol=1e-6)


def test_masked_rows_change_nothing_whatever_they_hold():
    inputs = _inputs(12)
    mask = np.array([True, False] * 12)
    padded = np.full((24, 10), np.nan, np.float32)
    padded[mask] = inputs
    padded[~mask][3:] = np.inf
    x, y = _params(0), _params(1)
    batch = {"inputs": padded, "mask": mask}
    got = similarity.cka_matrix(three_layers, x, three_layers, y, lambda: iter([batch]))
    np.testing.assert_allclose(got.values, _matrix(inputs, 12).values, atol=1e-6)
    assert int(got.num_examples) == 12


def test_a_first_row_that_is_masked():
    inputs = _inputs(9)
    batch = {"inputs": inputs, "mask": np.array([False] * 3 + [True] * 6)}
    x, y = _params(0), _params(1)
    got = similarity.cka_matrix(three_layers, x, three_layers, y, lambda: iter([batch]))
    np.testing.assert_allclose(got.values, _matrix(inputs[3:], 6).values, atol=1e-6)


def _states(metric, scales):
    rng = np.random.default_rng(0)
    update = jax.jit(metric.update)
    states = []
    for rows, scale in scales:
        z = scale * rng.standard_normal((12, 7))
        mask = np.arange(12) < rows
        features = {"a": np.float32(z[:, :3]), "b": np.float32(z[:, 2:])}
        batch = {"inputs": np.float32(z), "mask": mask}
        states.append(update(metric.init(), (features, features), batch))
    return states


def test_streaming_is_a_monoid():
    metric = similarity.metric(("a", "b"), ("b", "a"))
    metric = metric._replace(merge=jax.jit(metric.merge))
    states = _states(metric, [(12, 1.0), (3, 1.0), (7, 1e-3), (12, 30.0), (4, 1.0)])
    results = []
    for order in itertools.islice(itertools.permutations(range(5)), 0, 120, 17):
        total = metric.init()
        for i in order:
            total = metric.merge(total, states[i])
        results.append(metric.compute(total))
    left = metric.merge(metric.merge(states[0], states[1]), metric.merge(states[2], states[3]))
    results.append(metric.compute(metric.merge(states[4], left)))
    for other in results[1:]:
        jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-6), results[0], other)
    assert int(results[0]["count"]) == 35
    assert int(results[0]["left_out"]) == 3
    for state in states:
        same = metric.merge(metric.init(), state)
        jax.tree.map(np.testing.assert_array_equal, same, metric.merge(state, metric.init()))
        jax.tree.map(np.testing.assert_array_equal, metric.compute(same), metric.compute(state))


@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15])
def test_no_scale_over_or_underflows(scale):
    inputs = _inputs(40)
    stream = streams.from_arrays(inputs, batch_size=16)

    def scaled(params, inputs):
        return {k: jnp.float32(scale) * v for k, v in three_layers(params, inputs).items()}

    x, y = _params(0), _params(1)
    got = similarity.cka_matrix(scaled, x, three_layers, y, stream)
    np.testing.assert_allclose(got.values, _matrix(inputs, 16).values, atol=1e-5)


def test_constant_layers_are_not_numbers_and_leave_the_others():
    inputs = _inputs(40)
    stream = streams.from_arrays(inputs, batch_size=16)

    def with_dead_layer(params, inputs):
        dead = jnp.broadcast_to(jnp.linspace(0.1, 0.7, 5)[None], (len(inputs), 5))
        return {"dead": dead, "input": inputs}

    got = similarity.cka_matrix(with_dead_layer, {}, with_dead_layer, {}, stream)
    for values in (got.debiased, got.biased):
        np.testing.assert_array_equal(np.isnan(values), [[True, True], [True, False]])


def test_no_usable_batch_is_no_data():
    got = _matrix(_inputs(3), 8)
    assert np.isnan(got.values).all()
    assert (int(got.num_examples), int(got.num_left_out)) == (0, 3)


def test_the_stream_is_read_once():
    passes = []
    inner = streams.from_arrays(_inputs(40), batch_size=16)

    def counted():
        passes.append(1)
        return inner()

    similarity.cka_matrix(three_layers, _params(0), three_layers, _params(1), counted)
    assert len(passes) == 1


def test_the_order_of_layers_survives_jit():
    from collections import OrderedDict

    def ordered(params, inputs):
        return OrderedDict([("z", inputs), ("a", inputs[:, :2])])

    stream = streams.from_arrays(_inputs(20), batch_size=10)
    for function in (ordered, jax.jit(ordered)):
        assert similarity.cka_matrix(function, {}, function, {}, stream).layers_x == ("z", "a")


@pytest.mark.parametrize(
    ("function", "batch_size", "error", "message"),
    [
        (three_layers, 3, ValueError, "CKA needs batches of at least 4 rows, got 3"),
        (lambda p, x: x, 8, TypeError, "expected a feature function to return a mapping"),
        (lambda p, x: {}, 8, ValueError, "expected feature_fn_x to give at least one layer"),
        (
            lambda p, x: {"ok": x, "mean": x.mean(0)},
            8,
            ValueError,
            r"each layer of feature_fn_x as \[B, ...\] with B = 8; got mean \(10,\)",
        ),
    ],
)
def test_matrix_refuses(function, batch_size, error, message):
    stream = streams.from_arrays(_inputs(20), batch_size=batch_size)
    with pytest.raises(error, match=message):
        similarity.cka_matrix(function, _params(0), three_layers, _params(1), stream)


def test_matrix_refuses_an_unknown_estimator_and_an_empty_stream():
    with pytest.raises(ValueError, match="unknown estimator 'hsic'"):
        _matrix(_inputs(20), 10, estimator="hsic")
    with pytest.raises(ValueError, match="expected a stream with at least one batch, got none"):
        _matrix(_inputs(0), 10)
