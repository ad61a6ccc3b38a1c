"""What is free of the scale, or of an offset, is so to the ends of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tlx.analyses import features, landscape
from tlx.analyses.features.similarity import (
    cka,
    cka_matrix,
    kernels,
    measures,
    neighbors,
    rsa,
    shape,
)
from tlx.analyses.features.transfer import domains, probes, transferability
from tlx.analyses.landscape import connectivity, directions, planes, sharpness
from tlx.analyses.landscape.modules import criticality
from tlx.analyses.parameters import distances, movement, spectra
from tlx.core import labels, metrics, partition, paths, streams, tree

N = 40
SCALES = st.sampled_from([1e-25, 1e-12, 1.0, 3e7, 1e25])
OFFSETS = st.sampled_from([-100.0, 0.0, 100.0])  # in spreads


def _features():
    rng = np.random.default_rng(0)
    common = rng.standard_normal((N, 3))
    parts = (common @ rng.standard_normal((3, d)) + rng.standard_normal((N, d)) for d in (8, 7))
    return [part.astype(np.float32) for part in parts]


X, Y = _features()
PLAIN = {name: float(measures.between(name, X, Y)) for name in measures.MEASURES}


def test_every_measure_has_a_value_here():
    assert np.isfinite(list(PLAIN.values())).all()


@pytest.mark.parametrize(
    "name", [n for n, m in measures.MEASURES.items() if "scaling" in m.invariances]
)
@given(scales=st.tuples(SCALES, SCALES))
def test_measures_do_not_see_the_scale(name, scales):
    a, b = map(np.float32, scales)
    assert float(measures.between(name, X * a, Y * b)) == pytest.approx(PLAIN[name], abs=1e-4)


@pytest.mark.parametrize(
    "name", [n for n, m in measures.MEASURES.items() if "translation" in m.invariances]
)
@given(scale=SCALES, offsets=st.tuples(OFFSETS, OFFSETS))
def test_measures_do_not_see_an_offset(name, scale, offsets):
    x, y = (np.float32((z + o) * scale) for z, o in zip((X, Y), offsets, strict=True))
    assert float(measures.between(name, x, y)) == pytest.approx(PLAIN[name], abs=3e-4)


def test_shape_distance_of_tiny_features_is_theirs():
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((20, d)).astype(np.float32) for d in (4, 5))
    plain = float(shape.shape_distance(x, y))
    assert plain > 0.5
    for scale in (1e-30, 1e-20, 1e20, 1e30):
        scaled = float(shape.shape_distance(x * np.float32(scale), y))
        assert scaled == pytest.approx(plain, abs=1e-5)


def _layer_x(params, inputs):
    return {"layer": inputs[:, :8] * params}


def _layer_y(params, inputs):
    return {"layer": inputs[:, 8:] * params}


@given(scales=st.tuples(SCALES, SCALES), order=st.permutations(range(N // 8)))
@pytest.mark.parametrize("kernel", [kernels.linear(), kernels.rbf()], ids=lambda k: k.name)
def test_minibatch_cka_sees_neither_the_scale_nor_the_order_of_batches(kernel, scales, order):
    rows = np.concatenate([X, Y], 1)
    rows[-8:] *= 1e-3  # a batch that alone would have another scale
    batches = [{"inputs": rows[i : i + 8]} for i in range(0, N, 8)]
    plain, scaled = (
        cka_matrix.cka_matrix(
            _layer_x, np.float32(a), _layer_y, np.float32(b), lambda o=o: (batches[i] for i in o),
            kernel=kernel,
        )
        for a, b, o in ((1, 1, range(N // 8)), (*scales, order))
    )  # fmt: skip
    for name in ("values", "biased", "chance"):
        got, expected = getattr(scaled, name), getattr(plain, name)
        np.testing.assert_allclose(got, expected, atol=1e-4)


@given(scales=st.tuples(SCALES, SCALES))
def test_options_of_measures_do_not_see_the_scale(scales):
    x, y = X * np.float32(scales[0]), Y * np.float32(scales[1])
    for d, c in (("euclidean", "pearson"), ("squared_euclidean", "cosine"), ("cosine", "rho_a")):
        plain, got = (float(rsa.rsa(*z, dissimilarity=d, compare=c)) for z in ((X, Y), (x, y)))
        assert got == pytest.approx(plain, abs=1e-4)
    plain, got = (float(cka.deconfounded_cka(*z, X[:, :2])) for z in ((X, Y), (x, y)))
    assert got == pytest.approx(plain, abs=1e-4)
    for d in ("euclidean", "correlation"):
        plain, got = (neighbors.mutual_knn(*z, k=3, dissimilarity=d) for z in ((X, Y), (x, y)))
        assert float(got) == float(plain) > 0


@given(scale=SCALES, offset=OFFSETS)
def test_scores_of_transfer_do_not_see_the_scale(scale, offset):
    labels = np.random.default_rng(1).integers(0, 3, N)
    for score, moved in ((transferability.h_score, offset), (transferability.log_me, 0)):
        plain = float(score(X, labels, num_classes=3))
        got = float(score((X + np.float32(moved)) * np.float32(scale), labels, num_classes=3))
        assert got == pytest.approx(plain, rel=1e-3)


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_probes_and_distances_of_domains_see_the_scale_as_a_factor(scale, offset):
    labels = np.int32(X[:, 0] > 0)

    def of(scale, offset):
        x, y = ((z + np.float32(offset)) * np.float32(scale) for z in (X, Y))
        stream = streams.from_arrays(np.concatenate([x, y], 1), labels, batch_size=9)
        found = probes.linear_probes(_layer_x, np.float32(1), stream, stream, num_classes=2)
        return found.accuracy, found.ridge, domains.frechet(x[:, :7], y) / scale

    for got, expected in zip(of(scale, offset), of(1.0, 0.0), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-3)


MODELS = [models.make_params(seed) for seed in range(3)]
MODULES = partition.by_depth(MODELS[0], 1)
KEY = jax.random.key(0)


def _scaled(scale):
    return [jax.tree.map(lambda x: x * np.float32(scale), params) for params in MODELS]


def _of_weights(a, b, c):
    """What is free of the scale of all weights, and what has it as a factor."""
    apart = distances.by_module(a, b, MODULES)
    way = movement.trajectory([a, b, c], MODULES, end=a)
    same = movement.alignment_of_movement(b, c, MODULES, start=a)
    plane = planes.through(a, b, c)
    place = planes.project(plane, tree.lerp(b, c, 0.3))
    overlap = movement.subspace_overlap(a, b, rank=2)
    free = (
        apart.relative, apart.cosine, apart.total_relative, apart.total_cosine,
        way.total.turn, way.total.to_end, way.by_module.straightness, same.total.cosine,
        same.by_module.cosine, overlap[1:], spectra.by_layer(a).summaries.stable_rank,
    )  # fmt: skip
    sized = (
        apart.l2, apart.total_l2, apart.sum_of_tensor_norms, way.total.displacement,
        way.by_module.path, same.total.length_a, plane.coordinates, place.coordinates,
        tree.norm(directions.random_direction(KEY, a)), tree.norm(a),
    )  # fmt: skip
    return [np.float64(x) for x in jax.tree.leaves(free)], [np.float64(x) for x in sized]


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_analyses_of_weights_scale_with_them(scale):
    free, sized = _of_weights(*MODELS)
    free_scaled, sized_scaled = _of_weights(*_scaled(scale))
    for got, expected in zip(free_scaled, free, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    for got, expected in zip(sized_scaled, sized, strict=True):
        np.testing.assert_allclose(got / scale, expected, rtol=1e-5, atol=1e-5)


def test_a_tiny_module_beside_others_has_its_distance():
    a, b = (
        {**p, "head": jax.tree.map(lambda x: x * np.float32(1e-25), p["head"])} for p in MODELS[:2]
    )
    found = distances.by_module(a, b, MODULES)
    plain = distances.by_module(*MODELS[:2], MODULES)
    head = found.modules.index("head")
    np.testing.assert_allclose(found.cosine, plain.cosine, rtol=1e-5)
    np.testing.assert_allclose(found.l2[head], plain.l2[head] * 1e-25, rtol=1e-5)


def test_ascent_goes_along_a_gradient_whose_square_is_none():
    x = np.float32([[30, 1], [31, -1]])
    stream = streams.from_arrays(x, np.int32([0, 0]), batch_size=2)
    params = {"w": jnp.float32([[1, -1], [0, 0]])}
    found = sharpness.in_ball(
        lambda p, i: i @ p["w"], metrics.softmax_cross_entropy, params, stream,
        radius=0.1, key=KEY, steps=3, restarts=1,
    )  # fmt: skip
    moved = np.asarray(found.perturbation["w"])
    np.testing.assert_allclose(np.linalg.norm(moved), 0.1, rtol=1e-4)
    assert 0 < found.value < 1e-22


@pytest.mark.parametrize("scale", [1.0, 1e-15, 1e-21, 1e-25, 1e20])
def test_criticality_at_any_scale_of_the_weights(scale: float) -> None:
    start, end = {"a": np.zeros(4, np.float32)}, {"a": np.full(4, scale, np.float32)}
    found = criticality.surface(
        lambda p, x: x * p["a"][None] / scale,
        paths.line(start, end),
        streams.from_arrays(np.ones((4, 4), np.float32), np.ones((4, 4)), batch_size=4),
        labels=labels.from_names(start, str),
        alphas=[0, 1],
        sigmas=[scale / 100],
        losses={"loss": lambda out, _: jnp.where(out.mean(-1) > 0.5, 0.0, 1.0)},
        key=jax.random.key(0),
    )
    values = criticality.criticality(found, 0.5, loss="loss").values
    np.testing.assert_allclose(values, [4e4], rtol=1e-5)  # (2·scale / (scale / 100))²


def test_criticality_at_the_threshold_itself() -> None:
    start, end = {"a": np.zeros(1, np.float32)}, {"a": np.ones(1, np.float32)}
    targets = (np.arange(10) == 0).astype(np.float32)
    found = criticality.surface(
        lambda p, x: x * p["a"],
        paths.line(start, end),
        streams.from_arrays(np.ones(10, np.float32), targets, batch_size=4),
        labels=labels.from_names(start, str),
        alphas=[0, 1],
        sigmas=[0.1],
        losses={"error": lambda out, batch: batch["labels"] + 0 * out},
        key=jax.random.key(0),
    )
    assert criticality.criticality(found, 0.1, loss="error").values == [0]
    assert criticality.criticality(found, 0.0999, loss="error").values == [np.inf]


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_a_curve_has_its_length_at_any_scale(scale: float) -> None:
    a, b = {"a": np.zeros(2, np.float32)}, {"a": np.array([3 * scale, 4 * scale], np.float32)}
    found = connectivity.evaluate_curve(
        lambda p, x: x @ p["a"] * 0 + 1,
        metrics.squared_error,
        connectivity.straight(a, b),
        streams.from_arrays(np.ones((2, 2), np.float32), np.ones(2, np.float32), batch_size=2),
        num_points=3,
    )
    np.testing.assert_allclose([found.length, found.chord], 5 * scale, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-25, 3e-21, 1.0, 1e20])
def test_filters_lose_their_scale_at_any_scale(scale: float) -> None:
    kernel = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    of = movement.ScaleInvariant("k", 1, None, "m", "v", 1.0)
    params = {"k": kernel * np.float32(scale), "m": np.ones(2, np.float32)}
    found = movement.normalised(params | {"v": np.ones(2, np.float32)}, [of])
    np.testing.assert_allclose(found["k"], kernel / np.linalg.norm(kernel, axis=0), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-25, 1e-19, 1.0, 1e20])
def test_cka_of_features_whose_first_rows_are_equal(scale: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 50)).astype(np.float32)
    x[:16] = 0
    y = (x + rng.standard_normal((60, 50))).astype(np.float32)
    for estimator in ("biased", "debiased"):
        expected = features.cka(x, y, estimator=estimator)
        found = features.cka(x * np.float32(scale), y, estimator=estimator)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_barrier_of_losses_at_the_end_of_the_range() -> None:
    losses = np.full(3, 3e38, np.float32)
    assert landscape.barrier([0, 0.5, 1], losses, kind="endpoint_mean").height == 0
