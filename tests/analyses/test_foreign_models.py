"""Models as other projects write them, through each analysis."""

import functools
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers.foreign_models import GLUE, KINDS, N
from tlx.analyses.features.similarity import cka_matrix
from tlx.analyses.function import mistakes, predictions
from tlx.analyses.landscape import basins, connectivity, curvature, interpolation, planes
from tlx.analyses.landscape.modules import criticality, rewinding
from tlx.analyses.landscape.permutations import alignment
from tlx.analyses.parameters import distances, spectra
from tlx.core import evaluate, metrics, partition, paths

ALPHAS, KEY = (0.0, 0.5, 1.0), jax.random.key(0)


@functools.cache
def kind_of(name):
    return KINDS[name]()


@pytest.fixture(params=KINDS)
def kind(request):
    return kind_of(request.param)


def name_of(request):
    return request.node.callspec.params["kind"]


def modules(kind):
    return partition.by_depth(kind.params[0], 1)


def assert_finite(found):
    leaves = [np.asarray(x, float) for x in jax.tree.leaves(found)]
    assert leaves
    assert all(np.isfinite(x).all() for x in leaves)


def test_no_model_needs_more_than_two_lines_of_glue():
    assert max(GLUE.values()) == 2
    assert GLUE["stateful"] == GLUE["haiku"] == GLUE["autoencoder"] == 0


def test_the_guide_says_how_many_each_needs():
    guide = Path("docs/guides/models.md").read_text()
    said = re.findall(r"^\| (\w+): [^|]* \| (\d) \|", guide, re.MULTILINE)
    assert {name: int(lines) for name, lines in said} == GLUE


def test_line(kind):
    line = interpolation.line(
        kind.apply_fn,
        metrics.mean(kind.loss),
        *kind.params,
        kind.stream,
        alphas=ALPHAS,
        statistics="interpolate",
    )
    ends = [evaluate(kind.apply_fn, metrics.mean(kind.loss), p, kind.stream) for p in kind.params]
    np.testing.assert_allclose(np.asarray(line.results)[[0, -1]], ends, rtol=1e-5)


def test_distances_and_spectra(kind):
    a, b = kind.params
    found = distances.by_module(a, b, modules(kind))
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    total = np.sqrt(sum(np.sum((np.float64(x) - np.float64(y)) ** 2) for x, y in pairs))
    np.testing.assert_allclose(np.sqrt(np.sum(np.square(found.l2))), total, rtol=1e-4)
    inputs = next(iter(kind.stream()))["inputs"]
    assert_finite(spectra.of_model(kind.apply_fn, a, inputs).summaries.stable_rank)


@pytest.mark.filterwarnings("ignore:layers without a row")
def test_cka(kind):
    layers = [n for n, x in of_first_batch(kind).items() if jnp.issubdtype(x.dtype, jnp.floating)]
    assert len(layers) > 2

    def features(params, inputs):
        found = kind.features(params, inputs)
        return {name: found[name] for name in layers[-3:]}

    a, b = kind.params
    found = cka_matrix.cka_matrix(features, a, features, b, kind.stream)
    assert found.biased.shape == (3, 3)
    assert_finite(found.biased)


def of_first_batch(kind):
    return kind.features(kind.params[0], next(iter(kind.stream()))["inputs"])


def test_alignment(kind):
    a, b = kind.params
    inputs = next(iter(kind.stream()))["inputs"]
    symmetry = alignment.symmetry(kind.apply_fn, a, inputs)
    matched = alignment.weight_matching(symmetry, a, b)
    moved = alignment.apply_permutation(symmetry, matched.permutations, b)
    losses = [evaluate(kind.apply_fn, metrics.mean(kind.loss), p, kind.stream) for p in (b, moved)]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert len(symmetry.groups) > 0


def test_rewinding(kind):
    start, trained = kind.params
    back = rewinding.rewind(
        kind.apply_fn,
        metrics.combine({"loss": metrics.mean(kind.loss)}),
        trained,
        [start],
        kind.stream,
        labels=modules(kind),
        statistics="interpolate",
    )
    assert set(back.modules) == set(jax.tree.leaves(modules(kind)))
    assert_finite(back.drops)


def test_criticality(kind):
    surface = criticality.surface(
        kind.apply_fn,
        paths.line(*kind.params),
        kind.stream,
        labels=modules(kind),
        alphas=ALPHAS,
        sigmas=[0.0, 0.1],
        key=KEY,
        losses={"loss": kind.loss},
        num_draws=1,
        statistics="interpolate",
    )
    assert_finite(surface.losses)


def test_curvature(kind):
    operator = curvature.hessian(kind.apply_fn, kind.loss, kind.params[0], kind.stream)
    assert len(repr(operator)) < 500
    assert_finite(curvature.trace(operator, num_probes=2, key=KEY))


def test_basins(kind):
    found = basins.same_basin(
        kind.apply_fn,
        kind.params,
        kind.stream,
        tolerances={"loss": 0.1},
        losses={"loss": kind.loss},
        deltas=[0.5],
        key=KEY,
        num_draws=2,
        num_examples=N,
        statistics="interpolate",
    )
    assert_finite(found.barriers)
    assert len(repr(found)) < 2000


REASONS = {
    "autoencoder": "expected batches with 'labels'",
    "field": r"expected labels \[B\] as integers|integer",
}


def test_mistakes(kind, request):
    models = [(kind.apply_fn, params) for params in kind.params]
    name = name_of(request)
    if name in REASONS:
        with pytest.raises((ValueError, TypeError), match=REASONS[name]):
            predictions.collect(models, kind.stream)
        return
    found = mistakes.compare(predictions.collect(models, kind.stream))
    assert found.num_examples == N


def test_results_are_printed_in_some_lines(kind):
    a, b = kind.params
    inputs = next(iter(kind.stream()))["inputs"]
    for found in (
        distances.by_module(a, b, modules(kind)),
        spectra.of_model(kind.apply_fn, a, inputs),
        planes.through(a, b, jax.tree.map(lambda x, y: x + 2 * y, a, b)),
        connectivity.straight(a, b),
    ):
        assert 50 < len(repr(found)) < 2000
