"""What happens between two models: a metric along the line of parameters, and its barrier.

A line between two models that share a basin stays as low as its ends; between two that
do not, the loss rises to a barrier (Neyshabur, Sedghi, Zhang 2020, section 3.4).
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from jax.tree_util import Partial
from jaxtyping import Array, Float

from tlx.analyses.landscape._checks import finite_vector
from tlx.core import batch_statistics as statistics_lib
from tlx.core import paths, tree
from tlx.core.types import ApplyFn, Metric, Params, PathFn, Stream


class LineResult(NamedTuple):
    """A metric along a line.

    Attributes:
      alphas: float [K], the points: 0 is a, 1 is b.
      results: the metric's results, each stacked on a leading axis [K, ...].
      statistics: where the batch statistics came from: "none" (the model has none),
        "re-estimated", "interpolated", "a", "b" or "repaired".
    """

    alphas: Float[Array, " K"]
    results: Any
    statistics: str


class Target(NamedTuple):
    """A target on which the points of a line are evaluated.

    Attributes:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode, for `params`.
      metric: what to measure on this target.
      params: the model whose head is used; of its trunk only the shapes matter.
      stream: the target's data, batches of constant shape.
      statistics: as of `line`; a stream of this target's training batches where the model
        has batch statistics.
    """

    apply_fn: ApplyFn
    metric: Metric
    params: Params
    stream: Stream
    statistics: Stream | str | None = None


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

    Every floating leaf moves, the head included; batch statistics as `statistics` says. For
    models of different targets, whose heads do not fit, see `line_on_targets`. A slice
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
      repair: also renormalise what each layer gives out to the spread that lies between the
        ends' (see `tlx.core.batch_statistics.along`); needs a stream as `statistics`.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `LineResult`. At alpha 0 and 1 the parameters are a's and b's to the bit (batch
      statistics that `statistics` replaces excepted). For an empty stream the results are
      those of no examples.

    Raises:
      ValueError: at call, if the parameters differ in structure, shape or dtype (every leaf
        named) or in a leaf that is not floating, or if `alphas` is not a finite vector.

    Cost: one pass over the data, K forward passes a batch; a pass over the training batches
    besides where statistics are re-estimated.
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


def line_on_targets(
    params_a: Params,
    params_b: Params,
    targets: Mapping[str, Target],
    *,
    is_head: Callable[[str], bool],
    alphas: Any,
    chunk: int | Literal["auto"] = "auto",
) -> TargetsResult:
    """The metrics of several targets along the line between two trunks, each with its own head.

    For models fine-tuned on different targets: the trunk is (1 − alpha)·a + alpha·b, and
    each target is evaluated with the head of its own model, which stays, to the bit. So at
    alpha 0 the target of a is evaluated on a itself, and the target of b on a's trunk under
    b's head.

    Args:
      params_a: pytree of arrays whose trunk is at alpha 0.
      params_b: pytree of arrays whose trunk is at alpha 1.
      targets: by name, at least one; usually those of a and b. Others are welcome, such as a
        third target whose head was trained on its own trunk.
      is_head: leaf name ("head/kernel", see `tlx.core.tree.names`) to whether the leaf is
        the target's own. Such leaves may differ between models in shape, number and name;
        all others are the trunk and must agree. If it holds of no leaf the whole model moves.
      alphas: float [K], finite; below 0 or above 1 extrapolates.
      chunk: points at a time; see `tlx.core.evaluate_path`.

    Returns:
      `TargetsResult`.

    Raises:
      ValueError: at call, if there is no target, every leaf is a head's, two trunks differ in
        structure, shape or dtype (every leaf named), or `alphas` is not a finite vector.

    Cost: for each target one pass over its data, K forward passes a batch.
    """
    if not targets:
        raise ValueError("expected at least one target to evaluate, got none")
    trunk_a, trunk_b = _trunk(params_a, is_head), _trunk(params_b, is_head)
    if not trunk_a:
        raise ValueError(
            f"is_head holds of all leaves ({', '.join(tree.names(params_a))}), so that no trunk "
            "is left to move; it should hold of the target's own leaves alone"
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
