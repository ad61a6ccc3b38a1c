"""Weights made scale-invariant by batch normalisation, and parameters with the scale removed."""

import functools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tlx.core import checks, graph, scale, shown, tree
from tlx.core.graph import Graph, Op, Var, norms, shape, sites
from tlx.core.graph.known import SHAPING, Known, axes_after, known
from tlx.core.graph.norms import BatchNorm
from tlx.core.types import ApplyFn, Params


@shown.short
class ScaleInvariant(NamedTuple):
    """A kernel whose output goes into batch normalisation, by the names of leaves.

    Attributes:
      kernel: the weights; each filter may be scaled by a positive factor.
      filter_axis: the axis of `kernel` along which its filters lie.
      bias: what is added before the normalisation, which takes it away again; None if nothing.
      mean: the running mean of the normalisation.
      var: its running variance.
      factor: f, where the model subtracts f · mean: 1, but for a framework that corrects its
        running averages when it reads them.
    """

    kernel: str
    filter_axis: int
    bias: str | None
    mean: str
    var: str
    factor: float


def scale_invariant_leaves(
    apply_fn: ApplyFn, params: Params, inputs: Any
) -> tuple[ScaleInvariant, ...]:
    """The kernels whose filters can be scaled without a change of the trained function.

    A linear or convolutional layer whose output, its bias added, goes into batch
    normalisation and nowhere else: in training, BN(c·w∗x + b) = BN(w∗x) for each filter w and
    c > 0, up to ε. In evaluation mode the same holds once the running statistics have adapted;
    where training keeps them frozen it does not hold. Derived from what the model computes in
    evaluation mode, not from names.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`, evaluation mode.
      params: pytree of arrays or `jax.ShapeDtypeStruct`; only shapes and dtypes count.
      inputs: likewise.

    Returns:
      One entry a kernel, in the order of the forward pass; () for a model without batch
      normalisation. Every entry is right, but a kernel may be missed: one that serves twice,
      one in a loop, one with anything but a bias between it and the normalisation, and one
      whose scale another normalisation takes away (layer, group, weight normalisation).

    Raises:
      ValueError: if two leaves have the same name.

    Cost: one trace.

    References: T. van Laarhoven, L2 regularization versus batch and weight normalization, 2017.
    """
    of = graph.trace(apply_fn, params, inputs)
    found_norms, _ = norms.identify(of)
    served = Counter(leaf for norm in found_norms for leaf in (norm.mean, norm.var))
    model = _Model(of)
    found = [
        model.before(norm) for norm in found_norms if served[norm.mean] == served[norm.var] == 1
    ]
    return tuple(x for x in found if x is not None)


def normalised(params: Params, leaves: Iterable[ScaleInvariant]) -> Params:
    """The same function in evaluation, with the scale-invariant filters at norm 1.

    With n the norm of a filter: w/n, mean (f·mean − b)/(f·n), variance var/n², and 0 for the
    bias b. So models that only differ in what batch normalisation takes away become equal, and
    `distances.by_module(normalised(a, leaves), normalised(b, leaves), labels)` does not see it.

    Args:
      params: pytree of arrays.
      leaves: of `scale_invariant_leaves`: what is treated; all other leaves stay.

    Returns:
      A pytree like `params`. A filter that is all zero has no direction and becomes NaN, with
      its statistics. ε counts more or less than before, by n².

    Raises:
      ValueError: for a leaf that `params` lacks.

    Numerics: computed in float32 or more, rounded once to the leaf's dtype.
    """
    leaves, known_names = tuple(leaves), tree.names(params)
    for found in leaves:
        for name in (found.kernel, found.bias, found.mean, found.var):
            if name is not None and name not in known_names:
                raise ValueError(checks.unknown("leaf", name, known_names))
    return _normalised(params, leaves)


@functools.partial(jax.jit, static_argnums=1)
def _normalised(params: Params, leaves: tuple[ScaleInvariant, ...]) -> Params:
    values = tree.named_leaves(params)
    for found in leaves:
        values |= _without_scale(values, found)
    return tree.map_named(lambda name, _: values[name], params)


def _without_scale(values: Mapping[str, Any], found: ScaleInvariant) -> dict[str, Array]:
    def wide(name: str) -> Array:
        return values[name].astype(tree.accumulator(values[name].dtype))

    kernel, mean, var = (wide(name) for name in (found.kernel, found.mean, found.var))
    others = tuple(i for i in range(kernel.ndim) if i != found.filter_axis % kernel.ndim)
    scaled, exponent = tree.unit_scale(kernel)
    length = jnp.sqrt(jnp.sum(jnp.square(scaled), axis=others, keepdims=True))
    length = jnp.where(length == 0, jnp.nan, length)
    size = scale.times_power(length, exponent)
    bias = jnp.zeros_like(mean) if found.bias is None else wide(found.bias).reshape(mean.shape)
    new = {
        found.kernel: scaled / length,
        found.mean: (mean - bias / found.factor) / size.reshape(mean.shape),
        found.var: var / size.reshape(var.shape) / size.reshape(var.shape),
    }
    if found.bias is not None:
        new[found.bias] = jnp.zeros_like(values[found.bias])
    return {name: value.astype(values[name].dtype) for name, value in new.items()}


class _Model:
    """A graph with who makes and who reads each value."""

    def __init__(self, of: Graph) -> None:
        self.graph, self.known = of, known(of)
        self.producer = {var: op for op in of.ops for var in op.outputs}
        reads = [x for op in of.ops for x in op.inputs] + list(of.outputs)
        self.readers = Counter(x for x in reads if not graph.is_literal(x))
        # how often a leaf is combined with activations, or is an output
        self.uses = Counter(
            name
            for values in [op.inputs for op in of.ops if self.moving(op)] + [of.outputs]
            for x in values
            if not graph.is_literal(x) and x in self.known
            for name in self.known[x].names
        )

    def moving(self, op: Op) -> list[Var]:
        """The operands that depend on the inputs."""
        return [x for x in op.inputs if not graph.is_literal(x) and x not in self.known]

    def before(self, norm: BatchNorm) -> ScaleInvariant | None:
        """The kernel whose output, with at most a bias, is all that a normalisation takes."""
        value, channels = norm.site.value, norm.site.channels
        bias: str | None = None
        while len(channels) == 1 and self.readers[value] == 1 and value in self.producer:
            op = self.producer[value]
            moving = self.moving(op)
            if len(moving) != 1:
                return None
            if sites._channels(op, self.known) == channels:
                return self._kernel(op, norm, bias)
            if op.name in SHAPING:
                axes = axes_after(op, moving[0], tuple(range(len(shape(moving[0])))))
                channel = None if axes is None else axes[channels[0]]
                channels = () if channel is None else (channel,)
            elif op.name == "add" and bias is None:
                bias = self._bias(op, channels[0])
                if bias is None:
                    return None
            else:
                return None
            value = moving[0]
        return None

    def _bias(self, op: Op, channel: int) -> str | None:
        """The leaf that is added as it is to each channel."""
        fixed = next((self.known[x] for x in op.inputs if x in self.known), Known())
        name = fixed.single
        if name is None or fixed.linear[name] != 1 or self.uses[name] != 1:
            return None
        axes = fixed.leaves.get(name) or ()
        sizes = shape(self.graph.leaves[name])
        lies = [i for i, axis in enumerate(axes) if axis is not None and sizes[axis] > 1]
        return name if lies == [channel] else None

    def _kernel(self, op: Op, norm: BatchNorm, bias: str | None) -> ScaleInvariant | None:
        value, axis = _operand(op, self.known)
        of = self.known[value]
        name = of.single
        axes = None if name is None else of.leaves.get(name)
        filter_axis = None if axes is None else axes[axis]
        if name is None or filter_axis is None or self.uses[name] != 1:
            return None
        return ScaleInvariant(name, filter_axis, bias, norm.mean, norm.var, norm.factors[0])


def _operand(op: Op, found: Mapping[Var, Known]) -> tuple[Var, int]:
    """The kernel of a layer with one axis of channels, and that axis of it."""
    if op.inner is not None:
        (inside,) = (x for x in op.inner.ops if x.outputs[0] == op.inner.outputs[0])
        outer = dict(zip(op.inner.inputs, op.inputs[1:], strict=True))
        op = inside._replace(inputs=tuple(outer.get(x, x) for x in inside.inputs))
    side = [x in found for x in op.inputs].index(True)
    value = op.inputs[side]
    if op.name == "conv_general_dilated":
        return value, op.params["dimension_numbers"].rhs_spec[0]
    contracted = op.params["dimension_numbers"][0][side]
    (axis,) = set(range(len(shape(value)))) - set(contracted)
    return value, axis
