"""Leaves of any kind: names that are unique, complex numbers as two, constants that stay."""

import collections
import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from tlx.analyses.parameters import distances, movement, spectra
from tlx.core import labels, partition, paths, tree

DTYPES = ("float8_e4m3fn", "bfloat16", "float16", "float32", "complex64")
SHAPES = ((), (0,), (3,), (2, 0), (2, 3))
CONSTANTS = (math.inf, -math.inf, math.nan)


@st.composite
def pairs(draw):
    """Two models of one structure, with leaves of every kind."""
    a, b = {}, {}
    for name in "ab":
        dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
        rng = np.random.default_rng(draw(st.integers(0, 2**20)))
        for out in (a, b):
            parts = rng.standard_normal((2, *shape))
            value = parts[0] + 1j * parts[1] if dtype == "complex64" else parts[0]
            out[name] = jnp.asarray(value).astype(dtype)
        held = rng.random(shape) < 0.2
        if dtype != "float8_e4m3fn":  # which has no infinity
            constant = jnp.asarray(draw(st.sampled_from(CONSTANTS)), a[name].dtype)
            a[name], b[name] = (jnp.where(held, constant, x[name]) for x in (a, b))
    of_any_kind = {
        "whole": jnp.arange(3), "bit": True, "none": None, "key": jax.random.key(1),
        "python": 0.1, "integer": 7, "scalar": np.float32(0.3), "double": np.arange(2.0),
    }  # fmt: skip
    return {**a, **of_any_kind}, {**b, **of_any_kind, "python": 0.7, "scalar": np.float32(-2)}


def flat(params):
    """All floating numbers in float64, of complex ones both parts: the oracle's."""
    parts = []
    for leaf in jax.tree.leaves(params):
        if hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            continue
        if np.issubdtype(np.asarray(leaf).dtype, np.integer) or np.asarray(leaf).dtype == bool:
            continue
        value = np.asarray(leaf).ravel()
        value = value if np.iscomplexobj(value) else value.astype(np.float64)
        parts += [value.real.astype(np.float64), value.imag.astype(np.float64)][
            : 1 + np.iscomplexobj(value)
        ]
    return np.concatenate(parts)


def without_constants(a, b):
    x, y = flat(a), flat(b)
    held = ~np.isfinite(x) & ((x == y) | (np.isnan(x) & np.isnan(y)))
    return np.where(held, 0, x), np.where(held, 0, y)


def same(x, y):
    for name in x:
        if name not in ("key", "none"):
            np.testing.assert_array_equal(
                np.asarray(x[name]), np.asarray(jnp.asarray(y[name])), err_msg=name
            )


@given(pairs(), st.floats(-1, 2, width=32))
def test_lines_are_exact_at_the_ends_and_where_nothing_moves(pair, t):
    a, b = pair
    line = paths.line(a, b)
    same(line(0.0), a)
    same(line(1.0), b)
    same(tree.lerp(a, a, t), a)
    x, y, z = flat(a), flat(b), flat(line(t))
    np.testing.assert_array_equal(z[x == y], x[x == y])
    moves = np.isfinite(x) & np.isfinite(y)
    between = (1 - np.float64(t)) * x[moves] + t * y[moves]
    eight_bits = 0.07 * (abs(x[moves]) + abs(y[moves])) + 0.01
    assert (abs(z[moves] - between) <= eight_bits).all()


@given(pairs())
def test_norm_dot_and_distances_count_both_parts(pair):
    a, b = pair
    everything = np.isfinite(flat(a)).all() and np.isfinite(flat(b)).all()
    x, y = without_constants(a, b)
    if everything:
        assert float(tree.norm(a)) == pytest.approx(np.linalg.norm(x), rel=1e-5)
        assert float(tree.dot(a, b)) == pytest.approx(x @ y, rel=1e-4, abs=1e-4)
        assert float(tree.dot(a, a)) == pytest.approx(float(tree.norm(a)) ** 2, rel=1e-5)
    assert tree.norm(a).dtype == tree.dot(a, b).dtype == jnp.float32
    of = labels.from_names(a, lambda _: "all")
    apart = np.linalg.norm(x - y)
    found = distances.by_module(a, b, of)
    assert float(found.total_l2) == pytest.approx(apart, rel=1e-5)
    size = np.linalg.norm(x) + np.linalg.norm(y)
    assert float(found.total_relative) == pytest.approx(2 * apart / size, rel=1e-5)
    assert movement.trajectory([a, b], of).total.displacement[1] == pytest.approx(apart, rel=1e-5)
    assert tree.count(a) == len(x) + 3 + 3  # the integers, and one each of bit, integer and key


def test_the_distance_of_complex_leaves():
    a, b = {"k": jnp.asarray([1 + 1j, 2.0])}, {"k": jnp.asarray([0j, 2.0])}
    found = distances.by_module(a, b, {"k": "k"})
    assert float(found.total_l2) == pytest.approx(math.sqrt(2))
    assert float(tree.norm(a)) == pytest.approx(math.sqrt(6))
    assert float(tree.dot(a, {"k": jnp.asarray([1j, 0.0])})) == 1  # the real part of conj(a)·b
    assert float(found.total_cosine) == pytest.approx(4 / (math.sqrt(6) * 2))


@pytest.mark.parametrize("one", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_in_one_model_only(one):
    a, b = {"k": jnp.asarray([1.0, 2.0])}, {"k": jnp.asarray([1.0, one])}
    found = distances.by_module(a, b, {"k": "k"}).total_l2
    np.testing.assert_array_equal(found, abs(one))
    middle = paths.line(a, b)(0.5)["k"]
    np.testing.assert_array_equal(middle, jnp.asarray([1.0, one]))


def test_a_causal_mask_stays():
    mask = jnp.where(jnp.tril(jnp.ones((3, 3), bool)), 0.0, -jnp.inf)
    a, b = {"w": jnp.zeros(2), "mask": mask}, {"w": jnp.asarray([3.0, 4.0]), "mask": mask}
    for alpha in (-1.0, 0.0, 0.3, 1.0, 2.0):
        np.testing.assert_array_equal(paths.at(paths.line(a, b), alpha)["mask"], mask)
    for path_fn, at in (
        (paths.polygon([a, b, a]), 0.4),
        (paths.bezier([a, b, a]), 0.4),
        (paths.hull([a, b, a]), jnp.asarray([2.0, -1.5, 0.5])),
        (paths.plane(a, tree.sub(b, a), tree.sub(a, b)), jnp.asarray([0.4, -2.0])),
    ):
        np.testing.assert_array_equal(paths.at(path_fn, at)["mask"], mask)
    found = distances.by_module(a, b, {"w": "w", "mask": "mask"})
    np.testing.assert_array_equal(found.l2, [0, 5])  # of "mask" and "w"
    np.testing.assert_array_equal(found.relative, [np.nan, 2])
    assert float(found.total_l2) == 5


@given(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32), st.floats(0, 1, width=32))
def test_the_derivative_of_a_line_is_that_of_its_formula(x, y, t):
    def at(a, b, t):
        return tree.lerp({"k": a}, {"k": b}, t)["k"]

    for b in (y, x):  # also where the value is chosen for its own sake
        values = (jnp.float32(x), jnp.float32(b), jnp.float32(t))
        found = jax.grad(at, (0, 1, 2))(*values)
        np.testing.assert_allclose(found, (1 - t, t, b - x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_polygons_are_exact_at_every_vertex(dtype):
    number = np.concatenate([np.arange(n) for n in range(2, 201)]).astype(np.float32)
    segments = np.concatenate([np.full(n, n - 1) for n in range(2, 201)])
    at = number.astype(dtype) / segments.astype(dtype)
    narrow = at.astype(np.float32)
    spaced = np.concatenate([np.linspace(0, 1, n, dtype=dtype) for n in range(2, 201)])
    for t in (at, spaced, np.nextafter(narrow, 0), np.nextafter(narrow, 2 * narrow)):
        first, rest = paths._segment(t, jnp.asarray(segments, jnp.float32))
        np.testing.assert_array_equal(first + rest, number)
        assert set(np.unique(rest)) == {0, 1}
    vertices = [{"w": jnp.float32(math.sin(i))} for i in range(14)]
    for i, vertex in enumerate(vertices):
        at = dtype(i) / dtype(13)
        assert paths.polygon(vertices)(at)["w"] == vertex["w"]
        assert paths.at(paths.polygon(vertices), at)["w"] == vertex["w"]


@given(st.integers(2, 200), st.floats(0, 1, width=32))
def test_what_is_no_vertex_is_where_it_was(n, t):
    first, rest = paths._segment(jnp.float32(t), n - 1)
    assert float(first) + float(rest) == pytest.approx(np.float64(t) * (n - 1), rel=5e-7)


class Scaled(eqx.Module):
    value: jax.Array
    other: jax.Array


Fields = collections.namedtuple("Fields", "value other")


class Boxed(nn.Module):
    @nn.compact
    def __call__(self, x):
        kernel = nn.with_partitioning(nn.initializers.ones, (None, "model"))
        bias = nn.with_logical_partitioning(nn.initializers.zeros, ("model",))
        return nn.Dense(2, kernel_init=kernel, bias_init=bias)(x)


ONE = jnp.ones(1)


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({"block": {"attn": {"value": ONE}}}, ("block/attn/value",)),
        ({"value": {"value": ONE}}, ("value/value",)),
        (Scaled(ONE, ONE), ("value", "other")),
        ({"a": Scaled(ONE, None)}, ("a/value",)),
        ({"a": Fields(ONE, ONE)}, ("a/value", "a/other")),
        ({"a": nnx.Param(ONE), "value": nnx.Param(ONE)}, ("a", "value")),
        ({"a": nnx.Param({"value": ONE})}, ("a/value",)),
        ({"raw_value": ONE, "params": ONE, "": ONE}, ("", "params", "raw_value")),
    ],
)
def test_only_a_box_loses_its_key(params, names):
    assert tree.names(params) == names
    assert len(names) == len(jax.tree.leaves(params))


def test_names_of_boxes():
    assert tree.names(nnx.state(nnx.Linear(2, 2, rngs=nnx.Rngs(0)))) == ("bias", "kernel")
    variables = jax.eval_shape(Boxed().init, jax.random.key(0), jnp.ones((1, 2)))
    assert tree.names(variables) == ("params/Dense_0/bias", "params/Dense_0/kernel")
    parts = partition.by_depth({"block": {"attn": {"value": ONE}}}, 2)
    assert jax.tree.leaves(parts) == ["block/attn"]


TWICE = {"a": {"b": jnp.ones((2, 3))}, "a/b": jnp.ones((4, 5))}


@pytest.mark.parametrize(
    "ask",
    [
        tree.names,
        tree.named_leaves,
        spectra.by_layer,
        lambda p: labels.from_names(p, lambda name: name),
        lambda p: tree.same_structure(p, {**p, "a/b": jnp.ones((6, 5))}),
        lambda p: distances.by_module(p, p, jax.tree.map(lambda _: "m", p)),
    ],
)
def test_two_leaves_of_one_name_are_both_named(ask):
    message = re.escape("got more than one 'a/b': ['a']['b'] and ['a/b']. A name joins the keys")
    with pytest.raises(ValueError, match=message):
        ask(TWICE)


keys = st.sampled_from(["a", "b", "value", "params", "a/b", "b/a", "0", "a.b", "~"])
trees = st.recursive(
    st.just(0.0) | st.none(),
    lambda inner: (
        st.dictionaries(keys, inner, min_size=1, max_size=4) | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)


@given(trees)
def test_names_are_unique_or_refused_and_give_each_leaf_back(params):
    params = jax.tree.unflatten(jax.tree.structure(params), range(len(jax.tree.leaves(params))))
    found = jax.tree_util.tree_leaves_with_path(params)
    joined = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in found]
    if len(set(joined)) < len(joined):
        with pytest.raises(ValueError, match="leaves of different names"):
            tree.names(params)
        return
    assert tree.names(params) == tuple(joined)
    assert tree.map_named(lambda name, _: tree.named_leaves(params)[name], params) == params


def test_names_that_cannot_be_nested():
    for names in (["a", "a/b"], ["a/b", "a"]):
        with pytest.raises(ValueError, match="got 'a' and 'a/b'"):
            tree.nested(dict.fromkeys(names, 1))


def test_merge_of_selections_keeps_none():
    params = {"a": 1.0, "none": None, "b": [2.0, None]}
    parts = labels.from_names(params, lambda name: name[0])
    selected = [labels.select(params, parts, name) for name in "ab"]
    assert jax.tree.leaves(selected) == [1.0, 2.0]
    assert labels.merge(*selected) == params
    with pytest.raises(ValueError, match="got b/0 in 0 of 1"):
        labels.merge(selected[0])


def test_real_and_complex_leaves_do_not_broadcast():
    a, b = {"k": jnp.ones((2, 2))}, {"k": jnp.ones(2, jnp.complex64)}
    for fn in (tree.dot, tree.sub, tree.add, lambda x, y: tree.lerp(x, y, 0.5)):
        with pytest.raises(ValueError, match="one shape, all real or all complex"):
            fn(a, b)


def test_the_same_numbers_of_numpy_and_jax_are_alike():
    tree.same_structure({"a": np.ones(2), "b": 1.0}, {"a": jnp.ones(2), "b": np.float32(2)})
    with pytest.raises(ValueError, match="a: float32 2 in params_a, complex64 2 in params_b"):
        tree.same_structure({"a": np.ones(2)}, {"a": np.ones(2, complex)})


def test_noise_on_complex_leaves_has_both_parts():
    drawn = paths.standard_normal(jax.random.key(0), {"k": jnp.zeros(4000, jnp.complex64)})["k"]
    assert float(tree.norm({"k": drawn})) ** 2 == pytest.approx(8000, rel=0.05)
