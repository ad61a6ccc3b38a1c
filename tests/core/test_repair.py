"""Renormalised activations: their moments are what they should be, and the ends stay the ends."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.core.models import make_data
from tests.helpers import batch_norm, tiny_models
from tlx import models
from tlx.adapters import linen as linen_adapter
from tlx.core import batch_statistics, evaluate_path, graph, paths, streams, tree
from tlx.core._batch_moments import Observer
from tlx.core.graph.sites import layers
from tlx.core.types import Metric

N, WIDTHS = 40, (5, 7, 6, 3)
INPUTS, LABELS = make_data(N)
STREAM = streams.from_arrays(INPUTS, LABELS, batch_size=N)
TRAIN = make_data(32, seed=1)[0] + 1
SOURCE = streams.from_arrays(TRAIN, batch_size=32)
ALPHAS = np.float32([0, 0.3, 0.5, 1])
assert_close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=2e-4)


@functools.cache
def outputs_of(rows, columns):
    """The outputs themselves, of a stream of one batch."""
    add = lambda s, t: s + t  # noqa: E731
    zeros = functools.partial(jnp.zeros, (rows, columns))
    return Metric(zeros, lambda state, outputs, _: state + outputs, add, lambda state: state)


def make_mlp(seed):
    rng = np.random.default_rng(seed)
    return [
        {"w": np.float32(rng.standard_normal((i, o))), "b": np.float32(rng.standard_normal(o))}
        for i, o in itertools.pairwise(WIDTHS)
    ]


def mlp(params, inputs):
    x = inputs
    for layer in params[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"][None])
    return x @ params[-1]["w"] + params[-1]["b"][None]


A, B = make_mlp(0), make_mlp(1)


def repaired(a=A, b=B, *, apply_fn=mlp, source=SOURCE, alphas=ALPHAS, stream=STREAM, repair=True):
    """Outputs [K, N, 3]."""
    results, rule = batch_statistics.along(
        apply_fn, outputs_of(N, 3), paths.line(a, b), alphas, stream, source=source, ends=(a, b),
        repair=repair,
    )  # fmt: skip
    assert rule == ("repaired" if repair else "re-estimated")
    return np.asarray(results)


def float64(layers):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), layers)


def moments(layers, inputs, goal=None):
    """(mean, std) of what each layer but the last gives out for a batch, moved to the goal's."""
    x, own = np.asarray(inputs, np.float64), []
    for i, layer in enumerate(layers[:-1]):
        x = x @ layer["w"]
        own.append((x.mean(0), x.std(0)))
        if goal is not None:
            x = (x - own[-1][0]) / own[-1][1] * goal[i][1] + goal[i][0]
        x = np.maximum(x + layer["b"], 0)
    return own


def oracle(alpha, inputs):
    """REPAIR of the MLP from its definition, the training batch being all of it."""
    a, b = float64(A), float64(B)
    goal = [
        tuple((1 - alpha) * u + alpha * v for u, v in zip(s, t, strict=True))
        for s, t in zip(moments(a, TRAIN), moments(b, TRAIN), strict=True)
    ]
    layers = jax.tree.map(lambda x, y: (1 - alpha) * x + alpha * y, a, b)
    own = moments(layers, TRAIN, goal)
    x = np.asarray(inputs, np.float64)
    for layer, (mean, std), (to_mean, to_std) in zip(layers[:-1], own, goal, strict=True):
        x = (x @ layer["w"] - mean) / std * to_std + to_mean
        x = np.maximum(x + layer["b"], 0)
    return x @ layers[-1]["w"] + layers[-1]["b"]


def test_repair_against_float64():
    got = repaired()
    for i, alpha in enumerate(np.float64(ALPHAS)):
        assert_close(got[i], oracle(alpha, INPUTS))


def test_the_ends_are_the_models_themselves():
    got = repaired()
    assert_close(got[0], mlp(A, INPUTS))
    assert_close(got[-1], mlp(B, INPUTS))
    middle = mlp(tree.lerp(A, B, 0.5), INPUTS)
    assert not np.allclose(got[2], middle, atol=0.1)


def test_activations_have_the_moments_between_the_ends():
    batch = (TRAIN, np.ones(len(TRAIN), bool))
    of_a, of_b = (Observer(mlp, "observe")(params, batch) for params in (A, B))
    assert list(of_a) == ["0/w", "1/w"]
    seen = {}

    def watched(params, inputs):
        """The MLP, which shows the activations that it goes on with."""
        x = inputs
        for name, layer in zip(of_a, params, strict=False):
            x = x @ layer["w"]
            seen[name] = x
            x = jax.nn.relu(x + layer["b"][None])
        return jnp.concatenate([*(seen[n] for n in of_a), x @ params[-1]["w"]], axis=1)

    stream = streams.from_arrays(TRAIN, batch_size=32)
    metric = outputs_of(32, sum(WIDTHS[1:]))
    results, _ = batch_statistics.along(
        watched, metric, paths.line(A, B), ALPHAS, stream, source=SOURCE, ends=(A, B), repair=True
    )
    for i, alpha in enumerate(ALPHAS):
        got = np.asarray(results[i])
        for k, name in enumerate(of_a):
            part = got[:, sum(WIDTHS[1 : k + 1]) : sum(WIDTHS[1 : k + 2])]
            (_, mean_a, var_a), (_, mean_b, var_b) = of_a[name], of_b[name]
            assert_close(part.mean(0), (1 - alpha) * mean_a + alpha * mean_b)
            std = (1 - alpha) * np.sqrt(var_a) + alpha * np.sqrt(var_b)
            assert_close(part.std(0), std)


def test_batches_of_one_kind_give_what_one_batch_gives():
    """Moments that each batch has: those of the pool."""
    source = streams.from_arrays(np.concatenate([TRAIN, TRAIN[::-1]]), batch_size=32)
    assert_close(repaired(source=source), repaired())


def test_an_aligned_pair_keeps_its_function():
    order = np.random.default_rng(0).permutation(WIDTHS[1])
    moved = [
        {"w": A[0]["w"][:, order], "b": A[0]["b"][order]},
        {"w": A[1]["w"][order], "b": A[1]["b"]},
        A[2],
    ]
    assert_close(mlp(moved, INPUTS), mlp(A, INPUTS))
    assert not np.allclose(repaired(A, moved)[2], mlp(A, INPUTS), atol=0.1)
    for out in repaired(A, A):
        assert_close(out, mlp(A, INPUTS))


@pytest.mark.parametrize("dead", ["one", "both", "between"])
def test_channels_that_are_constant_stay_finite(dead):
    """A constant that sums of floats do not quite meet must not be taken for a small spread."""
    a, b = jax.tree.map(np.copy, (A, B))
    last_is_constant = np.concatenate([TRAIN[:, :4], np.full((32, 1), 0.1, np.float32)], axis=1)
    constant, spread = np.float32([0, 0, 0, 0, 0.7]), np.float32([1, 1, 0, 0, 0])
    a[0]["w"][:, 2] = constant + (spread if dead == "between" else 0)
    if dead != "one":
        b[0]["w"][:, 2] = constant - (spread if dead == "between" else 0)
    out = repaired(a, b, source=streams.from_arrays(last_is_constant, batch_size=32))
    assert np.abs(out).max() < 1e3


def test_beyond_the_ends_deviations_are_not_negative():
    small = [{"w": 0.1 * A[0]["w"], "b": A[0]["b"]}, *A[1:]]
    out = repaired(A, small, alphas=np.float32([2.0]))
    assert_close(out, np.broadcast_to(out[:, :1], out.shape))  # the first layer gives a constant


def test_a_model_with_one_layer_has_nothing_to_repair():
    def linear(params, inputs):
        return inputs @ params["w"]

    a, b = ({"w": net[0]["w"][:, :3]} for net in (A, B))
    got = repaired(a, b, apply_fn=linear)
    plain = evaluate_path(linear, outputs_of(N, 3), paths.line(a, b), ALPHAS, STREAM)
    np.testing.assert_array_equal(got, plain)


def test_before_batch_norm_it_is_re_estimation():
    a, b = batch_norm.make_params(0, norms=1), batch_norm.make_params(1, norms=1)
    got = repaired(a, b, apply_fn=batch_norm.apply_fn)
    plain = repaired(a, b, apply_fn=batch_norm.apply_fn, repair=False)
    np.testing.assert_allclose(got, plain, rtol=5e-3, atol=2e-2)


def test_what_layers_give_out():
    """Grouped kernels have channels in each group; constants are no layer, nor are the last."""

    def grouped(params, inputs):
        x = jnp.einsum("bgi,gio->bgo", inputs @ jnp.eye(4), params["grouped"])
        x = jax.lax.conv_general_dilated(
            jnp.tanh(x), params["conv"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
        )
        x = jax.nn.relu(x).reshape(-1, 12) @ params["same"]
        return jax.nn.log_softmax(jax.nn.relu(x @ params["same"]) @ params["head"])

    shapes = {"grouped": (2, 4, 5), "conv": (3, 5, 6), "same": (12, 12), "head": (12, 3)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    found = layers(graph.trace(grouped, params, jnp.ones((7, 2, 4))))
    by_name = {site.name: (site.channels, site.shape) for site in found}
    assert by_name.pop("grouped")[1] == (2, 5)
    assert by_name == {
        "conv": ((2,), (6,)), "same": ((1,), (12,)), "same:1": ((1,), (12,))
    }  # fmt: skip


def test_where_rows_are_not_the_first_axis():
    """Equinox's layers give out [channels, rows]; theirs is followed by batch norm."""
    a, b = (tiny_models.make("equinox", seed) for seed in (0, 1))
    (site,) = layers(graph.trace(a.apply_fn, a.params, tiny_models.make_inputs(3)[0]))
    assert (site.channels, graph.shape(site.value)) == ((0,), (tiny_models.WIDTH, 3))
    inputs, labels = tiny_models.make_inputs(N)
    source, stream = (streams.from_arrays(inputs, labels, batch_size=n) for n in (24, N))
    got, plain = (
        repaired(a.params, b.params, apply_fn=a.apply_fn, source=source, stream=stream,
                 alphas=np.float32([0, 0.5]), repair=repair)
        for repair in (True, False)
    )  # fmt: skip
    np.testing.assert_allclose(got, plain, rtol=1e-3, atol=1e-3)


def test_a_net_with_forms_by_platform():
    """At the ends a net without batch norm gives its own outputs, on a batch it was seen on."""
    model = models.make("fixup_resnet", num_classes=3, stage_sizes=(1,), stem="small", width=4)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((N, 6, 6, 3)).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    a, b = (
        jax.tree.map(lambda x: 0.5 * np.float32(rng.standard_normal(x.shape)), shapes)
        for _ in range(2)
    )
    apply_fn = linen_adapter.adapt(model, a, train=False).apply_fn
    stream = streams.from_arrays(images, LABELS, batch_size=N)
    got = repaired(a, b, apply_fn=apply_fn, source=stream, stream=stream)
    check = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-3)
    check(got[0], jax.jit(apply_fn)(a, images))
    check(got[-1], jax.jit(apply_fn)(b, images))
    assert not np.allclose(got[2], jax.jit(apply_fn)(tree.lerp(a, b, 0.5), images), atol=0.05)
