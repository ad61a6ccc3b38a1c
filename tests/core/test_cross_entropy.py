"""Cross-entropy and its derivatives of saturated logits against float64 with the gap kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlx.core import _cross_entropy, metrics

MARGINS = [0, 1, 16, 20, 30, 60, 80]
TINY = 1e-36  # what float32 holds in full


def _oracle(z, label):
    """Loss, gradient and Hessian of one row; no number near 1 is subtracted from another."""
    z = z.astype(np.float64)
    e = np.exp(z - z.max())
    p = e / e.sum()
    rest = np.array([np.delete(p, k).sum() for k in range(len(p))])
    loss = z.max() - z[label] + np.log1p(np.delete(e, z.argmax()).sum())
    gradient = p - np.eye(len(p))[label]
    gradient[label] = -rest[label]
    hessian = np.diag(p * rest) - (1 - np.eye(len(p))) * np.outer(p, p)
    return loss, gradient, hessian


def _close(got, expected, rtol):
    expected = np.asarray(expected)
    near = np.abs(expected) > TINY
    np.testing.assert_allclose(np.asarray(got)[near], expected[near], rtol=rtol)
    assert (np.abs(np.asarray(got)[~near]) <= 2 * TINY).all()


@pytest.mark.parametrize("is_right", [True, False])
@pytest.mark.parametrize("margin", MARGINS)
def test_value_gradient_and_hessian_to_rounding_at_any_margin(margin, is_right):
    rng = np.random.default_rng(margin)
    z = rng.standard_normal((6, 5)).astype(np.float32)
    best, labels = rng.integers(0, 5, 6), rng.integers(0, 5, 6)
    z[np.arange(6), best] += margin + 2
    labels = np.where(is_right, best, (best + 1 + labels % 4) % 5)
    loss, gradient, hessian = (np.stack(x) for x in zip(*map(_oracle, z, labels), strict=True))

    def one(row, label):
        return metrics.softmax_cross_entropy(row[None], {"labels": label[None]})[0]

    rtol = 1e-6 + 1e-7 * margin
    _close(metrics.softmax_cross_entropy(z, {"labels": labels}), loss, rtol)
    _close(jax.vmap(jax.grad(one))(z, labels), gradient, rtol)
    for twice in (jax.hessian(one), jax.jacrev(jax.jacrev(one)), jax.jacfwd(jax.jacfwd(one))):
        _close(jax.vmap(twice)(z, labels), hessian, 2 * rtol)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_binary_value_gradient_and_curvature_to_rounding_at_any_margin(label):
    z = np.float32([-80, -60, -30, -17, -1, 0, 1, 17, 30, 60, 80])
    away = z.astype(np.float64) * (1 - 2 * label)  # above 0 on the wrong side
    share = np.exp(-np.logaddexp(0, -away))

    def one(logit):
        batch = {"labels": jnp.full((1, 1), label)}
        return metrics.sigmoid_cross_entropy(logit[None, None], batch)[0]

    _close(jax.vmap(one)(z), np.logaddexp(0, away), 1e-5)
    _close(jax.vmap(jax.grad(one))(z), (1 - 2 * label) * share, 1e-5)
    curved = share * np.exp(-np.logaddexp(0, away))
    for twice in (jax.jacfwd(jax.grad(one)), jax.grad(jax.grad(one))):
        _close(jax.vmap(twice)(z), curved, 1e-5)


def test_a_mixture_of_binary_labels_has_the_value_and_slopes_of_its_formula():
    z, share = jnp.float32([-3, 0.5, 4]), jnp.float32([0.2, 0.9, 0.5])

    def total(z, share):
        return _cross_entropy.from_binary_logits(z, share).sum()

    np.testing.assert_allclose(total(z, share), (jnp.logaddexp(z, 0) - share * z).sum(), rtol=1e-6)
    of_logits, of_labels = jax.grad(total, (0, 1))(z, share)
    np.testing.assert_allclose(of_logits, jax.nn.sigmoid(z) - share, rtol=1e-5)
    np.testing.assert_allclose(of_labels, -z, rtol=1e-6)


@pytest.mark.parametrize("logits", [[1.0, -np.inf], [-np.inf, 1.0], [2.0, 2.0], [0.0]])
def test_values_at_the_ends_of_the_range(logits):
    z, labels = np.float32([logits]), np.int32([0])
    np.testing.assert_allclose(
        _cross_entropy.from_logits(z, labels), -jax.nn.log_softmax(z)[:, 0], rtol=1e-6
    )


@pytest.mark.parametrize("logits", [[np.nan, 1.0], [np.inf, 1.0], [1.0, np.inf], [-np.inf] * 2])
def test_what_has_no_softmax_is_nan(logits):
    z, labels = np.float32([logits]), np.int32([0])
    assert np.isnan(_cross_entropy.from_logits(z, labels)).all()


def test_a_label_that_is_ruled_out_and_one_that_is_certain():
    logits, labels = jnp.array([-jnp.inf, jnp.inf, -jnp.inf, jnp.inf]), jnp.array([0.0, 1, 1, 0])
    values, slopes = jax.vmap(jax.value_and_grad(_cross_entropy.from_binary_logits))(logits, labels)
    np.testing.assert_array_equal(values, [0, 0, np.inf, np.inf])
    np.testing.assert_array_equal(slopes, [0, 0, -1, 1])
