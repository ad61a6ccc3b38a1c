"""What each operation does to axes: which it pairs up, sums over, takes apart or holds still."""

import math
from collections.abc import Callable

from tlx.analyses.landscape.permutations._axes import (
    Atom,
    Axes,
    Axis,
    Contraction,
    Rule,
    fresh,
    split,
    split_off,
)
from tlx.core.graph import Op, shape


def _elementwise(axes: Axes, op: Op) -> None:
    operands = [axes.axes(x) for x in op.inputs if shape(x)]
    sizes = shape(op.outputs[0])
    out = []
    for i, size in enumerate(sizes):
        same = [axis[i] for axis in operands if axis[i] or size == 1]
        out.append(same[0] if same else fresh(size))
        for other in same[1:]:
            axes.tie(same[0], other, op.name)
    for var in op.outputs:
        axes.of[var] = tuple(out)


def _broadcast(axes: Axes, op: Op) -> None:
    sizes = shape(op.outputs[0])
    out = [fresh(n) for n in sizes]
    for axis, i in zip(axes.axes(op.inputs[0]), op.params["broadcast_dimensions"], strict=False):
        out[i] = axis or out[i]
    axes.of[op.outputs[0]] = tuple(out)


def _transpose(axes: Axes, op: Op) -> None:
    source = axes.axes(op.inputs[0])
    axes.of[op.outputs[0]] = tuple(source[i] for i in op.params["permutation"])


def _reshape(axes: Axes, op: Op) -> None:
    if op.name == "reshape" and op.params["dimensions"] is not None:  # transposed first
        axes.hold(op)
        return
    left = [atom for axis in axes.axes(op.inputs[0]) for atom in axis]
    out: list[Axis] = []
    for size in shape(op.outputs[0]):
        taken: list[Atom] = []
        while math.prod(atom.size for atom in taken) < size and left:
            wanted = size // math.prod(atom.size for atom in taken)
            atom = left.pop(0)
            if wanted % atom.size and atom.size % wanted:
                axes.hold(op)
                return
            if atom.size > wanted:
                atom, minor = split_off(atom, wanted)
                left = list(split((minor, *left)))
            taken.append(atom)
        if math.prod(atom.size for atom in taken) != size:
            axes.hold(op)
            return
        out.append(tuple(taken))
    axes.of[op.outputs[0]] = tuple(out)


def _reduce(axes: Axes, op: Op) -> None:
    gone = op.params["axes"]
    source = axes.axes(op.inputs[0])
    kept = tuple(axis for i, axis in enumerate(source) if i not in gone)
    axes.contractions.append(Contraction(tuple(source[i] for i in gone), kept, ()))
    for var in op.outputs:
        axes.of[var] = kept


def _dot(axes: Axes, op: Op) -> None:
    (summed_l, summed_r), (batch_l, batch_r) = op.params["dimension_numbers"]
    for i, j in (*zip(summed_l, summed_r, strict=True), *zip(batch_l, batch_r, strict=True)):
        axes.tie(axes.axes(op.inputs[0])[i], axes.axes(op.inputs[1])[j], op.name)
    lhs, rhs = map(axes.axes, op.inputs)
    free_l = [lhs[i] for i in range(len(lhs)) if i not in (*summed_l, *batch_l)]
    free_r = [rhs[i] for i in range(len(rhs)) if i not in (*summed_r, *batch_r)]
    stepped = tuple(lhs[i] for i in batch_l)
    axes.contractions.append(
        Contraction(tuple(lhs[i] for i in summed_l), stepped, tuple(op.inputs))
    )
    axes.of[op.outputs[0]] = (*stepped, *free_l, *free_r)


def _conv(axes: Axes, op: Op) -> None:
    numbers, groups = op.params["dimension_numbers"], op.params["feature_group_count"]
    if op.params["batch_group_count"] != 1:
        axes.hold(op)
        return
    (lhs_batch, lhs_in, *lhs_space), (rhs_out, rhs_in, *rhs_space), (_, _, *_) = numbers
    lhs, rhs = map(axes.axes, op.inputs)
    for axis in (*(lhs[i] for i in lhs_space), *(rhs[i] for i in rhs_space)):
        axes.fix(axis, op.name)
    group = fresh(groups)
    axes.tie(lhs[lhs_in], (*group, *rhs[rhs_in]), op.name)
    if groups > 1:
        per_group = shape(op.inputs[1])[rhs_out] // groups
        axes.tie(rhs[rhs_out], (*group, *fresh(per_group)), op.name)
    axes.contractions.append(Contraction((split(rhs[rhs_in]),), (split(group),), tuple(op.inputs)))
    out_batch, out_feature, *_ = numbers.out_spec
    out = [axes.fixed(n, op.name) for n in shape(op.outputs[0])]
    out[out_batch], out[out_feature] = lhs[lhs_batch], split(rhs[rhs_out])
    axes.of[op.outputs[0]] = tuple(out)


def _some_axes(is_changed: Callable[[Op, int], bool]) -> Rule:
    """A rule for operations that work along some axes and leave the others as they are."""

    def of(axes: Axes, op: Op) -> None:
        operands = [axes.axes(x) for x in op.inputs if shape(x)]
        sizes = [shape(x) for x in op.inputs if shape(x)]
        for var in op.outputs:
            out = []
            for i, size in enumerate(shape(var)):
                if is_changed(op, i) or any(s[i] != size for s in sizes):
                    for axis in operands:
                        axes.fix(axis[i], op.name)
                    out.append(axes.fixed(size, op.name))
                else:
                    for other in operands[1:]:
                        axes.tie(operands[0][i], other[i], op.name)
                    out.append(split(operands[0][i]))
            axes.of[var] = tuple(out)

    return of


def _windowed(op: Op, i: int) -> bool:
    fields = ("window_dimensions", "window_strides", "base_dilation", "window_dilation")
    changed = any(op.params[f][i] != 1 for f in fields if f in op.params)
    return changed or tuple(op.params["padding"][i]) != (0, 0)


def _stack(axes: Axes, op: Op) -> None:
    at = op.params["axis"]
    operands = [axes.axes(x) for x in op.inputs]
    for other in operands[1:]:
        for a, b in zip(operands[0], other, strict=True):
            axes.tie(a, b, op.name)
    rest = list(axes.axes(op.inputs[0]))
    rest.insert(at, axes.fixed(len(operands), op.name))
    axes.of[op.outputs[0]] = tuple(rest)


def _iota(axes: Axes, op: Op) -> None:
    out = [fresh(n) for n in shape(op.outputs[0])]
    axes.fix(out[op.params["dimension"]], op.name)
    axes.of[op.outputs[0]] = tuple(out)


def _gather(axes: Axes, op: Op) -> None:
    """Rows looked up in a table: the axes that are taken whole keep their order free."""
    numbers, sizes = op.params["dimension_numbers"], op.params["slice_sizes"]
    table, (*places, _) = map(axes.axes, op.inputs)
    for axis in axes.axes(op.inputs[1]):
        axes.fix(axis, op.name)
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    out = [axes.fixed(n, op.name) for n in shape(op.outputs[0])]
    rest = [at for at in range(len(out)) if at not in numbers.offset_dims]
    for at, axis in zip(rest, places, strict=True):
        out[at] = axis
    kept = [i for i in range(len(sizes)) if i not in gone]
    for i, at in zip(kept, numbers.offset_dims, strict=True):
        if sizes[i] == shape(op.inputs[0])[i]:
            out[at] = table[i]
    for i, size in enumerate(sizes):
        if i in gone or size != shape(op.inputs[0])[i]:
            axes.fix(table[i], op.name)
    axes.of[op.outputs[0]] = tuple(out)


def _scatter(axes: Axes, op: Op) -> None:
    """Rows written, or summed, into a table: the axes that are written whole keep their order free.

    Such as the sum over the edges of each node of a graph.
    """
    numbers = op.params["dimension_numbers"]
    table, places, updates = map(axes.axes, op.inputs)
    batched = (numbers.operand_batching_dims, numbers.scatter_indices_batching_dims)
    for i, j in zip(*batched, strict=True):
        axes.tie(table[i], places[j], op.name)
    for j, axis in enumerate(places):
        if j not in batched[1]:
            axes.fix(axis, op.name)
    windows = numbers.update_window_dims
    written = [axis for at, axis in enumerate(updates) if at not in windows]
    for axis, place in zip(written, places[:-1], strict=True):
        axes.tie(axis, place, op.name)
    for i in numbers.inserted_window_dims:
        axes.fix(table[i], op.name)
    gone = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    kept = [i for i in range(len(table)) if i not in gone]
    for i, at in zip(kept, windows, strict=True):
        if shape(op.inputs[0])[i] == shape(op.inputs[2])[at]:
            axes.tie(table[i], updates[at], op.name)
        else:
            axes.fix(table[i], op.name)
            axes.fix(updates[at], op.name)
    axes.of[op.outputs[0]] = tuple(map(split, table))


_ELEMENTWISE = (
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "cbrt", "ceil", "clamp", "complex", "conj", "convert_element_type", "copy", "copy_p", "cos",
    "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge",
    "gt", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt",
    "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow", "real", "reduce_precision",
    "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient",
    "sub", "tan", "tanh", "xor",
)  # fmt: skip
_REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or")
_WINDOWS = ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum")
_SCATTERS = ("scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul", "scatter-min",
             "scatter_min", "scatter-max", "scatter_max")  # fmt: skip
_RUNNING = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_WINDOWS, _some_axes(_windowed)),
    **dict.fromkeys(_RUNNING, _some_axes(lambda op, i: op.params["axis"] == i)),
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "dot_general": _dot,
    "conv_general_dilated": _conv,
    "pad": _some_axes(lambda op, i: tuple(op.params["padding_config"][i]) != (0, 0, 0)),
    "slice": _some_axes(lambda op, i: False),
    "dynamic_slice": _some_axes(lambda op, i: False),
    "split": _some_axes(lambda op, i: op.params["axis"] == i),
    "rev": _some_axes(lambda op, i: i in op.params["dimensions"]),
    "concatenate": _some_axes(lambda op, i: op.params["dimension"] == i),
    "stack": _stack,
    "iota": _iota,
    "gather": _gather,
    **dict.fromkeys(_SCATTERS, _scatter),
}
"""Primitive to what it does to axes."""


def rule(axes: Axes, op: Op) -> None:
    """The rule for an operation; one without holds all its axes still."""
    RULES.get(op.name, Axes.hold)(axes, op)
