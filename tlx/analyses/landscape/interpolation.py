"""Linear interpolation: how a metric changes along the line between two models' parameters.

Between two models in one basin the loss stays as low as at the ends; between models in
different basins there is a loss barrier.

References: I. Goodfellow, O. Vinyals, A. Saxe, Qualitatively characterizing neural network
optimization problems, 2015; B. Neyshabur, H. Sedghi, C. Zhang, What is being transferred in
transfer learning?, 2020, section 3.4.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from jax.tree_util import Partial
from jaxtyping import Array, Float

from tlx.analyses.landscape._checks import finite_vector
from tlx.core import batch_statistics as statistics_lib
from tlx.core import host, paths, public, shown, tree
from tlx.core.types import ApplyFn, Metric, Params, PathFn, Stream

__dir__ = public.names(__name__)


@shown.short
class LineResult(NamedTuple):
    """A metric along a line.

    Attributes:
      alphas: float [K], the points: 0 is a, 1 is b.
      results: the metric's results, each stacked on a leading axis [K, ...].
      statistics: the source of the batch statistics: "none" (the model has none),
        "re-estimated", "interpolated", "a", "b" or "repaired".
    """

    alphas: Float[Array, " K"]
    results: Any
    statistics: str


@shown.short
class Target(NamedTuple):
    """A target on which the points of a line are evaluated.

    Attributes:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode, for `params`.
      metric: what to measure on this target.
      params: the model whose head is used; only the shapes of its trunk matter.
      stream: the target's data, batches of constant shape.
      statistics: as of `line`; a stream of this target's training batches where the model
        has batch statistics.
    """

    apply_fn: ApplyFn
    metric: Metric
    params: Params
    stream: Stream
    statistics: Stream | str | None = None


@shown.short
class TargetsResult(NamedTuple):
    """Metrics of several targets along one line of trunks.

    Attributes:
      alphas: float [K].
      results: by the target's name, its metric's results, stacked [K, ...].
      statistics: by the target's name, as of `LineResult`.
    """

    alphas: Float[Array, " K"]
    results: dict[str, Any]
    statistics: dict[str, str]


@host.only
def line(
    apply_fn: ApplyFn,
    metric: Metric,
    params_a: Params,
    params_b: Params,
    stream: Stream,
    *,
    alphas: Any,
    statistics: Stream | str | None = None,
    repair: bool = False,
    chunk: int | Literal["auto"] = "auto",
) -> LineResult:
    """The metric at points (1 − alpha)·a + alpha·b, in one pass over the data.

    Every floating leaf moves, the head included; batch statistics are set by `statistics`. For
    models of different targets, whose heads do not match, see `line_on_targets`. A slice
    through one model along a direction is the line from it to `tree.add(params, direction)`.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: what to measure, such as `tlx.core.metrics.classification()`; several in the
        same pass by `metrics.combine({"mean": …, "each": …})`.
      params_a: pytree of arrays, at alpha 0.
      params_b: pytree of the same structure, at alpha 1.
      stream: batches of constant shape.
      alphas: float [K], finite, in any order; below 0 or above 1 extrapolates.
      statistics: where the batch statistics of each point come from: a stream of training
        batches, from which they are re-estimated at each point; "interpolate": those that
        the line gives; "a" or "b": those of that end; None: for a model without any, an
        error for one that has them.
      repair: also renormalise each layer's output to the interpolated moments of the ends (see
        `tlx.core.batch_statistics.along`); needs a stream as `statistics`.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `LineResult`. At alpha 0 and 1 the parameters are exactly a's and b's (except for batch
      statistics that `statistics` replaces). For an empty stream the results are those of no
      examples.

    Raises:
      ValueError: at call, if the parameters differ in structure, shape or dtype (every leaf
        named) or in a leaf that is not floating, or if `alphas` is not a finite vector.

    Cost: one pass over the data, K forward passes a batch; also a pass over the training
    batches where statistics are re-estimated.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["first"] * params["second"] * inputs
    >>> a, b = ({"first": sign, "second": sign} for sign in (1.0, -1.0))  # the same function
    >>> stream = streams.from_arrays(jnp.ones(8), jnp.ones(8), batch_size=4)
    >>> line = landscape.line(apply_fn, metrics.regression(), a, b, stream, alphas=[0, 0.5, 1])
    >>> line.results["loss"].tolist()
    [0.0, 1.0, 0.0]
    """
    path_fn = paths.line(params_a, params_b)
    alphas = finite_vector("alphas", alphas)
    results, rule = statistics_lib.along(
        apply_fn,
        metric,
        path_fn,
        alphas,
        stream,
        source=statistics,
        ends=(params_a, params_b),
        repair=repair,
        chunk=chunk,
    )
    return LineResult(alphas, results, rule)


@host.only
def line_on_targets(
    params_a: Params,
    params_b: Params,
    targets: Mapping[str, Target],
    *,
    is_head: Callable[[str], bool],
    alphas: Any,
    chunk: int | Literal["auto"] = "auto",
) -> TargetsResult:
    """The metrics of several targets along the line between two trunks, each with its head.

    For models fine-tuned on different targets: the trunk is (1 − alpha)·a + alpha·b, and
    each target is evaluated with the head of its model, which does not move. So at alpha 0 the
    target of a is evaluated on a itself, and the target of b on a's trunk with b's head.

    Args:
      params_a: pytree of arrays whose trunk is at alpha 0.
      params_b: pytree of arrays whose trunk is at alpha 1.
      targets: by name, at least one; usually those of a and b. Others are possible, such as a
        third target whose head was trained on another trunk.
      is_head: leaf name ("head/kernel", see `tlx.core.tree.names`) to whether the leaf is
        part of the head. Such leaves may differ between models in shape, number and name;
        all others are the trunk and must agree. If no leaf is in the head, the entire model moves.
      alphas: float [K], finite; below 0 or above 1 extrapolates.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `TargetsResult`.

    Raises:
      ValueError: at call, if there is no target, every leaf is a head's, two trunks differ in
        structure, shape or dtype (every leaf named), or `alphas` is not a finite vector.

    Cost: for each target one pass over its data, K forward passes a batch.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return params["trunk"] * inputs @ params["head"]
    >>> def target(params, one=jnp.ones((4, 1))):  # on which its own model is perfect
    ...     stream = streams.from_arrays(one, apply_fn(params, one), batch_size=4)
    ...     return landscape.interpolation.Target(apply_fn, metrics.regression(), params, stream)
    >>> a, b = ({"trunk": w, "head": jnp.ones((1, n))} for w, n in ((1.0, 1), (3.0, 2)))
    >>> targets = {"a": target(a), "b": target(b)}
    >>> found = landscape.line_on_targets(
    ...     a, b, targets, is_head=lambda name: name == "head", alphas=[0, 1]
    ... )
    >>> {name: results["loss"].tolist() for name, results in found.results.items()}
    {'a': [0.0, 4.0], 'b': [4.0, 0.0]}
    """
    if not targets:
        raise ValueError("expected at least one target to evaluate, got none")
    trunk_a, trunk_b = _trunk(params_a, is_head), _trunk(params_b, is_head)
    if not trunk_a:
        raise ValueError(
            "expected is_head to be True for leaves of the head only, got True for all leaves "
            f"({', '.join(tree.names(params_a))}), so that no trunk is left to move"
        )
    tree.same_structure(trunk_a, trunk_b, ("the trunk of params_a", "the trunk of params_b"))
    for name, target in targets.items():
        names = ("the trunk of params_a", f"the trunk of target {name!r}")
        tree.same_structure(trunk_a, _trunk(target.params, is_head), names)
    alphas = finite_vector("alphas", alphas)
    trunks = paths.line(trunk_a, trunk_b)
    found = {}
    for name, target in targets.items():
        found[name] = statistics_lib.along(
            target.apply_fn,
            target.metric,
            Partial(_under_head, trunks, target.params),
            alphas,
            target.stream,
            source=target.statistics,
            ends=(_grafted(trunk_a, target.params), _grafted(trunk_b, target.params)),
            chunk=chunk,
        )
    results = {name: result for name, (result, _) in found.items()}
    return TargetsResult(alphas, results, {name: rule for name, (_, rule) in found.items()})


def _trunk(params: Params, is_head: Callable[[str], bool]) -> dict[str, Any]:
    return {name: leaf for name, leaf in tree.named_leaves(params).items() if not is_head(name)}


def _grafted(trunk: Mapping[str, Any], params: Params) -> Params:
    return tree.map_named(lambda name, leaf: trunk.get(name, leaf), params)


def _under_head(trunks: PathFn, params: Params, alpha: Any) -> Params:
    return _grafted(trunks(alpha), params)
