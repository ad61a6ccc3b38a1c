import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core import models
from tlx.analyses.landscape import interpolation, planes
from tlx.core import evaluate, metrics, paths, streams, tree

A, B, C = (models.make_params(seed) for seed in range(3))
METRIC = metrics.classification()
XS, YS = (-1.0, 0.0, 4.0), (0.5, 2.0)


def _flat(params):
    return np.concatenate([np.float64(leaf).ravel() for leaf in jax.tree.leaves(params)])


def _stream(batch_size=16):
    return streams.from_arrays(*models.make_data(50), batch_size=batch_size)


def _grid(path_fn=None, batch_size=16, **options):
    path_fn = planes.through(A, B, C).path_fn if path_fn is None else path_fn
    options = {"xs": XS, "ys": YS} | options
    return planes.grid(models.apply_fn, METRIC, path_fn, _stream(batch_size), **options)


def _basis(a, b, c):
    """Origin and orthonormal basis in float64."""
    a, b, c = map(_flat, (a, b, c))
    u = (b - a) / np.linalg.norm(b - a)
    v = c - a - ((c - a) @ u) * u
    return a, u, v / np.linalg.norm(v)


def _unflat(vector):
    leaves, treedef = jax.tree.flatten(A)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = np.split(vector, ends)
    return treedef.unflatten([p.reshape(x.shape) for p, x in zip(parts, leaves, strict=True)])


def test_coordinates_are_those_of_gram_and_schmidt():
    plane = planes.through(A, B, C)
    origin, u, v = _basis(A, B, C)
    expected = [[(_flat(p) - origin) @ axis for axis in (u, v)] for p in (A, B, C)]
    np.testing.assert_allclose(plane.coordinates, expected, rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(plane.coordinates[0], 0)
    assert plane.coordinates[1, 1] == 0
    assert plane.coordinates[2, 1] > 0


def test_grid_is_the_formula_in_float64():
    got = _grid()
    origin, u, v = _basis(A, B, C)
    for i, y in enumerate(YS):
        for j, x in enumerate(XS):
            loss, accuracy = models.numpy_classification(
                _unflat(origin + x * u + y * v), *models.make_data(50)
            )
            np.testing.assert_allclose(got.results["loss"][i, j], loss, rtol=1e-5)
            np.testing.assert_allclose(got.results["accuracy"][i, j], accuracy, rtol=1e-6)
    assert got.results["count"].shape == (2, 3)
    assert got.at_marks["loss"].shape == (0,)
    assert got.statistics == "none"


def test_the_models_own_points_are_exact():
    plane = planes.through(A, B, C)
    corners = np.asarray(plane.coordinates)
    got = _grid(plane.path_fn, xs=corners[:, 0], ys=corners[:, 1], marks=corners)
    alone = [evaluate(models.apply_fn, METRIC, params, _stream()) for params in plane.models]
    for i, (params, expected) in enumerate(zip(plane.models, alone, strict=True)):
        point = jax.jit(lambda f, c: f(c))(plane.path_fn, plane.coordinates[i])
        jax.tree.map(np.testing.assert_array_equal, point, params)
        for name, value in expected.items():
            np.testing.assert_array_equal(got.at_marks[name][i], value)
            np.testing.assert_array_equal(got.results[name][i, i], value)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_the_models_own_points_are_exact_in_half_precision(dtype):
    half = [jax.tree.map(lambda x: x.astype(dtype), p) for p in (A, B, C)]
    plane = planes.through(*half)
    for params, xy in zip(half, plane.coordinates, strict=True):
        jax.tree.map(np.testing.assert_array_equal, plane.path_fn(xy), params)


def test_an_edge_is_the_line():
    plane = planes.through(A, B, C)
    alphas = np.float32([-0.3, 0, 0.2, 0.7, 1, 1.4])
    for i, j in ((0, 1), (0, 2), (1, 2)):
        ends = plane.coordinates[i], plane.coordinates[j]
        marks = [(1 - t) * ends[0] + t * ends[1] for t in alphas]
        got = _grid(plane.path_fn, marks=marks).at_marks["loss"]
        line = interpolation.line(
            models.apply_fn, METRIC, plane.models[i], plane.models[j], _stream(), alphas=alphas
        )
        np.testing.assert_allclose(got, line.results["loss"], rtol=1e-4)


@pytest.mark.parametrize(("batch_size", "chunk"), [(1, 1), (50, 4), (64, "auto")])
def test_grid_does_not_depend_on_batches_or_chunk(batch_size, chunk):
    marks = [[1.0, 1.0]]
    one, other = _grid(marks=marks), _grid(batch_size=batch_size, chunk=chunk, marks=marks)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5), one[2:5:2], other[2:5:2])


def test_grid_reads_the_data_once():
    reads = []

    def counting():
        reads.append(1)
        return _stream()()

    path_fn = paths.plane(A, tree.sub(B, A), tree.sub(C, A))
    planes.grid(models.apply_fn, METRIC, path_fn, counting, xs=XS, ys=YS, marks=[[0, 0]])
    assert len(reads) == 1


def test_grid_of_a_slice_through_a_model():
    u, v = B, C
    got = _grid(paths.plane(A, u, v), xs=[-1, 0], ys=[0, 0.5], marks=[[0, 0]])
    loss = evaluate(models.apply_fn, METRIC, A, _stream())["loss"]
    assert got.results["loss"][0, 1] == got.at_marks["loss"][0] == loss
    point = jax.tree.map(lambda a, x, y: a - x + np.float32(0.5) * y, A, u, v)
    expected = evaluate(models.apply_fn, METRIC, point, _stream())["loss"]
    np.testing.assert_allclose(got.results["loss"][1, 0], expected, rtol=1e-5)


@given(x=st.floats(-10, 10), y=st.floats(-10, 10))
def test_projection_of_a_point_of_the_plane_is_the_point(x, y):
    plane = planes.through(A, B, C)
    got = planes.project(plane, plane.path_fn(jnp.asarray([x, y])))
    np.testing.assert_allclose(got.coordinates, [x, y], atol=1e-4)
    assert got.distance < 1e-4


def test_projection_is_the_nearest_point():
    plane, other = planes.through(A, B, C), models.make_params(7)
    got = planes.project(plane, other)
    origin, u, v = _basis(A, B, C)
    away = _flat(other) - origin
    np.testing.assert_allclose(got.coordinates, [away @ u, away @ v], rtol=1e-5)
    rest = away - (away @ u) * u - (away @ v) * v
    np.testing.assert_allclose(got.distance, np.linalg.norm(rest), rtol=1e-5)
    again = planes.project(plane, plane.path_fn(got.coordinates))
    np.testing.assert_allclose(again.coordinates, got.coordinates, rtol=1e-5)


def test_nearly_collinear_models_keep_their_distance():
    c = tree.add(tree.lerp(A, B, 0.3), C, 1e-3)
    plane = planes.through(A, B, c)
    origin, _, v = _basis(A, B, c)
    np.testing.assert_allclose(plane.coordinates[2, 1], (_flat(c) - origin) @ v, rtol=1e-3)
    jax.tree.map(np.testing.assert_array_equal, plane.path_fn(plane.coordinates[2]), c)


def test_cover_holds_the_points_with_a_margin():
    xs, ys = planes.cover([[0, 0], [4, 0], [1, 2]], num=5, margin=0.5)
    np.testing.assert_allclose(xs, [-2, 0, 2, 4, 6])
    np.testing.assert_allclose(ys, [-2, -0.5, 1, 2.5, 4])
    on_a_line = planes.cover([[0, 1], [4, 1]], num=3, margin=0.25)
    np.testing.assert_allclose(on_a_line, [[-1, 2, 5], [0, 1, 2]])


def test_counters_take_no_part():
    with_counter = [p | {"steps": jnp.int32(3)} for p in (A, B, C)]
    plane = planes.through(*with_counter)
    np.testing.assert_array_equal(plane.coordinates, planes.through(A, B, C).coordinates)
    assert plane.path_fn(jnp.ones(2))["steps"] == 3
    assert planes.project(plane, with_counter[1]).distance < 1e-5


@pytest.mark.parametrize(
    ("third", "message"),
    [
        (tree.lerp(A, B, 0.3), "got models on one line: params_c is .* from that"),
        (tree.lerp(A, B, 1.7), r"Evaluate the line instead \(interpolation.line\)"),
        (B, "got models on one line"),
        (models.make_params(1, width=9), "3 of 4 that differ"),
        (
            jax.tree.map(lambda x: x * jnp.nan, C),
            "infinity in:\n  params_c: head/bias\n  params_c: head/kernel\n",
        ),
    ],
)
def test_models_that_span_no_plane(third, message):
    with pytest.raises(ValueError, match=message):
        planes.through(A, B, third)


def test_equal_models_span_no_plane():
    with pytest.raises(ValueError, match="params_a and params_b to differ, got a distance of 0"):
        planes.through(A, A, C)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"xs": 1.0}, r"expected xs as a vector \[K\] of numbers, got shape \(\)"),
        ({"ys": [np.nan]}, r"expected finite ys, got \[nan\]"),
        ({"marks": [1.0, 2.0]}, r"expected marks as finite points \[M, 2\], got shape \(2,\)"),
        ({"marks": [[1.0, np.inf]]}, r"expected marks as finite points \[M, 2\]"),
        ({"statistics": "interpolat"}, "did you mean 'interpolate'"),
        ({"statistics": "a"}, "there are no two ends here"),
    ],
)
def test_grid_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        _grid(**options)


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        ([1.0, 2.0], {}, r"expected finite points \[M, 2\], got shape \(2,\)"),
        ([[0.0, 0.0]], {"num": 1}, "expected num of at least 2 and a margin of at least 0"),
        ([[0.0, 0.0]], {"margin": -1}, "got 21 and -1"),
    ],
)
def test_cover_refuses(points, options, message):
    with pytest.raises(ValueError, match=message):
        planes.cover(points, **options)


def test_project_names_the_leaves_that_differ():
    with pytest.raises(ValueError, match="hidden/bias: float32 8 in the plane's first model"):
        planes.project(planes.through(A, B, C), models.make_params(0, width=9))
