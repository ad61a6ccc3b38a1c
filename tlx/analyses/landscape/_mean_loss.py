"""The mean loss over a stream as a function of chosen leaves, laid out as one vector."""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlx.core import batch_statistics, contracts, metrics, streams, tree
from tlx.core import labels as labels_lib
from tlx.core.evaluation import losses_of_batch
from tlx.core.types import ApplyFn, Batch, Labels, Params, PerExampleFn, Stream

HELD_BYTES = 2**30
"""Bytes: batches are kept on the device if all of them fit; else each pass reads the stream."""


class Static(NamedTuple):
    """The static part; equal ones share compiled code.

    Attributes:
      apply_fn: pure `(params, inputs) -> outputs`.
      loss: `(outputs, batch) -> float [B]`.
      chosen: for each leaf whether it is a variable.
    """

    apply_fn: ApplyFn
    loss: PerExampleFn
    chosen: tuple[bool, ...]


class MeanLoss(NamedTuple):
    """A mean loss and its data.

    Attributes:
      static: the function, the loss and the chosen leaves.
      params: pytree of arrays, the point.
      vector: float32 (or wider) [P], the chosen leaves of the point, `tree.reals` of each.
      batches: starts a pass.
      num_examples: the number of examples.
    """

    static: Static
    params: Params
    vector: Float[Array, " P"]
    batches: Callable[[], Iterator[Batch]]
    num_examples: int

    def ravel(self, direction: Params) -> Float[Array, " P"]:
        """The chosen leaves of a pytree like the parameters, as a vector."""
        tree.same_structure(direction, self.params, ("direction", "params"), dtype=False)
        return _ravel(self.static.chosen, direction, self.vector.dtype)

    def unravel(self, vector: Any) -> Params:
        """A vector as a pytree like the parameters, zero in the leaves that are not chosen."""
        return _alone(self.static.chosen, self.params, jnp.asarray(vector, self.vector.dtype))

    def mean(self, part: Callable[..., Any], *args: Any) -> Any:
        """The sum over batches of `part(static, params, batch, *args)`, over the examples."""
        total = None
        for batch in self.batches():
            new = _masked(part, self.static, self.params, args, batch)
            total = new if total is None else jax.tree.map(jnp.add, total, new)
        return jax.tree.map(lambda x: x / self.num_examples, total)


def make(
    apply_fn: ApplyFn,
    loss: PerExampleFn,
    params: Params,
    stream: Stream,
    labels: Labels | None,
    modules: Iterable[str] | str | None,
) -> MeanLoss:
    """The mean loss; reads the stream once.

    Raises:
      ValueError: for an unknown module, labels without modules or the reverse, where no
        floating leaf is chosen, and for a stream without examples.
    """
    wanted = _wanted(params, labels, modules)
    first, stream = streams.peek(stream)
    if first is None:
        raise ValueError("expected a stream with at least one batch, got none")
    held = batch_statistics.leaves(apply_fn, params, first["inputs"])
    chosen = tuple(
        w and name not in held for w, name in zip(wanted, tree.names(params), strict=True)
    )
    if not any(chosen):
        raise ValueError("expected chosen leaves that vary, got batch statistics only")
    params = jax.device_put(params)
    check = contracts.Values(losses_of_batch, apply_fn, loss)
    batches, count = _read(stream, functools.partial(check, params))
    static = Static(apply_fn, loss, chosen)
    return MeanLoss(static, params, _ravel(chosen, params), batches, count)


def sum_of_losses(static: Static, outputs: Any, batch: Batch) -> Float[Array, ""]:
    """The sum of the losses of a batch's examples."""
    mask = metrics.mask_of(batch)
    values = contracts.per_example(static.loss, outputs, batch)
    return jnp.sum(jnp.where(mask, values.astype(tree.accumulator(values.dtype)), 0))


def value(static: Static, params: Params, batch: Batch, vector: Array) -> Float[Array, ""]:
    """The sum of the losses with the chosen leaves from the vector."""
    outputs = static.apply_fn(write(static.chosen, params, vector), batch["inputs"])
    return sum_of_losses(static, outputs, batch)


def write(chosen: tuple[bool, ...], params: Params, vector: Array) -> Params:
    """The parameters with the chosen leaves from a vector, in the leaves' dtypes."""
    leaves, treedef = jax.tree.flatten(params)
    start = 0
    for i, leaf in enumerate(leaves):
        if chosen[i]:
            like = jax.eval_shape(tree.reals, leaf)  # both parts of complex leaves vary
            piece = vector[start : start + like.size].reshape(like.shape).astype(like.dtype)
            leaves[i] = tree.rounded(piece, leaf)
            start += like.size
    return jax.tree.unflatten(treedef, leaves)


@functools.partial(jax.jit, static_argnums=0)
def _alone(chosen: tuple[bool, ...], params: Params, vector: Array) -> Params:
    """The chosen leaves from a vector, zero in the others."""
    return write(chosen, jax.tree.map(_zeros, params), vector)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _ravel(chosen: tuple[bool, ...], params: Params, dtype: Any = None) -> Float[Array, " P"]:
    kept = [tree.reals(x) for x in itertools.compress(jax.tree.leaves(params), chosen)]
    if dtype is None:
        dtype = functools.reduce(jnp.promote_types, (x.dtype for x in kept))
    return jnp.concatenate([x.reshape(-1).astype(dtype) for x in kept])


def _wanted(
    params: Params, labels: Labels | None, modules: Iterable[str] | str | None
) -> list[bool]:
    if (labels is None) != (modules is None):
        raise ValueError(
            "expected labels and modules together, or neither for all floating leaves, got one"
        )
    leaves = jax.tree.leaves(params)
    wanted = [tree.is_inexact(leaf) for leaf in leaves]
    if labels is not None and modules is not None:
        modules = {modules} if isinstance(modules, str) else set(modules)
        labels_lib.select(params, labels, modules)
        flat = jax.tree.leaves(labels)
        wanted = [w and label in modules for w, label in zip(wanted, flat, strict=True)]
    if not any(np.size(leaf) for leaf in itertools.compress(leaves, wanted)):
        where = "the parameters" if modules is None else f"modules {', '.join(sorted(modules))}"
        raise ValueError(f"expected at least one floating leaf to vary, got none in {where}")
    return wanted


def _zeros(leaf: Any) -> Any:
    """Zeros like a leaf; a random key has none and is kept."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf if is_key else jnp.zeros_like(leaf)


def _read(
    stream: Stream, check: Callable[[Batch], None]
) -> tuple[Callable[[], Iterator[Batch]], int]:
    """A function that starts a pass, from the device if all fits, and the number of examples."""
    held: list[Batch] | None = []
    size = 0
    counts = []
    for batch in stream():
        check(batch)
        counts.append(jnp.sum(metrics.mask_of(batch), dtype=jnp.int32))
        size += sum(leaf.nbytes for leaf in jax.tree.leaves(dict(batch)))
        if held is not None and size <= HELD_BYTES:
            held.append(jax.device_put(dict(batch)))
        else:
            held = None
    count = sum(int(c) for c in counts)
    if not count:
        raise ValueError(
            f"expected a stream with examples, got {len(counts)} batches with all rows masked"
        )
    if held is None:
        return lambda: (dict(batch) for batch in stream()), count
    return functools.partial(iter, held), count


@functools.partial(jax.jit, static_argnums=(0, 1))
def _masked(
    part: Callable[..., Any], static: Static, params: Params, args: Any, batch: Batch
) -> Any:
    mask = metrics.mask_of(batch)
    new = part(static, params, filled(batch, mask), *args)
    return jax.tree.map(lambda x: jnp.where(mask.any(), x, 0), new)


@jax.jit
def filled(batch: Batch, mask: Array) -> Batch:
    """The batch with its first example in place of each masked row.

    A masked loss has derivative zero, but zero times the derivative of a net at arbitrary
    padding is NaN where that derivative is NaN.
    """
    first = jnp.argmax(mask)

    def fill(x: Array) -> Array:
        if not jnp.ndim(x):
            return x  # a part of the inputs for all rows
        return jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, x[first][None])

    return {**jax.tree.map(fill, dict(batch)), "mask": mask}
