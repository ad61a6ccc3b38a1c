"""Gradient steps for the inner control points of a curve."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tlx.core import batch_statistics, metrics, streams, tree
from tlx.core.types import ApplyFn, Batch, Params, PathFn, PerExampleFn, Stream


class Step(NamedTuple):
    """The static options of a step; equal ones share compiled code."""

    apply_fn: ApplyFn
    loss: PerExampleFn
    make_path: Callable[[Sequence[Params]], PathFn]
    update: Callable[..., tuple[Any, Any]]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=(1, 2))
def descend(
    static: Step, moving: Any, opt_state: Any, fixed: Any, batch: Batch, key: Array, step: Any
) -> tuple[Any, Any, Array]:
    """One step at a random point: new control points, optimiser's state and the loss before.

    Args:
      static: what is compiled in.
      moving: the trained part of the inner control points; donated.
      opt_state: the optimiser's state; likewise.
      fixed: (first end, the other part of the inner control points, last end).
      batch: training batch.
      key: typed PRNG key.
      step: int scalar, folded into the key.
    """
    t = jax.random.uniform(jax.random.fold_in(key, step))
    first, still, last = fixed
    metric = metrics.mean(static.loss)

    def mean_loss(moving: Any) -> Array:
        params = static.make_path((first, *join(moving, still), last))(t)
        outputs = static.apply_fn(params, batch["inputs"])
        return metric.compute(metric.update(metric.init(), outputs, batch))

    value, gradients = jax.value_and_grad(mean_loss)(moving)
    gradients = jax.tree.map(jnp.conj, gradients)  # for complex leaves jax gives the conjugate
    with jax.numpy_dtype_promotion("standard"):  # optimisers rely on it
        updates, opt_state = static.update(gradients, opt_state, moving)
    return tree.add(moving, updates), opt_state, value


def split(
    apply_fn: ApplyFn, controls: Sequence[Params], batch: Batch
) -> tuple[tuple[Params, ...], tuple[Params, ...]]:
    """The trained part of each control point, and the rest; None in place of the other.

    Batch statistics are not trained, nor are leaves that are not floating.
    """
    held = batch_statistics.leaves(apply_fn, controls[0], batch["inputs"])

    def part(params: Params, trained: bool) -> Params:
        def leaf(name: str, value: Any) -> Any:
            return value if (tree.is_inexact(value) and name not in held) == trained else None

        return tree.map_named(leaf, params)

    return tuple(part(p, True) for p in controls), tuple(part(p, False) for p in controls)


def join(moving: tuple[Params, ...], still: tuple[Params, ...]) -> tuple[Params, ...]:
    """The control points of the two parts from `split`."""
    return jax.tree.map(
        lambda x, y: y if x is None else x, moving, still, is_leaf=lambda x: x is None
    )


def repeated(stream: Stream, position: int) -> Iterator[tuple[int, Batch]]:
    """Endless batches, each with its number in its pass from 1, after the first `position`.

    Raises:
      ValueError: for a stream without batches.
    """
    skip = position
    while True:
        count = 0
        for count, batch in enumerate(streams.checked(stream)(), 1):
            if count > skip:
                yield count, batch
        if not count:
            raise ValueError("expected a training stream with at least one batch, got none")
        skip = max(0, skip - count)
