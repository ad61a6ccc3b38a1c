import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tests.helpers import oracles
from tlx.analyses import interpolation
from tlx.core import evaluate, metrics, streams, tree

KINDS = interpolation.KINDS
ALPHAS = (-0.5, 0.0, 0.25, 0.5, 1.0, 1.3)


def _line(batch_size=16, params_b=None, alphas=ALPHAS, num_examples=50):
    a, b = models.make_params(0), models.make_params(1) if params_b is None else params_b
    stream = streams.from_arrays(*models.make_data(num_examples), batch_size=batch_size)
    metric = metrics.classification()
    return interpolation.line(models.apply_fn, metric, a, b, stream, alphas=alphas)


def test_line_is_the_formula_in_float64():
    got = _line()
    inputs, labels = models.make_data(50)
    a, b = models.make_params(0), models.make_params(1)
    assert got.alphas.dtype == jnp.float32
    np.testing.assert_array_equal(got.alphas, np.float32(ALPHAS))
    for i, alpha in enumerate(np.float64(np.float32(ALPHAS))):
        point = jax.tree.map(
            lambda x, y, t=alpha: (1 - t) * np.float64(x) + t * np.float64(y), a, b
        )
        loss, accuracy = models.numpy_classification(point, inputs, labels)
        np.testing.assert_allclose(got.results["loss"][i], loss, rtol=1e-5)
        np.testing.assert_allclose(got.results["accuracy"][i], accuracy, rtol=1e-6)
        assert got.results["count"][i] == 50


def test_line_ends_are_the_models_to_the_bit():
    got = _line(alphas=[0, 1])
    stream = streams.from_arrays(*models.make_data(50), batch_size=16)
    for i in range(2):
        metric = metrics.classification()
        end = evaluate(models.apply_fn, metric, models.make_params(i), stream)
        for name, value in end.items():
            np.testing.assert_array_equal(got.results[name][i], value)


def test_line_backwards_is_the_line_from_the_other_end():
    a, b = models.make_params(0), models.make_params(1)
    stream = streams.from_arrays(*models.make_data(50), batch_size=16)
    alphas = np.linspace(0, 1, 5)
    one, other = (
        interpolation.line(
            models.apply_fn, metrics.classification(), *ends, stream, alphas=alphas
        ).results["loss"]
        for ends in ((a, b), (b, a))
    )
    np.testing.assert_allclose(one, other[::-1], rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64])
def test_line_does_not_depend_on_batches(batch_size):
    expected, got = _line(16), _line(batch_size)
    for name, value in expected.results.items():
        np.testing.assert_allclose(got.results[name], value, rtol=1e-5)


def test_line_without_examples_has_no_data():
    got = _line(num_examples=0)
    assert np.isnan(got.results["loss"]).all()
    np.testing.assert_array_equal(got.results["count"], 0)


def test_line_between_different_nets_names_the_leaves():
    with pytest.raises(ValueError, match="3 of 4 differ") as error:
        _line(params_b=models.make_params(1, width=9))
    for leaf in ("hidden/kernel", "hidden/bias", "head/kernel"):
        assert leaf in str(error.value)


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        (0.5, r"expected alphas as a vector \[K\] of numbers, got shape \(\)"),
        ([], r"expected alphas as a vector \[K\] of numbers, got shape \(0,\)"),
        ([0.0, np.nan], r"expected finite alphas, got \[0.0, nan\]"),
    ],
)
def test_line_refuses_other_alphas(alphas, message):
    with pytest.raises(ValueError, match=message):
        _line(alphas=alphas)


@st.composite
def _curves(draw):
    length = draw(st.sampled_from([0, 1, 6]))  # few lengths, since each is compiled
    inner = draw(st.lists(st.integers(1, 99), min_size=length, max_size=length, unique=True))
    alphas = np.float32([-0.5, 0, *sorted(i / 100 for i in inner), 1, 1.5])
    loss = st.floats(-100, 100, width=32)
    return alphas, np.float32(draw(st.lists(loss, min_size=len(alphas), max_size=len(alphas))))


@pytest.mark.parametrize("kind", KINDS)
@given(curve=_curves())
def test_barrier_is_the_formula(kind, curve):
    got = interpolation.barrier(*curve, kind=kind)
    height, alpha = oracles.barrier(*curve, kind=kind)
    np.testing.assert_allclose(got.height, height, rtol=1e-5, atol=1e-4)
    at = np.flatnonzero(curve[0] == got.alpha)[0]
    again = oracles.barrier(
        np.float32([0, 1, got.alpha]) if 0 < alpha < 1 else np.float32([0, 1]),
        curve[1][[1, -2, at]] if 0 < alpha < 1 else curve[1][[1, -2]],
        kind,
    )[0]
    np.testing.assert_allclose(again, height, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@given(curve=_curves())
def test_barrier_is_symmetric_and_bounded_below(kind, curve):
    alphas, losses = curve[0][1:-1], curve[1][1:-1]
    got = interpolation.barrier(alphas, losses, kind=kind).height
    back = interpolation.barrier((1 - alphas)[::-1], losses[::-1], kind=kind).height
    np.testing.assert_allclose(got, back, rtol=1e-5, atol=1e-4)
    floor = 0 if kind == "chord" else abs(losses[0] - losses[-1]) / 2
    assert got >= floor - 1e-4


def test_barrier_of_a_straight_path_is_zero():
    got = interpolation.barrier([0, 0.5, 1], [1.0, 2.0, 3.0], kind="chord")
    assert (float(got.height), float(got.alpha)) == (0, 0)
    assert float(interpolation.barrier([0, 1], [1.0, 3.0], kind="endpoint_mean").height) == 1


def test_barrier_of_accuracy_is_its_fall():
    accuracy = np.float32([0.9, 0.1, 0.8])
    falls = [
        interpolation.barrier([0, 0.5, 1], values, kind="chord").height
        for values in (-accuracy, 1 - accuracy)
    ]
    np.testing.assert_allclose(falls, 0.75, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_barrier_without_finite_losses(kind):
    alphas = [-1, 0, 0.5, 1, 2]
    nothing = interpolation.barrier(alphas, [0, 0, np.nan, 0, 0], kind=kind)
    assert np.isnan(nothing.height)
    assert np.isnan(nothing.alpha)
    infinite = interpolation.barrier(alphas, [0, 0, np.inf, 0, 0], kind=kind)
    assert np.isposinf(infinite.height)
    assert infinite.alpha == 0.5
    outside = interpolation.barrier(alphas, [np.nan, 1, 2, 1, np.inf], kind=kind)
    assert float(outside.height) == 1


def test_barrier_under_jit_and_vmap():
    alphas = jnp.asarray([0.0, 0.5, 1.0])
    losses = jnp.asarray([[1.0, 3.0, 1.0], [0.0, 0.0, 2.0]])

    @jax.jit
    def heights(alphas, losses):
        return jax.vmap(lambda x: interpolation.barrier(alphas, x, kind="chord").height)(losses)

    np.testing.assert_array_equal(heights(alphas, losses), [2, 0])
    assert np.isnan(heights(alphas + 0.1, losses)).all()


@pytest.mark.parametrize(
    ("alphas", "losses", "kind", "message"),
    [
        ([0, 1], [1.0, 2.0], "cord", "unknown kind of barrier 'cord'; did you mean 'chord'"),
        ([0, 1], [1.0], "chord", "expected one loss for each alpha, got 2 alphas and 1 losses"),
        ([1, 0], [1.0, 2.0], "chord", "expected alphas that increase"),
        ([0, 0.9], [1.0, 2.0], "chord", "expected 0 and 1 among the alphas, 1 missing"),
        ([0.5], [1.0], "chord", "0 and 1 missing"),
        ([0, 1], [[1.0, 2.0]], "chord", r"expected losses as a vector \[K\]"),
    ],
)
def test_barrier_refuses(alphas, losses, kind, message):
    with pytest.raises(ValueError, match=message):
        interpolation.barrier(alphas, losses, kind=kind)


def test_line_takes_scalars_of_a_tree_unchanged_that_do_not_move():
    a = {"w": jnp.ones(2), "steps": jnp.int32(3)}
    b = {"w": jnp.zeros(2), "steps": jnp.int32(3)}
    stream = streams.from_arrays(np.zeros((4, 1), np.float32), batch_size=2)
    metric = metrics.mean(lambda outputs, batch: outputs)

    def apply_fn(params, inputs):
        return jnp.full(len(inputs), tree.norm(params["w"])) * params["steps"].astype(jnp.float32)

    got = interpolation.line(apply_fn, metric, a, b, stream, alphas=[0, 1])
    np.testing.assert_allclose(got.results, [3 * np.sqrt(2), 0], rtol=1e-6)
