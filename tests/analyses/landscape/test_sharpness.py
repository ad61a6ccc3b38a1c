import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.core import models
from tests.helpers import oracles
from tlx.analyses.landscape import sharpness
from tlx.core import evaluate, metrics, sharding, streams, tree
from tlx.core import labels as labels_lib

KEY = jax.random.key(0)
N = 26
CURVES = np.float32([4.0, 1.0, 0.25, -1.0])


def _quadratic(params, inputs):
    w = params["w"]
    value = (jnp.asarray(CURVES) * w**2).sum() / 2
    return jnp.full((len(inputs), 1), value) + inputs * w[:1][None]


def _output(outputs, batch):
    return outputs[:, 0]


def _bowl(w, slope=0.0, **options):
    """Sharpness of Σ c·w²/2 + slope·w₀."""
    stream = streams.from_arrays(np.full((3, 1), slope, np.float32), batch_size=2)
    params = {"w": jnp.asarray(w, jnp.float32)}
    return sharpness.in_ball(_quadratic, _output, params, stream, key=KEY, **options)


def _net(stream=None, params=None, **options):
    params = models.make_params(0) if params is None else params
    stream = _stream() if stream is None else stream
    return sharpness.in_ball(
        models.apply_fn,
        metrics.softmax_cross_entropy,
        params,
        stream,
        **{"radius": 0.5, "key": KEY, "steps": 6, "restarts": 2} | options,
    )


def _stream(batch_size=8):
    return streams.from_arrays(*models.make_data(N), batch_size=batch_size)


@pytest.mark.parametrize("adaptive", [False, True])
def test_quadratic_in_a_ball_is_the_trust_regions_maximum(adaptive):
    w, slope, radius = np.array([0.5, -1.0, 2.0, 0.1]), 0.3, 0.7
    scale = np.abs(w) if adaptive else np.ones(4)
    got = _bowl(w, slope, radius=radius, adaptive=adaptive, steps=60, restarts=4)
    expected = oracles.quadratic_in_ball(
        scale * CURVES * scale, scale * (CURVES * w + [slope, 0, 0, 0]), radius
    )
    assert got.value <= expected * (1 + 1e-5)
    np.testing.assert_allclose(got.value, expected, rtol=1e-3)
    size = np.linalg.norm(got.perturbation["w"] / scale)
    assert size <= radius * (1 + 1e-5)


def test_at_a_saddle_random_starts_find_the_way_up():
    alone = _bowl(np.zeros(4), radius=0.5, restarts=1)
    assert alone.value == 0
    np.testing.assert_array_equal(alone.perturbation["w"], 0)
    got = _bowl(np.zeros(4), radius=0.5, steps=30)
    np.testing.assert_allclose(got.value, 4 * 0.25 / 2, rtol=1e-3)


def test_at_a_maximum_it_is_zero():
    stream = streams.from_arrays(np.ones((3, 1), np.float32), batch_size=2)
    got = sharpness.in_ball(
        lambda p, x: -(p["w"] ** 2).sum() * x,
        _output,
        {"w": jnp.zeros(3)},
        stream,
        radius=1,
        key=KEY,
    )
    assert got.value == 0
    assert (got.losses[1:, 1:] <= 0).all()  # the square of what is near 0 may be none
    assert (got.losses[1:, 1:] < 0).any()


@pytest.mark.parametrize("adaptive", [False, True])
def test_of_a_net(adaptive):
    params = models.make_params(0)
    got = _net(adaptive=adaptive)
    assert got.losses.shape == (2, 7)
    metric = metrics.classification()
    loss, moved = (
        float(evaluate(models.apply_fn, metric, p, _stream())["loss"])
        for p in (params, tree.add(params, got.perturbation))
    )
    np.testing.assert_allclose(got.losses[:, 0], loss, rtol=1e-5)
    np.testing.assert_allclose(got.value, moved - loss, rtol=1e-4)
    assert got.value == got.losses.max() - got.losses[0, 0] > 0
    assert _net(adaptive=adaptive, radius=0).value == 0
    assert _net(adaptive=adaptive, radius=0.1).value < got.value


def test_a_weight_of_zero_stays_where_the_ball_is_adaptive():
    params = models.make_params(0)
    params["hidden"]["bias"] = jnp.zeros(8)
    got = _net(params=params, adaptive=True)
    np.testing.assert_array_equal(got.perturbation["hidden"]["bias"], 0)


def test_adaptive_sharpness_ignores_the_scale_between_layers():
    params = models.make_params(0)
    hidden, head = params["hidden"], params["head"]
    scaled = {
        "hidden": jax.tree.map(lambda x: 4 * x, hidden),
        "head": {**head, "kernel": head["kernel"] / 4},
    }
    one, other = (_net(params=p, adaptive=True) for p in (params, scaled))
    np.testing.assert_allclose(one.losses[0], other.losses[0], rtol=1e-4)
    plain = [_net(params=p, restarts=1).value for p in (params, scaled)]
    assert abs(plain[0] - plain[1]) > 0.1 * plain[0]


def test_only_the_chosen_modules_move():
    labels = labels_lib.from_names(models.make_params(0), lambda name: name.split("/")[0])
    got = _net(labels=labels, modules="head")
    np.testing.assert_array_equal(got.perturbation["hidden"]["kernel"], 0)
    assert 0 < got.value < _net().value


@pytest.mark.parametrize("case", [1, 64, "NaN padding", "two devices"])
def test_does_not_depend_on_batches(case):
    expected = _net()
    stream, params = _stream(case) if isinstance(case, int) else _stream(), None
    if case == "NaN padding":
        data = models.make_data(N)[0]
        batch = {"inputs": np.vstack([data, data * np.nan]), "mask": np.arange(2 * N) < N}
        batch["labels"] = np.concatenate([models.make_data(N)[1], np.full(N, -1)])
        stream = lambda: iter([batch])  # noqa: E731
    if case == "two devices":
        mesh, single = sharding.make_mesh(jax.devices()[:2]), stream
        stream = lambda: (sharding.shard_batch(b, mesh) for b in single())  # noqa: E731
        params = sharding.replicate(models.make_params(0), mesh)
    got = _net(stream, params)
    np.testing.assert_allclose(got.losses, expected.losses, rtol=1e-4)


def test_loss_that_is_not_a_number():
    inputs, labels = models.make_data(N)
    inputs[3, 0] = np.nan
    assert np.isnan(_net(streams.from_arrays(inputs, labels, batch_size=8)).value)
    params = jax.tree.map(lambda x: 1e30 * x, models.make_params(0))
    assert np.isnan(_net(params=params).value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -1.0}, "expected a radius of at least 0, got -1.0"),
        ({"radius": np.nan}, "expected a radius of at least 0, got nan"),
        ({"steps": 0}, "expected steps of at least 1, got 0"),
        ({"restarts": 0}, "expected restarts of at least 1, got 0"),
        ({"stream": lambda: iter([])}, "expected a stream with at least one batch"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        _net(**options)
