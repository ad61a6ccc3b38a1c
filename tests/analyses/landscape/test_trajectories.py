import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tests.helpers import oracles
from tlx.analyses.landscape import planes, trajectories
from tlx.core import evaluate, metrics, streams, tree

METRIC = metrics.classification()
START, U, V = (models.make_params(seed) for seed in range(3))
NUM = 6


def _walk(seed=0, scale=0.1, num=NUM):
    """A drift along U with noise in all directions."""
    rng = np.random.default_rng(seed)
    return [
        jax.tree.map(
            lambda a, u, t=t: a + (0.2 * t * u + scale * rng.standard_normal(a.shape)).astype("f4"),
            START,
            U,
        )
        for t in range(num)
    ]


def _flat(params):
    return np.concatenate([np.float64(leaf).ravel() for leaf in jax.tree.leaves(params)])


def _stream(batch_size=16):
    return streams.from_arrays(*models.make_data(50), batch_size=batch_size)


def _trajectory(checkpoints, components=None, stream=None, **options):
    components = components or trajectories.principal_components(checkpoints)
    stream = stream or _stream()
    return trajectories.trajectory(
        models.apply_fn, METRIC, checkpoints, components, stream, **options
    )


@given(seed=st.integers(0, 99), offset=st.sampled_from([0.0, 100.0]))
def test_components_are_those_of_the_singular_value_decomposition(seed, offset):
    checkpoints = [jax.tree.map(lambda x: x + offset, p) for p in _walk(seed)]
    x = np.stack([_flat(p) for p in checkpoints])
    got = trajectories.principal_components(checkpoints)
    explained, coordinates, components = oracles.principal(x)
    signs = np.where(coordinates[-1] < 0, -1, 1)[: NUM - 1]
    np.testing.assert_allclose(got.explained, explained[: NUM - 1], rtol=1e-4)
    np.testing.assert_allclose(
        got.coordinates, coordinates[:, : NUM - 1] * signs[None], rtol=1e-4, atol=1e-4
    )
    for k, direction in enumerate(got.directions):
        np.testing.assert_allclose(_flat(direction), components[k] * signs[k], atol=1e-5)
    on_plane = x.mean(0) + coordinates[:, :2] @ components[:2]
    np.testing.assert_allclose(got.residuals, np.linalg.norm(x - on_plane, axis=1), rtol=1e-4)


def test_a_planar_trajectory_is_explained_and_meets_its_projections():
    angles = np.linspace(0, 3, NUM)
    checkpoints = [tree.add(tree.add(START, U, np.cos(t)), V, np.sin(t)) for t in angles]
    got = trajectories.principal_components(checkpoints)
    np.testing.assert_allclose(got.explained[:2].sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(got.residuals, 0, atol=1e-5)
    found = _trajectory(checkpoints, got)
    np.testing.assert_allclose(found.results["loss"], found.projected["loss"], rtol=1e-4)


def test_directions_are_orthonormal_and_coordinates_are_projections():
    checkpoints = _walk()
    got = trajectories.principal_components(checkpoints)
    first, second = got.directions
    norms = [tree.norm(first), tree.norm(second)]
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    np.testing.assert_allclose(tree.dot(first, second), 0, atol=1e-5)
    for checkpoint, place in zip(checkpoints, got.coordinates, strict=True):
        away = tree.sub(checkpoint, got.mean)
        np.testing.assert_allclose(
            [tree.dot(away, first), tree.dot(away, second)], place[:2], atol=1e-4
        )
    assert (got.coordinates[-1] >= 0).all()
    np.testing.assert_allclose(got.explained.sum(), 1, rtol=1e-6)


def test_order_of_checkpoints_changes_signs_alone():
    checkpoints = _walk()
    one = trajectories.principal_components(checkpoints)
    other = trajectories.principal_components(checkpoints[::-1])
    np.testing.assert_allclose(one.explained, other.explained, rtol=1e-5)
    np.testing.assert_allclose(one.residuals, other.residuals[::-1], rtol=1e-5)
    np.testing.assert_allclose(np.abs(one.coordinates), np.abs(other.coordinates[::-1]), atol=1e-5)


def test_blocks_change_nothing(monkeypatch):
    checkpoints = _walk()
    whole = trajectories.principal_components(checkpoints)
    monkeypatch.setattr(trajectories, "BLOCK", 20)
    parts = trajectories.principal_components(checkpoints)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), whole, parts)


@pytest.mark.parametrize("chunk", [1, 5])
def test_checkpoints_are_exact_and_projections_lie_on_the_plane(chunk):
    checkpoints, reads = _walk(), []
    components = trajectories.principal_components(checkpoints)

    def counting():
        reads.append(1)
        return _stream(64)()

    found = _trajectory(checkpoints, components, counting, chunk=chunk)
    assert len(reads) == 1
    assert found.statistics == "none"
    for i, checkpoint in enumerate(checkpoints):
        alone = evaluate(models.apply_fn, METRIC, checkpoint, _stream(64))
        for name, value in alone.items():
            if chunk == 1:
                np.testing.assert_array_equal(found.results[name][i], value)
            np.testing.assert_allclose(found.results[name][i], value, rtol=1e-5)
    marks = components.coordinates[:, :2]
    xs, ys = planes.cover(marks, num=2)
    grid = planes.grid(
        models.apply_fn, METRIC, components.path_fn, _stream(), xs=xs, ys=ys, marks=marks
    )
    np.testing.assert_allclose(found.projected["loss"], grid.at_marks["loss"], rtol=1e-5)


def test_half_precision_and_counters():
    checkpoints = [
        jax.tree.map(lambda x: x.astype(jnp.bfloat16), p) | {"steps": jnp.int32(3)}
        for p in _walk(scale=0.5)
    ]
    got = trajectories.principal_components(checkpoints)
    explained, _, _ = oracles.principal(
        np.stack([_flat({k: p[k] for k in START}) for p in checkpoints])
    )
    np.testing.assert_allclose(got.explained, explained[: NUM - 1], rtol=1e-5)
    point = got.path_fn(jnp.ones(2))
    assert point["steps"] == 3
    assert point["head"]["kernel"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("checkpoints", "message"),
    [
        ([START, U], "at least three checkpoints for a plane, got 2; evaluate the line"),
        ([tree.lerp(START, U, t) for t in (0, 0.2, 0.7, 1)], "checkpoints that span a plane"),
        (
            [START, U, jax.tree.map(lambda x: x / 0, V)],
            "got a NaN or an infinity in:\n  checkpoints\\[2\\]: head/bias\n",
        ),
        ([START] * 4, r"within 0 of one line, which is within rounding"),
        ([START, U, models.make_params(0, width=9)], "3 of 4 that differ"),
        ([{"n": jnp.int32(i), "w": jnp.ones(2)} for i in range(3)], "different values of n"),
        ([{"n": jnp.int32(1)}] * 3, "within 0 of one line"),
    ],
)
def test_refuses_checkpoints(checkpoints, message):
    with pytest.raises(ValueError, match=message):
        trajectories.principal_components(checkpoints)


def test_refuses_components_of_others():
    checkpoints = _walk()
    components = trajectories.principal_components(checkpoints[:-1])
    with pytest.raises(ValueError, match="expected the components of these 6 checkpoints, got"):
        _trajectory(checkpoints, components)
