"""Every analysis under jax's strict modes: checks for NaN, 64 bits, and no silent promotion.

Promotion is strict in all tests. What an analysis leaves undefined is NaN by contract, and no
error under `jax_debug_nans`; a NaN that a model makes is one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.core import models
from tlx.analyses.features.similarity import (
    cka,
    cka_matrix,
    evidence,
    kernels,
    matrix,
    measures,
    neighbors,
    rsa,
)
from tlx.analyses.features.transfer import domains, probes, transferability
from tlx.analyses.function import mistakes, predictions
from tlx.analyses.landscape import (
    averaging,
    barriers,
    basins,
    connectivity,
    curvature,
    directions,
    interpolation,
    peaks,
    planes,
    sharpness,
    trajectories,
)
from tlx.analyses.landscape.modules import criticality, pac_bayes, rewinding
from tlx.analyses.landscape.permutations import alignment
from tlx.analyses.parameters import distances, movement, spectra
from tlx.core import (
    evaluate,
    evaluate_path,
    intervals,
    metrics,
    partition,
    paths,
    streams,
    undefined,
)

N, CLASSES = 24, 3
LOSS, METRIC = metrics.softmax_cross_entropy, metrics.classification()
TOLERANCES = {"loss": 0.1, "error": 0.1}
ALPHAS = (0.0, 0.5, 1.0)
FEW = ("cka_debiased", "rsa", "pwcca", "mutual_knn")  # one of each family of measures


def _features(params, inputs):
    hidden = jax.nn.relu(inputs @ params["hidden"]["kernel"])
    return {"hidden": hidden, "constant": jnp.ones_like(hidden), "logits": hidden * 2}


class _World:
    """Models and data in a dtype, their keys, and what analyses take of them."""

    def __init__(self, dtype):
        cast = lambda x: jnp.asarray(x).astype(dtype)  # noqa: E731
        self.models = [jax.tree.map(cast, models.make_params(seed)) for seed in range(3)]
        self.a, self.b, self.c = self.models
        inputs, self.labels = models.make_data(N)
        self.inputs = inputs.astype(dtype)
        self.stream = streams.from_arrays(self.inputs, self.labels, batch_size=10)
        self.modules = partition.by_depth(self.a, 1)
        self.key = jax.random.key(0)
        self.net = (models.apply_fn, LOSS, self.a, self.stream)
        self.line = (models.apply_fn, METRIC, self.a, self.b, self.stream)
        self.pair = (_features, self.a, _features, self.b, self.stream)
        self.x, self.y = (_features(p, self.inputs)["hidden"] for p in (self.a, self.b))
        self.flat = jnp.zeros_like(self.x)
        self.answers = predictions.collect(
            [(models.apply_fn, p) for p in self.models[:2]], self.stream
        )


def _line_and_barrier(w):
    found = interpolation.line(*w.line, alphas=ALPHAS).results["loss"]
    each = metrics.collect(LOSS, N + 2)  # two that no batch has
    path, alphas = paths.line(w.a, w.b), np.float32(ALPHAS)
    values = evaluate_path(models.apply_fn, each, path, alphas, w.stream)
    interval = barriers.barrier_interval(ALPHAS, values, kind="chord", key=w.key, num_resamples=20)
    one = values[:, :1]
    alone = barriers.barrier_interval(ALPHAS, one, kind="chord", key=w.key, num_resamples=5)
    return found, barriers.barrier(ALPHAS, found, kind="chord"), values, interval, alone


def _curve(w):
    curve, losses = connectivity.train(
        models.apply_fn, LOSS, connectivity.straight(w.a, w.b), w.stream,
        optimizer=optax.sgd(0.01), num_steps=2, key=w.key,
    )  # fmt: skip
    return losses, connectivity.evaluate_curve(models.apply_fn, LOSS, curve, w.stream)[1:]


def _surface(w):
    found = criticality.surface(
        models.apply_fn, paths.line(w.a, w.b), w.stream, labels=w.modules, alphas=ALPHAS,
        sigmas=[0.0, 0.1], key=w.key, num_draws=2,
    )  # fmt: skip
    return criticality.criticality(found, 0.5)[3:], criticality.criticality(found, -1.0)[3:]


def _bound(w):
    errors = pac_bayes.noisy_errors(
        models.apply_fn, paths.line(w.a, w.b), w.stream, labels=w.modules,
        modules=("head", "hidden"), alphas=[1.0, 1.0], sigmas=[0.1, 0.1], key=w.key, num_draws=3,
    )  # fmt: skip
    return pac_bayes.bound(errors, [1.0, 2.0], [10, 20], [0.1, 0.1], num_examples=N)


def _curvature(w):
    found = []
    for make in (curvature.hessian, curvature.gauss_newton):
        operator = make(*w.net)
        found.append(curvature.eigenvalues(operator, order=4, key=w.key, num_vectors=1))
        found.append(curvature.trace(operator, num_probes=1, key=w.key))
        found.append(curvature.density(operator, order=3, num_probes=2, key=w.key))
    return found


def _planes(w):
    plane = planes.through(*w.models)
    xs, ys = planes.cover(plane.coordinates, num=2)
    grid = planes.grid(models.apply_fn, METRIC, plane.path_fn, w.stream, xs=xs, ys=ys)
    return plane.coordinates, planes.project(plane, w.a), grid.results


def _trajectories(w):
    components = trajectories.principal_components(w.models)
    found = trajectories.trajectory(models.apply_fn, METRIC, w.models, components, w.stream)
    return components.coordinates, found.results, found.projected


def _matched(w):
    symmetry = alignment.symmetry(models.apply_fn, w.a, w.inputs[:2])
    matched = alignment.weight_matching(symmetry, w.a, w.b)
    alignment.activation_matching(models.apply_fn, symmetry, w.a, w.b, w.stream)
    alignment.match_many(symmetry, w.models)
    return alignment.apply_permutation(symmetry, matched.permutations, w.b)


def _soups(w):
    soup = averaging.greedy_soup(
        models.apply_fn, METRIC, w.models, w.stream, score=lambda found: found["accuracy"]
    )
    wise = averaging.wise_ft(models.apply_fn, METRIC, w.a, w.b, {"target": w.stream}, alphas=ALPHAS)
    return averaging.uniform_soup(w.models), soup.params, wise.results


def _cka(w, **options):
    found = cka_matrix.cka_matrix(*w.pair, **options)
    return found[2:-2], cka_matrix.deconfounded(found, "hidden")


def _movement(w):
    trajectory = movement.trajectory([w.a, w.a, w.b], w.modules, end=w.b)
    aligned = movement.alignment_of_movement(w.b, w.a, w.modules, start=w.a)
    overlap = movement.subspace_overlap(w.a, w.b, rank=2)
    runs = [w.a, w.b, w.c], [w.c, w.a, w.b]
    return trajectory[1:], aligned[1:], overlap[1:], movement.principal_overlap(*runs, rank=1)


def _domains(w):
    other = streams.from_arrays(w.inputs + 1, w.labels, batch_size=10)
    found = domains.distance(_features, w.a, w.stream, other, layer="hidden")
    return found, domains.frechet(w.x, w.y), domains.frechet(w.x, w.x)


def _transfer(w):
    of = (w.x, w.labels)
    chances = np.asarray(jax.nn.softmax(w.y[:, :CLASSES]))
    return (
        transferability.scores(w.pair[0], w.a, w.stream, num_classes=CLASSES),
        transferability.log_me(*of, num_classes=CLASSES),
        transferability.h_score(*of, num_classes=CLASSES, shrinkage="ledoit_wolf"),
        transferability.k_nearest(*of, k=3, num_classes=CLASSES),
        transferability.log_me(w.flat, np.zeros(N, int), num_classes=CLASSES),
        transferability.leep(chances, w.labels, num_classes=CLASSES),
        transferability.rank_correlation([1.0, 2.0, 3.0], [0.3, 0.2, 0.9]),
        transferability.rank_correlation([1.0, 1.0, 1.0], [0.3, 0.2, 0.9]),
    )


def _predicted(w):
    same = predictions.collect([(models.apply_fn, w.a)] * 2, w.stream)
    return (
        mistakes.compare(w.answers),
        mistakes.compare(same),
        mistakes.confidence_of(w.answers),
        mistakes.examples(w.answers, 0, 1),
    )


def _targets(w):
    targets = {"one": interpolation.Target(models.apply_fn, METRIC, w.c, w.stream)}
    return interpolation.line_on_targets(
        w.a, w.b, targets, is_head=lambda name: "head" in name, alphas=ALPHAS
    ).results


def _other_measures(w):
    return (
        neighbors.cknna(w.x, w.y, k=3),
        cka.distance_correlation(w.x, w.y),
        cka.deconfounded_cka(w.x, w.y, w.inputs),
    )


def _of_nothing(w):
    """What is undefined: no examples, constant features, one class."""
    none = streams.from_arrays(w.inputs[:0], w.labels[:0], batch_size=4)
    return (
        evaluate(models.apply_fn, METRIC, w.a, none),
        evaluate_path(models.apply_fn, METRIC, paths.line(w.a, w.b), np.float32([0, 1]), none),
        [measures.between(name, w.x, w.flat) for name in FEW],
        [matrix.matrix(name, *w.pair)[2:4] for name in FEW[:2]],
        cka.deconfounded_cka(w.x, w.y, w.flat),
        distances.by_module(jax.tree.map(jnp.zeros_like, w.a), w.b, w.modules)[1:],
        movement.alignment_of_movement(w.a, w.a, w.modules, start=w.a)[1:],
        spectra.by_layer(jax.tree.map(jnp.zeros_like, w.a)).summaries,
        evidence.evidence("procrustes", w.x, w.flat, key=w.key, num_permutations=5),
        intervals.percentile_interval(np.full((3, 2), np.nan), 0.9),
        sharpness.in_ball(*w.net, radius=0.0, key=w.key, steps=1, restarts=1).value,
    )


ANALYSES = {
    "line": _line_and_barrier,
    "peak": lambda w: peaks.find_peak(*w.line, kind="chord", tolerance=0.1)[:2],
    "basin": lambda w: basins.same_basin(
        models.apply_fn,
        w.models[:2],
        w.stream,
        tolerances=TOLERANCES,
        deltas=[0.5],
        key=w.key,
        num_draws=2,
    )[2:],
    "basin of models": lambda w: basins.basin(
        models.apply_fn, LOSS, w.models, w.stream, deltas=[0.0, 0.5], key=w.key, num_draws=2
    ),
    "targets": _targets,
    "curve": _curve,
    "planes": _planes,
    "directions": lambda w: directions.random_direction(w.key, w.a),
    "trajectories": _trajectories,
    "alignment": _matched,
    "averaging": _soups,
    "curvature": _curvature,
    "sharpness": lambda w: sharpness.in_ball(
        *w.net, radius=0.1, key=w.key, steps=2, restarts=2, adaptive=True
    ),
    "criticality": _surface,
    "bound": _bound,
    "rewinding": lambda w: rewinding.rewind(
        models.apply_fn, METRIC, w.a, [w.b], w.stream, labels=w.modules
    )[1:],
    "cka": _cka,
    "cka with intervals": lambda w: _cka(w, num_resamples=5, key=w.key, kernel=kernels.rbf()),
    "cka of one batch": lambda w: cka.cka(w.x, w.y),
    "measures": lambda w: [measures.between(name, w.x, w.y) for name in FEW],
    "other measures": _other_measures,
    "all pairs": lambda w: [matrix.matrix(name, *w.pair)[2:4] for name in FEW],
    "rsa": lambda w: [
        rsa.rsa(w.x, w.y, dissimilarity=d, compare=c)
        for d, c in (("correlation", "pearson"), ("cosine", "rho_a"), ("euclidean", "cosine"))
    ],
    "neighbors": lambda w: neighbors.mutual_knn(w.x, w.y, k=3, dissimilarity="euclidean"),
    "evidence": lambda w: [
        evidence.evidence(name, w.x, w.y, key=w.key, num_permutations=9, num_resamples=9)
        for name in ("mutual_knn", "cka_debiased")
    ],
    "mistakes": _predicted,
    "distances": lambda w: distances.by_module(w.a, w.b, w.modules)[1:],
    "movement": _movement,
    "spectra": lambda w: (
        spectra.by_layer(w.a)[1:],
        spectra.of_model(models.apply_fn, w.a, w.inputs[:1]).summaries,
    ),
    "probes": lambda w: probes.linear_probes(
        _features, w.a, w.stream, w.stream, num_classes=CLASSES
    )[1:],
    "transferability": _transfer,
    "domains": _domains,
    "undefined": _of_nothing,
}
MODES = {
    "debug_nans": (jax.debug_nans, np.float32),
    "x64 of float32": (jax.enable_x64, np.float32),
    "x64 of float64": (jax.enable_x64, np.float64),
}
OF_WEIGHTS = ("peak", "basin", "basin of models", "targets", "curve", "planes", "trajectories",
              "criticality", "curvature", "directions", "distances",
              "movement", "sharpness", "rewinding")  # fmt: skip
"""What computes with parameters, whose dtype is then none of the defaults."""


def _numbers(found):
    leaves = [np.asarray(x) for x in jax.tree.leaves(found) if not isinstance(x, str)]
    return [x for x in leaves if np.issubdtype(x.dtype, np.number)]


@pytest.fixture(scope="module", params=MODES)
def mode(request):
    context, dtype = MODES[request.param]
    with context(True):
        world = _World(dtype)
    return context, world


@pytest.fixture(scope="module")
def plain():
    return _World(np.float32)


@pytest.mark.parametrize("analysis", ANALYSES)
def test_analyses_run_in_every_mode(analysis, mode, plain):
    context, world = mode
    if world.x.dtype == np.float64 and analysis not in OF_WEIGHTS:
        pytest.skip("features in float64 are what other tests of the measures are about")
    with context(True):
        found = _numbers(ANALYSES[analysis](world))
    assert found
    if context is jax.debug_nans:
        expected = _numbers(ANALYSES[analysis](plain))
        assert len(found) == len(expected)
        for x, y in zip(found, expected, strict=True):
            np.testing.assert_array_equal(x, y)


def test_what_is_undefined_is_nan(plain):
    assert any(np.isnan(x).any() for x in _numbers(_of_nothing(plain)))
    with jax.debug_nans(True):
        assert np.isnan(undefined.like(plain.x)).all()
        values = evaluate(models.apply_fn, metrics.collect(LOSS, N + 2), plain.a, plain.stream)
    np.testing.assert_array_equal(np.isnan(values), np.arange(N + 2) >= N)


def test_a_models_own_nan_is_found():
    world = _World(np.float32)
    broken = lambda params, inputs: jnp.log(-jnp.abs(models.apply_fn(params, inputs)))  # noqa: E731
    with jax.debug_nans(True):
        for call in (
            lambda: evaluate(broken, METRIC, world.a, world.stream),
            lambda: interpolation.line(broken, *world.line[1:], alphas=ALPHAS),
            lambda: predictions.collect([(broken, world.a)] * 2, world.stream),
        ):
            with pytest.raises(FloatingPointError, match="nan"):
                call()
