"""Which leaves are taken for batch statistics, and which never."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.core import batch_statistics

C = 4
LEAVES = {
    "kernel": jnp.ones((3, C)),
    "mean": jnp.zeros(C),
    "var": jnp.ones(C),
    "scale": jnp.ones(C),
    "bias": jnp.zeros(C),
    "count": jnp.float32(3.0),
}
INPUTS = jnp.ones((2, 3))


def net(form):
    """A layer and a form of normalisation, which gets the leaves it names as [1, C]."""
    names = list(inspect.signature(form).parameters)[1:]

    def apply_fn(params, inputs):
        return form(inputs @ params["kernel"], *(params[name].reshape(1, -1) for name in names))

    return apply_fn


def plain(x, mean, var, scale, bias):
    return (x - mean) * (scale * jax.lax.rsqrt(var + 1e-5)) + bias


def by_root(x, mean, var):
    return (x - mean) / jnp.sqrt(var + 1e-5)


def scale_first(x, mean, var, scale, bias):
    return scale * (x - mean) / jnp.sqrt(var + 1e-5) + bias


def clipped(x, mean, var):
    return (x - mean) * jax.lax.rsqrt(jnp.maximum(var, 1e-3))


def by_power(x, mean, var, bias):
    return (x - mean) * (var + 1e-3) ** -0.5 + bias


def inverse(x, mean, var, scale):
    return (x - mean) * (1 / jnp.sqrt(1e-3 + var)) * scale


def fused(x, mean, var, scale, bias):
    s = scale * jax.lax.rsqrt(var + 1e-5)
    return x * s + (bias - mean * s)


def fused_negative(x, mean, var, scale, bias):
    inv = jax.lax.rsqrt(var + 1e-3) * scale
    return x * inv + (-mean * inv + bias)


def fused_apart(x, mean, var, scale, bias):
    inv = jax.lax.rsqrt(var + 1e-3)
    return x * inv * scale - mean * scale * inv + bias


def fused_bare(x, mean, var):
    inv = jax.lax.rsqrt(var + 1e-3)
    return x * inv - mean * inv


def corrected(x, mean, var):
    return (x - mean / 0.25) / jnp.sqrt(0.5 * var + 1e-3)


def repeated(x, mean, var):
    inv = jax.lax.rsqrt(var + 1e-5)
    return (x - mean) * inv + (x - mean) * inv


def mixed_precision(x, mean, var, scale, bias):
    wide = x.astype(jnp.bfloat16).astype(jnp.float32)
    return plain(wide, mean, var, scale, bias).astype(jnp.bfloat16)


FORMS = [plain, by_root, scale_first, clipped, by_power, inverse, fused, fused_negative,
         fused_apart, fused_bare, corrected, repeated, mixed_precision]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_forms_of_batch_norm(form):
    (norm,) = batch_statistics.find(net(form), LEAVES, INPUTS)
    assert (norm.mean, norm.var) == ("mean", "var")
    assert norm.site.channels == (1,)
    assert norm.factors == ((4.0, 0.5) if form is corrected else (1.0, 1.0))


UNIT = [form for form in FORMS if form not in (mixed_precision, repeated)]


@pytest.mark.parametrize("form", UNIT, ids=lambda f: f.__name__)
def test_reestimated_statistics_normalise(form):
    """Centred and of variance 1 before scale and bias, whatever the form."""
    rng = np.random.default_rng(0)
    inputs = (3 + 2 * rng.standard_normal((50, 3))).astype(np.float32)
    params = LEAVES | {"kernel": jnp.asarray(rng.standard_normal((3, C)), jnp.float32)}
    apply_fn = net(form)
    new = batch_statistics.reestimate(apply_fn, params, lambda: iter([{"inputs": inputs}]))
    out = np.asarray(apply_fn(new, inputs))
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0), 1, rtol=2e-3)


def offset(x, bias):
    return x - bias


def offset_and_scale(x, bias, scale):
    return (x - bias) * scale


def layer_norm(x, scale, bias):
    return (x - x.mean(1, keepdims=True)) * jax.lax.rsqrt(
        x.var(1, keepdims=True) + 1
    ) * scale + bias


def offset_layer_norm(x, mean, var):
    return layer_norm(x - mean, var, mean)


def rms_norm(x, scale):
    return x * jax.lax.rsqrt((x * x).mean(1, keepdims=True)) * scale


def squares(x, mean, var):
    powers = (x - mean) * var**2 + x * var**2.0 + (x - mean) * 2.0**var
    return powers + (x - mean) * jnp.square(jnp.sqrt(var)) + x * jnp.sqrt(var) ** 2


def weight_norm(x, mean, var, scale):
    return (x - mean) * (scale / jnp.sqrt((var * var).sum()))


@pytest.mark.parametrize(
    "form",
    [offset, offset_and_scale, layer_norm, offset_layer_norm, rms_norm, squares, weight_norm],
    ids=lambda f: f.__name__,
)
def test_what_is_no_batch_norm(form):
    assert batch_statistics.find(net(form), LEAVES, INPUTS) == ()


def no_mean(x, var):
    return x * jax.lax.rsqrt(var + 1e-3)


def log_variance(x, mean, var):
    return (x - mean) * jax.lax.rsqrt(jnp.exp(var))


def two_leaves(x, mean, var, count):
    return (x - mean) * jax.lax.rsqrt(var / (1 - 0.9**count) + 1e-3)


def negative_mean(x, mean, var):
    return (x + -mean) * jax.lax.rsqrt(var + 1e-3)


def gated(x, mean, var):
    return (x - mean) * (jax.nn.sigmoid(x) * jax.lax.rsqrt(var + 1e-3))


def wrong_mean(x, mean, var, scale, bias):
    s = jax.lax.rsqrt(var + 1e-3)
    return x * s + (bias - mean * scale)


def two_roots(x, mean, var, scale, bias):
    return x * jax.lax.rsqrt(var + 1e-3) + (bias - mean * jax.lax.rsqrt(scale))


def two_means(x, mean, var, bias):
    s = jax.lax.rsqrt(var + 1e-3)
    return x * s - (mean + bias) * s


def one_mean(x, count, var):
    return (x - count) * jax.lax.rsqrt(var + 1e-3)


def folded(x, mean, var):
    kernel = jnp.eye(C) * jax.lax.rsqrt(var + 1e-3)
    return x @ kernel - mean


def in_scan(x, mean, var):
    def body(carry, _):
        return (carry - mean) * jax.lax.rsqrt(var + 1e-3), None

    return jax.lax.scan(body, x, None, length=2)[0]


def in_branch(x, mean, var):
    inv = jax.lax.rsqrt(var + 1e-3)
    return jax.lax.cond(x.sum() > 0, lambda: (x - mean) * inv, lambda: x)


@pytest.mark.parametrize(
    "form",
    [no_mean, log_variance, two_leaves, negative_mean, gated, wrong_mean, two_roots,
     two_means, one_mean,
     folded, in_scan, in_branch],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_roots_without_a_mean_do_not_go_unnoticed(form):
    with pytest.raises(ValueError, match=r"a root of (mean, )?var(, \w+)? to scale activations"):
        batch_statistics.find(net(form), LEAVES, INPUTS)


def test_layers_over_an_axis_of_stacked_leaves():
    def apply_fn(params, inputs):
        def body(x, leaves):
            mean, var = leaves
            return (x - mean[None]) / jnp.sqrt(var[None] + 1e-3), None

        return jax.lax.scan(body, inputs, (params["mean"], params["var"]))[0]

    params = {"mean": jnp.zeros((2, 3)), "var": jnp.ones((2, 3))}
    with pytest.raises(ValueError, match="a root of var to scale activations"):
        batch_statistics.find(apply_fn, params, INPUTS)


def test_a_layer_used_twice():
    def apply_fn(params, inputs):
        x = plain(inputs, params["mean"][None], params["var"][None], 1.0, 0.0)
        return plain(jax.nn.relu(x), params["mean"][None], params["var"][None], 1.0, 0.0)

    params = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    assert len(batch_statistics.find(apply_fn, params, INPUTS)) == 2
    with pytest.raises(ValueError, match="got mean, var shared by several layers"):
        batch_statistics.reestimate(apply_fn, params, lambda: iter([{"inputs": INPUTS}]))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("keep", [False, True])
def test_channels_on_any_axis(channels, keep):
    shape = [1, 1, 1, 1]
    shape[channels] = 6
    value = jnp.ones([2, 6, 6, 6])

    def apply_fn(params, inputs):
        mean, var = (params[name].reshape(shape) for name in ("mean", "var"))
        return (inputs - mean) / jnp.sqrt(var + 1e-3)

    leaf = jnp.ones(shape if keep else 6)
    (norm,) = batch_statistics.find(apply_fn, {"mean": leaf, "var": jnp.ones(6)}, value)
    assert norm.site.channels == (channels,)
    assert norm.site.shape == leaf.shape
