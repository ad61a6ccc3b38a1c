"""One module at a time along a path, with the batch statistics set."""

from collections.abc import Sequence
from typing import Any

from tlx.core import batch_statistics as statistics_lib
from tlx.core import labels as labels_lib
from tlx.core import paths, streams
from tlx.core.sweeps import evaluate_modules
from tlx.core.types import ApplyFn, Labels, Metric, Params, PathFn, Stream


def chosen(params: Params, labels: Labels, modules: Sequence[str] | None) -> tuple[str, ...]:
    """The requested modules, each once; None for all, in the order of their first leaf.

    Raises:
      ValueError: for no module or an unknown one, and for labels of another structure.
    """
    wanted = labels_lib.unique(labels) if modules is None else tuple(dict.fromkeys(modules))
    if not wanted:
        raise ValueError("expected at least one module, got none")
    labels_lib.select(params, labels, wanted)
    return wanted


def along(
    apply_fn: ApplyFn,
    metric: Metric,
    path_fn: PathFn,
    coordinates: Any,
    base: Params,
    stream: Stream,
    *,
    labels: Labels,
    modules: Sequence[str],
    statistics: Stream | str | None,
    chunk: int,
) -> tuple[dict[str, Any], str]:
    """The metric for each module at each point [K, ...], and the rule of the statistics.

    With "interpolate" a module's batch statistics move with its weights and those of the others
    stay; from a stream of training batches all are re-estimated at each point, which takes
    full forward passes.

    Raises:
      ValueError: as `batch_statistics.along` and `evaluate_modules`, and for an end as the source.
    """
    if isinstance(statistics, str) and statistics != "interpolate":
        raise ValueError(
            "expected statistics to be a stream of training batches, 'interpolate' (a module's "
            f"move with it) or None, got {statistics!r}"
        )
    first, stream = streams.peek(stream)
    rule = "none"
    if first is not None:
        rule = statistics_lib.rule(apply_fn, base, first["inputs"], statistics)
    if rule != "re-estimated":
        found = evaluate_modules(
            apply_fn, metric, path_fn, coordinates, base, labels, stream,
            modules=modules, chunk=chunk,
        )  # fmt: skip
        return found, rule
    each = {}
    for module in modules:
        moving = paths.spliced(path_fn, base, labels, module)
        each[module], _ = statistics_lib.along(
            apply_fn, metric, moving, coordinates, stream, source=statistics, chunk=chunk
        )
    return each, rule
