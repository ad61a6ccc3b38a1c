"""A traced model computes what its apply function does, and its values can be had and changed."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.models import apply_fn, make_data, make_params
from tests.helpers import tiny_models
from tlx import models
from tlx.adapters import linen as linen_adapter
from tlx.core import evaluate_path, graph, metrics, paths, streams, tree

PARAMS, INPUTS = make_params(0), jnp.asarray(make_data(6)[0])
assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def through(apply_fn):
    """The apply function computed by its graph."""

    def run(params, inputs):
        return graph.run(graph.trace(apply_fn, params, inputs), params, inputs)[0]

    return run


@jax.jit
def affine(x, w):
    return x @ w + 1


def same_call_twice(params, inputs):
    first = affine(inputs, params["a"])
    return {"both": (first, affine(first, params["b"])), "inputs": inputs}


def nested(params, inputs):
    """Calls of all kinds, a loop, a branch, constants, and several results of an operation."""
    inner = jax.checkpoint(jax.jit(lambda x: jax.nn.relu(x) + jax.nn.gelu(x)))
    x = inner(inputs @ params["a"]) + np.arange(3, dtype=np.float32)[None]
    x = jax.lax.fori_loop(0, 2, lambda i, y: y * 2 + i.astype(jnp.float32), x)
    x, _ = jax.lax.scan(lambda c, w: (c + w[None], w.sum()), x, params["b"])
    x = jax.lax.cond(x.sum() > 0, jnp.sin, jnp.cos, x)
    return jax.lax.top_k(jax.nn.logsumexp(x, axis=1, keepdims=True) + x, 2)


SQUARE = {"a": jnp.eye(3) * 0.5, "b": jnp.ones((3, 3))}


@pytest.mark.parametrize("framework", tiny_models.FRAMEWORKS)
def test_a_graph_computes_the_function_of_every_framework(framework):
    tiny = tiny_models.make(framework, 0)
    inputs = tiny_models.make_inputs(4)[0]
    got = jax.jit(through(tiny.apply_fn))(tiny.params, inputs)
    assert_close(got, tiny.apply_fn(tiny.params, inputs))


@pytest.mark.parametrize("name", ["resnet", "fixup_resnet"])
def test_a_graph_computes_a_net_with_forms_by_platform(name):
    model = models.make(name, num_classes=3, stage_sizes=(1,), stem="small", width=4)
    inputs = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: np.float32(rng.uniform(0.1, 0.5, x.shape)), shapes)
    apply_fn, params = linen_adapter.adapt(model, variables, train=False)
    assert_close(jax.jit(through(apply_fn))(params, inputs), jax.jit(apply_fn)(params, inputs))
    ops = graph.trace(apply_fn, params, inputs).ops
    assert {op.name for op in ops if op.inner is not None} == {"cond"}


@pytest.mark.parametrize("function", [same_call_twice, nested])
def test_a_graph_computes_calls(function):
    inputs = jnp.asarray(make_data(6, features=3)[0])
    jax.tree.map(assert_close, through(function)(SQUARE, inputs), function(SQUARE, inputs))


def test_a_function_that_is_called_twice_has_its_own_values_each_time():
    ops = graph.trace(same_call_twice, SQUARE, jnp.ones((2, 3))).ops
    outputs = [var for op in ops for var in op.outputs]
    assert len(set(outputs)) == len(outputs) == 4


@given(
    st.recursive(
        st.just(None),
        lambda inner: st.lists(inner, min_size=1, max_size=3) | st.tuples(inner, inner),
        max_leaves=5,
    ),
    st.integers(0, 9),
)
def test_params_in_any_pytree(shape, seed):
    rng = np.random.default_rng(seed)
    draw = lambda _: rng.standard_normal((2, 2)).astype(np.float32)  # noqa: E731
    params = jax.tree.map(draw, shape, is_leaf=lambda x: x is None)
    inputs = draw(None)

    def product(params, inputs):
        return functools.reduce(lambda x, w: jnp.tanh(x @ w), jax.tree.leaves(params), inputs)

    assert_close(through(product)(params, inputs), product(params, inputs))
    assert tuple(graph.trace(product, params, inputs).leaves) == tree.names(params)


def test_under_jit_and_vmap():
    stacked = tree.stack([make_params(i) for i in range(3)])
    got = jax.jit(jax.vmap(through(apply_fn), in_axes=(0, None)))(stacked, INPUTS)
    assert_close(got, jax.vmap(apply_fn, in_axes=(0, None))(stacked, INPUTS))


@pytest.mark.parametrize("chunk", [1, 2])
def test_in_evaluate_path(chunk):
    stream = streams.from_arrays(*make_data(7), batch_size=4)
    rest = (metrics.classification(), paths.line(PARAMS, make_params(1)), jnp.linspace(0, 1, 3))
    got = evaluate_path(through(apply_fn), *rest, stream, chunk=chunk)
    jax.tree.map(assert_close, got, evaluate_path(apply_fn, *rest, stream))


def test_the_same_graph_for_the_same_shapes():
    first = graph.trace(apply_fn, PARAMS, INPUTS)
    assert graph.trace(apply_fn, make_params(1), np.zeros_like(INPUTS)) is first
    assert graph.trace(apply_fn, *jax.eval_shape(lambda x: x, (PARAMS, INPUTS))) is first
    assert graph.trace(apply_fn, PARAMS, INPUTS[:2]) is not first
    with jax.default_matmul_precision("bfloat16"):
        assert graph.trace(apply_fn, PARAMS, INPUTS) is not first


def test_python_numbers_are_parameters_too():
    def scaled(params, inputs):
        return inputs * params["by"]

    np.testing.assert_array_equal(through(scaled)({"by": 2.0}, jnp.ones(3)), 2 * np.ones(3))


def test_hooks_change_values_and_may_set_others():
    traced = graph.trace(apply_fn, PARAMS, INPUTS)
    hidden = next(op.outputs[0] for op in traced.ops if op.name == "max")
    seen = {}

    def double(value, values):
        seen["hidden"] = value
        values[traced.leaves["head/bias"]] = jnp.zeros(3)
        return 2 * value

    out, values = graph.run(traced, PARAMS, INPUTS, hooks={hidden: double})
    expected = np.maximum(INPUTS @ PARAMS["hidden"]["kernel"], 0)
    assert_close(seen["hidden"], expected)
    assert_close(values[hidden], 2 * expected)
    assert_close(out, 2 * expected @ PARAMS["head"]["kernel"])


def test_hooks_on_leaves_and_inputs():
    traced = graph.trace(apply_fn, PARAMS, INPUTS)
    hooks = {traced.leaves["hidden/kernel"]: lambda value, _: 3 * value,
             traced.inputs[0]: lambda value, _: -value}  # fmt: skip
    tripled = tree.map_named(lambda n, x: 3 * x if n == "hidden/kernel" else x, PARAMS)
    assert_close(graph.run(traced, PARAMS, INPUTS, hooks=hooks)[0], apply_fn(tripled, -INPUTS))


def late(params, inputs):
    shift = jnp.exp(params["shift"])
    return jnp.tanh(inputs) + shift[None]


def test_an_order_in_which_a_leaf_is_read_later():
    params, inputs = {"shift": jnp.zeros(3)}, INPUTS[:, :3]
    traced = graph.trace(late, params, inputs)
    shift, value = traced.leaves["shift"], next(
        op.outputs[0] for op in traced.ops if op.name == "tanh"
    )  # fmt: skip
    order = graph.order_with(traced, {shift: value})
    assert sorted(order) == list(range(len(traced.ops)))
    names = [traced.ops[i].name for i in order]
    assert names.index("tanh") < names.index("exp")

    def set_shift(value, values):
        values[shift] = value.mean(0)
        return value

    out, _ = graph.run(traced, params, inputs, hooks={value: set_shift}, order=order)
    assert_close(out, np.tanh(inputs) + np.exp(np.tanh(inputs).mean(0)))


def test_without_wishes_the_order_can_be_done():
    traced = graph.trace(nested, SQUARE, INPUTS[:, :3])
    order = graph.order_with(traced, {})
    out, _ = graph.run(traced, SQUARE, INPUTS[:, :3], order=order)
    jax.tree.map(assert_close, out, nested(SQUARE, INPUTS[:, :3]))


def test_an_order_that_there_is_not():
    traced = graph.trace(late, {"shift": jnp.zeros(3)}, INPUTS[:, :3])
    last = traced.ops[-1]
    with pytest.raises(ValueError, match="operation 'add' depends on itself"):
        graph.order_with(traced, {last.inputs[0]: last.outputs[0]})


def test_values_that_depend_on_the_inputs():
    traced = graph.trace(late, {"shift": jnp.zeros(3)}, INPUTS[:, :3])
    found = graph.dependent(traced)
    by_name = {op.name: op.outputs[0] for op in traced.ops}
    assert by_name["tanh"] in found
    assert by_name["add"] in found
    assert by_name["exp"] not in found
    assert traced.leaves["shift"] not in found


def test_other_parameters_than_the_graphs():
    traced = graph.trace(apply_fn, PARAMS, INPUTS)
    with pytest.raises(ValueError, match=r"head/bias \(3,\), .* inputs \(6, 5\), got .*\(4, 5\)"):
        graph.run(traced, PARAMS, INPUTS[:4])
    with pytest.raises(ValueError, match="names and shapes that the graph was traced with"):
        graph.run(traced, list(jax.tree.leaves(PARAMS)), INPUTS)


def test_leaves_of_one_name():
    params = {"a": {"b": jnp.ones(3)}, "a/b": jnp.ones(3)}
    with pytest.raises(ValueError, match="leaves of different names, got more than one 'a/b'"):
        graph.trace(lambda p, x: x, params, INPUTS)
