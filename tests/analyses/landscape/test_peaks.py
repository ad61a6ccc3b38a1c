"""The adaptive search for the peak of a barrier."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tests.helpers import oracles
from tlx.analyses.landscape import barriers, interpolation, peaks
from tlx.core import metrics, streams

KINDS = barriers.KINDS


def _curve_at(params, inputs):
    """A sum of three bumps over alpha, whose heights, places and widths are the inputs."""
    height, place, width = jnp.split(inputs, 3, axis=1)
    return jnp.sum(height * jnp.exp(-jnp.square((params["x"] - place) / width)), 1)


_METRIC = metrics.mean(lambda outputs, batch: outputs)
_ENDS = ({"x": jnp.zeros((1, 1))}, {"x": jnp.ones((1, 1))})


def _search(bumps, **options):
    stream = streams.from_arrays(np.float32([np.ravel(bumps)]), batch_size=1)
    options = {"kind": "chord", "tolerance": 0.01, "loss_of": lambda losses: losses} | options
    return peaks.find_peak(_curve_at, _METRIC, *_ENDS, stream, **options)


def _fine(bumps, kind, tolerance):
    alphas = np.linspace(0, 1, 1 + round(10 / tolerance))
    height, place, width = np.float64(np.float32(bumps))[:, :, None]
    losses = (height * np.exp(-(((alphas[None] - place) / width) ** 2))).sum(0)
    return oracles.barrier(alphas, losses, kind)


@pytest.mark.parametrize("kind", KINDS)
@given(
    place=st.floats(0.05, 0.95), width=st.floats(0.15, 2), tilt=st.floats(0, 0.5),
    tolerance=st.sampled_from([0.05, 0.01, 0.001]),
)  # fmt: skip
def test_peak_is_that_of_a_fine_grid_with_fewer_points(kind, place, width, tilt, tolerance):
    bumps = [[1, tilt, 0], [place, 3, 0], [width, 2, 1]]
    got = _search(bumps, kind=kind, tolerance=tolerance)
    height, alpha = _fine(bumps, kind, tolerance)
    assert abs(float(got.alpha) - alpha) <= 1.2 * tolerance  # a tenth of it is the fine grid's
    np.testing.assert_allclose(got.height, height, atol=1.5 * (tolerance / width) ** 2 + 1e-5)
    left, right = map(float, got.bracket)
    assert left <= got.alpha <= right
    assert max(right - got.alpha, got.alpha - left) <= tolerance + 1e-6
    assert got.num_points == len(got.alphas) == len(got.results) < 1 + 1 / tolerance
    assert (np.diff(got.alphas) > 0).all()
    assert got.num_passes <= 6


@pytest.mark.parametrize(
    ("options", "points", "passes"),
    [
        ({"tolerance": 0.01}, 19, 4),
        ({"tolerance": 0.01, "num_refined": 16}, 27, 3),
        ({"tolerance": 0.25}, 5, 1),
        ({"tolerance": 1}, 2, 1),
        ({"tolerance": 0.3, "num_coarse": 3}, 5, 1),
    ],
)
def test_peak_counts_its_points_and_passes(options, points, passes):
    got = _search([[1, 0, 0], [0.43, 0, 0], [0.2, 1, 1]], **options)
    assert (got.num_points, got.num_passes) == (points, passes)


def test_peak_reads_the_data_once_a_round_and_its_ends_are_exact():
    reads = []
    inner = streams.from_arrays(*models.make_data(50), batch_size=16)

    def counting():
        reads.append(1)
        return inner()

    ends = models.make_params(0), models.make_params(1)
    metric = metrics.classification()
    got = peaks.find_peak(models.apply_fn, metric, *ends, counting, kind="chord", tolerance=0.02)
    assert len(reads) == got.num_passes
    line = interpolation.line(models.apply_fn, metric, *ends, inner, alphas=got.alphas)
    for name, values in line.results.items():
        np.testing.assert_array_equal(got.results[name], values)
    top = barriers.barrier(got.alphas, line.results["loss"], kind="chord")
    assert (got.height, got.alpha) == top
    assert got.statistics == "none"


def test_peak_of_accuracy_is_its_fall():
    stream = streams.from_arrays(*models.make_data(50), batch_size=16)
    got = peaks.find_peak(
        models.apply_fn, metrics.classification(), models.make_params(0), models.make_params(1),
        stream, kind="endpoint_mean", tolerance=0.05,
        loss_of=lambda results: -results["accuracy"],
    )  # fmt: skip
    top = barriers.barrier(got.alphas, -got.results["accuracy"], kind="endpoint_mean")
    assert got.height == top.height


def test_peak_at_an_end_and_of_a_nan():
    down = _search([[1, 0, 0], [0, 0, 0], [0.3, 1, 1]], kind="endpoint_mean")
    assert (float(down.alpha), float(down.bracket[0])) == (0, 0)
    assert 0 < down.bracket[1] <= 0.01
    nothing = _search([[np.nan, 0, 0], [0, 0, 0], [0.3, 1, 1]])
    assert np.isnan([nothing.height, nothing.alpha, *nothing.bracket]).all()
    assert (nothing.num_points, nothing.num_passes) == (9, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0}, r"expected a tolerance in 1e-05 … 1, got 0"),
        ({"tolerance": 1.5}, "got 1.5"),
        ({"num_coarse": 2}, "num_coarse of at least 3 and num_refined of at least 2, got 2 and 4"),
        ({"num_refined": 1}, "got 9 and 1"),
        ({"kind": "chrod"}, "unknown kind of barrier 'chrod'; did you mean 'chord'"),
    ],
)
def test_peak_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        _search([[1, 0, 0], [0, 0, 0], [1, 1, 1]], **options)
