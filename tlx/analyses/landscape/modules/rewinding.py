"""Rewinding: what a trained network loses when one module is reset to an earlier or new state.

References: C. Zhang, S. Bengio, Y. Singer, Are all layers created equal?, 2019 (re-initialisation
and re-randomisation); B. Neyshabur, H. Sedghi, C. Zhang, What is being transferred in transfer
learning?, 2020, figure 5.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tlx.analyses.landscape.modules import _module_sweep
from tlx.core import batch_statistics as statistics_lib
from tlx.core import host, paths, public, shown, tree
from tlx.core import labels as labels_lib
from tlx.core.types import ApplyFn, Labels, Metric, Params, Stream

__dir__ = public.names(__name__)


@shown.short
class Rewinding(NamedTuple):
    """A metric with one module at a time taken from each of T references.

    Attributes:
      modules: the M modules.
      results: the metric's results, arrays [M, T, ...].
      trained: the metric's results of the trained model, arrays [...].
      drops: trained − results, for the floating results (a rise of the loss is negative); others
        are as in `results`.
      statistics: the source of the batch statistics: "none", "interpolated" (a module's come from
        the reference with it) or "re-estimated".
    """

    modules: tuple[str, ...]
    results: Any
    trained: Any
    drops: Any
    statistics: str


@host.only
def rewind(
    apply_fn: ApplyFn,
    metric: Metric,
    trained: Params,
    references: Sequence[Params],
    stream: Stream,
    *,
    labels: Labels,
    modules: Sequence[str] | None = None,
    statistics: Stream | str | None = None,
    chunk: int = 1,
) -> Rewinding:
    """The metric with θᵢ ← θᵢ(reference) for one module i at a time, the others as trained.

    The references determine the question: the run's checkpoints (rewinding; the first of them is
    re-initialisation), fresh draws of the initialisation (re-randomisation; average over them),
    the pretrained model, another model.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      metric: such as `tlx.core.metrics.classification()`.
      trained: pytree of arrays.
      references: T pytrees of its structure, at least one. Modules that are not requested may
        differ in shape, such as the head of a pretrained model.
      stream: the examples.
      labels: pytree of str, the module of each leaf.
      modules: those to take, one at a time; None for all, in the order of their first leaf.
      statistics: where a model's batch statistics come from: "interpolate" (a module's come with
        it), a stream of training batches (re-estimated each time, full forward passes), or
        None for a model without any.
      chunk: see `tlx.core.sweeps.evaluate_modules`.

    Returns:
      `Rewinding`. A reference equal to the trained model changes no bit of the results (with
      `chunk=1` and statistics that are not re-estimated).

    Raises:
      ValueError: at call, without a reference, for no module or an unknown one, labels of another
        structure, leaves of those modules that differ in shape or dtype (each one named), and
        as `statistics.along`.

    Cost: a pass over the data; a batch takes one forward pass, and T times what depends on each
    module. Memory: a copy of the T references on the device.

    >>> import jax.numpy as jnp
    >>> from tlx.analyses import landscape
    >>> from tlx.core import labels, metrics, streams
    >>> def apply_fn(params, inputs):
    ...     return inputs @ params["body"] @ params["head"]
    >>> trained = {"body": jnp.eye(4), "head": jnp.eye(4)}
    >>> start = {"body": 9 * jnp.eye(4), "head": -jnp.eye(4)}  # only the head must have moved
    >>> found = landscape.rewind(
    ...     apply_fn, metrics.classification(), trained, [start],
    ...     streams.from_arrays(jnp.eye(4), jnp.arange(4), batch_size=4),
    ...     labels=labels.from_names(trained, str),
    ... )
    >>> found.modules, found.drops["accuracy"].tolist()
    (('body', 'head'), [[0.0], [1.0]])
    """
    if not references:
        raise ValueError("expected at least one reference to rewind to, got none")
    chosen = _module_sweep.chosen(trained, labels, modules)
    points = [
        _in_place(trained, reference, labels, chosen, f"references[{i}]")
        for i, reference in enumerate(references)
    ]
    found, rule = _module_sweep.along(
        apply_fn, metric, paths.stacked(points), jnp.arange(len(points)), trained, stream,
        labels=labels, modules=chosen, statistics=statistics, chunk=chunk,
    )  # fmt: skip
    at_end, _ = statistics_lib.along(
        apply_fn, metric, paths.stacked([trained]), jnp.arange(1), stream, source=statistics
    )
    at_end = jax.tree.map(lambda x: x[0], at_end)
    results = jax.tree.map(lambda *rows: jnp.stack(rows), *(found[m] for m in chosen))
    drops = jax.tree.map(
        lambda t, x: t[None, None] - x if tree.is_inexact(x) else x, at_end, results
    )
    return Rewinding(chosen, results, at_end, drops, rule)


def _in_place(
    trained: Params, reference: Params, labels: Labels, modules: Sequence[str], name: str
) -> Params:
    """The reference's modules, and the trained model's leaves for all others."""
    if tree.names(trained) != tree.names(reference):
        tree.same_structure(trained, reference, ("trained", name))
    wanted = labels_lib.select(trained, labels, modules)
    own = labels_lib.select(reference, labels, modules)
    tree.same_structure(wanted, own, ("trained", name))
    pairs = zip(jax.tree.leaves(trained), jax.tree.leaves(reference), strict=True)
    flat = jax.tree.leaves(labels)
    leaves = [r if label in modules else t for (t, r), label in zip(pairs, flat, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(trained), leaves)
