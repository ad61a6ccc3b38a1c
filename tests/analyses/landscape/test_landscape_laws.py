"""What batch statistics do to a barrier between trained nets."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests.helpers import batch_norm
from tlx.analyses.landscape import interpolation
from tlx.core import batch_statistics, metrics, streams
from tlx.data.sources import mnist5k

ALPHAS = np.float32([0, 0.25, 0.5, 0.75, 1])
SIZES = (14 * 14, 64, 10)


@functools.cache
def data(split):
    """MNIST in 14×14, and its labels."""
    source = mnist5k.mnist5k(split)
    images = np.asarray(source.images, np.float32).reshape(-1, 14, 2, 14, 2).mean((2, 4)) / 255
    return images.reshape(-1, SIZES[0]), np.asarray(source.labels)


@jax.jit
def step(params, inputs, labels):
    def loss(params):
        logits = batch_norm.apply_fn(params, inputs, train=True)
        return metrics.softmax_cross_entropy(logits, {"labels": labels}).mean()

    return jax.tree.map(lambda p, g: p - 0.3 * g, params, jax.grad(loss)(params))


@functools.cache
def trained(seed, epochs=4, batch_size=100):
    """A net that sees the training images in an order of its own."""
    params = batch_norm.make_params(seed, sizes=SIZES)
    params = jax.tree.map(lambda x: x / np.sqrt(x.shape[0]) if x.ndim == 2 else x, params)
    inputs, labels = data("train")
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        for rows in rng.permutation(len(inputs)).reshape(-1, batch_size):
            params = step(params, inputs[rows], labels[rows])
    return batch_statistics.reestimate(batch_norm.apply_fn, params, train_stream())


def train_stream():
    return streams.from_arrays(data("train")[0], batch_size=500)


@functools.cache
def losses(source, repair=False):
    stream = streams.from_arrays(*data("test"), batch_size=500)
    found = interpolation.line(
        batch_norm.apply_fn, metrics.classification(), trained(0), trained(1), stream,
        alphas=ALPHAS, statistics=train_stream() if source == "training data" else source,
        repair=repair,
    )  # fmt: skip
    return np.asarray(found.results["loss"]), np.asarray(found.results["accuracy"])


def height(loss):
    return (loss - (1 - ALPHAS) * loss[0] - ALPHAS * loss[-1]).max()


def test_the_nets_are_trained():
    for at in (0, -1):
        assert losses("interpolate")[1][at] > 0.85


def test_between_independent_nets_there_is_a_barrier():
    assert height(losses("interpolate")[0]) > 0.5


def test_reestimated_statistics_lower_it():
    assert height(losses("training data")[0]) < 0.9 * height(losses("interpolate")[0])


def test_the_ends_keep_their_statistics():
    for loss in (losses("training data")[0], losses("training data", repair=True)[0]):
        np.testing.assert_allclose(loss[[0, -1]], losses("interpolate")[0][[0, -1]], rtol=1e-3)


def test_repair_changes_nothing_where_batch_norm_follows_each_layer():
    repaired, plain = losses("training data", repair=True)[0], losses("training data")[0]
    np.testing.assert_allclose(repaired, plain, rtol=0.05)


def test_means_of_float64_agree():
    """The re-estimated middle, from the formula."""
    batches = [batch["inputs"] for batch in train_stream()()]
    middle = jax.tree.map(lambda x, y: 0.5 * x + 0.5 * y, trained(0), trained(1))
    params = batch_norm.reestimated(middle, batches)
    expected = batch_norm.loss(params, *data("test"))
    np.testing.assert_allclose(losses("training data")[0][2], expected, rtol=1e-4)
    assert jnp.isfinite(expected)
