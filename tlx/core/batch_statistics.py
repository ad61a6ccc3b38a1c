"""Batch statistics at points between models: re-estimated, renormalised, or taken as they are.

Running means and variances belong to the weights that they were collected with. At a point
between two models those of neither fit, and a barrier that is seen there may be theirs alone
(Jordan et al. 2023, "REPAIR: REnormalizing Permuted Activations for Interpolation Repair").
Where a model keeps such statistics is found in its graph, so any framework's model will do.
"""

import dataclasses
import functools
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from tlx.core import checks, graph, tree
from tlx.core._batch_moments import (
    EMPTY,
    Observer,
    Repaired,
    as_leaves,
    first_point,
    mean_std,
    moments,
)
from tlx.core.evaluate import evaluate_path
from tlx.core.graph import sites
from tlx.core.graph.norms import BatchNorm, batch_norms, each_once, look
from tlx.core.streams import peek
from tlx.core.types import ApplyFn, Metric, Params, PathFn, Stream

Source: TypeAlias = Stream | str | None
"""Where the batch statistics of a point come from; see `along`."""

SOURCES = ("interpolate", "a", "b")
"""The sources that are no stream."""


def along(
    apply_fn: ApplyFn,
    metric: Metric,
    path_fn: PathFn,
    coordinates: Any,
    stream: Stream,
    *,
    source: Source = None,
    ends: tuple[Params, Params] | None = None,
    repair: bool = False,
    chunk: int | Literal["auto"] = "auto",
) -> tuple[Any, str]:
    """`evaluate_path` at points whose batch statistics are settled first.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: what to measure.
      path_fn: coordinate to parameters.
      coordinates: pytree of arrays [K, ...]; with `repair` float [K], 0 and 1 at the ends.
      stream: what to measure on; read once.
      source: where the statistics come from. A stream of training batches: re-estimated at
        each point, every layer normalised by the moments of the batch as in training, and
        the moments pooled over the batches (so the result depends on the batches' size as
        training does; one batch of all examples gives their exact moments). "interpolate":
        those that the path gives. "a" or "b": those of an end. None: for models without any.
      ends: the models a and b; needed for "a", "b" and `repair`.
      repair: also shift and scale what each linear and convolutional layer but the last gives
        out, channel by channel, so that its mean and standard deviation on the training
        batches are (1 − c)·a's + c·b's, where these are normalised by their own batches; needs
        a stream as `source`. A channel that is constant is shifted only, and a negative
        deviation (c beyond the ends) is 0. A layer that is followed by batch normalisation is
        what it was, up to that one's ε: for models with it after each layer, "repaired" is
        "re-estimated".
      chunk: see `tlx.core.evaluate_path`.

    Returns:
      (results as of `evaluate_path`, what was done). The latter is "none" for a model without
      batch statistics (or for a stream without batches), "re-estimated", "interpolated", "a",
      "b", or "repaired".

    Raises:
      ValueError: at call, if the model has batch statistics and `source` is None, for an
        unknown `source`, for training batches without examples, if a leaf serves two layers
        or a variance's mean is not found (see `find`), unless `source` is "interpolate".

    Numerics: moments in float32 or more, merged as by Chan, Golub and LeVeque (1983).
    Cost: as `evaluate_path`; re-estimation adds the same over the training batches, `repair`
    that and two points more. Memory: K sets of statistics.
    """
    _check_source(source, ends, repair, coordinates)
    first, stream = peek(stream)
    if first is None:
        return evaluate_path(apply_fn, metric, path_fn, coordinates, stream, chunk=chunk), "none"
    traced = graph.trace(apply_fn, first_point(path_fn, coordinates), first["inputs"])
    norms, unclear = look(traced) if source == "interpolate" else (batch_norms(traced), ())
    names = _leaves(each_once(norms) if callable(source) else norms)
    rule = "repaired" if repair else _rule(source, names + unclear)
    if rule == "re-estimated":
        found = moments(Observer(apply_fn), path_fn, coordinates, source, chunk)
        coordinates, path_fn = (coordinates, _of(norms, found)), _after(_Replace(names), path_fn)
    elif rule in SOURCES:
        end = tree.named_leaves((ends or ())[rule == "b"])
        path_fn = _after(_Keep(names), path_fn, tuple(end[name] for name in names))
    elif repair:
        found, goal = _repaired(apply_fn, path_fn, coordinates, ends, source, chunk)
        own = {site.name: found[site.name] for site in sites.layers(traced)}
        path_fn = _after(_repaired_point, _after(_Replace(names), path_fn))
        coordinates = ((coordinates, _of(norms, found)), own, goal)
        apply_fn = Repaired(apply_fn)
    return evaluate_path(apply_fn, metric, path_fn, coordinates, stream, chunk=chunk), rule


def reestimate(apply_fn: ApplyFn, params: Params, stream: Stream) -> Params:
    """The parameters with their batch statistics re-estimated from training batches.

    See `along`. A model without batch statistics is returned as it is.

    Raises:
      ValueError: for a stream without examples, if a leaf serves two layers, or as `find`.
    """
    first, stream = peek(stream)
    if first is None:
        raise ValueError(EMPTY)
    norms = each_once(find(apply_fn, params, first["inputs"]))
    if not norms:
        return params
    observer, here = Observer(apply_fn), Partial(_constant, params)
    found = moments(observer, here, jnp.zeros(1), stream, 1)
    names = _leaves(norms)
    values = tuple(value[0] for value in _of(norms, found))
    return _Replace(names)(here, (jnp.zeros(()), values))


def find(apply_fn: ApplyFn, params: Params, inputs: Any) -> tuple[BatchNorm, ...]:
    """The batch normalisations of a model: which leaves hold the means and the variances.

    Found in the graph: a leaf is subtracted from a value that depends on the inputs, and the
    difference multiplied (or divided) by a root of another leaf, to which constants are added;
    or in the other order, x·s + (bias − mean·s). Learned offsets and scales, and normalisation by
    an example's own moments (layer norm, group norm), are none.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      params: pytree of arrays or `jax.ShapeDtypeStruct`.
      inputs: likewise; one batch.

    Raises:
      ValueError: if a root of a leaf scales activations in another way, so that statistics
        cannot be told from other parameters.
    """
    return batch_norms(graph.trace(apply_fn, params, inputs))


def leaves(apply_fn: ApplyFn, params: Params, inputs: Any) -> frozenset[str]:
    """The names of the leaves that hold running statistics, as far as they can be told.

    For what treats them apart from weights, and needs no more than their names: unlike `find`
    it refuses no model.
    """
    return frozenset(_leaves(look(graph.trace(apply_fn, params, inputs))[0]))


def told_apart(apply_fn: ApplyFn, params: Params, inputs: Any) -> frozenset[str]:
    """As `leaves`, for what would do harm with a running variance that it takes for a weight.

    Raises:
      ValueError: if a leaf scales activations as a variance does and is none that `find` knows.
    """
    norms, unclear = look(graph.trace(apply_fn, params, inputs))
    if unclear:
        raise ValueError(
            f"a root of {', '.join(unclear)} scales activations as the variance of batch "
            "normalisation does, but within a loop or a branch, or as a part of a leaf, where "
            "statistics cannot be told from weights, and noise would make variances negative. "
            "Write the layers out one by one, each with leaves of its own."
        )
    return frozenset(_leaves(norms))


def rule(apply_fn: ApplyFn, params: Params, inputs: Any, source: Source) -> str:
    """What `along` does about a model's batch statistics: "none", "interpolated", ….

    Raises:
      ValueError: if the model has batch statistics and `source` is None.
    """
    return _rule(source, _leaves(look(graph.trace(apply_fn, params, inputs))[0]))


def _check_source(source: Source, ends: Any, repair: bool, coordinates: Any) -> None:
    if isinstance(source, str) and source not in SOURCES:
        raise ValueError(
            checks.unknown("source of statistics", source, SOURCES)
            + ", or a stream of training batches"
        )
    if source in ("a", "b") and ends is None:
        raise ValueError(
            f"statistics={source!r} means those of an end, and here there are no two ends; "
            "pass a stream of training batches, or 'interpolate'"
        )
    if repair and (not callable(source) or ends is None):
        missing = "no two ends" if callable(source) else f"statistics={source!r}"
        raise ValueError(
            "repair takes the activations between those of two ends: expected the ends and "
            f"statistics as a stream of training batches, got {missing}"
        )
    shapes = [jnp.shape(x) for x in jax.tree.leaves(coordinates)]
    if repair and [len(shape) for shape in shapes] != [1]:
        raise ValueError(
            "repair takes the activations between those of two ends: expected coordinates [K], "
            f"0 at the first and 1 at the second, got shapes {shapes}"
        )


def _rule(source: Source, names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    if source is None:
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        raise ValueError(
            f"the model has batch statistics ({shown}), and those of no model fit a point "
            "between models. Pass statistics= a stream of training batches, from which they are "
            "re-estimated at each point, or 'interpolate' to take them as they lie on the path."
        )
    if isinstance(source, str):
        return "interpolated" if source == "interpolate" else source
    return "re-estimated"


def _leaves(norms: tuple[BatchNorm, ...]) -> tuple[str, ...]:
    return tuple(leaf for norm in norms for leaf in (norm.mean, norm.var))


def _of(norms: tuple[BatchNorm, ...], found: dict[str, Any]) -> tuple[Array, ...]:
    """Means and variances of the batch normalisations, in the order of their leaves."""
    return tuple(value for norm in norms for value in as_leaves(norm, found[norm.mean]))


def _repaired(
    apply_fn: ApplyFn, path_fn: PathFn, alphas: Any, ends: Any, source: Any, chunk: Any
) -> tuple[dict[str, Any], Any]:
    """Moments at the points while they are renormalised, and the (mean, std) to go to."""
    observer = Observer(apply_fn, "observe")
    (mean_a, std_a), (mean_b, std_b) = (
        mean_std(moments(observer, Partial(_constant, end), jnp.zeros(1), source, 1))
        for end in ends
    )
    a, b = (jax.tree.map(lambda x: x[0], end) for end in ((mean_a, std_a), (mean_b, std_b)))
    goal = jax.vmap(functools.partial(tree.lerp, a, b))(jnp.asarray(alphas))
    path_fn = _after(_beside, path_fn)
    observer = Observer(apply_fn, "repair")
    return moments(observer, path_fn, (jnp.asarray(alphas), goal), source, chunk), goal


def _after(fn: Any, path_fn: PathFn, *values: Any) -> PathFn:
    """`fn` of a path, which shares compiled code where the path does."""
    kind: Any = Partial if isinstance(path_fn, Partial) else functools.partial
    return kind(fn, path_fn, *values)


def _repaired_point(path_fn: PathFn, coordinate: Any) -> Any:
    point, own, goal = coordinate
    return path_fn(point), own, goal


def _beside(path_fn: PathFn, coordinate: Any) -> Any:
    point, goal = coordinate
    return path_fn(point), goal


def _constant(params: Params, coordinate: Any) -> Params:
    del coordinate
    return params


@dataclasses.dataclass(frozen=True)
class _Replace:
    """(c, values) ↦ the path's parameters with the named leaves replaced by the values."""

    names: tuple[str, ...]

    def __call__(self, path_fn: PathFn, coordinate: Any) -> Params:
        point, values = coordinate
        new = dict(zip(self.names, values, strict=True))
        return tree.map_named(
            lambda name, leaf: (
                new[name].reshape(leaf.shape).astype(leaf.dtype) if name in new else leaf
            ),
            path_fn(point),
        )


@dataclasses.dataclass(frozen=True)
class _Keep:
    """c ↦ the path's parameters with the named leaves replaced by constant values."""

    names: tuple[str, ...]

    def __call__(self, path_fn: PathFn, values: Any, coordinate: Any) -> Params:
        return _Replace(self.names)(path_fn, (coordinate, values))
