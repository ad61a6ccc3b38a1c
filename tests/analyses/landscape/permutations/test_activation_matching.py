"""Matching by activations, against brute force, and whatever the batches are."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.analyses.landscape.permutations.test_alignment import (
    WIDTHS,
    assert_same,
    float64,
    mlp_symmetry,
    planted,
)
from tests.analyses.landscape.permutations.test_symmetry import built, random_orders
from tests.helpers import landscapes, permutable
from tests.helpers.permutable import arrays, mlp, mlp_params, normal
from tlx.analyses.landscape.permutations import alignment
from tlx.core import sharding, streams


def stream_of(inputs, batch_size=16, mesh=None, order=None, nan=True):
    """Batches whose padded rows are NaN."""

    def start():
        batches = list(streams.from_arrays(inputs, batch_size=batch_size)())
        for i in range(len(batches)) if order is None else order:
            batch = dict(batches[i])
            if nan and np.issubdtype(inputs.dtype, np.floating):
                rows = batch["mask"].reshape(-1, *[1] * (inputs.ndim - 1))
                batch["inputs"] = np.where(rows, batch["inputs"], np.float32(np.nan))
            yield batch if mesh is None else sharding.shard_batch(batch, mesh)

    return start


def test_activations_of_one_layer_are_brute_force():
    symmetry = mlp_symmetry(4, 5, 3)
    (group,) = symmetry.groups
    inputs = normal(40, 4)
    for seed in range(5):
        a, b = (mlp_params(4, 5, 3, seed=s) for s in (seed, seed + 100))
        found = alignment.activation_matching(mlp, symmetry, a, b, stream_of(inputs))
        hidden = []
        for p in map(float64, (a, b)):
            x = inputs.astype(np.float64) @ p["layer0"]["kernel"] + p["layer0"]["bias"]
            hidden.append(np.maximum(x, 0))
        correlation = np.nan_to_num(np.corrcoef(*hidden, rowvar=False)[:5, 5:])
        best = max(
            itertools.permutations(range(5)), key=lambda o: correlation[np.arange(5), o].sum()
        )
        np.testing.assert_array_equal(found.permutations[group], best)


@pytest.mark.parametrize(
    "name", ["mlp", "conv", "group_norm", "residual_group_norm", "attention",
             "attention_by_reshape", "mixer", "shared_norm", "recurrent", "lookup", "resnet_basic",
             *permutable.tiny_models.FRAMEWORKS],
)  # fmt: skip
def test_planted_permutations_are_found_by_activations(name):
    net, symmetry, a, b = planted(name)
    inputs = normal(37, *net.inputs.shape[1:], seed=5)
    if name == "lookup":
        inputs = np.random.default_rng(0).integers(0, 7, (37, 5))
    found = alignment.activation_matching(net.apply_fn, symmetry, a, b, stream_of(inputs))
    placed = alignment.apply_permutation(symmetry, found.permutations, b)
    assert float(found.distance_after) == 0
    assert_same(placed, a)


@pytest.mark.parametrize("name", ["mlp", "equinox", "attention_by_reshape"])
def test_activations_do_not_depend_on_batches(name):
    net, symmetry = built(name)
    a, b = (permutable.fill(net.params, s) for s in (0, 1))
    inputs = normal(37, *net.inputs.shape[1:], seed=5)
    match = functools.partial(alignment.activation_matching, net.apply_fn, symmetry, a, b)
    expected = match(stream_of(inputs)).permutations  # compiled for the planted permutations
    for batch_size, order in ((1, None), (16, (2, 0, 1))):
        assert_same(match(stream_of(inputs, batch_size, order=order)).permutations, expected)
    mesh = sharding.make_mesh(jax.devices()[:2])
    params = [sharding.replicate(p, mesh) for p in (a, b)]
    stream = stream_of(inputs, 16, mesh)
    got = alignment.activation_matching(net.apply_fn, symmetry, *params, stream)
    assert_same(got.permutations, expected)


@pytest.mark.parametrize("scales", [(1e-25, 1), (1, 1e25), (3e-30, 1e-30)])
def test_activations_do_not_depend_on_their_scale(scales):
    symmetry = mlp_symmetry(4, 5, 3)
    params = [mlp_params(4, 5, 3, seed=s) for s in (0, 100)]
    match = functools.partial(alignment.activation_matching, mlp, symmetry)
    expected = match(*params, stream_of(normal(40, 4)))
    assert any((o != np.arange(5)).any() for o in expected.permutations.values())
    for p, scale in zip(params, scales, strict=True):
        p["layer0"] = {name: v * np.float32(scale) for name, v in p["layer0"].items()}
    got = match(*params, stream_of(normal(40, 4)))
    assert_same(got.permutations, expected.permutations)


def test_activations_are_read_once():
    symmetry = mlp_symmetry(*WIDTHS)
    a, b = mlp_params(*WIDTHS), mlp_params(*WIDTHS, seed=1)
    stream, passes = landscapes.counting(stream_of(normal(30, 6)))
    alignment.activation_matching(mlp, symmetry, a, b, stream)
    assert len(passes) == 1


def test_units_that_are_read_with_others_wait_for_these():
    net, symmetry, a, b = planted("mixer")
    stream, passes = landscapes.counting(stream_of(normal(30, *net.inputs.shape[1:])))
    found = alignment.activation_matching(net.apply_fn, symmetry, a, b, stream)
    assert float(found.distance_after) == 0
    assert len(passes) == 2


def test_constant_units_correlate_with_none():
    """A unit that is 0.3 everywhere has only rounding to correlate."""
    symmetry = mlp_symmetry(4, 5, 3)
    (group,) = symmetry.groups
    a = mlp_params(4, 5, 3)
    a["layer0"]["kernel"][:, 1] = 0
    a["layer0"]["bias"][1] = 0.3
    order = np.array([3, 0, 4, 1, 2])
    b = alignment.apply_permutation(symmetry, {group: order}, a)
    stream = stream_of(normal(2000, 4))
    found = alignment.activation_matching(mlp, symmetry, a, b, stream)
    np.testing.assert_array_equal(found.permutations[group], np.argsort(order))


def test_rows_are_found_wherever_they_are():
    """Time first, and batches merged with places: padded rows stay out."""

    def apply_fn(params, inputs):
        x = jnp.tanh(jnp.swapaxes(inputs, 0, 1) @ params["in"])
        x = jnp.tanh(x.reshape(-1, 6) @ params["mid"]).reshape(inputs.shape[1], -1, 5)
        return (x @ params["out"]).sum(0)

    a = arrays(**{"in": (4, 6), "mid": (6, 5), "out": (5, 3)})
    symmetry = alignment.symmetry(apply_fn, a, normal(3, 8, 4))
    b = alignment.apply_permutation(symmetry, random_orders(symmetry), a)
    found = alignment.activation_matching(apply_fn, symmetry, a, b, stream_of(normal(11, 8, 4), 8))
    assert float(found.distance_after) == 0


def test_inputs_of_several_parts():
    def apply_fn(params, inputs):
        x = jnp.tanh(inputs["left"] @ params["left"]) * inputs["by"]
        return x @ params["out"] + jnp.tanh(inputs["right"] @ params["right"]) @ params["out"]

    a = arrays(left=(4, 6), right=(3, 6), out=(6, 3))

    def start():
        for seed in range(3):
            left, right = normal(8, 4, seed=seed), normal(8, 3, seed=seed)
            inputs = {"by": np.float32(2), "left": left, "right": right}
            yield {"inputs": inputs, "mask": np.ones(8, bool)}

    symmetry = alignment.symmetry(apply_fn, a, next(start())["inputs"])
    b = alignment.apply_permutation(symmetry, random_orders(symmetry), a)
    found = alignment.activation_matching(apply_fn, symmetry, a, b, start)
    assert float(found.distance_after) == 0


def test_errors_of_activation_matching():
    net, symmetry = built("mlp")
    a, stream = net.params, stream_of(net.inputs)
    match = alignment.activation_matching
    with pytest.raises(ValueError, match="stream with at least one batch, got none"):
        match(net.apply_fn, symmetry, a, a, stream_of(net.inputs[:0]))
    with pytest.raises(ValueError, match="3 of 6 that differ"):
        match(net.apply_fn, symmetry, a, mlp_params(4, 7, 6, 3), stream)
    with pytest.raises(ValueError, match="the model of the symmetry and params with"):
        match(net.apply_fn, mlp_symmetry(4, 5, 3), a, a, stream)

    def reversed_mlp(params, inputs):
        x = jax.nn.relu(inputs @ params["layer0"]["kernel"])[:, ::-1]
        x = jax.nn.relu(x @ params["layer1"]["kernel"])
        return x @ params["layer2"]["kernel"]

    with pytest.raises(ValueError, match="the symmetry of this apply function"):
        match(reversed_mlp, symmetry, a, a, stream)
    net, symmetry = built("low_rank")
    with pytest.raises(ValueError, match="a layer that reads the units of group 'u:1' alone"):
        match(net.apply_fn, symmetry, net.params, net.params, stream_of(net.inputs))
