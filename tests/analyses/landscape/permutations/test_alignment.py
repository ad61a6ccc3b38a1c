"""Matching by weights and by activations, against brute force and planted permutations."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.analyses.landscape.permutations.test_symmetry import built, random_orders
from tests.helpers import permutable
from tests.helpers.permutable import arrays, mlp, mlp_params, normal
from tlx.analyses.landscape.permutations import _assignment, _permutation, alignment
from tlx.core import tree

WIDTHS = (6, 16, 16, 3)


@functools.cache
def mlp_symmetry(*widths):
    params = mlp_params(*widths)
    return alignment.symmetry(mlp, params, normal(5, widths[0]), check=False)


def float64(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def squared_distance(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return sum(((np.float64(x) - np.float64(y)) ** 2).sum() for x, y in pairs)


def planted(name, seed=4, noise=0.0):
    """A net's parameters, and the same with its units in another order."""
    net, symmetry = built(name)
    a = permutable.fill(net.params, seed)
    b = alignment.apply_permutation(symmetry, random_orders(symmetry, seed), a)
    draw = permutable.fill(net.params, seed + 1)
    return net, symmetry, a, jax.tree.map(lambda x, y: (x + noise * y).astype(x.dtype), b, draw)


def assert_same(a, b, rtol=0.0):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol), a, b)


# --- weight matching ---


def test_a_planted_permutation_is_found_20_of_20_times():
    symmetry = mlp_symmetry(*WIDTHS)
    for seed in range(20):
        a = mlp_params(*WIDTHS, seed=seed)
        b = alignment.apply_permutation(symmetry, random_orders(symmetry, seed), a)
        found = alignment.weight_matching(symmetry, a, b)
        assert float(found.distance_before) > 1
        assert float(found.distance_after) == 0
        placed = alignment.apply_permutation(symmetry, found.permutations, b)
        assert_same(placed, a)
        inputs = normal(50, 6, seed=seed)
        one, two = mlp(b, inputs), mlp(placed, inputs)
        np.testing.assert_allclose(one, two, atol=4e-6 * np.abs(one).max())


def test_one_hidden_layer_is_brute_force():
    symmetry = mlp_symmetry(4, 5, 3)
    (group,) = symmetry.groups
    for seed in range(5):
        a, b = (float64(mlp_params(4, 5, 3, seed=s)) for s in (seed, seed + 100))
        found = alignment.weight_matching(symmetry, a, b, num_starts=1)
        best = min(
            (
                squared_distance(a, alignment.apply_permutation(symmetry, {group: order}, b)),
                order,
            )
            for order in map(np.array, itertools.permutations(range(5)))
        )
        np.testing.assert_array_equal(found.permutations[group], best[1])
        np.testing.assert_allclose(found.distance_after, best[0] ** 0.5, rtol=1e-6)
        np.testing.assert_allclose(found.distance_before, squared_distance(a, b) ** 0.5, rtol=1e-6)


@pytest.mark.parametrize("scales", [(1e-25, 1.0), (1.0, 1e25), (1e25, 3e-30)])
def test_weight_matching_does_not_depend_on_the_scale(scales):
    symmetry = mlp_symmetry(*WIDTHS)
    a, b = (mlp_params(*WIDTHS, seed=seed) for seed in (0, 1))
    expected = alignment.weight_matching(symmetry, a, b)
    a, b = (
        jax.tree.map(lambda x, s=s: x * np.float32(s), p)
        for p, s in zip((a, b), scales, strict=True)
    )
    found = alignment.weight_matching(symmetry, a, b)
    assert_same(found.permutations, expected.permutations)
    placed = alignment.apply_permutation(symmetry, found.permutations, b)
    for got, other in ((found.distance_before, b), (found.distance_after, placed)):
        np.testing.assert_allclose(got, squared_distance(a, other) ** 0.5, rtol=1e-6)


def test_gains_are_the_objective_of_every_order():
    symmetry = mlp_symmetry(4, 3, 2)
    (group,) = symmetry.groups
    a, b = (
        _assignment.counted(symmetry, float64(mlp_params(4, 3, 2, seed=seed))) for seed in (0, 1)
    )
    for found in map(np.array, itertools.permutations(range(3))):
        gains = _assignment.weight_gains(symmetry, (group, ()), a, b, {group: found})
        for order in map(np.array, itertools.permutations(range(3))):
            expected = _assignment.objective(symmetry, a, b, {group: order}, (group, ()))
            np.testing.assert_allclose(gains.outer[np.arange(3), order].sum(), expected)


@pytest.mark.parametrize("is_outer_first", [True, False])
def test_units_are_taken_within_their_outer_one(is_outer_first):
    value, order = normal(3, 2), np.array([[0, 1], [1, 0], [1, 0]])
    expected = np.stack([row[own] for row, own in zip(value, order, strict=True)])
    if is_outer_first:
        found = _permutation._take(np, value, 1, order, 0)
    else:
        found = _permutation._take(np, value.T, 0, order, 1).T
    np.testing.assert_array_equal(found, expected)


def test_nested_units_are_brute_force():
    """Two heads of two dimensions, without queries and keys: 2 · 2² · … orders."""

    def apply_fn(params, inputs):
        x = (inputs @ params["in"]).reshape(-1, 3, 2)
        x = x / (1 + jnp.sum(x**2, -1, keepdims=True))
        return x.reshape(-1, 6) @ params["out"]

    shapes = {"in": (4, 6), "out": (6, 3)}
    symmetry = alignment.symmetry(apply_fn, arrays(**shapes), normal(5, 4))
    outer, inner = symmetry.groups
    assert symmetry.groups[inner] == alignment.Group(inner, 2, outer)
    swaps = [np.array(x) for x in itertools.permutations(range(2))]
    for seed in range(4):
        a, b = (float64(arrays(s, **shapes)) for s in (seed, seed + 100))
        found = alignment.weight_matching(symmetry, a, b, num_starts=1)
        best = min(
            squared_distance(a, alignment.apply_permutation(symmetry, orders, b))
            for units in itertools.permutations(range(3))
            for rows in itertools.product(swaps, repeat=3)
            for orders in [{outer: np.array(units), inner: np.stack(rows)}]
        )
        np.testing.assert_allclose(found.distance_after, best**0.5, rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["conv", "group_norm", "residual_group_norm", "grouped", "attention", "recurrent", "lookup",
     "low_rank", "resnet_basic", *permutable.tiny_models.FRAMEWORKS],
)  # fmt: skip
def test_planted_permutations_are_found_in_all_kinds_of_nets(name):
    _, symmetry, a, b = planted(name)
    found = alignment.weight_matching(symmetry, a, b, num_starts=30)
    assert float(found.distance_before) > 1
    assert float(found.distance_after) == 0
    placed = alignment.apply_permutation(symmetry, found.permutations, b)
    assert_same(placed, a)
    for leaf, value in tree.named_leaves(b).items():
        if not jnp.issubdtype(value.dtype, jnp.floating):
            assert tree.named_leaves(placed)[leaf] is value


def test_noise_on_a_planted_permutation():
    _, symmetry, a, b = planted("grouped", noise=0.1)
    found = alignment.weight_matching(symmetry, a, b, num_starts=30)
    noise = squared_distance(b, planted("grouped")[3]) ** 0.5
    assert float(found.distance_after) <= noise * (1 + 1e-5)


@pytest.mark.parametrize("name", ["mlp", "residual_group_norm", "recurrent", "grouped"])
def test_never_farther_than_as_it_stands(name):
    net, symmetry = built(name)
    for seed in range(5):
        a, b = (permutable.fill(net.params, s) for s in (seed, seed + 50))
        found = alignment.weight_matching(symmetry, a, b, num_starts=2)
        assert float(found.distance_after) <= float(found.distance_before)
        same = alignment.weight_matching(symmetry, a, a, num_starts=1)
        assert float(same.distance_after) == 0


def test_it_does_not_depend_on_b_s_order_where_the_optimum_is_found():
    symmetry = mlp_symmetry(*WIDTHS)
    a, b = mlp_params(*WIDTHS), mlp_params(*WIDTHS, seed=1)
    distances = []
    for seed in range(3):
        moved = alignment.apply_permutation(symmetry, random_orders(symmetry, seed), b)
        found = alignment.weight_matching(symmetry, a, moved, num_starts=20)
        distances.append(float(found.distance_after))
        placed = alignment.apply_permutation(symmetry, found.permutations, moved)
        np.testing.assert_allclose(squared_distance(a, placed) ** 0.5, distances[-1], rtol=1e-6)
    np.testing.assert_allclose(distances, distances[0], rtol=0.02)


def test_more_starts_are_not_worse_and_keys_decide():
    symmetry = mlp_symmetry(*WIDTHS)
    a, b = mlp_params(*WIDTHS), mlp_params(*WIDTHS, seed=1)
    after = [
        float(alignment.weight_matching(symmetry, a, b, num_starts=n).distance_after)
        for n in (1, 4, 16)
    ]
    assert after == sorted(after, reverse=True)
    twice = [alignment.weight_matching(symmetry, a, b, key=jax.random.key(3)) for _ in range(2)]
    assert_same(twice[0].permutations, twice[1].permutations)


def test_running_statistics_move_and_do_not_count():
    _, symmetry, a, b = planted("linen")
    far = jax.tree.map(lambda x: x, b)
    far["batch_stats"] = jax.tree.map(lambda x: x + 5, far["batch_stats"])
    found = alignment.weight_matching(symmetry, a, far)
    assert float(found.distance_after) == 0
    placed = alignment.apply_permutation(symmetry, found.permutations, far)
    expected = jax.tree.map(lambda x: x + 5, a["batch_stats"])
    assert_same(placed["batch_stats"], expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_dtypes_and_counters_are_kept(dtype):
    def apply_fn(params, inputs):
        return mlp(params["net"], inputs)

    net = jax.tree.map(lambda x: np.asarray(x).astype(jnp.dtype(dtype)), mlp_params(*WIDTHS))
    a = {"net": net, "steps": np.arange(16)}
    symmetry = alignment.symmetry(apply_fn, a, normal(5, 6).astype(jnp.dtype(dtype)), check=False)
    b = alignment.apply_permutation(symmetry, random_orders(symmetry), a)
    assert b["net"]["layer0"]["kernel"].dtype == jnp.dtype(dtype)
    assert b["steps"] is a["steps"]
    found = alignment.weight_matching(symmetry, a, b)
    placed = alignment.apply_permutation(symmetry, found.permutations, b)
    jax.tree.map(np.testing.assert_array_equal, placed, a)
    assert placed["net"]["layer0"]["kernel"].dtype == jnp.dtype(dtype)


def test_errors_of_weight_matching():
    symmetry = mlp_symmetry(*WIDTHS)
    a, other = mlp_params(*WIDTHS), mlp_params(6, 15, 16, 3)
    with pytest.raises(ValueError, match="3 of 6 that differ"):
        alignment.weight_matching(symmetry, a, other)
    with pytest.raises(ValueError, match="the model of the symmetry and params with"):
        alignment.weight_matching(symmetry, other, other)
    broken = {**a, "layer1": jax.tree.map(lambda x: x * np.float32(np.nan), a["layer1"])}
    with pytest.raises(ValueError, match="NaN or infinity in layer1/bias, layer1/kernel"):
        alignment.weight_matching(symmetry, a, broken)
    with pytest.raises(ValueError, match="num_starts of at least 1, got 0"):
        alignment.weight_matching(symmetry, a, a, num_starts=0)


# --- many models ---


@pytest.mark.parametrize("name", ["mlp", "group_norm"])
def test_permuted_copies_come_back(name):
    net, symmetry = built(name)
    copies = [
        alignment.apply_permutation(symmetry, random_orders(symmetry, seed), net.params)
        for seed in range(4)
    ]
    found = alignment.match_many(symmetry, copies)
    assert len(found) == 4
    for matching, copy in zip(found, copies, strict=True):
        placed = alignment.apply_permutation(symmetry, matching.permutations, copy)
        assert_same(placed, copies[0])
        assert float(matching.distance_after) == 0
    for order in found[0].permutations.values():
        np.testing.assert_array_equal(
            order, np.broadcast_to(np.arange(order.shape[-1]), order.shape)
        )


def test_many_models_fit_each_other():
    symmetry = mlp_symmetry(*WIDTHS)
    many = [float64(mlp_params(*WIDTHS, seed=s)) for s in range(4)]
    found = alignment.match_many(symmetry, many)
    placed = [
        alignment.apply_permutation(symmetry, m.permutations, p)
        for m, p in zip(found, many, strict=True)
    ]

    def spread(models):
        return sum(squared_distance(a, b) for a, b in itertools.combinations(models, 2))

    assert spread(placed) < 0.95 * spread(many)
    assert placed[0]["layer0"]["kernel"].dtype == np.float64
    for one, other in zip(found[1:], placed[1:], strict=True):
        np.testing.assert_allclose(
            one.distance_after, squared_distance(placed[0], other) ** 0.5, rtol=1e-6
        )


def test_errors_of_match_many():
    symmetry = mlp_symmetry(*WIDTHS)
    a = mlp_params(*WIDTHS)
    with pytest.raises(ValueError, match="at least two models, got 1"):
        alignment.match_many(symmetry, [a])
    with pytest.raises(ValueError, match=r"models\[0\] and models\[2\] with the same leaves"):
        alignment.match_many(symmetry, [a, a, mlp_params(6, 15, 16, 3)])
