"""Losses that are known functions of a few parameters, with examples that scale or shift them."""

import jax
import jax.numpy as jnp
import numpy as np

from tlx.core import streams


def point(*coordinates):
    """Parameters at a point, with a counter that does not move."""
    return {"w": jnp.asarray(coordinates, jnp.float32), "steps": jnp.int32(7)}


def difference(params, inputs):
    """Outputs [B, d] w − x; with `half_square` a bowl around the mean of the inputs."""
    return params["w"][None] - inputs


def half_square(outputs, batch):
    del batch
    return 0.5 * (outputs**2).sum(-1)


def own(outputs, batch):
    """The loss is the output."""
    del batch
    return outputs


def wells(params, inputs):
    """Outputs [B]: (w₀² − 1)² + Σ wᵢ² / 2, times x: wells at w₀ = ±1, barrier 1 between."""
    w = params["w"]
    return ((w[0] ** 2 - 1) ** 2 + 0.5 * (w[1:] ** 2).sum()) * inputs[:, 0]


def bump(params, inputs):
    """Outputs [B]: exp(−5‖w − (0, −0.1)‖²), times x."""
    return jnp.exp(-5 * ((params["w"] - jnp.asarray([0, -0.1])) ** 2).sum()) * inputs[:, 0]


def classes(params, inputs):
    """Logits [B, 3] of a linear model."""
    return inputs @ params["w"].reshape(2, 3)


def around(centre, num_examples=40, batch_size=16, seed=0):
    """A stream whose inputs [N, d] have the mean `centre`."""
    inputs = np.random.default_rng(seed).standard_normal((num_examples, len(centre)))
    inputs += np.asarray(centre) - inputs.mean(0)
    return streams.from_arrays(inputs.astype(np.float32), batch_size=batch_size)


def scales(mean=1.0, std=0.0, num_examples=40, batch_size=16, seed=0):
    """A stream whose inputs [N, 1] have that mean and spread."""
    inputs = np.random.default_rng(seed).standard_normal((num_examples, 1))
    inputs = mean + std * (inputs - inputs.mean()) / inputs.std()
    return streams.from_arrays(inputs.astype(np.float32), batch_size=batch_size)


def counting(stream):
    """The stream, and a list that grows by one with each pass."""
    passes = []

    def start():
        passes.append(1)
        return stream()

    return start, passes


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
