import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from tests.core import models
from tests.helpers import oracles, tiny_models
from tlx.analyses.landscape import _mean_loss, curvature
from tlx.core import labels as labels_lib
from tlx.core import metrics, paths, sharding, streams

MATRICES = {"hessian": curvature.hessian, "gauss_newton": curvature.gauss_newton}
N, P = 26, 75  # examples; parameters of the small net
KEY = jax.random.key(3)


def _linear(params, inputs):
    return inputs @ params["w"]


def _squared_error(outputs, batch):
    return (outputs[:, 0] - batch["labels"].astype(outputs.dtype)) ** 2


def _logistic(outputs, batch):
    return metrics.sigmoid_cross_entropy(outputs, {"labels": batch["labels"][:, None]})


LINEAR = {
    "mse": (_squared_error, 1),
    "logistic": (_logistic, 1),
    "softmax": (metrics.softmax_cross_entropy, 4),
}


def _stream(batch_size=8, num_examples=N):
    return streams.from_arrays(*models.make_data(num_examples), batch_size=batch_size)


def _net(make=curvature.hessian, stream=None, params=None, **options):
    params = models.make_params(0) if params is None else params
    stream = _stream() if stream is None else stream
    return make(models.apply_fn, metrics.softmax_cross_entropy, params, stream, **options)


def _dense(operator):
    eye = np.eye(operator.size, dtype=operator.dtype)
    return np.stack([np.asarray(operator.product(row)) for row in eye], 1)


def _labels(params):
    return labels_lib.from_names(params, lambda name: name.split("/")[0])


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("model", LINEAR)
def test_products_are_the_closed_forms(model, matrix):
    loss, outputs = LINEAR[model]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, 3)).astype(np.float32)
    y = rng.integers(0, max(outputs, 2), N)
    params = {"w": jnp.asarray(rng.standard_normal((3, outputs)), jnp.float32)}
    stream = streams.from_arrays(x, y, batch_size=8)
    got = _dense(MATRICES[matrix](_linear, loss, params, stream))
    expected = oracles.hessian_closed_form(model, x, params["w"])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def _saturated(margin, labels):
    """Inputs and weights of a linear classifier whose least margin is as given, and labels."""
    rng = np.random.default_rng(margin)
    x, w = rng.standard_normal((60, 6)), rng.standard_normal((6, 4))
    ranked = np.sort(x @ w, 1)
    kept = np.argsort(ranked[:, -2] - ranked[:, -1])[:20]
    x = np.float32(x[kept])
    w = np.float32(w * margin / (ranked[kept, -1] - ranked[kept, -2]).min())
    if labels == "mixed":  # some examples are not saturated, though most are
        x[:3] /= margin
    best = (np.float64(x) @ np.float64(w)).argmax(1)
    return x, w, best if labels == "right" else (best + rng.integers(0, 2, len(best))) % 4


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("labels", ["right", "wrong", "mixed"])
@pytest.mark.parametrize("margin", [16, 20, 30, 60])
def test_curvature_of_a_saturated_softmax(margin, labels, matrix):
    x, w, y = _saturated(margin, labels)
    exact = oracles.hessian_closed_form("softmax", x, w)
    values = np.linalg.eigvalsh(exact)[::-1]
    stream = streams.from_arrays(x, y, batch_size=8)
    loss = metrics.softmax_cross_entropy
    operator = MATRICES[matrix](_linear, loss, {"w": jnp.asarray(w)}, stream)
    dense = _dense(operator).astype(np.float64)
    np.testing.assert_allclose(dense, exact, atol=1e-4 * values[0])
    found = curvature.eigenvalues(operator, order=len(values), key=KEY)
    np.testing.assert_allclose(found.values, values, atol=2e-5 * values[0])
    assert found.values[-1] > -1e-6 * values[0]
    np.testing.assert_allclose(np.trace(dense), values.sum(), rtol=1e-4)
    probes = [np.asarray(curvature._probe(operator, k), float) for k in jax.random.split(KEY, 5)]
    expected = np.mean([v @ exact @ v for v in probes])
    trace = curvature.trace(operator, num_probes=5, key=KEY)
    np.testing.assert_allclose(trace.value, expected, rtol=1e-4)
    density = curvature.density(operator, order=len(values), num_probes=1, key=KEY)
    np.testing.assert_allclose(density.nodes.max(), values[0], rtol=1e-4)


@pytest.mark.parametrize("matrix", MATRICES)
def test_curvature_of_a_saturated_sigmoid(matrix):
    rng = np.random.default_rng(0)
    x, w = np.float32(rng.standard_normal((30, 3))), np.float32([[30], [-40], [25]])
    z = np.float64(x) @ np.float64(w)
    x, z = x[np.abs(z[:, 0]) > 18], z[np.abs(z[:, 0]) > 18]
    curved = np.exp(-np.logaddexp(0, z) - np.logaddexp(0, -z))
    exact = np.float64(x).T @ (curved * x) / len(x)
    stream = streams.from_arrays(x, rng.integers(0, 2, len(x)), batch_size=8)
    operator = MATRICES[matrix](_linear, _logistic, {"w": jnp.asarray(w)}, stream)
    np.testing.assert_allclose(_dense(operator), exact, atol=1e-4 * np.linalg.norm(exact))


def test_curvature_below_the_range_of_float32_is_told():
    x, w, y = _saturated(100, "right")
    stream = streams.from_arrays(x, y, batch_size=8)
    loss = metrics.softmax_cross_entropy
    operator = curvature.gauss_newton(_linear, loss, {"w": jnp.asarray(w)}, stream)
    found = curvature.eigenvalues(operator, order=3, key=KEY)
    assert found.residuals[0] > 1e4 * np.abs(found.values[0])


def test_outputs_that_are_integers_have_no_curvature():
    def apply_fn(params, inputs):
        logits = inputs @ params["w"]
        best = logits.argmax(-1)
        return {"logits": logits, "class": best, "sure": logits.max(-1) > 1}

    def loss(outputs, batch):
        return metrics.softmax_cross_entropy(outputs["logits"], batch)

    rng = np.random.default_rng(0)
    x, y = np.float32(rng.standard_normal((N, 3))), rng.integers(0, 4, N)
    params = {"w": jnp.asarray(rng.standard_normal((3, 4)), jnp.float32)}
    stream = streams.from_arrays(x, y, batch_size=8)
    expected = oracles.hessian_closed_form("softmax", x, params["w"])
    for make in MATRICES.values():
        got = _dense(make(apply_fn, loss, params, stream))
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def exact():
    """The net's Hessian and Gauss-Newton matrix by dense derivatives in float64."""
    params = jax.tree.map(np.float64, models.make_params(0))
    inputs, labels = models.make_data(N)

    def matrices(flat, inputs):
        def outputs(w):
            return models.apply_fn(unravel(w), inputs)

        def loss(z):
            return metrics.softmax_cross_entropy(z, {"labels": labels}).mean()

        z = outputs(flat)
        slopes = jax.jacobian(outputs)(flat).reshape(-1, P)
        curved = jax.hessian(loss)(z).reshape(z.size, z.size)
        hessian = jax.hessian(lambda w: loss(outputs(w)))(flat)
        return {"hessian": hessian, "gauss_newton": slopes.T @ curved @ slopes}

    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(params)
        found = jax.jit(matrices)(flat, inputs.astype(np.float64))
    return jax.tree.map(np.asarray, found)


@pytest.fixture(scope="module")
def dense():
    return {name: _dense(_net(make)) for name, make in MATRICES.items()}


@pytest.mark.parametrize("matrix", MATRICES)
def test_the_nets_matrices_are_the_dense_ones(exact, dense, matrix):
    np.testing.assert_allclose(dense[matrix], exact[matrix], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("matrix", MATRICES)
def test_lanczos_of_full_order_gives_all_eigenvalues(exact, matrix):
    expected = np.linalg.eigvalsh(exact[matrix])[::-1]
    got = curvature.eigenvalues(_net(MATRICES[matrix]), order=P, key=KEY)
    assert got.vectors is None
    np.testing.assert_allclose(got.values, expected, atol=1e-5 * expected[0])
    assert (np.diff(got.values) <= 0).all()
    if matrix == "gauss_newton":
        assert got.values[-1] > -1e-6 * expected[0]
    else:
        assert got.values[-1] < -1e-2


def test_a_module_is_the_diagonal_block(dense):
    params = models.make_params(0)
    operators = [
        _net(labels=_labels(params), modules=modules)
        for modules in ("head", ["hidden"], ("hidden", "head"))
    ]
    head = 8 * 3 + 3
    blocks = (np.s_[:head, :head], np.s_[head:, head:], np.s_[:, :])
    for operator, block in zip(operators, blocks, strict=True):
        expected = dense["hessian"][block]
        v = np.linspace(-1, 1, operator.size, dtype=np.float32)
        np.testing.assert_allclose(operator.product(v), expected @ v, rtol=1e-4, atol=1e-5)
    direction = operators[0].unravel(np.ones(head))
    np.testing.assert_array_equal(direction["hidden"]["kernel"], 0)
    np.testing.assert_array_equal(operators[0].ravel(direction), 1)


class _Counting:
    def __init__(self, stream):
        self.stream, self.passes = stream, 0

    def __call__(self):
        self.passes += 1
        return self.stream()


def _spoilt():
    """The stream with NaN in all padding, batches in reverse, and one of padding only."""
    for batch in [*_stream()()][::-1]:
        rows = np.array(batch["inputs"])
        rows[~batch["mask"]] = np.nan
        yield {**batch, "inputs": rows}
        yield {**batch, "inputs": rows * np.nan, "mask": np.zeros(8, bool)}


def _on_two_devices():
    mesh = sharding.make_mesh(jax.devices()[:2])
    return (sharding.shard_batch(batch, mesh) for batch in _stream()())


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("case", [1, 26, 64, "spoilt", "two devices", "not held"])
def test_products_do_not_depend_on_batches(dense, matrix, case, monkeypatch):
    params = models.make_params(0)
    stream = _stream(case) if isinstance(case, int) else _stream()
    if case == "spoilt":
        stream = _spoilt
    if case == "two devices":
        stream = _on_two_devices
        params = sharding.replicate(params, sharding.make_mesh(jax.devices()[:2]))
    if case == "not held":
        monkeypatch.setattr(_mean_loss, "HELD_BYTES", 0)
    stream = _Counting(stream)
    operator = _net(MATRICES[matrix], stream, params)
    v = np.linspace(-1, 1, P, dtype=np.float32)
    for _ in range(2):
        got = operator.product(v)
        np.testing.assert_allclose(got, dense[matrix] @ v, rtol=1e-4, atol=1e-5)
    assert stream.passes == (4 if case == "not held" else 1)  # two at call, one a product


def test_batch_statistics_and_counters_do_not_vary():
    tiny = tiny_models.make("linen", 0)
    params = {**tiny.params, "steps": jnp.int32(7)}
    stream = streams.from_arrays(*tiny_models.make_inputs(N), batch_size=8)
    operator = curvature.hessian(
        lambda p, x: tiny.apply_fn({k: p[k] for k in tiny.params}, x),
        metrics.softmax_cross_entropy,
        params,
        stream,
    )
    assert operator.size == 5 * 8 + 8 + 8 + 8 + 8 * 3 + 3
    found = curvature.eigenvalues(operator, order=6, key=KEY, num_vectors=2)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(found.vectors)} == {2}
    u, v = (jax.tree.map(lambda x, i=i: x[i], found.vectors) for i in range(2))
    np.testing.assert_array_equal(u["batch_stats"]["norm"]["var"], 0)
    gram = [[float(jnp.vdot(operator.ravel(a), operator.ravel(b))) for a in (u, v)] for b in (u, v)]
    np.testing.assert_allclose(gram, np.eye(2), atol=1e-5)
    moved = paths.plane(params, u, v)(jnp.ones(2))  # directions are good for a plane
    np.testing.assert_array_equal(moved["steps"], 7)
    for value, residual, vector in zip(found.values, found.residuals, (u, v), strict=False):
        apart = operator.product(operator.ravel(vector)) - value * operator.ravel(vector)
        np.testing.assert_allclose(np.linalg.norm(apart), residual, atol=1e-4 * found.values[0])


def test_low_precision_is_summed_in_float32(dense):
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), models.make_params(0))
    inputs, labels = models.make_data(N)
    stream = streams.from_arrays(inputs.astype(jnp.bfloat16), labels, batch_size=1)
    v = np.linspace(-1, 1, P, dtype=np.float32)
    for name, make in MATRICES.items():
        operator = _net(make, stream, low)
        got = operator.product(v)
        assert got.dtype == operator.dtype == jnp.float32
        expected = dense[name] @ v
        assert np.linalg.norm(got - expected) < 0.03 * np.linalg.norm(expected)
    assert operator.unravel(v)["head"]["bias"].dtype == jnp.bfloat16


def test_products_compile_once_for_models_of_one_shape():
    v = np.ones(P, np.float32)
    _net().product(v)
    before = _mean_loss._masked._cache_size()
    _net(params=models.make_params(5)).product(v)
    assert _mean_loss._masked._cache_size() == before


def test_loss_that_is_not_a_number_makes_products_that_are_none():
    inputs, labels = models.make_data(N)
    inputs[3, 0] = np.nan
    operator = _net(stream=streams.from_arrays(inputs, labels, batch_size=8))
    found = curvature.eigenvalues(operator, order=4, key=KEY, num_vectors=1)
    assert np.isnan(found.values).all()
    assert np.isnan(found.residuals).all()
    assert np.isnan(curvature.trace(operator, num_probes=2, key=KEY).value)
    density = curvature.density(operator, order=3, num_probes=2, key=KEY)
    assert np.isnan(density.density).all()
    assert np.isnan(density.width)


ERRORS = {
    "an empty stream": (
        lambda: _net(stream=_stream(num_examples=0)),
        "expected a stream with at least one batch, got none",
    ),
    "padding only": (
        lambda: _net(stream=lambda: (dict(b, mask=np.zeros(8, bool)) for b in _stream()())),
        "expected a stream with examples, got 4 batches with all rows masked",
    ),
    "an unknown label": (
        lambda: _net(labels=_labels(models.make_params(0)), modules="haed"),
        "unknown label 'haed'; did you mean 'head'",
    ),
    "labels alone": (
        lambda: _net(labels=_labels(models.make_params(0))),
        "expected labels and modules together",
    ),
    "no floating leaf": (
        lambda: _net(params={"w": jnp.arange(3)}),
        "expected at least one floating leaf to vary, got none in the parameters",
    ),
    "a vector of another length": (
        lambda: _net().product(np.ones(P + 1, np.float32)),
        r"expected a vector of shape \(75,\), got \(76,\)",
    ),
    "a direction of another net": (
        lambda: _net().ravel(models.make_params(0, width=9)),
        "direction and params with the same leaves",
    ),
    "a loss that reduces": (
        lambda: curvature.hessian(
            models.apply_fn, lambda o, b: o.mean(), models.make_params(0), _stream()
        ).product(np.ones(P, np.float32)),
        r"one value for each of 8 rows, got shape \[\]",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        call()
