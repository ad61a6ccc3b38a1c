"""What is known of permuted nets, on small ones trained here (two hidden layers, 4,000 digits).

Entezari et al. 2022, Ainsworth et al. 2023 and Jordan et al. 2023 found: nets trained from
different random weights have a barrier between them; putting their units in one order lowers it;
renormalising activations lowers it further; and wider nets have less of it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.permutable import mlp, mlp_params
from tlx.analyses.landscape.permutations import alignment
from tlx.core import batch_statistics, metrics, paths, streams
from tlx.data.sources import mnist5k

NARROW, WIDE = 16, 128
PAIRS = ((0, 1), (1, 2), (2, 3), (3, 0))
MIDDLE = np.float32([0.0, 0.5, 1.0])


@functools.cache
def digits(split):
    source = mnist5k.mnist5k(split)
    return source.images.reshape(-1, 784).astype(np.float32) / 255, source.labels


@functools.cache
def stream(split):
    return streams.from_arrays(*digits(split), batch_size=1000)


def loss(params, inputs, labels):
    log_p = jax.nn.log_softmax(mlp(params, inputs))
    return -jnp.mean(jnp.take_along_axis(log_p, labels[:, None], 1))


@jax.jit
def step(params, velocity, inputs, labels, rate):
    grads = jax.grad(loss)(params, inputs, labels)
    velocity = jax.tree.map(lambda v, g: 0.9 * v + g, velocity, grads)
    return jax.tree.map(lambda p, v: p - rate * v, params, velocity), velocity


@functools.cache
def trained(width, seed, epochs=15, batch=100):
    """From random kernels of gain √2, by momentum with a rate that falls to 0."""
    params = mlp_params(784, width, width, 10, seed=seed)
    for layer in params.values():
        fan_in = len(layer["kernel"])
        draw = np.random.default_rng([seed, fan_in]).standard_normal(layer["kernel"].shape)
        layer["kernel"] = jnp.asarray(draw * np.sqrt(2 / fan_in), jnp.float32)
        layer["bias"] = jnp.zeros_like(layer["bias"])
    velocity = jax.tree.map(jnp.zeros_like, params)
    inputs, labels = digits("train")
    rng, steps = np.random.default_rng(seed), epochs * len(inputs) // batch
    for i in range(epochs):
        for j, rows in enumerate(rng.permutation(len(inputs)).reshape(-1, batch)):
            rate = jnp.float32(0.05 * (1 - (i * len(inputs) // batch + j) / steps))
            params, velocity = step(params, velocity, inputs[rows], labels[rows], rate)
    return params


def along(a, b, repair=False):
    """Test accuracies at a, in the middle, and at b."""
    path = paths.line(a, b)
    results, _ = batch_statistics.along(
        mlp, metrics.classification(), path, MIDDLE, stream("test"),
        source=stream("train"), ends=(a, b), repair=repair,
    )  # fmt: skip
    return np.asarray(results["accuracy"])


@functools.cache
def symmetry(width):
    params = mlp_params(784, width, width, 10)
    return alignment.symmetry(mlp, params, digits("test")[0][:2], check=False)


@functools.cache
def measured(width):
    """Rule to mean accuracy in the middle over four pairs of nets; "ends" to that of the ends."""
    found = {name: [] for name in ("ends", "plain", "weights", "activations", "repaired")}
    for i, j in PAIRS:
        a, b = trained(width, i), trained(width, j)
        of = symmetry(width)
        plain = along(a, b)
        by_weights = alignment.weight_matching(of, a, b)
        by_activations = alignment.activation_matching(mlp, of, a, b, stream("train"))
        placed = [
            alignment.apply_permutation(of, found.permutations, b)
            for found in (by_weights, by_activations)
        ]
        found["ends"] += [plain[0], plain[2]]
        found["plain"].append(plain[1])
        found["weights"].append(along(a, placed[0])[1])
        found["activations"].append(along(a, placed[1])[1])
        found["repaired"].append(along(a, placed[0], repair=True)[1])
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_independent_nets_have_a_barrier_that_a_common_order_lowers(width):
    got = measured(width)
    assert got["ends"] > 0.9
    assert got["plain"] < got["ends"] - 0.1
    assert got["weights"] > got["plain"] + 0.1
    assert got["activations"] > got["plain"] + 0.1


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_repair_after_it_lowers_it_further_or_equally(width):
    got = measured(width)
    assert got["repaired"] > got["weights"] - 0.02


def test_width_lowers_the_barrier_that_is_left():
    narrow, wide = measured(NARROW), measured(WIDE)
    for rule in ("weights", "activations", "repaired"):
        assert wide["ends"] - wide[rule] < narrow["ends"] - narrow[rule] - 0.01
