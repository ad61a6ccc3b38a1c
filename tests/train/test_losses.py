import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.core import metrics
from tlx.train import losses

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(3 * RNG.standard_normal((6, 4)), jnp.float32)
LABELS = jnp.asarray(RNG.integers(0, 4, 6), jnp.int32)
MULTI = jnp.asarray(RNG.integers(0, 2, (6, 4)), jnp.float32)


def test_hard_targets_agree_with_the_metrics_of_evaluation() -> None:
    batch = {"inputs": LOGITS, "labels": LABELS}
    targets = losses.one_hot(LABELS, 4)
    pairs = [
        (losses.softmax_cross_entropy, metrics.softmax_cross_entropy),
        (losses.top1, metrics.accuracy),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours(LOGITS, targets), theirs(LOGITS, batch), rtol=1e-5)
    batch = {"inputs": LOGITS, "labels": MULTI}
    pairs = [
        (losses.sigmoid_cross_entropy, metrics.sigmoid_cross_entropy),
        (losses.sides, metrics.sigmoid_accuracy),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(
            ours(LOGITS, losses.multi_hot(MULTI, 4)), theirs(LOGITS, batch), rtol=1e-5
        )


@pytest.mark.parametrize("name", losses.LOSSES)
def test_soft_targets_mix_the_losses(name: str) -> None:
    loss = losses.make_loss(name)
    a, b = MULTI, MULTI[::-1]
    if name == "softmax":
        a, b = losses.one_hot(LABELS, 4), losses.one_hot(LABELS[::-1], 4)
    weight = jnp.float32(0.3)
    for fn in (loss.per_example, loss.right):
        mixed = fn(LOGITS, weight * a + (1 - weight) * b)
        expected = weight * fn(LOGITS, a) + (1 - weight) * fn(LOGITS, b)
        np.testing.assert_allclose(mixed, expected, rtol=1e-5, atol=1e-6)


def test_masked_mean_ignores_what_is_masked() -> None:
    values = jnp.asarray([1, 2, jnp.nan, 6], jnp.float32)
    mask = jnp.asarray([True, False, False, True])
    assert losses.masked_mean(values, mask) == 3.5
    assert losses.masked_mean(values, jnp.zeros(4, bool)) == 0
    grad = jax.grad(lambda x: losses.masked_mean(x, mask))(values)
    np.testing.assert_array_equal(grad, [0.5, 0, 0, 0.5])


def test_errors() -> None:
    with pytest.raises(ValueError, match="did you mean 'softmax'"):
        losses.make_loss("softmx")
    with pytest.raises(ValueError, match=r"labels \[B, 4\] of 0 and 1 .*, got \(6,\)"):
        losses.multi_hot(LABELS, 4)
