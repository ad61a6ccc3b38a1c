"""The landscape analyses on one model in every framework: the same numbers; and on a mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers import tiny_models
from tlx.analyses.landscape import (
    averaging,
    basins,
    connectivity,
    curvature,
    interpolation,
    peaks,
    planes,
    sharpness,
    trajectories,
)
from tlx.analyses.landscape.permutations import alignment
from tlx.core import batch_statistics, metrics, sharding, streams, tree
from tlx.core import labels as labels_lib

ALPHAS = np.linspace(0, 1, 5, dtype=np.float32)
N, BATCH = 40, 16
KEY = jax.random.key(0)
LOSS, METRIC = metrics.softmax_cross_entropy, metrics.classification()


def models(framework):
    """Three models with the same weights in every framework."""
    made = [tiny_models.make(framework, seed) for seed in range(3)]
    if framework == "linen":
        return made
    return [
        one._replace(params=transplanted(tiny_models.make("linen", seed), one))
        for seed, one in enumerate(made)
    ]


def transplanted(source, target):
    """The target's parameters with the source's values, role by role."""
    values = tree.named_leaves(source.params)
    roles = {leaf: role for role, leaf in target.roles.items()}

    def leaf(name, own):
        if name not in roles:  # a buffer that decides no output, such as a sum for an average
            return jnp.zeros_like(own)
        value = values[source.roles[roles[name]]]
        return value.T if name.endswith("weight") and value.ndim == 2 else value.reshape(own.shape)

    return tree.map_named(leaf, target.params)


def stream_of(seed):
    return streams.from_arrays(*tiny_models.make_inputs(N, seed), batch_size=BATCH)


def analyses(framework, mesh=None, parts=None):
    """What each landscape analysis gives, as arrays that no order of leaves decides."""
    tiny = models(framework)
    params = [t.params if mesh is None else sharding.place(t.params, mesh) for t in tiny]
    labels = labels_lib.from_names(params[0], lambda name: tiny_models.module_of(tiny[0], name))
    stream, training = stream_of(0), stream_of(1)
    here = (tiny[0].apply_fn, params, stream, training)
    found = {}
    for part in parts or PARTS:
        found |= part(*here, *([labels] if part is around else []))
    return found


def lines(apply_fn, params, stream, training):
    a, b, _ = params
    found = {}
    for source in (training, "interpolate", "a"):
        got = interpolation.line(apply_fn, METRIC, a, b, stream, alphas=ALPHAS, statistics=source)
        found[f"line {got.statistics}"] = got.results
    repaired = interpolation.line(
        apply_fn, METRIC, a, b, stream, alphas=ALPHAS, statistics=training, repair=True
    )
    found["line repaired"] = repaired.results["loss"]
    peak = peaks.find_peak(
        apply_fn, METRIC, a, b, stream, kind="chord", tolerance=0.1, statistics=training
    )
    found["peak"] = (peak.height, peak.alpha)
    curve, losses = connectivity.train(
        apply_fn, LOSS, connectivity.straight(a, b), training,
        optimizer=optax.sgd(0.1), num_steps=3, key=KEY,
    )  # fmt: skip
    got = connectivity.evaluate_curve(apply_fn, LOSS, curve, stream, statistics=training)
    found["curve"] = (losses, got.losses, got.barrier)
    return found


def sets(apply_fn, params, stream, training):
    plane = planes.through(*params)
    xs, ys = planes.cover(plane.coordinates, num=3)
    grid = planes.grid(apply_fn, METRIC, plane.path_fn, stream, xs=xs, ys=ys, statistics=training)
    same = basins.same_basin(
        apply_fn, params, stream, tolerances={"loss": 0.1, "error": 0.1}, deltas=[0.5], key=KEY,
        num_draws=4, num_examples=N, statistics=training,
    )  # fmt: skip
    soup = averaging.greedy_soup(
        apply_fn, METRIC, params, stream, score=lambda found: found["accuracy"],
        statistics=training,
    )  # fmt: skip
    wise = averaging.wise_ft(
        apply_fn, METRIC, *params[:2], {"target": stream, "source": training},
        alphas=ALPHAS, statistics=training,
    )  # fmt: skip
    components = trajectories.principal_components(params)
    seen = trajectories.trajectory(
        apply_fn, METRIC, params, components, stream, statistics=training
    )
    return {
        "plane": grid.results,
        "basin": (same.barriers, same.basins["loss"].epsilon, same.basins["loss"].mu),
        "soup": evaluate_at(apply_fn, soup.params, stream, training),
        "wise": wise.results,
        "trajectory": (seen.results, seen.projected, components.explained),
    }


def evaluate_at(apply_fn, params, stream, training):
    point = lambda _: params  # noqa: E731
    return batch_statistics.along(apply_fn, METRIC, point, jnp.zeros(1), stream, source=training)[0]


def around(apply_fn, params, stream, training, labels):
    del training
    varied = {"labels": labels, "modules": ("hidden", "head")}
    operators = {
        "hessian": curvature.hessian(apply_fn, LOSS, params[0], stream, **varied),
        "gauss_newton": curvature.gauss_newton(apply_fn, LOSS, params[0], stream, **varied),
    }
    found = {
        name: np.sort(curvature.eigenvalues(each, order=each.size, key=KEY).values)
        for name, each in operators.items()
    }
    ball = sharpness.in_ball(
        apply_fn, LOSS, params[0], stream, radius=0.05, key=KEY, steps=30, **varied
    )
    return {**found, "sharpness": ball.value}


def permuted(apply_fn, params, stream, training):
    del training
    a, b, _ = params
    inputs = next(iter(stream()))["inputs"]
    symmetry = alignment.symmetry(apply_fn, a, inputs)
    found = {}
    for name, matching in (
        ("weights", alignment.weight_matching(symmetry, a, b)),
        ("activations", alignment.activation_matching(apply_fn, symmetry, a, b, stream)),
    ):
        (order,) = matching.permutations.values()
        found[name] = (order, matching.distance_after - matching.distance_before)
    return found


PARTS = (lines, around, sets, permuted)
BY_FRAMEWORK = {"nnx": PARTS, "haiku": (lines, permuted), "equinox": (sets, around)}
"""Each part with two frameworks besides Linen: all with all take minutes of compilation."""


@pytest.fixture(scope="module")
def linen():
    return analyses("linen")


@pytest.mark.parametrize("framework", [f for f in tiny_models.FRAMEWORKS if f != "linen"])
def test_every_framework_gives_the_same_numbers(linen, framework):
    found = analyses(framework, parts=BY_FRAMEWORK[framework])
    assert found
    for name, got in found.items():
        assert_close(got, linen[name], name)


def test_a_mesh_of_devices_gives_the_numbers_of_one(linen, monkeypatch):
    monkeypatch.setattr(sharding, "SMALL", 1)
    found = analyses("linen", sharding.make_mesh(points=2, model=2))
    for name, expected in linen.items():
        assert_close(found[name], expected, name)


def assert_close(found, expected, name):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5, err_msg=name),
        found,
        expected,
    )
