"""A loss that loses its curvature to rounding is refused, not answered."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tlx.analyses.landscape import curvature
from tlx.core import metrics, streams

RNG = np.random.default_rng(0)


def apply_fn(params, inputs):
    return inputs @ params["w"]


def naive(outputs, batch):
    p = jax.nn.softmax(outputs)
    return -jnp.log(jnp.take_along_axis(p, batch["labels"][:, None], 1)[:, 0])


def of_log_softmax(outputs, batch):
    return -jnp.take_along_axis(jax.nn.log_softmax(outputs), batch["labels"][:, None], 1)[:, 0]


def of_optax(outputs, batch):
    with jax.numpy_dtype_promotion("standard"):
        return optax.softmax_cross_entropy_with_integer_labels(outputs, batch["labels"])


def saturated(margin, num_examples=12):
    """A linear classifier that is right by at least a margin in nats."""
    labels = RNG.integers(0, 3, num_examples)
    inputs = np.eye(3)[labels] + 0.02 * RNG.standard_normal((num_examples, 3))
    logits = inputs * margin
    own = logits[np.arange(num_examples), labels]
    others = np.where(np.eye(3, dtype=bool)[labels], -np.inf, logits).max(1)
    scale = margin / (own - others).min()
    stream = streams.from_arrays(inputs.astype(np.float32), labels, batch_size=5)
    return {"w": jnp.asarray(np.eye(3) * margin * scale, jnp.float32)}, stream


@pytest.mark.parametrize("make", [curvature.hessian, curvature.gauss_newton])
@pytest.mark.parametrize("loss", [naive, of_log_softmax, of_optax])
def test_saturated_losses_of_others_are_refused(loss, make):
    params, stream = saturated(20.0)
    name = loss.__name__
    with pytest.raises(
        ValueError, match=f"curvature float32 preserves at these outputs, got {name}"
    ):
        make(apply_fn, loss, params, stream)


@pytest.mark.parametrize("margin", [0.5, 2.0, 5.0])
@pytest.mark.parametrize("loss", [naive, of_log_softmax, of_optax])
def test_losses_of_others_are_taken_where_they_are_right(loss, margin):
    params, stream = saturated(margin)
    ours = curvature.hessian(apply_fn, metrics.softmax_cross_entropy, params, stream)
    theirs = curvature.hessian(apply_fn, loss, params, stream)
    vector = RNG.standard_normal(9).astype(np.float32)
    np.testing.assert_allclose(theirs.product(vector), ours.product(vector), rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("margin", [20.0, 60.0, 100.0])
def test_our_losses_are_taken_at_any_margin(margin):
    params, stream = saturated(margin)
    curvature.hessian(apply_fn, metrics.softmax_cross_entropy, params, stream)


def test_losses_without_curvature_and_with_kinks_are_taken():
    params, stream = saturated(20.0)

    def of_kinks(outputs, batch):
        return jnp.abs(outputs).sum(-1)

    found = curvature.hessian(apply_fn, of_kinks, params, stream)
    np.testing.assert_array_equal(found.product(np.ones(9, np.float32)), 0)


def test_a_masked_row_decides_nothing():
    params, stream = saturated(3.0)

    def with_nan():
        for batch in stream():
            inputs = np.where(batch["mask"][:, None], batch["inputs"], np.nan)
            yield {**batch, "inputs": inputs.astype(np.float32)}

    curvature.hessian(apply_fn, naive, params, with_nan)
