"""Singular values of layers against explicit matrices in float64, and what they amount to."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import tiny_models
from tlx import models
from tlx.adapters import linen
from tlx.analyses.parameters import spectra
from tlx.core import tree

FILTER = np.array([[2.0, 7, -1], [1, 3, -8], [5, -3, 1]])[:, :, None, None]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def singular_values(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


def matrix_of(kernel, size, *, circular=False, strides=1, padding=0, dilation=1, groups=1):
    """The matrix [outputs, inputs] of a convolution, entry by entry; padding per axis or one."""
    *taps, inputs, outputs = kernel.shape
    pads = np.broadcast_to(padding, (len(size), 2))
    out = [
        n if circular else (n + low + high - dilation * (t - 1) - 1) // strides + 1
        for n, t, (low, high) in zip(size, taps, pads, strict=True)
    ]
    matrix = np.zeros((*out, outputs, *size, inputs * groups))
    for at, tap in itertools.product(np.ndindex(*out), np.ndindex(*taps)):
        read = np.array(at) * strides + np.array(tap) * dilation - pads[:, 0]
        if circular:
            read = read % size
        if (read < 0).any() or (read >= size).any():
            continue
        for o in range(outputs):
            first = o // (outputs // groups) * inputs
            matrix[(*at, o, *read, slice(first, first + inputs))] += kernel[(*tap, slice(None), o)]
    return matrix.reshape(np.prod(out) * outputs, -1)


# --- dense, reshaped, circular


def test_dense_and_reshaped_are_those_of_the_matrix():
    kernel = normal(5, 3)
    np.testing.assert_allclose(spectra.dense(kernel), singular_values(kernel), rtol=1e-12)
    conv = normal(3, 2, 4, 5)
    expected = singular_values(conv.reshape(24, 5))
    np.testing.assert_allclose(spectra.reshaped(conv), expected, rtol=1e-12)


def test_circular_filter_with_known_values():
    got = spectra.circular(FILTER, (20, 20))
    top = [22.91221348, 22.91221348, 22.73452631, 22.73452631, 22.59309063]
    np.testing.assert_allclose(got[:5], top, rtol=1e-9)
    np.testing.assert_allclose(got[-1], 0.154841, rtol=1e-5)
    np.testing.assert_allclose(np.sum(got**2), 65200, rtol=1e-12)


@pytest.mark.parametrize(
    ("taps", "size", "channels", "options"),
    [
        ((3, 3), (4, 4), (2, 3), {}),
        ((3, 3), (5, 4), (3, 2), {}),
        ((2, 4), (5, 5), (2, 2), {}),
        ((3, 1), (4, 5), (2, 3), {}),
        ((1, 1), (3, 2), (4, 3), {}),
        ((5, 3), (3, 2), (2, 3), {}),  # around the map
        ((3, 3), (5, 6), (2, 2), {"dilation": 2}),
        ((3, 3), (4, 4), (2, 6), {"groups": 3}),
        ((3, 3), (1, 1), (2, 3), {}),
        ((3,), (7,), (2, 3), {}),
        ((2, 3, 1), (3, 4, 2), (2, 2), {}),
    ],
)
def test_circular_is_the_circulant_matrix(taps, size, channels, options):
    kernel = normal(*taps, *channels)
    got = spectra.circular(kernel, size, **options)
    expected = singular_values(matrix_of(kernel, size, circular=True, **options))
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 99),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    scale=st.sampled_from([-1e-20, 0.5, 1e15]),
)
def test_circular_laws(seed, size, channels, scale):
    kernel = normal(3, 3, *channels, seed=seed)
    got = spectra.circular(kernel, size)
    assert got.shape == (min(channels) * size[0] * size[1],)
    assert (np.diff(got) <= 0).all()
    np.testing.assert_allclose(np.sum(got**2), size[0] * size[1] * np.sum(kernel**2), rtol=1e-12)
    turns = [np.linalg.qr(normal(n, n))[0] for n in channels]
    for other, factor, shape in (
        (scale * kernel, abs(scale), size),
        (kernel.swapaxes(2, 3)[::-1, ::-1], 1, size),  # the transpose
        (kernel.swapaxes(0, 1), 1, size[::-1]),
        (turns[0] @ kernel @ turns[1], 1, size),
    ):
        np.testing.assert_allclose(
            spectra.circular(other, shape), factor * got, rtol=1e-9, atol=1e-12 * factor * got[0]
        )
    # no gain is above the sum over the taps
    assert got[0] <= sum(singular_values(tap)[0] for tap in kernel.reshape(9, *channels)) + 1e-12


def test_circular_pointwise_kernel_repeats_the_dense_values():
    kernel = normal(4, 3)
    got = spectra.circular(kernel[None, None], (6, 5))
    np.testing.assert_allclose(got, np.repeat(spectra.dense(kernel), 30), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_kernels_that_are_not_finite(bad):
    kernel = normal(3, 3, 2, 3)
    kernel[0, 1, 1, 0] = bad
    for got, number in (
        (spectra.dense(kernel[0, 1]), 2),
        (spectra.reshaped(kernel), 3),
        (spectra.circular(kernel, (4, 4)), 32),
        (spectra.operator(kernel, (4, 4), num_values=5).values, 5),
    ):
        np.testing.assert_array_equal(got, np.full(number, np.nan))


# --- operator

CASES = {
    "SAME": ((3, 3), (5, 6), (2, 3), {"padding": "SAME"}, {"padding": 1}),
    "VALID": ((3, 2), (6, 5), (3, 2), {"padding": "VALID"}, {"padding": 0}),
    "pads": ((3, 3), (4, 5), (2, 2), {"padding": [(2, 0), (1, 3)]}, {"padding": [(2, 0), (1, 3)]}),
    "stride": ((3, 3), (6, 6), (2, 3), {"strides": 2, "padding": [(1, 1)] * 2},
               {"strides": 2, "padding": 1}),
    "groups": ((3, 3), (5, 5), (2, 6), {"groups": 3}, {"groups": 3, "padding": 1}),
    "dilation": ((3, 3), (6, 6), (2, 2), {"dilation": 2}, {"dilation": 2, "padding": 2}),
    "one axis": ((3,), (9,), (3, 2), {}, {"padding": 1}),
    "pixels": ((1, 1), (6, 6), (3, 4), {}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_values", [3, 10_000])
def test_operator_is_the_explicit_matrix(case, num_values):
    taps, size, channels, options, explicit = CASES[case]
    kernel = normal(*taps, *channels)
    matrix = matrix_of(kernel, size, **explicit)
    expected = singular_values(matrix)[:num_values]
    got = spectra.operator(kernel, size, num_values=num_values, **options)
    np.testing.assert_allclose(got.values, expected, rtol=1e-5, atol=3e-6 * expected[0])
    assert (abs(got.values - expected) <= got.residuals + 2e-6 * expected[0]).all()
    assert got.residuals[0] <= 2e-5 * expected[0]
    np.testing.assert_allclose(got.frobenius_norm, np.linalg.norm(matrix), rtol=1e-12)
    assert got.num_values == min(matrix.shape)


def test_operator_of_few_blocks_is_bound_by_its_residuals(monkeypatch):
    kernel = normal(3, 3, 2, 3)
    expected = singular_values(matrix_of(kernel, (7, 7), padding=1))[:4]
    monkeypatch.setattr(spectra._conv_operator, "STEPS", 2)
    got = spectra.operator(kernel, (7, 7), num_values=4)
    errors = abs(got.values - expected)
    assert errors.max() > 1e-3 * expected[0]  # it has not converged, and says so
    assert (errors <= got.residuals).all()
    assert (got.values <= expected * (1 + 1e-5)).all()


def test_operator_of_zeros_and_of_low_rank():
    got = spectra.operator(np.zeros((3, 3, 2, 2)), (5, 5), num_values=3)
    np.testing.assert_array_equal(got.values, 0)
    np.testing.assert_array_equal(got.residuals, 0)
    kernel = normal(1, 1, 4, 1) * normal(1, 1, 1, 5)
    got = spectra.operator(kernel, (3, 3), num_values=12)
    expected = singular_values(matrix_of(kernel, (3, 3)))[:12]
    np.testing.assert_allclose(got.values, expected, rtol=1e-5, atol=1e-5 * expected[0])


@pytest.mark.parametrize("stride", [1, 2])
def test_operator_is_at_most_the_circular_spectrum_of_a_larger_map(stride):
    kernel = normal(3, 3, 3, 4)
    got = spectra.operator(kernel, (8, 8), strides=stride, num_values=1)
    # zero padding to 10 and stride only cut rows and columns of the circulant matrix
    assert got.values[0] <= spectra.circular(kernel, (10, 10))[0] * (1 + 1e-6)


# --- summaries


def test_summary_is_the_formulas():
    values = np.array([4.0, 2.0, 2.0, 1.0])
    for got in (spectra.summary(values), spectra.summary([2.0, 1.0, 4.0], np.array([2, 1, 1]))):
        share = values / 9
        assert got.num_values == 4
        np.testing.assert_allclose(
            got[:7],
            [4, 5, 9, 1, 4, 25 / 16, np.exp(-np.sum(share * np.log(share)))],
            rtol=1e-12,
        )
        assert np.isnan(got.alpha)  # fewer than ten values
        assert got.num_tail == 0


@given(seed=st.integers(0, 99), number=st.integers(1, 40), scale=st.sampled_from([1e-9, 1e9]))
def test_summary_laws(seed, number, scale):
    values = abs(normal(number, seed=seed)) + 0.1
    got = spectra.summary(values)
    assert 1 - 1e-12 <= got.stable_rank <= got.effective_rank * (1 + 1e-12)
    assert got.effective_rank <= number * (1 + 1e-12)
    assert got.spectral_norm <= got.frobenius_norm * (1 + 1e-12)
    assert got.frobenius_norm <= got.nuclear_norm * (1 + 1e-12)
    scaled = spectra.summary(scale * values)
    np.testing.assert_allclose(scaled[:4], scale * np.array(got[:4]), rtol=1e-12)
    np.testing.assert_allclose(scaled[4:10], got[4:10], rtol=1e-9)
    equal = spectra.summary(np.full(number, 3.0))
    np.testing.assert_allclose((equal.stable_rank, equal.effective_rank), number, rtol=1e-12)
    assert equal.condition == 1
    assert np.isnan(equal.alpha)  # no power law has equal values


def test_summary_of_zeros_nothing_and_not_a_number():
    zero = spectra.summary(np.zeros(3))
    assert zero[:4] == (0, 0, 0, 0)
    assert np.isnan(zero[4:7]).all()
    assert zero.num_values == 3
    singular = spectra.summary(np.array([2.0, 0.0]))
    assert singular.condition == np.inf
    assert singular.stable_rank == singular.effective_rank == 1
    for values, number in (([], 0), ([1.0, np.nan], 2)):
        got = spectra.summary(np.array(values))
        assert np.isnan(got[:7]).all()
        assert np.isnan(got.alpha)
        assert got.num_values == number


@pytest.mark.parametrize("alpha", [1.8, 2.5, 4.0])
def test_power_law_of_a_known_law(alpha):
    start, errors = 3.0, []
    for seed in range(20):
        uniform = np.random.default_rng(seed).random(2000)
        squares = start * (1 - uniform) ** (-1 / (alpha - 1))
        got = spectra.summary(np.sqrt(squares))
        np.testing.assert_allclose(got.alpha_error, (got.alpha - 1) / np.sqrt(got.num_tail))
        errors.append((got.alpha - alpha) / got.alpha_error)
        assert got.tail_distance < 0.05
        assert got.num_tail == (squares >= got.tail_start * (1 - 1e-9)).sum()
    # the choice of the start, by the distance, spreads the errors a little
    assert np.mean(np.abs(errors) < 3) >= 0.9
    assert abs(np.mean(errors)) < 1


def test_power_law_begins_where_the_tail_does():
    rng = np.random.default_rng(0)
    body, tail = 5 * rng.random(3000), 5 * (1 - rng.random(3000)) ** (-1 / 1.5)
    got = spectra.summary(np.sqrt(np.concatenate([body, tail])))
    assert 4 < got.tail_start < 7
    assert abs(got.alpha - 2.5) < 3 * got.alpha_error


def test_power_law_is_the_formula_over_all_starts():
    squares = np.sort(np.exp(normal(40)))
    best = (np.inf,)
    for i in range(31):
        tail = squares[i:]
        alpha = 1 + len(tail) / np.log(tail / tail[0]).sum()
        law = 1 - (tail / tail[0]) ** (1 - alpha)
        below = np.array([(tail < x).mean() for x in tail])
        upto = np.array([(tail <= x).mean() for x in tail])
        best = min(best, (max(abs(law - below).max(), abs(law - upto).max()), alpha, tail[0]))
    got = spectra.summary(np.sqrt(np.concatenate([squares, np.zeros(5)])))
    np.testing.assert_allclose((got.tail_distance, got.alpha, got.tail_start), best, rtol=1e-9)
    again = spectra.summary(np.sqrt(squares), np.full(40, 7))
    assert (again.alpha, again.num_tail) == (got.alpha, got.num_tail)


# --- of parameters and of models


def params_of_convs():
    return {
        "a": {"kernel": jnp.float32(normal(3, 3, 2, 4)), "bias": jnp.zeros(4)},
        "b": {"kernel": jnp.float32(normal(1, 1, 4, 3)), "scale": jnp.ones((1, 1, 1, 3))},
        "head": {"kernel": jnp.float32(normal(3, 5)), "steps": jnp.ones((2, 2), int)},
    }  # fmt: skip


def test_by_layer_tells_layers_by_their_axes():
    params = params_of_convs() | {"odd": jnp.ones((2,) * 6)}
    got = spectra.by_layer(params)
    assert got.layers == ("a/kernel", "b/kernel", "head/kernel")
    assert got.kind == "reshaped"
    assert got.passed_over == ("odd",)
    np.testing.assert_array_equal(got.is_conv, [True, True, False])
    leaves = tree.named_leaves(params)
    for i, name in enumerate(got.layers):
        expected = singular_values(np.float64(leaves[name]).reshape(-1, leaves[name].shape[-1]))
        np.testing.assert_allclose(got.values[name], expected, rtol=1e-10)
        np.testing.assert_array_equal(got.multiplicities[name], 1)
        np.testing.assert_allclose(got.summaries.spectral_norm[i], expected[0], rtol=1e-10)
    assert got.residuals == {}
    assert got.summaries.num_values.dtype == np.int64
    assert spectra.by_layer({}).summaries.alpha.shape == (0,)


def test_by_layer_with_sizes_is_circular():
    params = params_of_convs()
    got = spectra.by_layer(params, sizes={"a/kernel": (5, 6), "b/kernel": (5, 6)})
    assert got.kind == "circular"
    for i, (name, size) in enumerate({"a/kernel": (5, 6), "b/kernel": (5, 6)}.items()):
        expected = spectra.circular(tree.named_leaves(params)[name], size)
        whole = np.repeat(got.values[name], got.multiplicities[name])
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_allclose(got.summaries.frobenius_norm[i], np.linalg.norm(expected))
        assert got.summaries.num_values[i] == len(expected)
    assert len(got.values["b/kernel"]) == 3


def test_by_layer_reads_other_layouts():
    kernels = {name: x for name, x in tree.named_leaves(params_of_convs()).items() if x.ndim > 1}
    turned = {name: x.T.swapaxes(2, 3) if x.ndim == 4 else x.T for name, x in kernels.items()}
    sizes = {"a/kernel": (4, 5), "b/kernel": (4, 5)}
    one = spectra.by_layer(kernels, sizes=sizes)
    other = spectra.by_layer(turned, sizes=sizes, layout="OIHW")
    assert one.layers == other.layers
    for name in one.layers:
        np.testing.assert_allclose(other.values[name], one.values[name], rtol=1e-9)


def small_net(name):
    module = models.make(
        name, num_classes=3, width=4, stage_sizes=(1, 1), stem="small", head_init="uniform"
    )
    inputs = jnp.zeros((1, 8, 8, 1))
    shapes = jax.eval_shape(module.init, jax.random.key(0), inputs)
    params = jax.tree.map(lambda x: jnp.float32(normal(*x.shape, seed=x.size)), dict(shapes))
    apply_fn, params = linen.adapt(module, params)
    return apply_fn, params, inputs


@pytest.mark.parametrize("name", ["resnet", "fixup_resnet"])
def test_layers_of_our_models(name):
    apply_fn, params, inputs = small_net(name)
    found = spectra.layers(apply_fn, params, inputs)
    kernels = {k for k, x in tree.named_leaves(params).items() if x.ndim > 1}
    assert set(found) == kernels
    one, two = ((8, 8), (1, 1)), ((8, 8), (2, 2))
    geometry = {k.removeprefix("params/"): (x.size, x.strides) for k, x in found.items()}
    assert geometry["stem/conv/kernel"] == one
    assert geometry["stage1_block1/conv2/kernel"] == one
    assert geometry["stage2_block1/conv1/kernel"] == two
    assert geometry["stage2_block1/conv2/kernel"] == ((4, 4), (1, 1))
    assert geometry["stage2_block1/downsample/kernel"] == two
    assert geometry["head/kernel"] == ((), ())
    conv = found["params/stage2_block1/conv1/kernel"]
    assert (conv.padding, conv.groups, conv.dilation) == (((1, 1), (1, 1)), 1, (1, 1))


def test_of_model_is_each_layer_by_itself():
    apply_fn, params, inputs = small_net("fixup_resnet")
    found, leaves = spectra.layers(apply_fn, params, inputs), tree.named_leaves(params)
    got = {kind: spectra.of_model(apply_fn, params, inputs, kind=kind, num_values=2)
           for kind in ("circular", "reshaped", "operator")}  # fmt: skip
    for kind, each in got.items():
        assert (each.kind, each.layers, each.passed_over) == (kind, tuple(found), ())
    for i, (name, layer) in enumerate(found.items()):
        kernel, values = leaves[name], {kind: each.values[name] for kind, each in got.items()}
        if layer.kind == "dense":
            for each in values.values():
                np.testing.assert_array_equal(each, spectra.dense(kernel))
            continue
        np.testing.assert_array_equal(values["reshaped"], spectra.reshaped(kernel))
        whole = np.repeat(values["circular"], got["circular"].multiplicities[name])
        np.testing.assert_array_equal(whole, spectra.circular(kernel, layer.size))
        stride, pad = layer.strides[0], layer.padding[0][0]
        matrix = matrix_of(np.float64(kernel), layer.size, strides=stride, padding=pad)
        expected = singular_values(matrix)
        np.testing.assert_allclose(values["operator"], expected[:2], rtol=1e-5)
        assert (got["operator"].residuals[name] < 2e-5 * expected[0]).all()
        summaries = got["operator"].summaries
        stable = np.sum(expected**2) / expected[0] ** 2
        np.testing.assert_allclose(summaries.stable_rank[i], stable, rtol=1e-5)
        assert summaries.num_values[i] == len(expected)
        assert np.isnan(summaries.nuclear_norm[i])


@pytest.mark.parametrize("framework", tiny_models.FRAMEWORKS)
def test_of_model_of_every_framework(framework):
    tiny = tiny_models.make(framework, 0)
    got = spectra.of_model(tiny.apply_fn, tiny.params, tiny_models.make_inputs(4)[0])
    assert got.layers == (tiny.roles["hidden/kernel"], tiny.roles["head/kernel"])
    for name in got.layers:
        expected = singular_values(np.float64(tree.named_leaves(tiny.params)[name]))
        np.testing.assert_allclose(got.values[name], expected, rtol=1e-10)


def odd_uses(params, inputs):
    """Kernels in other layouts, cast and reshaped, and leaves that are used as none."""
    x = jax.lax.conv_general_dilated(
        inputs, params["oihw"], (2, 1), [(1, 2), (0, 0)], rhs_dilation=(1, 2),
        dimension_numbers=("NHWC", "OIHW", "NHWC"), feature_group_count=2,
    )  # fmt: skip
    pixel = params["pixel"].astype(jnp.bfloat16).T[None, None]
    dims = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(
        x.astype(jnp.bfloat16), pixel, (1, 1), "SAME", dimension_numbers=dims
    )
    x = x.astype(jnp.float32).mean((1, 2))
    heads = jnp.einsum("bd,dhk->bhk", x, params["heads"])
    out = jnp.einsum("bhk,hkd->bd", heads, params["out"])
    return (
        out @ (params["low"] @ params["rank"]) @ (2 * params["scaled"]) + params["table"][0][None]
    )


def test_layers_that_are_moved_cast_or_none():
    shapes = {
        "oihw": (4, 1, 3, 2), "pixel": (6, 4), "heads": (6, 2, 3), "out": (2, 3, 5),
        "low": (5, 2), "rank": (2, 5), "scaled": (5, 4), "table": (7, 4),
    }  # fmt: skip
    params = {name: jnp.float32(normal(*shape)) for name, shape in shapes.items()}
    inputs = jax.ShapeDtypeStruct((2, 6, 7, 2), jnp.float32)
    found = spectra.layers(odd_uses, params, inputs)
    assert list(found) == ["oihw", "pixel", "heads", "out"]
    assert found["oihw"] == spectra.Layer(
        "conv", (2, 3, 1, 0), (3, 2, 1, 4), (6, 7), (2, 1), ((1, 2), (0, 0)), (1, 2), 2
    )
    assert found["pixel"].shape == (1, 1, 4, 6)
    np.testing.assert_allclose(
        found["pixel"].kernel(params["pixel"])[0, 0], np.float64(params["pixel"]).T
    )
    assert found["heads"].shape == (6, 6)
    assert found["out"].shape == (6, 5)
    got = spectra.of_model(odd_uses, params, inputs)
    assert got.passed_over == ("low", "rank", "scaled", "table")
    expected = singular_values(np.float64(params["out"]).reshape(6, 5))
    np.testing.assert_allclose(got.values["out"], expected, rtol=1e-10)
    top = spectra.of_model(odd_uses, params, inputs, kind="operator", num_values=1)
    kernel = np.transpose(params["oihw"], (2, 3, 1, 0))
    expected = spectra.operator(
        kernel, (6, 7), strides=(2, 1), padding=[(1, 2), (0, 0)], dilation=(1, 2), groups=2
    )
    np.testing.assert_allclose(top.values["oihw"], expected.values[:1], rtol=1e-5)


K = normal(3, 3, 2, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: spectra.dense(K), ValueError,
         r"expected a kernel of 2 axes, got shape \(3, 3, 2, 4\)"),
        (lambda: spectra.reshaped(K[0, 0]), ValueError,
         r"expected a kernel of 3 to 5 axes, got shape \(2, 4\)"),
        (lambda: spectra.circular(1j * K, (4, 4)), TypeError,
         "expected a real kernel, got complex128"),
        (lambda: spectra.circular(K, (4,)), ValueError,
         r"expected size of 2 numbers of at least 1, got \(4,\)"),
        (lambda: spectra.circular(K, (4, 4), dilation=0), ValueError,
         "expected dilation of 2 numbers of at least 1, got 0"),
        (lambda: spectra.circular(K, (4, 4), groups=3), ValueError,
         "expected groups that divide 4 outputs, got 3"),
        (lambda: spectra.operator(K, (4, 4), num_values=0), ValueError,
         "expected num_values of at least 1, got 0"),
        (lambda: spectra.operator(K, (4, 4), padding=[(1, 1)]), ValueError,
         r"expected 2 pairs of padding, one an axis of taps, got \[\(1, 1\)\]"),
        (lambda: spectra.by_layer(params_of_convs(), sizes={"a/kernle": (4, 4)}), ValueError,
         "unknown convolution 'a/kernle'; did you mean 'a/kernel'"),
        (lambda: spectra.by_layer(params_of_convs(), sizes={"a/kernel": (4, 4)}), ValueError,
         "expected the size of each convolution's feature maps, got none for b/kernel"),
        (lambda: spectra.by_layer({}, layout="HWOI"), ValueError, "unknown layout 'HWOI'"),
        (lambda: spectra.of_model(odd_uses, {}, 0, kind="circle"), ValueError,
         "unknown kind 'circle'; did you mean 'circular'"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_operator_of_any_scale(scale):
    kernel = np.random.default_rng(0).standard_normal((3, 3, 2, 4))
    one, other = (spectra.operator(k, (6, 6)) for k in (kernel, kernel * scale))
    np.testing.assert_allclose(other.values / scale, one.values, rtol=1e-6)
    np.testing.assert_allclose(other.frobenius_norm / scale, one.frobenius_norm, rtol=1e-12)
