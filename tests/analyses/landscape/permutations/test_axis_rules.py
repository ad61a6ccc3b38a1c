"""Which operations hold units still and which leave them free, and what says so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.analyses.landscape.permutations.test_symmetry import random_orders
from tests.helpers import permutable
from tests.helpers.permutable import arrays, normal
from tlx.analyses.landscape.permutations import alignment


def scanned(params, inputs):
    def layer(x, kernel):
        return jnp.tanh(x @ kernel), None

    return jax.lax.scan(layer, inputs, params["kernels"])[0]


def linear(params, inputs):
    return inputs @ params["kernel"]


def sorted_units(params, inputs):
    return jnp.sort(inputs @ params["kernel"]) @ params["out"]


def sliced(params, inputs):
    return (inputs @ params["kernel"])[:, 1:]


@pytest.mark.parametrize(
    ("apply_fn", "shapes", "lines"),
    [
        (scanned, {"kernels": (3, 4, 4)}, ["kernels: axis 0 by scan, axis 1 by scan"]),
        (linear, {"kernel": (4, 3)}, ["kernel: axis 0 by the inputs, axis 1 by the outputs"]),
        (
            sorted_units,
            {"kernel": (4, 5), "out": (5, 3)},
            ["kernel: axis 0 by the inputs, axis 1 by sort", "out: axis 0 by sort"],
        ),
        (sliced, {"kernel": (4, 5)}, ["kernel: axis 0 by the inputs, axis 1 by slice"]),
    ],
)
def test_what_holds_the_units_still_is_named(apply_fn, shapes, lines):
    with pytest.raises(ValueError, match="a model with hidden units") as error:
        alignment.symmetry(apply_fn, arrays(**shapes), normal(5, 4))
    for line in lines:
        assert line in str(error.value)


def test_unused_leaves_are_no_units():
    def apply_fn(params, inputs):
        jnp.sort(inputs @ params["dead"])  # no output depends on it
        return permutable.mlp({"a": params["a"], "b": params["b"]}, inputs)

    layers = permutable.mlp_params(4, 6, 3)
    params = {"a": layers["layer0"], "b": layers["layer1"], "dead": normal(4, 6), "key": normal(7)}
    symmetry = alignment.symmetry(apply_fn, params, normal(5, 4))
    assert list(symmetry.groups) == ["a/kernel:1"]
    moved = alignment.apply_permutation(symmetry, random_orders(symmetry), params)
    assert moved["dead"] is params["dead"]
    assert moved["key"] is params["key"]


CONSTANT = np.arange(6, dtype=np.float32)


@pytest.mark.parametrize(
    "held",
    [
        lambda x: x * CONSTANT[None],
        lambda x: x * jnp.arange(6, dtype=jnp.float32)[None],
        lambda x: jnp.cumsum(x, 1),
        lambda x: x[:, ::-1],
        lambda x: jnp.pad(x, ((0, 0), (1, 0)))[:, :6],
        lambda x: jnp.roll(x, 1, 1),
        lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2), (1, 1), "SAME"),
        lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 1), (1, 1), ((0, 0), (1, -1))),
        lambda x: jnp.take(x, jnp.arange(6) // 2, 1),
        lambda x: x * (jnp.argmax(x, 1) == 0).astype(x.dtype)[:, None],
        lambda x: jax.lax.reshape(x, (5, 6), (1, 0)),
        lambda x: jnp.where(jnp.arange(6)[None] < 3, x, 0),
        lambda x: jnp.concatenate([x[:, :3], -x[:, 3:]], 1),
        lambda x: x.at[:, 1].set(0.0),
        lambda x: x.at[:, :3].multiply(2.0),
        lambda x: jax.ops.segment_sum(x.T, jnp.arange(6) // 2, num_segments=6).T,
    ],
)
def test_operations_that_look_at_the_order_hold_units_still(held):
    def apply_fn(params, inputs):
        x = jnp.tanh(held(jnp.tanh(inputs @ params["kernel"])) @ params["next"])
        return x @ params["out"]

    params = arrays(kernel=(4, 6), next=(6, 7), out=(7, 3))
    symmetry = alignment.symmetry(apply_fn, params, normal(5, 4))
    assert list(symmetry.groups) == ["next:1"]


@pytest.mark.parametrize(
    "free",
    [
        lambda x: jax.nn.gelu(jnp.clip(x, -1, 1)),
        lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True),
        lambda x: jax.nn.softmax(x),
        lambda x: x - jnp.max(x, 1, keepdims=True),
        lambda x: jnp.asinh(x) * jnp.ones(6)[None],
        lambda x: jnp.einsum("bi,bj->bij", x, x).sum(1),
        lambda x: jnp.stack([x, 2 * x], 0).sum(0),
        lambda x: jax.checkpoint(jnp.tanh)(x),
        lambda x: jnp.where(jnp.isfinite(x), x, 0),
        lambda x: x.T.reshape(2, 3, -1).reshape(6, -1).T,
        lambda x: jax.ops.segment_sum(x, jnp.array([0, 2, 2, 1, 0]), num_segments=5),
        lambda x: jax.ops.segment_max(x, jnp.array([0, 1, 2, 3, 4]), num_segments=5),
        lambda x: x.at[2].set(x[0]),
        lambda x: jax.vmap(lambda row: jnp.zeros((3, 6)).at[1].add(row))(x).sum(1),
    ],
)
def test_operations_that_do_not_leave_units_free(free):
    def apply_fn(params, inputs):
        return free(jnp.tanh(inputs @ params["kernel"])) @ params["out"]

    symmetry = alignment.symmetry(apply_fn, arrays(kernel=(4, 6), out=(6, 3)), normal(5, 4))
    moved = [f.size for axis in symmetry.leaves["kernel"] for f in axis if f.group]
    assert np.prod(moved) == 6


def test_units_of_an_outer_product_that_is_taken_apart():
    """Both axes of the product are the same units: splitting one splits the other."""

    def apply_fn(params, inputs):
        x = inputs @ params["kernel"]
        square = x[:, :, None] * x[:, None, :]
        return square.reshape(len(x), 2, 3, 2, 3).sum((2, 4)).reshape(len(x), 4) @ params["out"]

    symmetry = alignment.symmetry(apply_fn, arrays(kernel=(4, 6), out=(4, 3)), normal(5, 4))
    params = arrays(1, kernel=(4, 6), out=(4, 3))
    moved = alignment.apply_permutation(symmetry, random_orders(symmetry), params)
    alignment.check_same_function(apply_fn, params, moved, normal(5, 4))
