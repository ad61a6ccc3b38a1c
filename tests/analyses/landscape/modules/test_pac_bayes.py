import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tests.helpers import tiny_models
from tlx.analyses.landscape.modules import pac_bayes
from tlx.core import evaluate, metrics, paths, streams
from tlx.core import labels as labels_lib

N = 26
KEY = jax.random.key(5)
A, B = models.make_params(0), models.make_params(1)
LABELS = labels_lib.from_names(A, lambda name: name.split("/")[0])


def _stream(batch_size=8):
    return streams.from_arrays(*models.make_data(N), batch_size=batch_size)


def _kl(a, b):
    terms = [p * math.log(p / q) for p, q in ((a, b), (1 - a, 1 - b)) if p > 0]
    return sum(terms)


@given(st.floats(0, 1), st.floats(0, 5))
def test_inverse_kl(a, nats):
    b = pac_bayes.inverse_kl(a, nats)
    assert a <= b <= 1
    if b < 1 - 1e-9:
        assert _kl(a, b) == pytest.approx(nats, rel=1e-6, abs=1e-12)
    assert b <= a + math.sqrt(nats / 2) + 1e-7  # Pinsker


def test_inverse_kl_closed_form():
    assert pac_bayes.inverse_kl(0.0, 0.7) == pytest.approx(1 - math.exp(-0.7))
    assert pac_bayes.inverse_kl(0.3, 0.0) == pytest.approx(0.3)
    assert pac_bayes.inverse_kl(1.0, 0.1) == 1.0
    assert math.isnan(pac_bayes.inverse_kl(math.nan, 0.1))


def _oracle(errors, d, k, sigma, m, delta, delta_draws):
    """From the formulas of the file, every j up to 5000 tried."""
    total, prior = 0.0, []
    for d_i, k_i, sigma_i in zip(d, k, sigma, strict=True):
        best = (math.inf, None)
        for j in range(1, 5001):
            s2 = math.exp(-j / 100)
            kl = 0.5 * (k_i * (sigma_i**2 / s2 - 1 - math.log(sigma_i**2 / s2)) + d_i**2 / s2)
            best = min(best, (kl + math.log(math.pi**2 * j**2 / 6), math.sqrt(s2)))
        total += best[0]
        prior.append(best[1])
    complexity = (total + math.log(2 * math.sqrt(m) / delta)) / m
    at_most = pac_bayes.inverse_kl(float(np.mean(errors)), math.log(2 / delta_draws) / len(errors))
    return complexity, at_most, prior


@pytest.mark.parametrize(
    ("d", "k", "sigma"),
    [
        ([1.0, 0.0], [100, 7], [0.1, 0.5]),
        ([20.0, 0.3], [1000, 50], [0.01, 0.9]),
        ([9.0], [2], [3.0]),
    ],
)
def test_bound_oracle(d, k, sigma):
    errors = [0.1, 0.2, 0.05]
    got = pac_bayes.bound(errors, d, k, sigma, num_examples=500, delta=0.03, delta_draws=0.02)
    complexity, at_most, prior = _oracle(errors, d, k, sigma, 500, 0.03, 0.02)
    assert got.complexity == pytest.approx(complexity, rel=1e-6)
    assert got.noisy_error_bound == pytest.approx(at_most)
    assert got.value == pytest.approx(pac_bayes.inverse_kl(at_most, complexity))
    assert got.square_root == pytest.approx(at_most + math.sqrt(complexity / 2))
    np.testing.assert_allclose(got.prior_sigmas, prior)
    assert got.noisy_error == pytest.approx(np.mean(errors))


def test_the_divergence_is_that_of_the_best_prior_nearly():
    d, k, sigma = np.array([3.0]), np.array([1000]), np.array([0.05])
    got = pac_bayes.bound([0.1], d, k, sigma, num_examples=1000)
    best = 0.5 * k * np.log(1 + d**2 / (k * sigma**2))
    assert best <= got.divergences
    assert got.divergences <= best + 1  # it is 500 nats; the rest buys a smaller j


def test_the_bound_holds_where_the_expected_error_is_known():
    """A coin of error ½ whatever the weights: no bound may be below, and few are far above."""
    rng = np.random.default_rng(0)
    for m in (50, 5000):
        errors = rng.binomial(m, 0.5, 2000) / m
        got = pac_bayes.bound(errors, [0.1], [10], [1.0], num_examples=m)
        assert got.value >= 0.5
    assert got.value < 0.65


def test_more_examples_help_and_going_further_costs():
    one = pac_bayes.bound([0.1], [1.0], [50], [0.3], num_examples=1000)
    assert pac_bayes.bound([0.1], [1.0], [50], [0.3], num_examples=9000).value < one.value
    assert pac_bayes.bound([0.1], [2.0], [50], [0.3], num_examples=1000).value > one.value
    assert pac_bayes.bound([0.1], [1.0], [50], [0.1], num_examples=1000).value > one.value
    assert one.value <= one.square_root


def _errors(**options):
    return pac_bayes.noisy_errors(
        models.apply_fn,
        paths.line(A, B),
        _stream(),
        **{
            "labels": LABELS,
            "modules": ["hidden", "head"],
            "alphas": [0.25, 1.0],
            "sigmas": [0.3, 0.0],
            "key": KEY,
            "num_draws": 4,
        }
        | options,
    )


def test_draws_are_of_the_whole_network():
    found = _errors()
    for key, got in zip(jax.random.split(KEY, 4), found, strict=True):
        noise = paths.standard_normal(key, B)
        hidden = jax.tree.map(
            lambda a, b, u: 0.75 * a + 0.25 * b + 0.3 * u, A["hidden"], B["hidden"], noise["hidden"]
        )
        params = {"hidden": hidden, "head": B["head"]}
        expected = evaluate(models.apply_fn, metrics.mean(metrics.error), params, _stream())
        assert got == pytest.approx(float(expected))
    assert found.std() > 0


def test_there_is_no_bound_for_batch_statistics():
    tiny = tiny_models.make("linen", 0)
    labels = labels_lib.from_names(tiny.params, lambda name: tiny_models.module_of(tiny, name))
    modules = labels_lib.unique(labels)
    with pytest.raises(ValueError, match="expected a model without batch statistics"):
        pac_bayes.noisy_errors(
            tiny.apply_fn, paths.line(tiny.params, tiny.params),
            streams.from_arrays(*tiny_models.make_inputs(20), batch_size=10),
            labels=labels, modules=modules, alphas=[1.0] * len(modules),
            sigmas=[0.1] * len(modules), key=KEY,
        )  # fmt: skip


def test_undefined_is_nan():
    assert np.isnan(pac_bayes.bound([math.nan], [1.0], [2], [0.1], num_examples=5).value)
    found = pac_bayes.noisy_errors(
        models.apply_fn, paths.line(A, B), lambda: iter([]), labels=LABELS,
        modules=["hidden", "head"], alphas=[0, 1], sigmas=[0, 1], key=KEY, num_draws=3,
    )  # fmt: skip
    assert np.isnan(found).all()
    assert found.shape == (3,)
    assert np.isnan(_errors(alphas=[np.nan, 1.0], sigmas=[np.nan, 0.1])).all()
    assert np.isnan(pac_bayes.bound([0.1], [1, np.nan], [2, 2], [0.1, 0.1], num_examples=5).value)


def test_errors():
    good = {"noisy_errors": [0.1], "distances": [1.0], "sizes": [2], "sigmas": [0.1]}
    for name, value, message in [
        ("noisy_errors", [1.5], "expected noisy_errors as a vector of errors within 0 … 1"),
        ("noisy_errors", [], "expected noisy_errors as a vector"),
        ("distances", [-1.0], r"expected distances in range, got \[-1.0\]"),
        ("sizes", [0], "expected sizes in range"),
        ("sigmas", [0.0], "expected sigmas in range"),
        ("sigmas", [0.1, 0.2], "expected one distance, size and sigma for each module"),
    ]:
        with pytest.raises(ValueError, match=message):
            pac_bayes.bound(**good | {name: value}, num_examples=10)
    with pytest.raises(ValueError, match="at least one example and deltas between 0 and 1"):
        pac_bayes.bound(**good, num_examples=0)
    with pytest.raises(ValueError, match="every label once, head, hidden, got hidden"):
        _errors(modules=["hidden"])
    with pytest.raises(ValueError, match=r"each of 2 modules, got shapes \(1,\) and \(2,\)"):
        _errors(alphas=[1.0])
    with pytest.raises(ValueError, match="expected alphas within 0 … 1 and sigmas of at least 0"):
        _errors(alphas=[2.0, 1.0])
    with pytest.raises(ValueError, match="expected num_draws of at least 1, got 0"):
        _errors(num_draws=0)
    assert jnp.isfinite(_errors(sigmas=[0, 0])).all()
