"""The types that all analyses share, each with its laws.

Dimensions in all docstrings: B batch, C classes, D features, K points,
L layers, M modules, N examples, P parameters.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from jaxtyping import Array

from tlx.core import public

__dir__ = public.names(__name__)

Params: TypeAlias = Any
"""Any pytree of arrays that determines the output, batch statistics included. Never mutated."""

Batch: TypeAlias = Mapping[str, Any]
"""A mapping of arrays with B rows each.

`inputs` [B, ...]; `mask` bool [B], True where the row is an example; usually
`labels` [B, ...]; from `tlx.core.streams` also `index` int32 [B], the number of
the example in its stream (B·batches or more where the row is padding). A batch
without `mask` counts every row. Shapes are constant over a stream.
"""

Stream: TypeAlias = Callable[[], Iterator[Batch]]
"""Starts a finite pass over the data; every pass is equal to the first."""

ApplyFn: TypeAlias = Callable[[Params, Any], Any]
"""`(params, inputs) -> outputs`, pure and in evaluation mode.

Row i of the outputs depends on row i of the inputs alone.
"""

FeatureFn: TypeAlias = Callable[[Params, Any], Mapping[str, Array]]
"""`(params, inputs) -> {layer name: array [B, ...]}`, in the order of the forward pass."""

PerExampleFn: TypeAlias = Callable[[Any, Batch], Array]
"""`(outputs, batch) -> float [B]`; it neither reduces nor masks."""

PathFn: TypeAlias = Callable[[Any], Params]
"""A coordinate to parameters; exact at the ends, and only the selected modules move."""

Labels: TypeAlias = Any
"""A pytree of str with the structure of Params: every leaf has exactly one label."""


class Metric(NamedTuple):
    """A monoid that folds batches into a result; four pure functions.

    Laws: `merge` is associative and commutative with `init()` as identity;
    `update(s, o, b)` equals `merge(s, update(init(), o, b))`; masked rows change
    nothing, not even when they hold NaN. Floating sums obey the laws up to rounding,
    counts exactly.

    Attributes:
      init: `() -> state`, a pytree of arrays of constant shape.
      update: `(state, outputs, batch) -> state`.
      merge: `(state, state) -> state`.
      compute: `state -> results`, a pytree of arrays; undefined values are NaN.
    """

    init: Callable[[], Any]
    update: Callable[[Any, Any, Batch], Any]
    merge: Callable[[Any, Any], Any]
    compute: Callable[[Any], Any]
