"""The leaves of the parameters as kernels of dense layers and convolutions."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from tlx.core import checks, graph, tree
from tlx.core.graph.known import Known, known
from tlx.core.types import ApplyFn, Params

_LAYOUTS = ("HWIO", "OIHW")


class Layer(NamedTuple):
    """How a leaf is used as a kernel.

    Attributes:
      kind: "dense" or "conv".
      order: the leaf's axes in the order of the kernel; others have length 1.
      shape: of the kernel: [Din, Dout], or of a convolution [*taps, I, O].
      size: of a convolution's inputs in space, where known; as all below () for a dense layer.
      strides: one an axis of space.
      padding: zeros before and after each axis of space (fewer than 0 cut).
      dilation: of the kernel, one an axis of space.
      groups: of channels; I is the channels of one group.
    """

    kind: str
    order: tuple[int, ...]
    shape: tuple[int, ...]
    size: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1

    def kernel(self, leaf: Any) -> Float[np.ndarray, "..."]:
        """The leaf as the kernel: float64 of `shape`."""
        values = np.asarray(leaf).astype(np.float64)
        rest = (i for i in range(values.ndim) if i not in self.order)
        return values.transpose(*self.order, *rest).reshape(self.shape)


def by_shape(params: Params, layout: str) -> tuple[dict[str, Layer], tuple[str, ...]]:
    """The kernels among the leaves by their number of axes, and the leaves that are passed over."""
    if layout not in _LAYOUTS:
        raise ValueError(checks.unknown("layout", layout, _LAYOUTS))
    found: dict[str, Layer] = {}
    passed_over = []
    for name, leaf in tree.named_leaves(params).items():
        shape, n = np.shape(leaf), np.ndim(leaf)
        if n < 2 or not tree.is_inexact(leaf):
            continue
        outputs = shape[-1] if layout == "HWIO" else shape[0]
        if math.prod(shape) == outputs:
            continue  # a vector, as some frameworks keep biases and scales
        order = tuple(range(n)) if layout == "HWIO" else (*range(2, n), 1, 0)
        kernel = tuple(shape[i] for i in order)
        if jnp.iscomplexobj(leaf):
            passed_over.append(name)
        elif n == 2:
            found[name] = Layer("dense", order, kernel)
        elif n <= 5:
            ones = (1,) * (n - 2)
            found[name] = Layer("conv", order, kernel, strides=ones, dilation=ones)
        else:
            passed_over.append(name)
    return found, tuple(passed_over)


def layers(apply_fn: ApplyFn, params: Params, inputs: Any) -> dict[str, Layer]:
    """The leaves that a model uses as kernels: leaf name to `Layer`, from input to output.

    The model is traced: a convolution counts where its kernel is a leaf, cast or with its axes
    moved at most, and a matrix product of activations with such a leaf (all axes that it sums
    over against all others) is a dense layer. Nothing of a framework is needed.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      params: pytree of arrays or `jax.ShapeDtypeStruct`.
      inputs: likewise; their size in space decides that of the layers.

    Returns:
      Leaf name to `Layer`. Of a leaf that is used more than once, the first use. Kernels that are
      computed of leaves (scaled, normalised), transposed convolutions, products with a batch
      axis and anything inside loops are not detected.

    Cost: one trace of the model, the first time.
    """
    traced = graph.trace(apply_fn, params, inputs)
    found: dict[str, Layer] = {}
    for name, layer in _uses(traced, known(traced)):
        shape = graph.shape(traced.leaves[name])
        real = jnp.issubdtype(traced.leaves[name].aval.dtype, jnp.floating)
        if real and math.prod(shape) == math.prod(shape[i] for i in layer.order) == math.prod(
            layer.shape
        ):
            found.setdefault(name, layer)
    return found


def unused(params: Params, found: Mapping[str, Layer]) -> tuple[str, ...]:
    """The leaves of at least two axes longer than 1 that are not among the layers."""
    return tuple(
        name
        for name, leaf in tree.named_leaves(params).items()
        if name not in found and tree.is_inexact(leaf) and sum(n > 1 for n in np.shape(leaf)) > 1
    )


def _uses(part: graph.Graph, values: Mapping[graph.Var, Known]) -> Iterator[tuple[str, Layer]]:
    """The kernels of a graph, and of the branches that it takes by platform."""
    for op in part.ops:
        if op.inner is not None:
            inside = zip(op.inner.inputs, op.inputs[1:], strict=True)
            seed = {v: values[x] for v, x in inside if not graph.is_literal(x) and x in values}
            yield from _uses(op.inner, known(op.inner, seed))
        elif op.name in ("conv_general_dilated", "dot_general"):
            left, right = (None if graph.is_literal(x) else values.get(x) for x in op.inputs)
            if op.name == "dot_general" and left and not right:
                yield from _used(op, 0, left)
            elif right and not left:
                yield from _used(op, 1, right)


def _used(op: graph.Op, place: int, value: Known) -> Iterator[tuple[str, Layer]]:
    """The layer that reads a kernel at a place of its operands, if that is a leaf as it is."""
    name = value.single
    if name is None or value.linear[name] != 1 or value.leaves.get(name) is None:
        return
    axes = value.leaves[name]
    layer = (_conv if op.name == "conv_general_dilated" else _dense)(op, place, axes)
    if layer is not None:
        yield name, layer


def _dense(op: graph.Op, place: int, axes: Any) -> Layer | None:
    summed, batch = (part[place] for part in op.params["dimension_numbers"])
    if batch:
        return None
    shape = graph.shape(op.inputs[place])
    free = [i for i in range(len(shape)) if i not in summed]
    order = tuple(axes[i] for i in (*summed, *free) if axes[i] is not None)
    sides = tuple(math.prod(shape[i] for i in part) for part in (summed, free))
    return Layer("dense", order, sides)


def _conv(op: graph.Op, place: int, axes: Any) -> Layer | None:
    params = op.params
    if set(params["lhs_dilation"]) - {1} or params["batch_group_count"] != 1:
        return None
    dims: jax.lax.ConvDimensionNumbers = params["dimension_numbers"]
    outputs, inputs, *space = dims.rhs_spec
    shape = graph.shape(op.inputs[place])
    return Layer(
        "conv",
        tuple(axes[i] for i in (*space, inputs, outputs) if axes[i] is not None),
        tuple(shape[i] for i in (*space, inputs, outputs)),
        tuple(graph.shape(op.inputs[0])[i] for i in dims.lhs_spec[2:]),
        tuple(params["window_strides"]),
        tuple(map(tuple, params["padding"])),
        tuple(params["rhs_dilation"]),
        params["feature_group_count"],
    )
