"""A small net in plain JAX, and data for it, for the tests of the core."""

import jax
import jax.numpy as jnp
import numpy as np


def make_params(seed, width=8, features=5, classes=3):
    k1, k2 = jax.random.split(jax.random.key(seed))
    return {
        "hidden": {"kernel": jax.random.normal(k1, (features, width)), "bias": jnp.zeros(width)},
        "head": {"kernel": jax.random.normal(k2, (width, classes)), "bias": jnp.ones(classes)},
    }


def apply_fn(params, inputs):
    hidden = inputs @ params["hidden"]["kernel"] + params["hidden"]["bias"][None]
    return jax.nn.relu(hidden) @ params["head"]["kernel"] + params["head"]["bias"][None]


def make_data(num_examples, seed=0, features=5, classes=3):
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((num_examples, features)).astype(np.float32)
    return inputs, rng.integers(0, classes, num_examples)


def numpy_classification(params, inputs, labels):
    """The loss and accuracy in float64, from the formula."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    hidden = np.maximum(inputs.astype(np.float64) @ p["hidden"]["kernel"] + p["hidden"]["bias"], 0)
    logits = hidden @ p["head"]["kernel"] + p["head"]["bias"]
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    rows = np.arange(len(labels))
    return -log_p[rows, labels].mean(), (logits.argmax(1) == labels).mean()
