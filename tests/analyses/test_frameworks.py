"""Every framework's model through every analysis, against numpy; and on a mesh of devices."""

import functools

import jax
import numpy as np
import pytest

from tests.helpers import oracles, tiny_models
from tlx.analyses.features.similarity import cka_matrix, kernels, matrix, measures
from tlx.analyses.function import mistakes, predictions
from tlx.analyses.landscape import interpolation
from tlx.analyses.parameters import distances
from tlx.core import evaluate_path, metrics, paths, sharding, streams, tree
from tlx.core import labels as labels_lib

ALPHAS = (0.0, 0.5, 1.0)
MEASURES = ("procrustes", "mean_cca", "rsa", "mutual_knn")
N, BATCH = 37, 12


@functools.cache
def pair_of(framework):
    return tiny_models.make(framework, 0), tiny_models.make(framework, 1)


@pytest.fixture(params=tiny_models.FRAMEWORKS, scope="module")
def framework(request):
    return request.param


@pytest.fixture(scope="module")
def pair(framework):
    return pair_of(framework)


def _stream():
    return streams.from_arrays(*tiny_models.make_inputs(N), batch_size=BATCH)


def _labels(tiny):
    return labels_lib.from_names(tiny.params, lambda name: tiny_models.module_of(tiny, name))


def _logits(tiny, params):
    inputs, labels = tiny_models.make_inputs(N)
    return tiny_models.reference(tiny._replace(params=params), inputs)[tiny.layers[-1]], labels


def _analyses(a, b, mesh=None):
    """What each analysis gives for the pair, as one tree of arrays."""
    params = [t.params if mesh is None else sharding.place(t.params, mesh) for t in (a, b)]
    features = a.features(a.layers)
    stream = _stream()
    models = (features, params[0], features, params[1], stream)
    metric = metrics.classification()
    path = paths.line(*params)
    return {
        "path": evaluate_path(a.apply_fn, metric, path, np.float32(ALPHAS), stream),
        "line": interpolation.line(
            a.apply_fn, metric, *params, stream, alphas=ALPHAS, statistics="interpolate"
        ).results,
        "distances": distances.by_module(*params, _labels(a))[1:],
        "cka": cka_matrix.cka_matrix(*models, num_resamples=20, key=jax.random.key(0))[2:-2],
        "rbf": cka_matrix.cka_matrix(*models, kernel=kernels.rbf())[2:-2],
        "measures": {name: matrix.matrix(name, *models).values for name in MEASURES},
        "mistakes": mistakes.compare(
            predictions.collect([(a.apply_fn, p) for p in params], stream)
        ),
    }


@functools.cache
def results_of(framework):
    return _analyses(*pair_of(framework))


@pytest.fixture(scope="module")
def results(framework):
    return results_of(framework)


@pytest.mark.parametrize("analysis", ["path", "line"])
def test_line(pair, results, analysis):
    got = results[analysis]
    a, b = pair
    for i, alpha in enumerate(ALPHAS):
        logits, labels = _logits(a, tree.lerp(a.params, b.params, alpha))
        rows = np.arange(N)
        loss = np.log(np.exp(logits).sum(1)) - logits[rows, labels]
        np.testing.assert_allclose(got["loss"][i], loss.mean(), rtol=1e-5)
        accuracy = (logits.argmax(1) == labels).mean()
        np.testing.assert_allclose(got["accuracy"][i], accuracy, rtol=1e-6)


def test_distances(pair, results):
    a = pair[0]
    got = dict(zip(distances.Distances._fields[1:], results["distances"], strict=True))
    modules = labels_lib.unique(_labels(a))
    assert set(modules) == {"hidden", "norm", "head"}
    left, right = (tree.named_leaves(t.params) for t in pair)
    for i, module in enumerate(modules):
        names = [
            name
            for name, leaf in left.items()
            if tiny_models.module_of(a, name) == module and leaf.dtype == np.float32
        ]
        expected = oracles.distances([left[n] for n in names], [right[n] for n in names])
        for name, value in expected.items():
            np.testing.assert_allclose(got[name][i], value, rtol=1e-5)


def test_cka(pair, results):
    inputs, _ = tiny_models.make_inputs(N)
    x, y = (tiny_models.reference(t, inputs) for t in pair)
    starts = range(0, N, BATCH)
    expected = [
        [
            oracles.minibatch_cka(
                [(u[s : s + BATCH], v[s : s + BATCH]) for s in starts], "debiased"
            )
            for v in y.values()
        ]
        for u in x.values()
    ]
    np.testing.assert_allclose(results["cka"][0], expected, atol=1e-4)


@pytest.mark.parametrize("measure", MEASURES)
def test_measures(pair, results, measure):
    inputs, _ = tiny_models.make_inputs(N)
    x, y = (tiny_models.reference(t, inputs) for t in pair)
    with jax.enable_x64(True):
        expected = [
            [float(measures.between(measure, u, v)) for v in y.values()] for u in x.values()
        ]
    np.testing.assert_allclose(results["measures"][measure], expected, atol=2e-4)


def test_mistakes(pair, results):
    answers = [_logits(t, t.params) for t in pair]
    labels = answers[0][1]
    expected = oracles.mistakes(
        labels, *(logits.argmax(1) for logits, _ in answers), tiny_models.CLASSES
    )
    cells = np.asarray(results["mistakes"].cells_by_class)[0, 1]
    assert list(expected) == list(mistakes.CELLS)
    np.testing.assert_array_equal(cells, np.stack(list(expected.values()), -1))


@pytest.mark.parametrize("points", [1, 2])
def test_a_mesh_of_devices_gives_the_numbers_of_one(points, monkeypatch):
    monkeypatch.setattr(sharding, "SMALL", 1)
    mesh = sharding.make_mesh(points=points, model=2)
    assert not sharding.place(pair_of("linen")[0].params, mesh)["params"]["hidden"][
        "kernel"
    ].is_fully_replicated
    got = _analyses(*pair_of("linen"), mesh)
    results = results_of("linen")
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5, atol=1e-5), got, results)


def test_batches_that_are_placed_stay_where_they_are():
    mesh = sharding.make_mesh(jax.devices()[:2])
    tiny, plain = pair_of("linen")[0], _stream()
    placed = lambda: (sharding.shard_batch(batch, mesh) for batch in plain())  # noqa: E731
    path = paths.points([sharding.replicate(t.params, mesh) for t in pair_of("linen")])
    got, expected = (
        evaluate_path(tiny.apply_fn, metrics.classification(), path, np.arange(2), stream)
        for stream in (placed, plain)
    )
    np.testing.assert_allclose(got["loss"], expected["loss"], rtol=1e-6)
