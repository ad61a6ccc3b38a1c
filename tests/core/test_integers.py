"""Integers of few bits, which do not hold every number beside them, and of too many."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.analyses import features, landscape
from tlx.core import evaluate, metrics, streams
from tlx.core.types import Batch, Params

NARROW = ("u1", "i1", "i2", "u2")


def identity(params: Params, inputs: jax.Array) -> jax.Array:
    return inputs


@pytest.mark.parametrize("dtype", NARROW)
def test_labels_of_few_bits(dtype: str) -> None:
    num = np.iinfo(dtype).max + 1
    logits = np.random.default_rng(0).standard_normal((3, num), np.float32)
    labels = np.array([1, num // 2, num - 1])
    of_row = np.log(np.exp(logits.astype(float)).sum(1)) - logits[np.arange(3), labels]
    stream = streams.from_arrays(logits, labels.astype(dtype), batch_size=2)
    found = evaluate(identity, metrics.classification(), {}, stream)
    np.testing.assert_allclose(found["loss"], of_row.mean(), rtol=1e-5)


def test_the_gradient_with_labels_of_few_bits() -> None:
    logits = jnp.zeros((1, 300))

    def loss(logits: jax.Array) -> jax.Array:
        batch = {"inputs": logits, "labels": np.array([3], np.uint8)}
        return metrics.softmax_cross_entropy(logits, batch).sum()

    assert np.flatnonzero(jax.grad(loss)(logits)[0] <= 0).tolist() == [3]


def test_tokens_of_few_bits_are_not_ignored() -> None:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((2, 4, 200)).astype(np.float32)
    labels = np.array([[156] * 4, [1, 2, 3, 4]])  # 156 is −100 in 8 bits
    of_each = np.log(np.exp(logits.astype(float)).sum(-1))
    of_each -= np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    stream = streams.from_arrays(logits, labels.astype(np.uint8), batch_size=2)
    found = evaluate(identity, metrics.tokens(ignore=-100), {}, stream)
    assert found["positions"] == 8
    np.testing.assert_allclose(found["loss"], of_each.mean(), rtol=1e-5)


@pytest.mark.parametrize("dtype", NARROW)
def test_an_index_of_few_bits(dtype: str) -> None:
    """The padding has no place among as many examples as the dtype counts."""
    num = min(np.iinfo(dtype).max + 1, 256)
    values = np.arange(num, dtype=np.float32)

    def stream() -> Iterator[Batch]:
        for start in range(0, num, 20):
            rows = np.arange(start, min(start + 20, num))
            row = np.pad(rows, (0, 20 - len(rows)))
            mask = np.arange(20) < len(rows)
            inputs = np.where(mask, values[row], 1000.0).astype(np.float32)
            yield {"inputs": inputs, "index": row.astype(dtype), "mask": mask}

    collected = metrics.collect(lambda outputs, batch: outputs, num)
    found = evaluate(identity, collected, {}, stream)
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize(
    ("inputs", "labels", "where"),
    [
        (np.full(4, 2**32 + 5), np.zeros(4), "inputs"),
        (np.zeros(4, np.float32), np.full(4, 2**32), "labels"),
        (np.zeros(4, np.float32), np.full(4, 2**63 + 1, np.uint64), "labels"),
        (np.zeros(4, np.float32), np.full(4, -(2**31) - 1), "labels"),
    ],
)
def test_integers_that_a_device_does_not_hold(
    inputs: np.ndarray, labels: np.ndarray, where: str
) -> None:
    stream = streams.from_arrays(inputs, labels, batch_size=4)
    with pytest.raises(ValueError, match=rf"expected integers in .* 32 bits, got .* in {where}"):
        evaluate(identity, metrics.regression(), {}, stream)
    with jax.enable_x64(True):
        evaluate(lambda p, x: x.astype(float), metrics.regression(), {}, stream)


def test_losses_and_features_of_64_bits() -> None:
    whole = [1, 2**33, 1]
    for losses in (whole, np.array(whole)):
        assert landscape.barrier([0, 0.5, 1], losses, kind="chord").height.item() == 2**33
    x = np.arange(40).reshape(20, 2) ** 3 * 2**25
    y = np.random.default_rng(0).standard_normal((20, 2))
    np.testing.assert_allclose(features.cka(x, y), features.cka(x.astype(float), y), rtol=1e-4)
    with pytest.raises(TypeError, match="expected losses as real numbers, got dtype complex"):
        landscape.barrier([0, 0.5, 1], np.array([1, 1j, 2]), kind="chord")
