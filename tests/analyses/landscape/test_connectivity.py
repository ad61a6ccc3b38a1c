from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import landscapes, oracles
from tests.helpers.landscapes import point
from tlx.analyses.landscape import connectivity
from tlx.analyses.landscape.connectivity import Curve
from tlx.core import metrics, streams

LEFT, RIGHT = point(-1, 0), point(1, 0)
KEY = jax.random.key(0)
ADAM = optax.adam(0.05)
KINDS = ("bezier", "polygon")


class Descent(NamedTuple):
    """Gradient descent at rate 0.1, a pair of functions that owes nothing to any library."""

    init: Any
    update: Any


def _update(gradients, state, params):
    del params
    return jax.tree.map(lambda g: -0.1 * g, gradients), state


DESCENT = Descent(lambda params: (), _update)


def _train(curve, num_steps, optimizer=ADAM, stream=None, **options):
    return connectivity.train(
        landscapes.bump,
        landscapes.own,
        curve,
        stream or landscapes.scales(std=0.1),
        optimizer=optimizer,
        num_steps=num_steps,
        key=KEY,
        **options,
    )


def _evaluate(curve, stream=None, **options):
    stream = stream or landscapes.scales()
    return connectivity.evaluate_curve(landscapes.bump, landscapes.own, curve, stream, **options)


def _places(curve):
    return np.stack([np.float64(point["w"]) for point in curve.controls])


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_finds_its_way_around_a_bump(kind):
    line = connectivity.straight(LEFT, RIGHT, kind=kind, num_inner=2)
    over = _evaluate(line, chunk=21)
    assert over.barrier > 0.9
    np.testing.assert_allclose([over.length, over.chord], 2, rtol=1e-6)
    curve, losses = _train(line, 300)
    assert losses.shape == (300,)
    assert losses[-50:].mean() < 0.5 * losses[:50].mean()
    around = _evaluate(curve, chunk=21)
    assert around.barrier < 0.2 * over.barrier
    assert around.length > 2.1
    np.testing.assert_allclose(around.chord, 2, rtol=1e-6)
    assert curve.controls[0] is LEFT
    assert curve.controls[-1] is RIGHT
    assert all(control["steps"] == 7 for control in curve.controls)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_the_gradient_in_float64(kind):
    centre = (0.3, -0.2)
    stream = landscapes.around(centre, batch_size=40)
    curve = connectivity.straight(LEFT, RIGHT, kind=kind)
    trained, losses = connectivity.train(
        landscapes.difference, landscapes.half_square, curve, stream,
        optimizer=DESCENT, num_steps=1, key=KEY,
    )  # fmt: skip
    t = float(jax.random.uniform(jax.random.fold_in(KEY, 0)))
    inner = 2 * t * (1 - t) if kind == "bezier" else 1 - abs(2 * t - 1)
    away = np.array([2 * t - 1, 0]) - centre  # the straight curve's point, from the bottom
    expected = _places(curve)[1] - 0.1 * inner * away
    np.testing.assert_allclose(_places(trained)[1], expected, rtol=1e-5)
    inputs = stream.arrays["inputs"].astype(np.float64)
    loss = 0.5 * ((np.array([2 * t - 1, 0]) - inputs) ** 2).sum(1).mean()
    np.testing.assert_allclose(losses, [loss], rtol=1e-5)


def test_masked_rows_change_nothing_in_a_step():
    curve = connectivity.straight(LEFT, RIGHT)
    padded = landscapes.scales(num_examples=5, batch_size=8)
    exact = landscapes.scales(num_examples=5, batch_size=5)
    one, other = (_train(curve, 1, DESCENT, stream)[0] for stream in (padded, exact))
    np.testing.assert_allclose(_places(one), _places(other), rtol=1e-6)


@pytest.mark.parametrize("first", [1, 3, 5])
def test_training_goes_on_as_if_it_had_not_stopped(first):
    start = connectivity.straight(LEFT, RIGHT)
    whole, losses = _train(start, 7)  # three batches a pass
    half, early = _train(start, first)
    assert (half.step, half.position) == (first, (first - 1) % 3 + 1)
    assert half.controls[1]["w"].is_deleted() is False
    rest, late = _train(half, 7 - first)
    landscapes.assert_equal(rest.controls, whole.controls)
    landscapes.assert_equal(rest.opt_state, whole.opt_state)
    np.testing.assert_array_equal(np.concatenate([early, late]), losses)
    assert rest[3:] == whole[3:] == (7, 1)


def test_no_steps_change_nothing():
    start = connectivity.straight(LEFT, RIGHT)
    curve, losses = _train(start, 0)
    landscapes.assert_equal(curve.controls, start.controls)
    assert losses.shape == (0,)
    assert (curve.step, curve.position) == (0, 0)


def test_given_control_points_progress_and_one_compilation():
    traces, seen = [], []

    def counted(params, inputs):
        traces.append(1)
        return landscapes.bump(params, inputs)

    for middle in (point(0, 1), point(0, 0.5)):
        curve = Curve("bezier", (LEFT, middle, RIGHT))
        _, losses = connectivity.train(
            counted, landscapes.own, curve, landscapes.scales(), optimizer=ADAM, num_steps=3,
            key=KEY, progress=lambda step, loss: seen.append((step, loss)),
        )  # fmt: skip
        assert seen[-3:] == [(i + 1, float(x)) for i, x in enumerate(losses)]
    assert len(traces) <= 3  # the step once; the search for batch statistics may be repeated


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 50), num_inner=st.integers(1, 3))
def test_lengths_are_those_of_a_fine_polyline(kind, seed, num_inner):
    rng = np.random.default_rng(seed)
    controls = tuple(point(*rng.standard_normal(3)) for _ in range(num_inner + 2))
    curve = Curve(kind, controls)
    length, chord = connectivity._lengths(curve)
    expected = oracles.curve_length(kind, _places(curve))
    np.testing.assert_allclose(length, expected, rtol=1e-4)
    places = _places(curve)
    np.testing.assert_allclose(chord, np.linalg.norm(places[-1] - places[0]), rtol=1e-5)
    assert length >= chord * (1 - 1e-6)
    np.testing.assert_allclose(
        connectivity._lengths(Curve(kind, controls[::-1])), (length, chord), rtol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_curve_is_measured_where_it_is(kind):
    curve = Curve(kind, (LEFT, point(0.5, 1), RIGHT))
    stream, passes = landscapes.counting(landscapes.scales(mean=2.0, std=0.5))
    got = _evaluate(curve, stream, metric=metrics.mean(landscapes.own), num_points=11)
    assert passes == [1]
    places = oracles.curve(kind, _places(curve), np.linspace(0, 1, 11))
    losses = 2 * np.exp(-5 * ((places - np.array([0, -0.1])) ** 2).sum(1))
    np.testing.assert_allclose(got.losses, losses, rtol=1e-4)
    np.testing.assert_array_equal(got.results, got.losses)
    height, peak = oracles.barrier(got.ts, losses, "chord")
    np.testing.assert_allclose(got.barrier, height, rtol=1e-4)
    np.testing.assert_allclose(got.peak, peak, rtol=1e-6)
    assert got.statistics == "none"
    again = _evaluate(curve, landscapes.scales(2.0, 0.5, batch_size=7), num_points=11, chunk=4)
    np.testing.assert_allclose(again.losses, got.losses, rtol=1e-5)
    assert again.results is None


def test_the_ends_are_the_models():
    got = _evaluate(Curve("polygon", (LEFT, point(3, 3), RIGHT)), num_points=2)
    assert got.barrier == got.peak == 0
    np.testing.assert_allclose(got.losses, np.exp(-5 * 1.01), rtol=1e-5)


def test_without_examples_there_is_no_data():
    empty = streams.from_arrays(np.zeros((0, 1), np.float32), batch_size=4)
    got = _evaluate(connectivity.straight(LEFT, RIGHT), empty, num_points=2)
    assert np.isnan([got.barrier, got.peak]).all()
    assert got.chord == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: connectivity.straight(LEFT, point(1)), "w: float32 2 in params_a, float32 1 in"),
        (lambda: connectivity.straight(LEFT, RIGHT, num_inner=0), "one inner control point, got 0"),
        (
            lambda: connectivity.straight(LEFT, RIGHT, kind="besier"),
            "unknown kind of curve 'besier'; did you mean 'bezier'",
        ),
        (lambda: connectivity.path(Curve("bezier", (LEFT, RIGHT))), "3 control points, got 2"),
        (lambda: _train(connectivity.straight(LEFT, RIGHT), -1), "num_steps of at least 0, got -1"),
        (
            lambda: _train(connectivity.straight(LEFT, RIGHT), 1, stream=lambda: iter(())),
            "expected a training stream with at least one batch, got none",
        ),
        (
            lambda: _evaluate(connectivity.straight(LEFT, RIGHT), num_points=1),
            "expected num_points of at least 2, the ends, got 1",
        ),
    ],
)
def test_bad_input(function, message):
    with pytest.raises(ValueError, match=message):
        function()
