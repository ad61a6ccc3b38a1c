"""How the values of a graph that do not depend on the inputs are computed from its leaves.

Such a value is a function of leaves and constants; its form distinguishes batch statistics from
other parameters.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from tlx.core import public
from tlx.core.graph.tracing import Graph, Op, Var, done, is_literal, shape

__dir__ = public.names(__name__)

Axes: TypeAlias = tuple[int | None, ...] | None
"""The leaf's axis behind each axis of a value (None: no axis); None where it is not tracked."""

SAME_VALUE = ("convert_element_type", "copy", "stop_gradient", "reduce_precision")
SHAPING = (*SAME_VALUE, "reshape", "squeeze", "expand_dims", "transpose")
_MOVING = (*SHAPING, "broadcast_in_dim", "slice", "dynamic_slice", "gather", "concatenate", "split",
           "pad", "rev")  # fmt: skip
_ELEMENTWISE = ("add", "sub", "mul", "div", "neg", "max", "min", "abs", "exp", "log", "sqrt",
                "rsqrt", "pow", "integer_pow", "square", "select_n", "clamp", "log1p", "expm1",
                "logistic", "tanh")  # fmt: skip


class Known(NamedTuple):
    """A value that depends on parameters and constants only.

    Attributes:
      leaves: those it is computed from element by element, with their axes.
      mixed: the other leaves it depends on.
      linear: leaf to f, where the value is f · leaf · (what does not depend on the leaf).
      affine: f, where the value is f · leaf plus or clipped at constants, and of one leaf only.
      rooted: leaf to f, where it is computed from a root of f · leaf plus or clipped at constants;
        f is None for the root of another function of the leaf.
      times: leaf to f, where f · leaf · (a root of leaves) is among its terms.
    """

    leaves: Mapping[str, Axes] = {}
    mixed: frozenset[str] = frozenset()
    linear: Mapping[str, float] = {}
    affine: float | None = None
    rooted: Mapping[str, float | None] = {}
    times: Mapping[str, float] = {}

    @property
    def names(self) -> frozenset[str]:
        """All leaves it depends on."""
        return frozenset(self.leaves) | self.mixed

    @property
    def single(self) -> str | None:
        """The leaf it is a multiple of, up to a rearrangement of elements."""
        alone = len(self.names) == 1 and len(self.linear) == 1
        return min(self.linear) if alone else None


def known(graph: Graph, seed: Mapping[Var, Known] | None = None) -> dict[Var, Known]:
    """The `Known` of each value that does not depend on the inputs."""
    found = {
        var: Known({name: tuple(range(len(shape(var))))}, frozenset(), {name: 1.0}, 1.0)
        for name, var in graph.leaves.items()
    }
    found |= dict(seed or {}) | dict.fromkeys(graph.constants, Known())
    for op in graph.ops:
        reads = [Known() if is_literal(x) else found.get(x) for x in op.inputs]
        if None not in reads:
            found |= dict.fromkeys(op.outputs, _result(graph, op, [x for x in reads if x]))
    return found


def _result(graph: Graph, op: Op, reads: list[Known]) -> Known:
    names = frozenset[str]().union(*(x.names for x in reads))
    if op.name not in _MOVING + _ELEMENTWISE:
        return Known(mixed=names)
    mixed = frozenset[str]().union(*(x.mixed for x in reads))
    leaves: dict[str, Axes] = {}
    for operand, x in zip(op.inputs, reads, strict=True):
        for name, axes in x.leaves.items():
            moved = axes_after(op, operand, axes)
            leaves[name] = moved if leaves.get(name, moved) == moved else None
    out = Known(leaves, mixed, _linear(graph, op, reads), _affine(graph, op, reads))
    terms = op.name in (*_MOVING, "add", "sub", "mul", "div", "neg")
    times = _union(x.times for x in reads) if terms else {}
    if op.name in ("mul", "div"):
        left, right = reads
        times |= right.linear if left.rooted and op.name == "mul" else {}
        times |= left.linear if right.rooted else {}
    return out._replace(rooted=_rooted(op, reads, out), times=times)


def axes_after(op: Op, operand: Var, axes: Axes) -> Axes:
    """The axes of a leaf after an operation on a value with these axes."""
    source, target = shape(operand), shape(op.outputs[0])
    if axes is None or op.name in SAME_VALUE:
        return axes
    if op.name in _ELEMENTWISE:
        return axes if source == target else (None,) * len(target)
    if op.name == "transpose":
        return tuple(axes[i] for i in op.params["permutation"])
    if op.name == "broadcast_in_dim":
        out: list[int | None] = [None] * len(target)
        for i, j in enumerate(op.params["broadcast_dimensions"]):
            out[j] = axes[i] if source[i] == target[j] else None
        return tuple(out)
    if op.name in ("reshape", "squeeze", "expand_dims") and (
        [n for n in source if n > 1] == [n for n in target if n > 1]
    ):
        rest = iter([axis for axis, size in zip(axes, source, strict=True) if size > 1])
        return tuple(next(rest) if size > 1 else None for size in target)
    return None


def _linear(graph: Graph, op: Op, reads: list[Known]) -> dict[str, float]:
    if op.name in _MOVING:
        return dict(reads[0].linear) if len(reads) == 1 else {}
    if op.name == "neg":
        return {name: -f for name, f in reads[0].linear.items()}
    if op.name not in ("mul", "div"):
        return {}
    left, right = reads
    out = {name: f for name, f in left.linear.items() if name not in right.names}
    if op.name == "mul":
        out |= {name: f for name, f in right.linear.items() if name not in left.names}
    for operand, x in zip(op.inputs, reads, strict=True):
        if out and not x.names:
            c = _constant(graph, operand)
            out = {name: f * c if op.name == "mul" else f / c for name, f in out.items() if c}
    return out


def _affine(graph: Graph, op: Op, reads: list[Known]) -> float | None:
    linear = _linear(graph, op, reads)
    names = frozenset[str]().union(*(x.names for x in reads))
    if len(names) != 1:
        return None
    if set(linear) == names:
        return linear[min(names)]
    if op.name in _MOVING and len(reads) == 1:
        return reads[0].affine
    if op.name in ("add", "max", "min", "clamp") or (op.name == "sub" and not reads[1].names):
        own = [x.affine for x in reads if x.names]
        return own[0] if len(own) == 1 else None
    return None


def _rooted(op: Op, reads: list[Known], out: Known) -> dict[str, float | None]:
    if op.name in ("square", "integer_pow") and op.params.get("y", 2) != -1:
        return {}
    if op.name in ("sqrt", "rsqrt") or (op.name == "pow" and _is_half(op.inputs[1])):
        affine = reads[0].affine
        return dict.fromkeys(out.leaves, affine if affine and affine > 0 else None)
    return _union(x.rooted for x in reads)


def _is_half(x: Any) -> bool:
    return is_literal(x) and abs(float(x.val)) == 0.5


def _constant(graph: Graph, x: Any) -> float | None:
    """The number that a value without leaves holds everywhere; None if there is no such number."""
    value = x.val if is_literal(x) else _evaluated(graph, x)
    if value is None or isinstance(value, jax.core.Tracer) or not np.size(value):
        return None
    numbers = np.asarray(value, np.float64)
    uniform = (numbers == numbers.flat[0]).all() and np.isfinite(numbers.flat[0])
    return float(numbers.flat[0]) if uniform else None


def _evaluated(graph: Graph, var: Var) -> Any:
    """The value of a variable that depends on constants only; else None."""
    producer = {x: op for op in graph.ops for x in op.outputs}
    values: dict[Var, Any] = dict(graph.constants)

    def value(x: Var) -> Any:
        if is_literal(x):
            return x.val
        if x not in values and x in producer:
            op = producer[x]
            operands = [value(y) for y in op.inputs]
            missing = any(y is None for y in operands)
            results = [None] * len(op.outputs) if missing else done(op, operands)
            values.update(zip(op.outputs, results, strict=True))
        return values.get(x)

    with jax.ensure_compile_time_eval():
        return value(var)


def _union(parts: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for part in parts:
        out |= part
    return out
