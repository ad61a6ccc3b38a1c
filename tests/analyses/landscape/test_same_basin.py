import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import landscapes, oracles
from tests.helpers.landscapes import point
from tlx.analyses.landscape import basins
from tlx.core import streams


def _same(apply_fn, models, stream, tolerance=0.1, **options):
    return basins.same_basin(
        apply_fn, models, stream, tolerances={"own": tolerance}, losses={"own": landscapes.own},
        deltas=[0.1, 0.5], key=jax.random.key(0), num_draws=8, chunk=100, **options,
    )  # fmt: skip


def test_two_points_of_a_bowl_share_a_basin_and_two_wells_do_not():
    wells = [point(-1, 0), point(1, 0)]
    got = _same(landscapes.wells, wells, landscapes.scales(std=0.3))
    assert got.verdict == "no"
    assert got.deciding == ("own", (0, 1))
    np.testing.assert_allclose(got.barriers["own"], 1, rtol=1e-5)
    error = 0.3 / np.sqrt(40)
    np.testing.assert_allclose(got.low["own"], 1 - 1.96 * error, atol=0.02)
    np.testing.assert_allclose(got.high["own"], 1 + 1.96 * error, atol=0.02)
    np.testing.assert_allclose(got.losses["own"], 0, atol=1e-6)
    assert got.basins["own"].epsilon > 0.1
    beside = [point(1, 0), point(1.05, 0.1)]
    got = _same(landscapes.wells, beside, landscapes.scales(std=0.3))
    assert got.verdict == "yes"
    assert got.basins["own"].epsilon < 0.01
    assert got.statistics == got.basins["own"].statistics == "none"


def test_examples_that_disagree_leave_the_answer_open():
    wells = [point(-1, 0), point(1, 0)]
    got = _same(landscapes.wells, wells, landscapes.scales(std=3.0), tolerance=1.0)
    assert got.low["own"] < 1 < got.high["own"]
    assert got.verdict == "open"


def test_the_pair_with_a_barrier_decides():
    models = [point(-1, 0), point(1, 0), point(1.1, 0.2)]
    got = _same(landscapes.wells, models, landscapes.scales())
    assert got.groups == ((0, 1), (0, 2), (1, 2), (0, 1, 2))
    assert got.verdicts["own"] == ("no", "no", "yes", "no")
    expected = [
        oracles.barrier(np.linspace(0, 1, 11), _well_losses(models[i], models[j]), "chord")[0]
        for i, j in got.groups[:3]
    ]
    np.testing.assert_allclose(got.barriers["own"][:3], expected, rtol=1e-5, atol=1e-6)
    assert got.deciding[1] == got.groups[int(np.argmax(got.barriers["own"]))]


def _well_losses(a, b):
    t = np.linspace(0, 1, 11)[:, None]
    w = (1 - t) * np.float64(a["w"]) + t * np.float64(b["w"])
    return (w[:, 0] ** 2 - 1) ** 2 + 0.5 * w[:, 1] ** 2


def test_a_bump_that_no_pair_sees_is_seen_at_the_centre():
    corners = [point(2 * np.cos(a), 2 * np.sin(a) - 0.1) for a in (0, 2 * np.pi / 3, 4 * np.pi / 3)]
    got = _same(landscapes.bump, corners, landscapes.scales(), num_points=3)
    assert got.verdicts["own"] == ("yes", "yes", "yes", "no")
    assert got.deciding == ("own", (0, 1, 2))
    np.testing.assert_allclose(got.barriers["own"][3], 1, rtol=1e-4)


def test_a_classifier_is_judged_by_loss_and_error():
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((30, 2)).astype(np.float32)
    a = {"w": jnp.asarray(rng.standard_normal(6), jnp.float32)}
    b = {"w": 2 * a["w"] + 0.01}
    labels = np.asarray(landscapes.classes(a, inputs)).argmax(1)
    stream = streams.from_arrays(inputs, labels, batch_size=16)
    got = basins.same_basin(
        landscapes.classes, [a, b], lambda: stream(), num_examples=30,
        tolerances={"error": 0.02, "loss": 1e-3}, deltas=[0.1, 0.5], key=jax.random.key(0),
        num_draws=8, chunk=100,
    )  # fmt: skip
    assert set(got.barriers) == set(got.basins) == {"loss", "error"}
    assert got.verdict == "yes"  # the loss is convex in the weights of a linear model
    assert got.losses["error"][0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"losses": basins.LOSSES}, "unknown loss 'own'. Known: error, loss"),
        ({"tolerance": -1.0}, r"expected a tolerance of own of at least 0, got -1\.0"),
        ({"num_points": 0}, "expected at least one point on the line of a pair, got 0"),
        ({"confidence": 1.0}, r"expected a confidence between 0 and 1, got 1\.0"),
        ({"num_examples": 30}, "by num_examples=30, got 31 in row 15"),
    ],
)
def test_bad_questions(options, message):
    given_losses = options.pop("losses", {"own": landscapes.own})
    tolerance = options.pop("tolerance", 0.1)
    with pytest.raises(ValueError, match=message):
        basins.same_basin(
            landscapes.wells, [point(-1, 0), point(1, 0)], landscapes.scales(), deltas=[0.1],
            key=jax.random.key(0), losses=given_losses, tolerances={"own": tolerance}, **options,
        )  # fmt: skip


def test_every_loss_needs_a_tolerance_and_the_number_of_examples_is_needed():
    models, key = [point(-1, 0), point(1, 0)], jax.random.key(0)
    options = {"deltas": [0.1], "key": key, "tolerances": {"loss": 0.1}}
    with pytest.raises(ValueError, match="each of the losses loss, error, got none for error"):
        basins.same_basin(landscapes.wells, models, landscapes.scales(), **options)
    stream = landscapes.scales()
    with pytest.raises(ValueError, match=r"expected num_examples= .* without num_examples"):
        _same(landscapes.wells, models, lambda: stream())
