"""The derived permutations: which groups there are, that they hold, and what says so if not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import permutable
from tests.helpers.permutable import arrays, normal
from tlx.analyses.landscape.permutations import _axis_rules, alignment
from tlx.core import tree


@functools.cache
def built(name):
    net = permutable.ZOO[name]()
    return net, alignment.symmetry(net.apply_fn, net.params, net.inputs, check=False)


def random_orders(symmetry, seed=0):
    rng = np.random.default_rng(seed)
    orders = {}
    for group in symmetry.groups.values():
        rows = (symmetry.groups[group.within].size,) if group.within else ()
        units = np.broadcast_to(np.arange(group.size), (*rows, group.size))
        orders[group.name] = rng.permuted(units, axis=-1)
        while (orders[group.name] == units).all():
            orders[group.name] = rng.permuted(units, axis=-1)
    return orders


def sizes(symmetry):
    groups = symmetry.groups
    return tuple(
        sorted((g.size, groups[g.within].size if g.within else 0) for g in groups.values())
    )


def apart(net, params, other):
    forward = jax.jit(net.apply_fn)
    one, two = forward(params, net.inputs), forward(other, net.inputs)
    return float(np.abs(one - two).max() / np.abs(one).max())


@pytest.mark.parametrize("name", permutable.ZOO)
def test_groups_are_those_of_the_mathematics(name):
    net, symmetry = built(name)
    assert sizes(symmetry) == net.groups
    assert list(symmetry.leaves) == list(tree.names(net.params))


@pytest.mark.parametrize("name", permutable.ZOO)
def test_permuted_models_compute_the_same(name):
    net, symmetry = built(name)
    params = permutable.fill(net.params, seed=3)
    orders = random_orders(symmetry)
    moved = alignment.apply_permutation(symmetry, orders, params)
    assert apart(net, params, moved) < 1e-5
    alignment.check_same_function(net.apply_fn, params, moved, net.inputs)
    differ = jax.tree.map(lambda x, y: bool((x != y).any()), params, moved)
    grouped = {
        name: any(factor.group for axis in axes for factor in axis)
        for name, axes in symmetry.leaves.items()
    }
    still = {leaf for leaf, is_moved in tree.named_leaves(differ).items() if not is_moved}
    assert still == {leaf for leaf, has_group in grouped.items() if not has_group}
    count = {leaf: np.size(value) for leaf, value in tree.named_leaves(params).items()}
    assert sum(count[leaf] for leaf in still) < 0.5 * sum(count.values())


@pytest.mark.parametrize("name", ["grouped", "attention", "residual_group_norm"])
def test_orders_of_nested_units_are_by_their_new_place(name):
    """First the outer units, then within each; and one group after another is the same."""
    net, symmetry = built(name)
    orders = random_orders(symmetry)
    outer = {n: o for n, o in orders.items() if symmetry.groups[n].within is None}
    inner = {n: o for n, o in orders.items() if n not in outer}
    apply = functools.partial(alignment.apply_permutation, symmetry)
    jax.tree.map(
        np.testing.assert_array_equal,
        apply(orders, net.params),
        apply(inner, apply(outer, net.params)),
    )


def test_mlp_permutation_by_hand():
    net, symmetry = built("mlp")
    order = np.arange(8)[::-1]
    assert symmetry.groups["layer0/kernel:1"] == alignment.Group("layer0/kernel:1", 8, None)
    moved = alignment.apply_permutation(symmetry, {"layer0/kernel:1": order}, net.params)
    for layer, leaf, axis in (
        ("layer0", "kernel", 1),
        ("layer0", "bias", 0),
        ("layer1", "kernel", 0),
    ):
        expected = np.flip(net.params[layer][leaf], axis)
        np.testing.assert_array_equal(moved[layer][leaf], expected)
    assert moved["layer2"]["kernel"] is net.params["layer2"]["kernel"]


def test_arrays_stay_where_they_are():
    """On the host or on the device, with the same values."""
    net, symmetry = built("group_norm")
    orders = random_orders(symmetry)
    on_host = alignment.apply_permutation(symmetry, orders, net.params)
    on_device = alignment.apply_permutation(symmetry, orders, jax.device_put(net.params))
    jax.tree.map(np.testing.assert_array_equal, on_host, on_device)
    assert {type(x) for x in jax.tree.leaves(on_host)} == {np.ndarray}
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(on_device))


def test_running_statistics_are_told_apart():
    _, symmetry = built("linen")
    assert symmetry.statistics == {"batch_stats/norm/mean", "batch_stats/norm/var"}


@pytest.mark.parametrize(
    "name", ["mlp", "linen", "group_norm", "attention", "haiku", "shared_norm"]
)
def test_the_check_passes(name):
    net, symmetry = built(name)
    assert alignment.symmetry(net.apply_fn, net.params, net.inputs) == symmetry


def test_batch_size_and_shapes_alone_do_not_change_what_is_derived():
    for name in ("group_norm", "attention_by_reshape", "equinox"):
        net, symmetry = built(name)
        for rows in (1, 2):
            got = alignment.symmetry(net.apply_fn, net.params, net.inputs[:rows], check=False)
            assert got == symmetry


# --- the check ---


def test_a_wrong_rule_is_caught_with_the_groups_name(monkeypatch):
    def all_free(axes, op):
        axes.of[op.outputs[0]] = axes.axes(op.inputs[0])

    def apply_fn(params, inputs):
        x = jnp.tanh(inputs @ params["kernel"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2), (1, 1), "SAME")
        return jnp.tanh(x @ params["next"]) @ params["out"]

    params = arrays(kernel=(4, 6), next=(6, 5), out=(5, 3))
    monkeypatch.setitem(_axis_rules.RULES, "reduce_window_max", all_free)
    with pytest.raises(ValueError, match=r"in the groups kernel:1\. Check that row i"):
        alignment.symmetry(apply_fn, params, normal(5, 4))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_a_new_head_hides_no_wrong_rule(monkeypatch, scale):
    """Outputs of a head that is zero do not change whatever is permuted."""
    monkeypatch.setitem(_axis_rules.RULES, "rev", _axis_rules.RULES["tanh"])

    def apply_fn(params, inputs):
        return jnp.tanh(inputs @ params["kernel"])[:, ::-1] @ params["out"]

    params = arrays(kernel=(4, 6), out=(6, 3))
    params["out"] = scale * params["out"]
    with pytest.raises(ValueError, match="in the groups kernel:1"):
        alignment.symmetry(apply_fn, params, normal(5, 4))


def test_another_function_is_told():
    net, _ = built("mlp")
    wrong = jax.tree.map(lambda x: x, net.params)
    wrong["layer1"]["kernel"] = wrong["layer1"]["kernel"][::-1]
    with pytest.raises(ValueError, match="leave the outputs unchanged, got a change by"):
        alignment.check_same_function(net.apply_fn, net.params, wrong, net.inputs)


def test_outputs_that_are_not_finite():
    def masked(params, inputs):
        return jnp.where(inputs[:, :3] > 0, permutable.mlp(params, inputs), -jnp.inf)

    net = permutable.ZOO["mlp"]()
    assert len(alignment.symmetry(masked, net.params, net.inputs).groups) == 2
    with pytest.raises(ValueError, match="finite outputs on these inputs"):
        alignment.symmetry(net.apply_fn, net.params, np.full_like(net.inputs, np.nan))


def test_narrow_floats_are_given_their_rounding():
    params = permutable.mlp_params(4, 64, 64, 3, dtype=jnp.bfloat16)
    inputs = jnp.asarray(normal(5, 4), jnp.bfloat16)
    symmetry = alignment.symmetry(permutable.mlp, params, inputs)
    assert sizes(symmetry) == ((64, 0), (64, 0))


# --- errors of apply_permutation ---


@pytest.mark.parametrize(
    ("orders", "message"),
    [
        ({"layer0/kernel:0": np.arange(8)}, "unknown group 'layer0/kernel:0'; did you mean"),
        ({"layer0/kernel:1": np.arange(7)}, r"integers of shape \(8,\), got int64 of shape \(7,\)"),
        ({"layer0/kernel:1": np.zeros(8, int)}, "expected permutations of 0 … 7"),
        ({"layer0/kernel:1": np.arange(8.0)}, "got float64"),
    ],
)
def test_orders_that_are_none(orders, message):
    net, symmetry = built("mlp")
    with pytest.raises(ValueError, match=message):
        alignment.apply_permutation(symmetry, orders, net.params)


def test_parameters_of_another_model():
    _, symmetry = built("mlp")
    with pytest.raises(
        ValueError, match="layer1/kernel: 8×6 in the model of the symmetry, 7×6 in params"
    ):
        alignment.apply_permutation(symmetry, {}, permutable.mlp_params(4, 7, 6, 3))
