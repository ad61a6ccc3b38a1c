"""Batch statistics at points between models: re-estimated, renormalised, or taken as they are.

Running means and variances belong to the weights they were collected with. At a point between
two models neither model's statistics fit, and a loss barrier seen there may be due to them alone
(Jordan et al. 2023, "REPAIR: REnormalizing Permuted Activations for Interpolation Repair").
The graph shows where a model keeps such statistics, so models of any framework work.
"""

import dataclasses
import functools
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array

from tlx.core import checks, graph, host, public, tree
from tlx.core._batch_moments import (
    EMPTY,
    Observer,
    Repaired,
    as_leaves,
    first_point,
    mean_std,
    moments,
)
from tlx.core.evaluation import evaluate_path
from tlx.core.graph import sites
from tlx.core.graph.norms import BatchNorm, batch_norms, each_once, identify
from tlx.core.streams import peek
from tlx.core.types import ApplyFn, Metric, Params, PathFn, Stream

__dir__ = public.names(__name__)

Source: TypeAlias = Stream | str | None
"""Where the batch statistics of a point come from; see `along`."""

SOURCES = ("interpolate", "a", "b")
"""The sources that are not streams."""


@host.only
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
    """`evaluate_path` at points whose batch statistics are set first.

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
        those on the path. "a" or "b": those of one end. None: for models without any.
      ends: the models a and b; needed for "a", "b" and `repair`.
      repair: also shift and scale the output of each linear and convolutional layer but the last,
        channel by channel, so that its mean and standard deviation on the training batches are
        (1 − c)·a's + c·b's, with a and b each normalised by the moments of the batch; needs
        a stream as `source`. A channel that is constant is shifted only, and a negative
        deviation (c beyond the ends) is 0. A layer followed by batch normalisation is
        unchanged, up to that layer's ε: for models with batch normalisation after each layer,
        "repaired" equals "re-estimated".
      chunk: see `tlx.core.evaluate_path`.

    Returns:
      (results as of `evaluate_path`, what was done). The latter is "none" for a model without
      batch statistics (or for a stream without batches), "re-estimated", "interpolated", "a",
      "b", or "repaired".

    Raises:
      ValueError: at call, if the model has batch statistics and `source` is None, for an
        unknown `source`, for training batches without examples, and, unless `source` is
        "interpolate", if two layers share a leaf or a variance has no mean (see `find`).

    Numerics: moments in float32 or more, merged as in Chan, Golub and LeVeque (1983).
    Cost: as `evaluate_path`; re-estimation adds the same over the training batches, `repair`
    two further points. Memory: K sets of statistics.
    """
    _check_source(source, ends, repair, coordinates)
    first, stream = peek(stream)
    if first is None:
        return evaluate_path(apply_fn, metric, path_fn, coordinates, stream, chunk=chunk), "none"
    traced = graph.trace(apply_fn, first_point(path_fn, coordinates), first["inputs"])
    norms, unclear = identify(traced) if source == "interpolate" else (batch_norms(traced), ())
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


@host.only
def reestimate(apply_fn: ApplyFn, params: Params, stream: Stream) -> Params:
    """The parameters with their batch statistics re-estimated from training batches.

    See `along`. A model without batch statistics is returned as it is.

    Raises:
      ValueError: for a stream without examples, if two layers share a leaf, or as `find`.
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

    They are read off the graph: a leaf is subtracted from a value that depends on the inputs, and
    the difference is multiplied (or divided) by a root of another leaf plus constants; or in the
    other order, x·s + (bias − mean·s). Learned offsets and scales, and normalisation by the moments
    of a single example (layer norm, group norm), do not count.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      params: pytree of arrays or `jax.ShapeDtypeStruct`.
      inputs: likewise; one batch.

    Raises:
      ValueError: if a root of a leaf scales activations in another way, so that statistics
        cannot be distinguished from other parameters.
    """
    return batch_norms(graph.trace(apply_fn, params, inputs))


def leaves(apply_fn: ApplyFn, params: Params, inputs: Any) -> frozenset[str]:
    """The names of the leaves that hold running statistics, as far as they can be identified.

    For analyses that treat them differently from weights and need only their names: unlike `find`,
    it accepts every model.
    """
    return frozenset(_leaves(identify(graph.trace(apply_fn, params, inputs))[0]))


def checked_leaves(apply_fn: ApplyFn, params: Params, inputs: Any) -> frozenset[str]:
    """As `leaves`, for analyses that must not mistake a running variance for a weight.

    Raises:
      ValueError: if a leaf scales activations as a variance does and `find` cannot identify it.
    """
    norms, unclear = identify(graph.trace(apply_fn, params, inputs))
    if unclear:
        raise ValueError(
            "expected batch normalisation whose mean and variance are leaves, outside of loops and "
            f"branches, got another use of a root of {', '.join(unclear)} to scale activations: "
            "statistics cannot be distinguished from weights there, and noise would make variances "
            "negative. Write the layers out one by one, each with separate leaves."
        )
    return frozenset(_leaves(norms))


def rule(apply_fn: ApplyFn, params: Params, inputs: Any, source: Source) -> str:
    """How `along` handles a model's batch statistics: "none", "interpolated", ….

    Raises:
      ValueError: if the model has batch statistics and `source` is None.
    """
    return _rule(source, _leaves(identify(graph.trace(apply_fn, params, inputs))[0]))


def _check_source(source: Source, ends: Any, repair: bool, coordinates: Any) -> None:
    if isinstance(source, str) and source not in SOURCES:
        raise ValueError(
            checks.unknown("source of statistics", source, SOURCES)
            + ", or a stream of training batches"
        )
    if source in ("a", "b") and ends is None:
        raise ValueError(
            "expected statistics as a stream of training batches or 'interpolate', got "
            f"{source!r}: there are no two ends here"
        )
    if repair and (not callable(source) or ends is None):
        missing = "no two ends" if callable(source) else f"statistics={source!r}"
        raise ValueError(
            "expected the two ends and statistics as a stream of training batches for repair, "
            f"which interpolates the moments of the ends, got {missing}"
        )
    shapes = [jnp.shape(x) for x in jax.tree.leaves(coordinates)]
    if repair and [len(shape) for shape in shapes] != [1]:
        raise ValueError(
            "expected coordinates [K] for repair, 0 at the first end and 1 at the second, got "
            f"shapes {shapes}"
        )


def _rule(source: Source, names: tuple[str, ...]) -> str:
    if not names:
        return "none"
    if source is None:
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        raise ValueError(
            f"expected statistics= for a model with batch statistics ({shown}), got None: no "
            "model's fit a point between models. Pass a stream of training batches, from which "
            "they are re-estimated at each point, or 'interpolate' to take them as they lie on "
            "the path."
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
    """Moments at the points while they are renormalised, and the target (mean, std)."""
    observer = Observer(apply_fn, "observe")
    (mean_a, std_a), (mean_b, std_b) = (
        mean_std(moments(observer, Partial(_constant, end), jnp.zeros(1), source, 1))
        for end in ends
    )
    a, b = (jax.tree.map(lambda x: x[0], end) for end in ((mean_a, std_a), (mean_b, std_b)))
    goal = _between(a, b, jnp.asarray(alphas))
    path_fn = _after(_beside, path_fn)
    observer = Observer(apply_fn, "repair")
    return moments(observer, path_fn, (jnp.asarray(alphas), goal), source, chunk), goal


@jax.jit
def _between(a: Any, b: Any, alphas: Any) -> Any:
    return jax.vmap(functools.partial(tree.lerp, a, b))(alphas)


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
