"""A net with batch norm in plain JAX, and the re-estimation of its statistics in float64 numpy."""

import jax
import jax.numpy as jnp
import numpy as np

FEATURES, WIDTH, CLASSES, EPS = 5, 6, 3, 1e-3


def make_params(seed, norms=2, sizes=(FEATURES, WIDTH, CLASSES)):
    """Leaves of a net with some layers before the head, each with batch norm."""
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape), jnp.float32)  # noqa: E731
    features, width, classes = sizes
    layers = [
        {
            "kernel": draw(width if i else features, width),
            "mean": draw(width),
            "var": jnp.exp(draw(width)),
            "scale": 1 + 0.3 * draw(width),
            "bias": draw(width),
        }
        for i in range(norms)
    ]
    return {"layers": layers, "head": draw(width, classes)}


def apply_fn(params, inputs, train=False):
    """Logits, in training by the moments of the batch."""
    x = inputs
    for p in params["layers"]:
        x = x @ p["kernel"]
        mean, var = (x.mean(0), x.var(0)) if train else (p["mean"], p["var"])
        x = (x - mean[None]) * jax.lax.rsqrt(var[None] + EPS) * p["scale"][None]
        x = jax.nn.relu(x + p["bias"][None])
    return x @ params["head"]


def reestimated(params, batches):
    """Means and variances of each layer, and the params with them, in float64.

    Each batch goes through as in training; the moments of the examples of all batches around
    their common mean are pooled, where each batch has made its own activations.
    """
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    seen = [[] for _ in params["layers"]]
    for inputs in batches:
        x = np.asarray(inputs, np.float64)
        for p, values in zip(params["layers"], seen, strict=True):
            x = x @ p["kernel"]
            values.append(x)
            x = (x - x.mean(0)) / np.sqrt(x.var(0) + EPS) * p["scale"] + p["bias"]
            x = np.maximum(x, 0)
    layers = []
    for p, values in zip(params["layers"], seen, strict=True):
        rows = np.concatenate(values)
        layers.append(p | {"mean": rows.mean(0), "var": rows.var(0)})
    return params | {"layers": layers}


def logits(params, inputs):
    """The evaluation form in float64."""
    x = np.asarray(inputs, np.float64)
    for p in params["layers"]:
        x = (x @ p["kernel"] - p["mean"]) / np.sqrt(p["var"] + EPS) * p["scale"] + p["bias"]
        x = np.maximum(x, 0)
    return x @ params["head"]


def loss(params, inputs, labels):
    out = logits(params, inputs)
    return (np.log(np.exp(out).sum(1)) - out[np.arange(len(labels)), labels]).mean()
