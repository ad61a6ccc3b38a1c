import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import landscapes, oracles
from tests.helpers.landscapes import point
from tlx.analyses.landscape import _hull, basins
from tlx.core import metrics, paths, streams

R = 1.5
"""The length of the segment from the bottom of the bowl outwards."""

CENTRE = (0.5, -1.0, 2.0, 0.0)
FOOT, RIM = point(*CENTRE), point(CENTRE[0] + R, *CENTRE[1:])
DELTAS = np.array([0.2, 0.45, 0.8]) * R


def _bowl(seed=0, num_draws=200, models=(FOOT, RIM), stream=None, chunk=1000, **options):
    return basins.basin(
        landscapes.difference,
        landscapes.half_square,
        models,
        stream or landscapes.around(CENTRE),
        deltas=DELTAS,
        key=jax.random.key(seed),
        num_draws=num_draws,
        chunk=chunk,
        **options,
    )


def _offset():
    """The loss at the bottom of the bowl."""
    inputs = landscapes.around(CENTRE).arrays["inputs"].astype(np.float64)
    return 0.5 * ((inputs - np.array(CENTRE)) ** 2).sum(1).mean()


def test_a_segment_from_the_bottom_of_a_bowl_has_its_closed_form():
    expected = oracles.basin_of_a_bowl(R, DELTAS)
    scores = {name: [] for name in ("mu", "epsilon", "noise", "beyond")}
    for seed in range(1000, 1020):
        got = _bowl(seed)
        for name in ("mu", "epsilon"):
            truth = expected[name] + (_offset() if name == "mu" else 0)
            scores[name].append((getattr(got, name) - truth) / getattr(got, f"{name}_error"))
        for name in ("noise", "beyond"):
            condition = getattr(got, name)
            scores[name].append((condition.excess - expected[name]) / condition.error)
    for name, score in scores.items():
        # errors that are honest give scores with mean 0 and mean square 1
        assert abs(np.mean(score)) < 0.7, name
        assert 0.7 < np.sqrt(np.mean(np.square(score))) < 1.3, name


def test_the_conditions_of_a_bowl():
    got = _bowl(4)
    assert got.noise.reached == ("no", "no", "yes")
    assert got.beyond.reached == ("no", "yes", "yes")
    np.testing.assert_allclose(got.delta, DELTAS[2], rtol=1e-6)
    assert got.statistics == "none"
    few = _bowl(num_draws=8)
    assert "open" in few.noise.reached


def test_no_delta_of_the_scan_is_enough():
    got = basins.basin(
        landscapes.wells, landscapes.own, [point(-1, 0), point(1, 0)], landscapes.scales(),
        deltas=[0.0, 0.01], key=jax.random.key(0), num_draws=8, chunk=1000,
    )  # fmt: skip
    assert got.noise.reached == got.beyond.reached == ("no", "no")
    assert np.isnan(got.delta)
    assert (got.noise.excess < 0).all()


def test_a_flat_loss_is_a_basin_of_any_width():
    got = basins.basin(
        lambda params, inputs: jnp.zeros(len(inputs)), landscapes.own, [FOOT, RIM],
        landscapes.around(CENTRE), deltas=DELTAS, key=jax.random.key(0), num_draws=8, chunk=100,
    )  # fmt: skip
    assert (float(got.mu), float(got.epsilon), float(got.epsilon_error)) == (0, 0, 0)
    np.testing.assert_allclose(got.delta, DELTAS[0])


def test_dilation_about_the_centre():
    ends = [point(CENTRE[0] - 1, *CENTRE[1:]), point(CENTRE[0] + 1, *CENTRE[1:])]
    plain = _bowl(models=ends)
    for dilation in (0.5, 2.0):
        got = _bowl(models=ends, dilation=dilation)
        np.testing.assert_allclose(got.epsilon, dilation**2 * plain.epsilon, rtol=1e-3)
        grown = dilation**2 * (plain.mu - _offset())
        np.testing.assert_allclose(got.mu - _offset(), grown, rtol=1e-3)


def test_the_order_of_models_changes_nothing_but_the_draws():
    models = [FOOT, RIM, point(0, 0, 0, 1)]
    one, other = (_bowl(models=m) for m in (models, models[::-1]))
    for name in ("mu", "epsilon"):
        error = np.hypot(getattr(one, f"{name}_error"), getattr(other, f"{name}_error"))
        assert abs(getattr(one, name) - getattr(other, name)) < 4 * error


def test_batches_and_chunks_change_nothing_and_the_data_are_read_once():
    expected = _bowl(num_draws=8)
    for batch_size, chunk in ((40, 5), (7, 1)):
        stream, passes = landscapes.counting(landscapes.around(CENTRE, batch_size=batch_size))
        got = _bowl(num_draws=8, stream=stream, chunk=chunk)
        np.testing.assert_allclose(got.noise.excess, expected.noise.excess, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(got.epsilon, expected.epsilon, rtol=1e-4)
        assert passes == [1]


@pytest.mark.parametrize("num_models", [2, 3, 4])
@given(seed=st.integers(0, 100))
def test_rays_leave_the_simplex_at_its_border(num_models, seed):
    first, second = (_hull.uniform(jax.random.key(seed + i), 9, num_models) for i in (0, 1000))
    border = _hull.exits(first, second)
    assert (border.min(1) == 0).all()
    np.testing.assert_allclose(border.sum(1), 1)
    ahead, whole = second - first, border - first
    reach = (whole * ahead).sum(1) / (ahead**2).sum(1)
    assert (reach >= 1 - 1e-12).all()
    np.testing.assert_allclose(whole, reach[:, None] * ahead, atol=1e-12)
    if num_models == 2:
        assert set(border.ravel()) == {0.0, 1.0}


def test_weights_are_uniform_on_the_simplex():
    draws = _hull.uniform(jax.random.key(0), 20000, 3)
    np.testing.assert_allclose(draws.mean(0), 1 / 3, atol=0.01)
    np.testing.assert_allclose((draws < 0.2).mean(0), 1 - 0.8**2, atol=0.01)


def test_points_beyond_lie_straight_out_at_the_drawn_distance():
    models = [FOOT, RIM, point(0, 0, 0, 1)]
    scan = _hull.scan(models, DELTAS, jax.random.key(3), num_draws=5, dilation=1.3)
    weights = np.asarray(scan.coordinates[0], np.float64).reshape(-1, 5, 3)
    places = weights @ np.stack([np.float64(m["w"]) for m in models])
    border, beyond = places[1], places[4:]
    steps = np.linalg.norm(beyond - border, axis=-1)
    np.testing.assert_allclose(steps / steps[:1], (DELTAS / DELTAS[0])[:, None] + 0 * steps, 1e-5)
    sigma = np.asarray(scan.coordinates[1]).reshape(-1, 5)
    np.testing.assert_allclose(sigma[1:4, 0], DELTAS / 2, rtol=1e-6)  # four parameters
    assert (sigma[[0, 4, 5, 6]] == 0).all()


@pytest.mark.parametrize("dilation", [1.0, 1.3])
def test_points_beyond_go_on_along_the_ray_to_the_border(dilation):
    models, key = [FOOT, RIM, point(0, 0, 0, 1)], jax.random.key(3)
    scan = _hull.scan(models, DELTAS, key, num_draws=5, dilation=dilation)
    corners = np.stack([np.float64(m["w"]) for m in models])
    weights = np.asarray(scan.coordinates[0], np.float64).reshape(-1, 5, 3)
    keys = jax.random.split(key, 5)
    inside, first, second = (_hull.uniform(k, 5, 3) for k in keys[:3])
    inside, first, border = (
        (dilation * u + (1 - dilation) / 3) @ corners
        for u in (inside, first, _hull.exits(first, second))
    )
    ray = (border - first) / np.linalg.norm(border - first, axis=1, keepdims=True)
    step = np.abs(np.float64(jax.random.normal(keys[3], (5,))))[:, None]
    np.testing.assert_allclose(weights[0] @ corners, inside, atol=1e-6)
    for i, delta in enumerate(DELTAS):
        np.testing.assert_allclose(weights[1 + i] @ corners, border, atol=1e-6)
        beyond = border + delta * step * ray
        np.testing.assert_allclose(weights[4 + i] @ corners, beyond, atol=1e-5)


def test_without_examples_there_is_no_data():
    got = _bowl(num_draws=8, stream=landscapes.around(CENTRE, num_examples=1, batch_size=4))
    assert np.isfinite(got.epsilon)
    empty = streams.from_arrays(np.zeros((0, 4), np.float32), batch_size=4)
    got = _bowl(num_draws=8, stream=empty)
    assert np.isnan(got.epsilon)
    assert np.isnan(got.delta)
    assert got.noise.reached == ("open",) * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": [FOOT]}, "expected at least two models, got 1"),
        ({"models": [FOOT, RIM, RIM]}, "models that differ, got equal models 1 and 2"),
        ({"models": [FOOT, point(1.25, *CENTRE[1:]), RIM]}, "got 1 independent directions of 2"),
        ({"models": [FOOT, point(0)]}, r"w: float32 4 in vertices\[0\], float32 1 in vertices"),
        ({"num_draws": 1}, "expected at least 2 draws, got 1"),
        ({"dilation": 0.0}, r"expected a dilation above 0, got 0\.0"),
    ],
)  # fmt: skip
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        _bowl(**options)


@pytest.mark.parametrize("deltas", [[0.2, 0.1], [], 0.1, [-1.0], [np.nan]])
def test_deltas_must_increase(deltas):
    with pytest.raises(ValueError, match="expected deltas as increasing numbers from 0, got"):
        basins.basin(
            landscapes.wells, landscapes.own, [FOOT, RIM], landscapes.scales(),
            deltas=deltas, key=jax.random.key(0),
        )  # fmt: skip


def test_the_losses_of_a_classifier():
    logits = jnp.asarray([[0.0, 1, 0], [2, 0, 0], [jnp.nan, 0, 0]])
    batch = {"labels": np.array([1, 1, 0])}
    np.testing.assert_array_equal(basins.LOSSES["error"](logits, batch), [0, 1, 1])
    assert basins.LOSSES["loss"] is metrics.softmax_cross_entropy


def test_the_hull_is_exact_at_its_corners():
    models = [FOOT, RIM, point(0.1, 0.2, 0.3, 0.7)]
    for i, model in enumerate(models):
        landscapes.assert_equal(paths.hull(models)(jnp.eye(3)[i]), model)
    astray = [FOOT, jax.tree.map(lambda x: x if x.ndim == 0 else x * jnp.nan, RIM)]
    landscapes.assert_equal(paths.hull(astray)(jnp.asarray([1.0, 0.0])), FOOT)
    got = paths.hull(models)(jnp.asarray([0.5, -0.25, 0.75]))
    each = [np.float64(m["w"]) for m in models]
    np.testing.assert_allclose(got["w"], 0.5 * each[0] - 0.25 * each[1] + 0.75 * each[2], rtol=1e-6)
    assert got["steps"] == 7
