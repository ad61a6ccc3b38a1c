"""The authors' PyTorch code and ours compute the same (tests/golden)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import torch_names

GOLDEN = Path(__file__).parents[1] / "golden" / "fixup_resnet18_seed0.npz"
RATE, MOMENTUM, DECAY, STEPS = 0.01, 0.9, 1e-4, 3


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN, allow_pickle=False)


@pytest.fixture(scope="module")
def names(golden):
    return [key.split("/", 1)[1] for key in golden.files if key.startswith("grad_l2/")]


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 3, 64, 64)), rng.integers(0, 10, 8)
    xs, ys = rng.standard_normal((32, 3, 64, 64)), rng.integers(0, 10, 32)
    nhwc = [jnp.asarray(v.transpose(0, 2, 3, 1), jnp.float32) for v in (x, xs)]
    return nhwc[0], jnp.asarray(y, jnp.int32), nhwc[1], jnp.asarray(ys, jnp.int32)


@pytest.fixture(scope="module")
def params(names, arrays):
    model = torch_names.reference_model()
    like = jax.eval_shape(model.init, jax.random.key(0), arrays[0])["params"]
    return [torch_names.reference_params(names, like, seed) for seed in (0, 1)]


def loss(params, x, y):
    logits = torch_names.reference_model().apply({"params": params}, x)
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], axis=1))


@pytest.fixture(scope="module")
def run(params, arrays):
    """Three SGD steps by PyTorch's rule: losses, first gradient, final parameters."""

    @jax.jit
    def step(params, velocity):
        value, grad = jax.value_and_grad(loss)(params, *arrays[:2])
        velocity = jax.tree.map(
            lambda v, g, p: MOMENTUM * v + g + DECAY * p, velocity, grad, params
        )
        params = jax.tree.map(lambda p, v, r: p - r * v, params, velocity, rates)
        return value, grad, params, velocity

    def rate(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        slow = "bias" in name or "scale" in name
        return jnp.float32(RATE / 10 if slow else RATE)

    rates = jax.tree_util.tree_map_with_path(rate, params[0])
    now, velocity = params[0], jax.tree.map(jnp.zeros_like, params[0])
    losses, grads = [], []
    for _ in range(STEPS):
        value, grad, now, velocity = step(now, velocity)
        losses.append(float(value))
        grads.append(grad)
    return np.array(losses), grads[0], now


def test_every_leaf_has_a_torch_name(params, names, arrays):
    model = torch_names.reference_model()
    like = jax.eval_shape(model.init, jax.random.key(0), arrays[0])["params"]
    assert jax.tree.structure(like) == jax.tree.structure(params[0])
    assert len(names) == len(jax.tree.leaves(like))


def test_logits(golden, params, arrays):
    logits = torch_names.reference_model().apply({"params": params[0]}, arrays[0])
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-5, rtol=1e-5)


def test_losses(golden, run):
    np.testing.assert_allclose(run[0], golden["losses"], atol=1e-5, rtol=0)


def test_gradient_norms(golden, names, run):
    for name in names:
        grad = np.asarray(torch_names.leaf(run[1], torch_names.ours(name)), np.float64)
        expected = float(golden[f"grad_l2/{name}"])
        assert abs(np.linalg.norm(grad) - expected) <= 1e-3 * expected, name


def test_weights_after_three_steps(golden, names, run):
    for name in names:
        ours = np.asarray(torch_names.leaf(run[2], torch_names.ours(name)))
        head = torch_names.to_torch(ours).ravel()[:4]
        np.testing.assert_allclose(head, golden[f"after3_head/{name}"], atol=1e-4, rtol=0)
        norm = np.linalg.norm(ours.astype(np.float64))
        # The reference took its norms in float32: 3.5e-5 low for the largest tensors.
        np.testing.assert_allclose(norm, golden[f"after3_l2/{name}"], atol=0, rtol=1e-4)


def test_interpolation(golden, params, arrays):
    xs, ys = arrays[2:]

    @jax.jit
    def point(t):
        mixed = jax.tree.map(lambda a, b: (1 - t) * a + t * b, *params)
        logits = torch_names.reference_model().apply({"params": mixed}, xs)
        right = jnp.mean((jnp.argmax(logits, axis=-1) == ys).astype(jnp.float32))
        losses = -jnp.take_along_axis(jax.nn.log_softmax(logits), ys[:, None], axis=1)
        return jnp.stack([right, jnp.mean(losses)])

    found = np.stack([point(t) for t in np.linspace(0, 1, 11, dtype=np.float32)])
    np.testing.assert_allclose(found, golden["interpolation"], atol=1e-5, rtol=1e-5)
