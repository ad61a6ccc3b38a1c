"""Every public function of core and analyses, called on tiny arrays, by what JAX may do to it.

`ENTRIES` has for each kind in docs/guides/transformations.md the functions of that kind by name,
with a call of arrays alone and those arrays; None where a function makes what another one calls,
which is tried under that one's name. `tests/analyses/test_transformations.py` tries them.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tlx import core
from tlx.analyses import features, landscape
from tlx.analyses.features.similarity import (
    _comparison,
    cca,
    cka,
    cka_matrix,
    kernels,
    measures,
    rsa,
)
from tlx.analyses.landscape import connectivity, planes
from tlx.analyses.landscape.permutations import alignment
from tlx.analyses.parameters import distances, movement, spectra
from tlx.core import (
    auc,
    batch_statistics,
    evaluation,
    intervals,
    labels,
    metrics,
    partition,
    paths,
    scale,
    streams,
    tree,
    undefined,
)

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


class Entry(NamedTuple):
    """`call` of `arrays`, pytrees of which all leaves may be traced."""

    call: Callable[..., Any]
    arrays: tuple[Any, ...]


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def model() -> Any:
    return {"body": {"kernel": normal(3, 4)}, "head": {"kernel": normal(4, 3)}}


def apply_fn(params: Any, inputs: Any) -> Any:
    return jnp.tanh(inputs @ params["body"]["kernel"]) @ params["head"]["kernel"]


def layers(params: Any, inputs: Any) -> Any:
    hidden = jnp.tanh(inputs @ params["body"]["kernel"])
    return {"hidden": hidden, "logits": hidden @ params["head"]["kernel"]}


A, B, C = model(), model(), model()
U, V = normal(5), normal(5)
X, Y, Z = normal(12, 3), normal(12, 4), normal(12, 2)
LOGITS, ANSWERS = normal(6, 3), RNG.integers(0, 3, 6)
BINARY = RNG.integers(0, 2, (6, 3))
INPUTS = normal(6, 3)
STREAM = streams.from_arrays(INPUTS, ANSWERS, batch_size=4)
MODULES = labels.from_names(A, lambda name: name.split("/")[0])
ALPHAS = np.array([0.0, 0.4, 1.0])
LOSS = metrics.softmax_cross_entropy
METRIC = metrics.classification()
SYMMETRY = alignment.symmetry(apply_fn, A, INPUTS[:2])


def batch(values: Any) -> Any:
    return {"inputs": np.zeros((len(values), 1)), "labels": values}


def weight(_: Any, given: Any) -> Any:
    """One and more, of the batch alone."""
    return 1.0 + given["labels"].astype(jnp.result_type(float)) ** 2


def of(fn: Any, *arrays: Any, **options: Any) -> Entry:
    return Entry(functools.partial(fn, **options), arrays)


def at(make: Any, *arrays: Any) -> Entry:
    """Of a path: its ends and the coordinate, the last array."""
    return Entry(lambda *args: make(*args[:-1])(args[-1]), arrays)


def per_example(fn: Any, outputs: Any, answers: Any) -> Entry:
    return Entry(lambda out: fn(out, batch(answers)), (outputs,))


def _distances(a: Any, b: Any) -> Any:
    return distances.by_module(a, b, MODULES)[1:]


def _deconfounded(values: Any) -> Any:
    fields = dict.fromkeys(cka_matrix.CkaResult._fields)
    fields |= {"layers_x": ("inputs", "a"), "layers_y": ("inputs", "a", "b"), "values": values}
    return cka_matrix.deconfounded(cka_matrix.CkaResult(**fields), "inputs")


def compared(comparison: Any) -> Entry:
    """Of a comparison, on small features."""
    return Entry(lambda x, y: _comparison.between(comparison, x, y), (X, Y))


def gram(kernel: Any) -> Entry:
    return Entry(lambda x: kernel.gram(x, np.ones(12, bool))[0], (X,))


def measured(metric: Any, outputs: Any, answers: Any) -> Entry:
    def call(out: Any) -> Any:
        given = batch(answers) | {"index": np.arange(len(answers))}
        state = metric.merge(metric.init(), metric.update(metric.init(), out, given))
        return jax.jit(metric.compute)(state)  # operations by themselves take long to compile

    return Entry(call, (outputs,))


ORDERS = {name: np.arange(group.size)[::-1] for name, group in SYMMETRY.groups.items()}
PLANE = planes.through(A, B, C)
PLANE = PLANE._replace(coordinates=np.asarray(PLANE.coordinates, np.float64))

PURE: dict[str, Entry | None] = {
    "core.tree.add": of(tree.add, A, B, np.array(0.3)),
    "core.tree.sub": of(tree.sub, A, B),
    "core.tree.dot": of(tree.dot, A, B),
    "core.tree.norm": of(tree.norm, A),
    "core.tree.lerp": of(tree.lerp, A, B, np.array(0.3)),
    "core.tree.reals": of(tree.reals, U),
    "core.tree.rounded": Entry(lambda x: tree.rounded(x, x), (U,)),
    "core.tree.moving": of(tree.moving, U, V),
    "core.tree.stack": Entry(lambda *trees: tree.stack(trees), (A, B)),
    "core.tree.unstack": Entry(lambda a, b: tree.unstack(tree.stack([a, b])), (A, B)),
    "core.tree.unit_scale": Entry(lambda a: tree.unit_scale(a)[0], (A,)),
    "core.tree.map_named": Entry(lambda a: tree.map_named(lambda _, x: 2 * x, a), (A,)),
    "core.tree.named_leaves": of(tree.named_leaves, A),
    "core.tree.nested": of(tree.nested, {"a/b": U, "a/c": V}),
    "core.paths.line": at(paths.line, A, B, np.array(0.3)),
    "core.paths.plane": at(paths.plane, A, B, C, np.array([0.3, 0.2])),
    "core.paths.hull": at(lambda *v: paths.hull(v), A, B, C, np.array([0.3, 0.2, 0.5])),
    "core.paths.polygon": at(lambda *v: paths.polygon(v), A, B, C, np.array(0.3)),
    "core.paths.bezier": at(lambda *v: paths.bezier(v), A, B, C, np.array(0.3)),
    "core.paths.spliced": at(
        lambda a, b, base: paths.spliced(paths.line(a, b), base, MODULES, "body"),
        A,
        B,
        C,
        np.array(0.3),
    ),
    "core.paths.noisy": Entry(
        lambda a, b, t, s, key: paths.noisy(paths.line(a, b))((t, s, key)),
        (A, B, np.array(0.3), np.array(0.1), KEY),
    ),
    "core.paths.shifted": Entry(
        lambda a, b, c, t, s: paths.shifted(paths.line(a, b), c)((t, s)),
        (A, B, C, np.array(0.3), np.array(0.1)),
    ),
    "core.paths.traceable": at(
        lambda a: paths.traceable(lambda t: tree.add(a, a, t)), A, np.array(0.3)
    ),
    "core.paths.at": Entry(lambda a, b, t: paths.at(paths.line(a, b), t), (A, B, np.array(0.3))),
    "core.paths.stacked": Entry(lambda a, b: paths.stacked([a, b])(1), (A, B)),
    "core.paths.members": Entry(lambda a, b: paths.members(tree.stack([a, b]))(1), (A, B)),
    "core.paths.points": Entry(lambda a, b: paths.points([a, b])(1), (A, B)),
    "core.scale.times_power": of(scale.times_power, U, np.arange(5)),
    "core.undefined.array": of(undefined.array, U),
    "core.undefined.allowed": of(undefined.allowed(jnp.sin), U),
    "core.labels.groups": Entry(lambda a: labels.groups(a, MODULES), (A,)),
    "core.labels.select": Entry(lambda a: labels.select(a, MODULES, "body"), (A,)),
    "core.labels.merge": Entry(
        lambda a: labels.merge(*(labels.select(a, MODULES, n) for n in ("body", "head"))), (A,)
    ),
    "core.intervals.resampled_means": Entry(
        lambda x, key: intervals.resampled_means(x, num_resamples=3, key=key), (X.T, KEY)
    ),
    "core.intervals.percentile_interval": of(intervals.percentile_interval, X, confidence=0.9),
    "core.metrics.softmax_cross_entropy": per_example(LOSS, LOGITS, ANSWERS),
    "core.metrics.sigmoid_cross_entropy": per_example(
        metrics.sigmoid_cross_entropy, LOGITS, LOGITS > 0.1
    ),
    "core.metrics.squared_error": per_example(metrics.squared_error, U, V),
    "core.metrics.absolute_error": per_example(metrics.absolute_error, U, V),
    "core.evaluation.of_batch": Entry(
        lambda p, x: evaluation.of_batch(apply_fn, METRIC, p, {"inputs": x, "labels": ANSWERS}),
        (A, INPUTS),
    ),
    "core.evaluation.losses_of_batch": Entry(
        lambda p, x: evaluation.losses_of_batch(
            apply_fn, LOSS, p, {"inputs": x, "labels": ANSWERS}
        ),
        (A, INPUTS),
    ),
    "core.metrics.mean": measured(metrics.mean(LOSS), LOGITS, ANSWERS),
    "core.metrics.classification": measured(METRIC, LOGITS, ANSWERS),
    "core.metrics.multilabel": measured(metrics.multilabel(), LOGITS, BINARY),
    "core.metrics.regression": measured(metrics.regression(), U, V),
    "core.metrics.ratio": measured(
        metrics.ratio(metrics.squared_error, metrics.absolute_error), U, V
    ),
    "core.metrics.tokens": measured(metrics.tokens(), normal(2, 3, 3), ANSWERS.reshape(2, 3)),
    "core.metrics.combine": measured(metrics.combine({"all": METRIC}), LOGITS, ANSWERS),
    "core.metrics.collect": measured(metrics.collect(LOSS, 6), LOGITS, ANSWERS),
    "core.metrics.as_mean": per_example(
        metrics.as_mean(metrics.squared_error, weight, STREAM), normal(6), normal(6)
    ),
    "core.metrics.token_losses": per_example(
        metrics.token_losses(streams.from_arrays(INPUTS, ANSWERS[:, None], batch_size=6))["loss"],
        LOGITS[:, None],
        ANSWERS[:, None],
    ),
    "core.auc.ranking": measured(auc.ranking(6, 3), LOGITS, BINARY),
    "features.cka": of(features.cka, X, Y),
    "features.deconfounded_cka": of(features.deconfounded_cka, X, Y, Z),
    "features.distance_correlation": of(features.distance_correlation, X, Y),
    "features.mean_cca": of(features.mean_cca, X, Y),
    "features.svcca": of(features.svcca, X, Y),
    "features.pwcca": of(features.pwcca, X, Y),
    "features.regression_r2": of(features.regression_r2, X, Y),
    "features.procrustes": of(features.procrustes, X, Y),
    "features.shape_distance": of(features.shape_distance, X, Y, alpha=0.5),
    "features.cknna": of(features.cknna, X, Y, k=4),
    "features.similarity.cka.partial_correlation": of(
        cka.partial_correlation, np.array(0.5), np.array(0.3), np.array(-0.2)
    ),
    "features.make_cka": compared(cka.make_cka(kernels.linear(), "feature_corrected")),
    "features.make_deconfounded_cka": Entry(
        lambda x, y: _comparison.between(cka.make_deconfounded_cka(Z), x, y), (X, Y)
    ),
    "features.similarity.cca.make_mean_cca": None,
    "features.make_pwcca": compared(cca.make_pwcca("released")),
    "features.make_svcca": None,
    "features.make_regression_r2": None,
    "features.make_procrustes": None,
    "features.make_shape_distance": None,
    "features.make_cknna": None,
    "features.make_rsa": compared(rsa.make_rsa("euclidean", "cosine")),
    "features.similarity.rsa.dissimilarity_of": of(jax.jit(rsa.dissimilarity_of("correlation")), X),
    "features.similarity.kernels.linear": gram(kernels.linear()),
    "features.similarity.kernels.cosine": gram(kernels.cosine()),
    "features.similarity.kernels.distance": gram(kernels.distance()),
    "features.similarity.kernels.rbf": gram(kernels.rbf()),
    "features.similarity.kernels.polynomial": gram(kernels.polynomial()),
    "features.similarity.kernels.root": of(kernels.root, X**2),
    "features.similarity.kernels.centred": of(kernels.centred, X),
    "features.similarity.kernels.unit_rows": of(kernels.unit_rows, X),
    "features.similarity.kernels.shifted": Entry(
        lambda x: kernels.shifted(x, np.ones(12, bool)), (X,)
    ),
    "features.similarity.kernels.squared_distances": Entry(
        lambda x: kernels.squared_distances(x, np.ones(12, bool)), (X,)
    ),
    "features.similarity.measures.between": Entry(
        lambda x, y: measures.between("procrustes", x, y), (X, Y)
    ),
    "features.rsa": of(features.rsa, X, Y, compare="pearson"),
    "features.with_inputs": Entry(lambda p, x: features.with_inputs(layers)(p, x), (A, INPUTS)),
    "features.evidence": Entry(
        lambda x, y, key: features.evidence(
            "procrustes", x, y, key=key, num_permutations=2, num_resamples=0
        )[1:6:2],
        (X, Y, KEY),
    ),
    "landscape.barrier": Entry(
        lambda losses: landscape.barrier(ALPHAS, losses, kind="chord"), (np.array([0.3, 2.0, 0.5]),)
    ),
    "landscape.barrier_interval": Entry(
        lambda values, key: landscape.barrier_interval(
            ALPHAS, values, kind="chord", key=key, num_resamples=3
        ),
        (normal(3, 6), KEY),
    ),
    "landscape.uniform_soup": Entry(lambda *models: landscape.uniform_soup(models), (A, B)),
    "landscape.random_direction": of(landscape.random_direction, KEY, A),
    "landscape.apply_permutation": Entry(
        lambda a: landscape.apply_permutation(SYMMETRY, ORDERS, a), (A,)
    ),
    "landscape.connectivity.straight": Entry(
        lambda a, b: connectivity.straight(a, b).controls, (A, B)
    ),
    "landscape.connectivity.path": at(
        lambda a, b: connectivity.path(connectivity.straight(a, b)), A, B, np.array(0.3)
    ),
    "landscape.planes.project": Entry(lambda a: planes.project(PLANE, a), (model(),)),
    "features.similarity.cka_matrix.deconfounded": Entry(_deconfounded, (normal(2, 3) / 4,)),
    "parameters.distances.by_module": Entry(_distances, (A, B)),
    "parameters.movement.normalised": of(movement.normalised, A, leaves=()),
}

STEPS: dict[str, Entry | None] = {
    "core.paths.standard_normal": of(paths.standard_normal, KEY, A),
    "core.undefined.like": of(undefined.like, U),
    "core.scale.power_of_two": of(scale.power_of_two, np.array([3, -2])),
    "core.metrics.accuracy": per_example(metrics.accuracy, LOGITS, ANSWERS),
    "core.metrics.error": per_example(metrics.error, LOGITS, ANSWERS),
    "core.metrics.sigmoid_accuracy": per_example(metrics.sigmoid_accuracy, LOGITS, BINARY),
    "core.metrics.sigmoid_error": per_example(metrics.sigmoid_error, LOGITS, BINARY),
    "core.metrics.rows_of": Entry(
        lambda i: metrics.rows_of({"inputs": i, "index": i}, 6), (np.arange(6),)
    ),
    "core.tree.constant": Entry(lambda a, b: tree.constant([a, b]), (U, V)),
    "core.auc.area_under_roc": Entry(
        lambda x: auc.area_under_roc(x, X > 0, np.ones(12, bool)), (X,)
    ),
    "features.make_mutual_knn": None,
    "features.mutual_knn": of(features.mutual_knn, X, Y, k=3),
}

PASSES: dict[str, Entry | None] = {
    "core.evaluate": Entry(lambda p: core.evaluate(apply_fn, METRIC, p, STREAM), (A,)),
}

SHAPES: dict[str, Callable[[Any], Any]] = {
    "core.tree.names": tree.names,
    "core.tree.count": tree.count,
    "core.tree.is_inexact": lambda p: tree.is_inexact(p["body"]["kernel"]),
    "core.tree.num_reals": lambda p: tree.num_reals(p["body"]["kernel"]),
    "core.tree.accumulator": lambda p: str(tree.accumulator(p["body"]["kernel"].dtype)),
    "core.tree.same_structure": lambda p: tree.same_structure(p, p),
    "core.tree.same_integers": lambda p: tree.same_integers(p, p),
    "core.tree.stack_size": lambda p: tree.stack_size(p["body"]),
    "core.labels.from_names": lambda p: labels.from_names(p, str.upper),
    "core.labels.from_rules": lambda p: labels.from_rules(p, [("body", "a")], default="b"),
    "core.labels.unique": lambda p: labels.unique(labels.from_names(p, str.upper)),
    "core.partition.by_depth": lambda p: partition.by_depth(p, 1),
    "core.partition.by_level": lambda p: partition.by_level({"block": [p, p]}, "block"),
    "core.partition.in_forward_order": lambda p: partition.in_forward_order(
        apply_fn, p, INPUTS, MODULES
    ),
    "core.batch_statistics.find": lambda p: batch_statistics.find(apply_fn, p, INPUTS),
    "core.batch_statistics.leaves": lambda p: batch_statistics.leaves(apply_fn, p, INPUTS),
    "core.batch_statistics.checked_leaves": lambda p: batch_statistics.checked_leaves(
        apply_fn, p, INPUTS
    ),
    "core.batch_statistics.rule": lambda p: batch_statistics.rule(apply_fn, p, INPUTS, None),
    "parameters.scale_invariant_leaves": lambda p: movement.scale_invariant_leaves(
        apply_fn, p, INPUTS
    ),
    "parameters.spectra.layers": lambda p: spectra.layers(apply_fn, p, INPUTS),
}

ENTRIES = {"pure": PURE, "steps": STEPS, "passes": PASSES}
