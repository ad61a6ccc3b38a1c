"""Every form of the convolution is XLA's convolution: values and derivatives of all orders."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tlx.models import conv

# B, H, W, C, O, window, stride, padding -> form on CPU
CASES = {
    "1x1 pixel": ((3, 1, 1, 5, 7, 3, 1, 1), "_by_pixel"),
    "2x2 pixels": ((3, 2, 2, 5, 7, 3, 1, 1), "_by_pixel"),
    "2x2 to 1x1": ((2, 2, 2, 4, 6, 3, 2, 1), "_by_pixel"),
    "wide stem on a small image": ((2, 3, 5, 3, 4, 7, 2, 3), "_by_pixel"),
    "windows on padding only": ((2, 1, 2, 3, 4, 3, 2, 4), "_by_pixel"),
    "4x4 to 2x2": ((2, 4, 4, 3, 5, 3, 2, 1), "_by_pixel"),
    "3x5 to 1x2": ((2, 3, 5, 3, 5, 3, 2, 0), "_by_pixel"),
    "shortcut": ((2, 8, 6, 3, 4, 1, 2, 0), "_pointwise"),
    "bottleneck": ((2, 5, 5, 6, 4, 1, 1, 0), "_pointwise"),
    "8 to 8": ((2, 9, 16, 8, 8, 3, 1, 1), "_widened"),
    "3 to 3, odd width": ((2, 5, 19, 3, 3, 3, 1, 1), "_widened"),
    "1 to 8, no padding": ((2, 6, 23, 1, 8, 5, 1, 0), "_widened"),
    "3 to 20": ((2, 4, 17, 3, 20, 3, 1, 1), "_widened"),
    "20 to 4": ((2, 4, 17, 20, 4, 3, 1, 2), "_widened"),
    "plain": ((2, 7, 7, 9, 17, 3, 1, 1), "_plain"),
    "plain, strided": ((2, 16, 16, 8, 16, 3, 2, 1), "_plain"),
}


def make(case, dtype=jnp.float32):
    batch, height, width, channels, features, size, stride, padding = case
    rng = np.random.default_rng(0)
    x_shape, kernel_shape = (batch, height, width, channels), (size, size, channels, features)
    arrays = [
        jax.device_put(rng.standard_normal(shape).astype(dtype))
        for shape in [x_shape, kernel_shape] * 2
    ]

    def ours(x, kernel):
        return conv.conv2d(x, kernel, stride=stride, padding=padding)

    def xla(x, kernel):
        pads = [(padding, padding)] * 2
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), pads, dimension_numbers=numbers
        )

    return ours, xla, tuple(arrays[:2]), tuple(arrays[2:])


def close(found, expected, rtol=1e-5):
    """Each array to `rtol` of its largest entry."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=rtol * max(np.abs(b).max(), 1e-3))


def derivatives(f):
    """Value and gradients, the directional derivative, and forward over reverse."""

    def all_of(args, tangents):
        y, vjp = jax.vjp(f, *args)
        grad = jax.grad(lambda args: jnp.sum(jnp.sin(f(*args))))
        first = y, vjp(jnp.cos(y)), jax.jvp(f, args, tangents)[1]
        return first, jax.jvp(grad, (args,), (tangents,))[1]

    return all_of


def reverse_over_forward(f):
    def value(args, tangents):
        return jnp.sum(jnp.sin(jax.jvp(f, args, tangents)[1]))

    return jax.grad(value, argnums=(0, 1))


@pytest.mark.parametrize(("case", "form"), CASES.values(), ids=CASES)
def test_form(case, form):
    batch, height, width, channels, features, size, stride, padding = case
    shapes = (batch, height, width, channels), (size, size, channels, features)
    assert conv.cpu_form(*shapes, stride=stride, padding=padding).__name__ == form


@pytest.mark.parametrize("case", [c for c, _ in CASES.values()], ids=CASES)
def test_values_and_derivatives(case):
    ours, xla, args, tangents = make(case)
    both = jax.jit(lambda *given: [derivatives(f)(*given) for f in (ours, xla)])
    found, expected = both(args, tangents)
    close(found[0], expected[0])
    close(found[1], expected[1], 1e-4)


@pytest.mark.parametrize("name", ["2x2 pixels", "4x4 to 2x2", "shortcut", "8 to 8", "plain"])
def test_bfloat16(name):
    ours, xla, args, _ = make(CASES[name][0], jnp.bfloat16)

    def gradients(f):
        return jax.jit(lambda args: jax.vjp(f, *args)[1](jnp.cos(xla(*args))))(args)

    close(ours(*args), xla(*args), 2e-2)
    close(gradients(ours), gradients(xla), 2e-2)


@pytest.mark.parametrize("name", ["2x2 pixels", "4x4 to 2x2", "8 to 8", "plain"])
def test_transformations(name):
    ours, xla, (x, kernel), tangents = make(CASES[name][0])

    @jax.jit
    def found_and_expected(x, kernel, tangents):
        kernels, xs = jnp.stack([kernel, tangents[1]]), jnp.stack([x, tangents[0]])
        of_kernels = jnp.stack([xla(x, k) for k in kernels])
        pairs = [
            (jax.vmap(ours, (None, 0))(x, kernels), of_kernels),
            (lax.map(lambda k: ours(x, k), kernels), of_kernels),
            (jax.vmap(ours, (0, None))(xs, kernel), jnp.stack([xla(v, kernel) for v in xs])),
        ]
        return pairs, [reverse_over_forward(f)((x, kernel), tangents) for f in (ours, xla)]

    pairs, both = found_and_expected(x, kernel, tangents)
    close(ours(x, kernel), pairs[0][1][0])  # outside jit
    for pair in pairs:
        close(*pair)
    close(*both, 1e-4)


def test_vmap_of_gradients_over_kernels():
    ours, xla, (x, kernel), tangents = make(CASES["8 to 8"][0])
    kernels = jnp.stack([kernel, tangents[1]])

    def grads(f):
        return jax.vmap(jax.grad(lambda k: jnp.sum(jnp.sin(f(x, k)))))(kernels)

    close(*jax.jit(lambda: (grads(ours), grads(xla)))(), 1e-4)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_get_the_plain_convolution(platform):
    for case, _ in CASES.values():
        ours, _, args, _ = make(case)
        text = jax.jit(ours).trace(*args).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == 1
        assert "dot_general" not in text
        assert "optimization_barrier" not in text


def test_empty_batch_and_empty_output():
    kernel = jnp.ones((3, 3, 2, 4))
    assert conv.conv2d(jnp.ones((0, 2, 2, 2)), kernel, padding=1).shape == (0, 2, 2, 4)
    assert conv.conv2d(jnp.ones((2, 2, 2, 2)), kernel).shape == (2, 0, 0, 4)


@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (7, 8)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_max_pool(sides, dtype):
    # Few values, so that many windows hold their maximum more than once.
    draws = np.random.default_rng(1).integers(-2, 3, (3, *sides, 2))
    x = jax.device_put(draws.astype(jnp.dtype(dtype)))

    def window(x):
        low = np.array(-np.inf, x.dtype)
        pads = ((0, 0), (1, 1), (1, 1), (0, 0))
        return lax.reduce_window(x, low, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)

    y = conv.max_pool(x)
    np.testing.assert_array_equal(y.astype(jnp.float32), window(x).astype(jnp.float32))
    ct = np.arange(y.size).reshape(y.shape).astype(y.dtype)
    both = jax.jit(lambda x: [jax.vjp(f, x)[1](ct)[0] for f in (conv.max_pool, window)])
    found, expected = both(x)
    np.testing.assert_allclose(
        found.astype(jnp.float32), expected.astype(jnp.float32), rtol=1e-2 if "b" in dtype else 1e-6
    )


def test_max_pool_keeps_nan():
    for row, column in itertools.product(range(4), range(4)):
        x = np.zeros((1, 4, 4, 1), np.float32)
        x[0, row, column, 0] = np.nan
        windows = {(i, j) for i in range(2) for j in range(2)}
        hit = {(i, j) for i, j in windows if abs(2 * i - row) <= 1 and abs(2 * j - column) <= 1}
        found = np.isnan(conv.max_pool(x)[0, :, :, 0])
        assert {(i, j) for i, j in windows if found[i, j]} == hit
