"""The mean loss over a stream as a function of chosen leaves, and these as one vector."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float

from tlx.core import batch_statistics, contracts, metrics, sharding, streams, tree
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
      places: of each chosen leaf where it is split over devices; none on one device.
    """

    apply_fn: ApplyFn
    loss: PerExampleFn
    chosen: tuple[bool, ...]
    places: tuple[NamedSharding, ...] = ()


class MeanLoss(NamedTuple):
    """A mean loss and its data.

    Attributes:
      static: the function, the loss and the chosen leaves.
      params: pytree of arrays, the point.
      leaves: the chosen ones of the point, `tree.reals` of each, of one dtype, float32 or wider.
      batches: starts a pass.
      num_examples: the number of examples.
    """

    static: Static
    params: Params
    leaves: list[Array]
    batches: Callable[[], Iterator[Batch]]
    num_examples: int

    @property
    def size(self) -> int:
        """P, how many numbers vary."""
        return sum(leaf.size for leaf in self.leaves)

    @property
    def dtype(self) -> Any:
        """Of the chosen leaves and of vectors."""
        return self.leaves[0].dtype

    def ravel(self, direction: Params) -> Float[Array, " P"]:
        """The chosen leaves of a pytree like the parameters, as a vector."""
        tree.same_structure(direction, self.params, ("direction", "params"), dtype=False)
        return self.joined(_moving(self.static.chosen, direction, self.dtype))

    def unravel(self, vector: Any) -> Params:
        """A vector as a pytree like the parameters, zero in the leaves that are not chosen."""
        return self.alone(self.cut(vector))

    def alone(self, leaves: list[Array]) -> Params:
        """Chosen leaves as a pytree like the parameters, zero in the others."""
        return _alone(self.static.chosen, self.params, leaves)

    def cut(self, vector: Any) -> list[Array]:
        """The part of a vector [P] that belongs to each chosen leaf, placed as that is."""
        shapes = tuple(leaf.shape for leaf in self.leaves)
        if not self.static.places or isinstance(vector, jax.core.Tracer):
            return _cut(shapes, jnp.asarray(vector, self.dtype))
        parts = _cut_here(shapes, np.asarray(vector, self.dtype))
        return [sharding.put(x, place) for x, place in zip(parts, self.static.places, strict=True)]

    def joined(self, leaves: list[Array]) -> Float[Array, " P"]:
        """The chosen leaves as a vector; on the host where no device holds all of them."""
        if not self.static.places or isinstance(leaves[0], jax.core.Tracer):
            return _joined(leaves)
        found: Any = np.concatenate([x.reshape(-1) for x in sharding.to_host(leaves)])
        return found

    def mean(self, part: Callable[..., Any], *args: Any) -> Any:
        """The sum over batches of `part(static, params, batch, *args)`, over the examples."""
        total = None
        for batch in self.batches():
            new = _masked(part, self.static, self.params, args, batch)
            total = new if total is None else _added(total, new)
        return _over(total, self.num_examples)


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
    params = sharding.on_devices(params)
    check = contracts.Values(losses_of_batch, apply_fn, loss)
    mesh = sharding.mesh_of(params)
    batches, count = _read(stream, functools.partial(check, params), mesh)
    leaves = _moving(chosen, params)
    static = Static(apply_fn, loss, chosen, sharding.places(leaves))
    return MeanLoss(static, params, leaves, batches, count)


def sum_of_losses(static: Static, outputs: Any, batch: Batch) -> Float[Array, ""]:
    """The sum of the losses of a batch's examples."""
    mask = metrics.mask_of(batch)
    values = contracts.per_example(static.loss, outputs, batch)
    return jnp.sum(jnp.where(mask, values.astype(tree.accumulator(values.dtype)), 0))


def value(static: Static, params: Params, batch: Batch, leaves: list[Array]) -> Float[Array, ""]:
    """The sum of the losses at other chosen leaves."""
    outputs = static.apply_fn(write(static.chosen, params, leaves), batch["inputs"])
    return sum_of_losses(static, outputs, batch)


def write(chosen: tuple[bool, ...], params: Params, moving: list[Array]) -> Params:
    """The parameters with other chosen leaves, in the leaves' dtypes."""
    leaves, treedef = jax.tree.flatten(params)
    numbers = itertools.compress(range(len(leaves)), chosen)
    for i, found in zip(numbers, moving, strict=True):
        like = jax.eval_shape(tree.reals, leaves[i])  # both parts of complex leaves vary
        leaves[i] = tree.rounded(found.astype(like.dtype), leaves[i])
    return jax.tree.unflatten(treedef, leaves)


def placed(static: Static, leaves: list[Array]) -> list[Array]:
    """Derivatives in the chosen leaves, split as these are; within compiled code."""
    return sharding.at_places(leaves, static.places)


@functools.partial(jax.jit, static_argnums=0)
def _alone(chosen: tuple[bool, ...], params: Params, moving: list[Array]) -> Params:
    """The chosen leaves alone, zero in the others."""
    return write(chosen, jax.tree.map(_zeros, params), moving)


@functools.partial(jax.jit, static_argnums=(0, 2))
def _moving(chosen: tuple[bool, ...], params: Params, dtype: Any = None) -> list[Array]:
    kept = [tree.reals(x) for x in itertools.compress(jax.tree.leaves(params), chosen)]
    if dtype is None:
        dtype = functools.reduce(jnp.promote_types, (x.dtype for x in kept))
    return [x.astype(dtype) for x in kept]


def _cut_here(shapes: tuple[tuple[int, ...], ...], vector: Any) -> list[Any]:
    ends = list(itertools.accumulate(map(math.prod, shapes)))
    starts = (0, *ends[:-1])
    return [
        vector[start:end].reshape(shape)
        for start, end, shape in zip(starts, ends, shapes, strict=True)
    ]


_cut = jax.jit(_cut_here, static_argnums=0)
_joined = jax.jit(lambda leaves: jnp.concatenate([x.reshape(-1) for x in leaves]))
_added = jax.jit(lambda total, new: jax.tree.map(jnp.add, total, new))
_over = jax.jit(lambda total, count: jax.tree.map(lambda x: x / count, total))


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
    stream: Stream, check: Callable[[Batch], None], mesh: Mesh | None
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
            held.append(sharding.on_devices(sharding.place_rows(batch, mesh)))
        else:
            held = None
    count = sum(int(c) for c in counts)
    if not count:
        raise ValueError(
            f"expected a stream with examples, got {len(counts)} batches with all rows masked"
        )
    if held is None:
        return lambda: (sharding.place_rows(batch, mesh) for batch in stream()), count
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
