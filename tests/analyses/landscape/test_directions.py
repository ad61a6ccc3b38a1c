import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tlx.analyses.landscape import directions, interpolation, planes
from tlx.core import evaluate, metrics, paths, streams, tree

RNG = np.random.default_rng(0)
CONV = {
    "conv": {"kernel": jnp.asarray(RNG.standard_normal((3, 3, 4, 6)), jnp.float32)},
    "norm": {"scale": jnp.ones(6), "mean": jnp.asarray(RNG.standard_normal(6), jnp.float32)},
    "head": {"kernel": jnp.asarray(RNG.standard_normal((6, 2)), jnp.bfloat16)},
    "steps": jnp.int32(7),
}


def _draw(params=CONV, seed=0, **options):
    return directions.random_direction(jax.random.key(seed), params, **options)


def _norms(leaf, axis):
    leaf = np.moveaxis(np.float64(np.asarray(leaf, np.float32)), axis, 0)
    return np.linalg.norm(leaf.reshape(len(leaf), -1), axis=1)


@pytest.mark.parametrize("axis", [-1, 0])
def test_filters_have_the_parameters_norms(axis):
    got = _draw(filter_axis=axis)
    for name, rtol in (("conv", 1e-5), ("head", 1e-2)):
        norms = (_norms(tree_["kernel"], axis) for tree_ in (got[name], CONV[name]))
        np.testing.assert_allclose(*norms, rtol=rtol)
    jax.tree.map(
        lambda x, y: np.testing.assert_equal((x.shape, x.dtype), (y.shape, y.dtype)), got, CONV
    )


def test_layers_have_the_parameters_norms():
    got = _draw(normalization="layer")["conv"]["kernel"]
    kernel = CONV["conv"]["kernel"]
    np.testing.assert_allclose(tree.norm(got), tree.norm(kernel), rtol=1e-5)
    assert np.abs(_norms(got, -1) / _norms(kernel, -1) - 1).max() > 0.01


def test_without_normalization_it_is_gaussian():
    big = {"w": jnp.zeros((300, 300))}
    got = np.asarray(_draw(big, normalization=None)["w"])
    np.testing.assert_allclose([got.mean(), got.std()], [0, 1], atol=0.01)


def test_each_leaf_has_noise_of_its_own():
    got = _draw({"a": jnp.ones((5, 4)), "b": jnp.ones((5, 4))})
    assert (np.asarray(got["a"]) != np.asarray(got["b"])).all()


def test_leaves_of_few_axes_stay_still_unless_asked():
    got = _draw()
    np.testing.assert_array_equal(got["norm"]["scale"], 0)
    np.testing.assert_array_equal(got["norm"]["mean"], 0)
    moving = _draw(min_axes=0)
    assert (moving["norm"]["mean"] != 0).all()
    for name in ("scale", "mean"):  # one filter each
        norms = tree.norm(moving["norm"][name]), tree.norm(CONV["norm"][name])
        np.testing.assert_allclose(*norms, rtol=1e-5)
    np.testing.assert_array_equal(moving["conv"]["kernel"], got["conv"]["kernel"])
    for direction in (got, moving):
        assert tree.add(CONV, direction)["steps"] == 7


@pytest.mark.parametrize("normalization", ["filter", "layer", None])
def test_scale_of_the_parameters(normalization):
    kernel = CONV["conv"]["kernel"]
    one, other = (
        np.asarray(_draw({"w": scale * kernel}, normalization=normalization)["w"])
        for scale in (1, np.float32(8))
    )
    np.testing.assert_allclose(other, one if normalization is None else 8 * one, rtol=1e-6)


@pytest.mark.parametrize("normalization", ["filter", "layer"])
@given(scale=st.floats(0.125, 8, width=32))
def test_layers_rescaled_against_each_other_leave_the_slice_unchanged(normalization, scale):
    params = models.make_params(0)
    scaled = {
        "hidden": {"kernel": params["hidden"]["kernel"] * scale, "bias": params["hidden"]["bias"]},
        "head": {"kernel": params["head"]["kernel"] / scale, "bias": params["head"]["bias"]},
    }
    inputs = models.make_data(20)[0]
    outputs = [
        models.apply_fn(tree.add(p, _draw(p, normalization=normalization), 0.7), inputs)
        for p in (params, scaled)
    ]
    np.testing.assert_allclose(*outputs, rtol=1e-3, atol=1e-3)


def test_filters_of_norm_zero_do_not_move():
    kernel = CONV["conv"]["kernel"].at[..., 2].set(0)
    got = np.asarray(_draw({"w": kernel})["w"])
    np.testing.assert_array_equal(got[..., 2], 0)
    assert (got[..., [0, 1, 3, 4, 5]] != 0).all()


def test_keys_decide_and_each_leaf_has_its_own():
    jax.tree.map(np.testing.assert_array_equal, _draw(), _draw())
    one, other = _draw()["conv"]["kernel"], _draw(seed=1)["conv"]["kernel"]
    assert abs(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1]) < 0.3
    alone = _draw({"conv": CONV["conv"]})
    np.testing.assert_array_equal(alone["conv"]["kernel"], one)


def test_under_jit():
    got = jax.jit(directions.random_direction)(jax.random.key(0), CONV)
    np.testing.assert_allclose(got["conv"]["kernel"], _draw()["conv"]["kernel"], rtol=1e-5)


def test_slices_in_one_and_two_dimensions_agree_and_hold_the_model():
    params = models.make_params(0)
    u, v = (_draw(params, seed) for seed in range(2))
    stream = streams.from_arrays(*models.make_data(50), batch_size=16)
    metric = metrics.classification()
    xs = np.float32([-1, -0.5, 0, 1])
    two = planes.grid(
        models.apply_fn, metric, paths.plane(params, u, v), stream, xs=xs, ys=[0.0, 0.5]
    )
    ends = params, tree.add(params, u)
    one = interpolation.line(models.apply_fn, metric, *ends, stream, alphas=xs)
    np.testing.assert_allclose(two.results["loss"][0], one.results["loss"], rtol=1e-5)
    loss = evaluate(models.apply_fn, metric, params, stream)["loss"]
    assert two.results["loss"][0, 2] == one.results["loss"][2] == loss


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        (CONV, {"normalization": "filters"}, "unknown normalization 'filters'; did you mean 'filt"),
        (CONV, {"filter_axis": 2}, "filter_axis of leaf head/kernel with its 2 axes, got 2"),
        (
            {"bias": jnp.ones(3), "kernel": jnp.zeros((2, 2)), "steps": jnp.int32(1)},
            {},
            "got zero everywhere:\n  bias: 1 axes, fewer than min_axes=2\n"
            "  kernel: norm zero in params\n  steps: int32 does not move\n",
        ),
    ],
)
def test_refuses(params, options, message):
    with pytest.raises(ValueError, match=message):
        _draw(params, **options)
