"""Laws of single lines, each from its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.core import models
from tlx.analyses.landscape import curvature, directions
from tlx.analyses.landscape.modules import criticality
from tlx.analyses.parameters import _scale_invariance
from tlx.analyses.parameters._subspaces import principal_overlap
from tlx.core import metrics, streams

RNG = np.random.default_rng(0)


def test_the_error_of_a_trace_is_that_of_a_mean():
    stream = streams.from_arrays(*models.make_data(12), batch_size=5)
    operator = curvature.hessian(
        models.apply_fn, metrics.softmax_cross_entropy, models.make_params(0), stream
    )
    found = curvature.trace(operator, num_probes=5, key=jax.random.key(0))
    expected = np.std(found.samples, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(found.standard_error, expected, rtol=1e-9)


@pytest.mark.parametrize("num", [2, 5])
def test_the_error_of_noisy_losses_is_that_of_a_mean(num):
    draws = RNG.standard_normal((num, 2, 3, 2))
    found = criticality._standard_error(draws, np.array([0.0, 0.1]))
    expected = draws.std(0, ddof=1) / np.sqrt(num)
    np.testing.assert_allclose(found[..., 1], expected[..., 1], rtol=1e-12)
    np.testing.assert_array_equal(found[..., 0], 0)


def test_leaves_of_one_shape_get_directions_of_their_own():
    params = {"a": jnp.ones((4, 3)), "b": jnp.ones((4, 3))}
    found = directions.random_direction(jax.random.key(0), params, normalization=None)
    cosine = jnp.vdot(found["a"], found["b"]) / (
        jnp.linalg.norm(found["a"]) * jnp.linalg.norm(found["b"])
    )
    assert abs(float(cosine)) < 0.9


def test_what_scale_takes_away_does_not_depend_on_it():
    """A filter s times as large has s times the mean and s² times the variance."""
    of = _scale_invariance.ScaleInvariant("kernel", 1, None, "mean", "var", 1.0)
    kernel, scale = RNG.standard_normal((5, 3)), np.array([0.5, 2.0, 3.0])
    plain = {"kernel": kernel, "mean": RNG.standard_normal(3), "var": RNG.random(3)}
    scaled = {
        "kernel": kernel * scale, "mean": plain["mean"] * scale, "var": plain["var"] * scale**2
    }  # fmt: skip
    one, other = (
        _scale_invariance._without_scale(jax.tree.map(lambda x: jnp.asarray(x, "f4"), v), of)
        for v in (plain, scaled)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), one, other)
    np.testing.assert_allclose(np.linalg.norm(one["kernel"], axis=0), 1, rtol=1e-5)


def test_two_planes_that_share_a_line_overlap_by_a_half():
    def run(*axes):
        spread = (np.array([3.0, -3.0, 0, 0]), np.array([0, 0, 1.0, -1.0]))
        points = sum(np.outer(s, np.eye(6)[axis]) for s, axis in zip(spread, axes, strict=True))
        return [{"w": jnp.asarray(point, jnp.float32)} for point in points]

    assert principal_overlap(run(0, 1), run(0, 2), rank=2).overlap == pytest.approx(0.5, abs=1e-6)
    assert principal_overlap(run(0, 1), run(2, 3), rank=2).overlap == pytest.approx(0, abs=1e-6)
    assert principal_overlap(run(0, 1), run(1, 0), rank=2).overlap == pytest.approx(1, abs=1e-6)
