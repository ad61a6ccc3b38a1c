"""A model as a graph of operations: how it uses each leaf, and its intermediate values.

An apply function is traced once into a flat list of operations whose first operands are the
leaves of the parameters by name. `batch_statistics` finds batch normalisation in it and
the alignment of `tlx.analyses.landscape` the permutations that leave the function as it is; both
need the model's intermediate values, which `run` returns or changes. No framework is needed.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
from jax.extend import core as jex

from tlx.core import public, tree
from tlx.core.types import ApplyFn, Params

__dir__ = public.names(__name__)

_CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call",
          "custom_vjp_call_jaxpr", "checkpoint", "remat", "remat2", "composite")  # fmt: skip

_SETTINGS = ("jax_default_matmul_precision", "jax_enable_x64")  # a trace depends on them too

Var = Any
"""A value of the graph: an operand or a result of an operation."""


class Op(NamedTuple):
    """An operation.

    Attributes:
      name: of the primitive, such as "dot_general".
      inputs: its operands: values of the graph, or literals.
      outputs: its results.
      params: of the primitive.
      primitive: what `run` binds.
      inner: for a choice by platform, its default branch as a graph whose `inputs` are the
        operands after the first; else None.
    """

    name: str
    inputs: tuple[Var, ...]
    outputs: tuple[Var, ...]
    params: Mapping[str, Any]
    primitive: Any
    inner: "Graph | None"


class Graph(NamedTuple):
    """A traced function, calls inlined.

    Attributes:
      leaves: leaf name to value, the parameters.
      inputs: the values of the inputs' leaves.
      constants: value to array.
      ops: the operations in an order in which they can be executed.
      outputs: the values (or literals) of the outputs' leaves.
      out_tree: structure of the outputs.
    """

    leaves: dict[str, Var]
    inputs: tuple[Var, ...]
    constants: dict[Var, Any]
    ops: tuple[Op, ...]
    outputs: tuple[Var, ...]
    out_tree: Any


Hook = Callable[[Any, dict[Var, Any]], Any]
"""`(value, all values so far) -> the value to go on with`; it may set other values too."""


def trace(apply_fn: ApplyFn, params: Params, inputs: Any) -> Graph:
    """The graph of `apply_fn(params, inputs)`.

    Args:
      apply_fn: pure `(params, inputs) -> outputs`.
      params: pytree of arrays or `jax.ShapeDtypeStruct`; only shapes and dtypes count.
      inputs: likewise.

    Returns:
      `Graph`, the same object for the same function, structure, shapes and dtypes.

    Raises:
      ValueError: if two leaves have the same name.

    Cost: one trace of the function, the first time.
    """
    names = tree.names(params)
    leaves, treedef = jax.tree.flatten(jax.eval_shape(lambda x: x, (params, inputs)))
    shapes = tuple((x.shape, x.dtype) for x in leaves)
    settings = tuple(getattr(jax.config, name) for name in _SETTINGS)
    return _trace(apply_fn, treedef, shapes, names, settings)


def run(
    graph: Graph,
    params: Params,
    inputs: Any,
    *,
    hooks: Mapping[Var, Hook] | None = None,
    order: Iterable[int] | None = None,
) -> tuple[Any, dict[Var, Any]]:
    """The outputs and all intermediate values, computed operation by operation.

    Args:
      graph: of `trace`, for these shapes.
      params: pytree of arrays.
      inputs: pytree of arrays.
      hooks: what to do with a value as soon as it is computed.
      order: indices of the operations in the order of execution; None for the graph's order.

    Returns:
      (outputs, value by `Var`). To be called under `jax.jit`, which drops what is not used.
      Calls are inlined, so custom differentiation rules are lost and gradients may differ
      where such a rule applies (relu at 0).

    Raises:
      ValueError: if params or inputs have other names or shapes than the graph.
    """
    hooks = hooks or {}
    values: dict[Var, Any] = dict(graph.constants)

    def put(var: Var, value: Any) -> None:
        values[var] = value
        if var in hooks:
            values[var] = hooks[var](value, values)

    for var, leaf in _operands(graph, params, inputs):
        put(var, leaf)
    for i in range(len(graph.ops)) if order is None else order:
        op = graph.ops[i]
        results = done(op, [_read(values, x) for x in op.inputs])
        for var, value in zip(op.outputs, results, strict=True):
            put(var, value)
    outputs = [_read(values, x) for x in graph.outputs]
    return jax.tree.unflatten(graph.out_tree, outputs), values


def order_with(graph: Graph, after: Mapping[Var, Var]) -> tuple[int, ...]:
    """An order of the operations in which nothing reads `var` before `after[var]` is computed.

    Raises:
      ValueError: if there is none, because a value would depend on itself.
    """
    producer = {var: i for i, op in enumerate(graph.ops) for var in op.outputs}
    done: dict[int, bool] = {}
    order: list[int] = []
    for start in range(len(graph.ops)):
        stack = [start]
        while stack:
            i = stack[-1]
            if done.get(i):
                stack.pop()
                continue
            reads = [x for x in graph.ops[i].inputs if not is_literal(x)]
            reads += [after[x] for x in reads if x in after]
            waiting = [producer[x] for x in reads if x in producer and not done.get(producer[x])]
            if not waiting:
                done[i] = True
                order.append(i)
                stack.pop()
            elif i in done:  # seen before, and some of what it reads is still missing
                raise ValueError(
                    "expected an order without cycles, got one in which operation "
                    f"{graph.ops[i].name!r} depends on itself"
                )
            else:
                done[i] = False
                stack += waiting
    return tuple(order)


def done(op: Op, operands: list[Any]) -> list[Any]:
    """The results of an operation on the given operands."""
    given = op.primitive.get_bind_params(op.params)  # in some versions with functions before
    functions, params = given if isinstance(given, tuple) else ((), given)
    results = op.primitive.bind(*functions, *operands, **params)
    return list(results) if op.primitive.multiple_results else [results]


def bodies(op: Op) -> tuple[Graph, ...]:
    """The functions that a loop or a branch calls; their inputs are the operation's last ones."""
    if op.inner is not None:
        return ()
    found = (op.params.get(name) for name in ("jaxpr", "body_jaxpr", "branches"))
    closed = [x for part in found for x in (part if isinstance(part, tuple) else (part,))]
    return tuple(_graph(x, (), None) for x in closed if hasattr(x, "jaxpr"))


def dependent(graph: Graph) -> set[Var]:
    """The values that depend on the inputs."""
    found = set(graph.inputs)
    for op in graph.ops:
        if any(not is_literal(x) and x in found for x in op.inputs):
            found |= set(op.outputs)
    return found


def is_literal(x: Var) -> bool:
    """Whether an operand is a constant written in the operation."""
    return isinstance(x, jex.Literal)


def shape(x: Var) -> tuple[int, ...]:
    """The shape of a value."""
    return tuple(x.aval.shape)


@functools.lru_cache(maxsize=64)
def _trace(
    apply_fn: ApplyFn, treedef: Any, shapes: Any, names: tuple[str, ...], settings: Any
) -> Graph:
    del settings  # on which the trace depends
    structs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in shapes]
    params, inputs = jax.tree.unflatten(treedef, structs)
    closed, out = jax.make_jaxpr(apply_fn, return_shape=True)(params, inputs)
    return _graph(closed, names, jax.tree.structure(out))


def _graph(closed: Any, names: tuple[str, ...], out_tree: Any) -> Graph:
    ops: list[Op] = []
    constants: dict[Var, Any] = {}
    renamed = _inline(closed, list(closed.jaxpr.invars), ops, constants)
    invars = closed.jaxpr.invars
    leaves = dict(zip(names, invars, strict=False))
    return Graph(
        leaves, tuple(invars[len(names) :]), constants, tuple(ops), tuple(renamed), out_tree
    )


def _inline(closed: Any, operands: list[Var], ops: list[Op], constants: Any) -> list[Var]:
    """The variables of a jaxpr's results, its operations on `operands` appended to `ops`."""
    jaxpr = closed.jaxpr if hasattr(closed, "jaxpr") else closed
    known: dict[Var, Var] = dict(zip(jaxpr.invars, operands, strict=True))
    for var, value in zip(jaxpr.constvars, getattr(closed, "consts", ()), strict=True):
        known[var] = _fresh(var)
        constants[known[var]] = value

    def name(x: Var) -> Var:
        return x if is_literal(x) else known.setdefault(x, _fresh(x))

    for eqn in jaxpr.eqns:
        reads = [name(x) for x in eqn.invars]
        body = _body(eqn)
        if body is not None:
            for var, result in zip(eqn.outvars, _inline(body, reads, ops, constants), strict=True):
                known[var] = result
            continue
        writes = tuple(name(x) for x in eqn.outvars)
        ops.append(
            Op(eqn.primitive.name, tuple(reads), writes, eqn.params, eqn.primitive, _default(eqn))
        )
    return [name(x) for x in jaxpr.outvars]


def _fresh(var: Var) -> Var:
    """A fresh variable, since a function that is called twice has one jaxpr."""
    return jex.Var(var.aval)


def _body(eqn: Any) -> Any:
    """The function that an operation merely calls, or None."""
    if eqn.primitive.name not in _CALLS:
        return None
    for field in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if field in eqn.params:
            return eqn.params[field]
    return None


def _default(eqn: Any) -> Graph | None:
    """The default branch of a choice by platform: all branches compute the same."""
    if eqn.primitive.name != "cond" or not eqn.params.get("branches_platforms"):
        return None
    return _graph(eqn.params["branches"][-1], (), None)


def _operands(graph: Graph, params: Params, inputs: Any) -> list[tuple[Var, Any]]:
    """The graph's leaves and inputs with their values."""
    given = [*tree.named_leaves(params).items()] + [("inputs", x) for x in jax.tree.leaves(inputs)]
    wanted = [*graph.leaves.items()] + [("inputs", x) for x in graph.inputs]
    given = [(name, jax.numpy.asarray(x)) for name, x in given]
    if [(name, x.shape) for name, x in given] != [(name, shape(x)) for name, x in wanted]:
        raise ValueError(
            "expected parameters and inputs of the names and shapes that the graph was traced "
            f"with, {_described(wanted)}, got {_described(given)}; trace again for these"
        )
    return [(var, x) for (_, var), (_, x) in zip(wanted, given, strict=True)]


def _described(values: list[tuple[str, Any]]) -> str:
    return ", ".join(f"{name} {getattr(x, 'aval', x).shape}" for name, x in values)


def _read(values: dict[Var, Any], x: Var) -> Any:
    return x.val if is_literal(x) else values[x]
