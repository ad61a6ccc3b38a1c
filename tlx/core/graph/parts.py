"""A model's graph cut where a module begins: what comes before it, and what depends on it."""

import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax

from tlx.core import graph, public, tree
from tlx.core.graph.tracing import Graph, Var
from tlx.core.types import ApplyFn, Params

__dir__ = public.names(__name__)


class Part(NamedTuple):
    """What is recomputed when a module's leaves change.

    Attributes:
      moving: names of the leaves.
      carried: the values it reads that depend on the inputs and not on these leaves.
      ops: indices of its operations, including those that only read other leaves: their
        results are small, and often broadcast, so not worth carrying.
    """

    moving: tuple[str, ...]
    carried: tuple[Var, ...]
    ops: tuple[int, ...]


class Plan:
    """Which operations of a graph run once, and which at each of a module's points.

    Compared by identity, as a static argument of compiled functions.

    Attributes:
      graph: of the entire model.
      carried: the values that some part carries.
      before: indices of the operations that compute them.
      parts: one for each module.
    """

    def __init__(self, of: Graph, modules: Iterable[tuple[str, ...]]) -> None:
        self.graph = of
        dependent = graph.dependent(of)
        self.parts = tuple(_part(of, moving, dependent) for moving in modules)
        self.carried = tuple(dict.fromkeys(var for part in self.parts for var in part.carried))
        self.before = _needed(of, self.carried, frozenset())


def plan(
    apply_fn: ApplyFn, params: Params, inputs: Any, modules: tuple[tuple[str, ...], ...]
) -> Plan:
    """The plan for modules, each given by its leaf names; the same object for equal arguments."""
    return _plan(_ById(graph.trace(apply_fn, params, inputs)), modules)


@functools.partial(jax.jit, static_argnums=0)
def before(of: Plan, params: Params, inputs: Any) -> list[Any]:
    """The values that parts carry, in the order of `Plan.carried`."""
    values = known(of.graph, params, inputs)
    compute(of.graph, of.before, values)
    return [values[var] for var in of.carried]


def known(of: Graph, params: Params, inputs: Any) -> dict[Var, Any]:
    """The values that are there before any operation."""
    leaves = tree.named_leaves(params)
    values = {var: leaves[name] for name, var in of.leaves.items()}
    return values | dict(zip(of.inputs, jax.tree.leaves(inputs), strict=True)) | of.constants


def compute(of: Graph, ops: Iterable[int], values: dict[Var, Any]) -> None:
    """Adds the results of operations to the values."""
    for i in ops:
        op = of.ops[i]
        results = graph.done(op, [_read(values, x) for x in op.inputs])
        values.update(zip(op.outputs, results, strict=True))


def outputs(of: Graph, values: Mapping[Var, Any]) -> Any:
    """The model's outputs, from its values."""
    return jax.tree.unflatten(of.out_tree, [_read(values, x) for x in of.outputs])


def _read(values: Mapping[Var, Any], x: Var) -> Any:
    return x.val if graph.is_literal(x) else values[x]


def _part(of: Graph, moving: tuple[str, ...], dependent: set[Var]) -> Part:
    moved = {var for name, var in of.leaves.items() if name in moving}
    for op in of.ops:
        if any(not graph.is_literal(x) and x in moved for x in op.inputs):
            moved |= set(op.outputs)
    ready = dependent - moved
    ops = _needed(of, of.outputs, ready)
    read = [x for i in ops for x in of.ops[i].inputs] + list(of.outputs)
    carried = dict.fromkeys(x for x in read if not graph.is_literal(x) and x in ready)
    return Part(moving, tuple(x for x in carried if x not in of.inputs), ops)


def _needed(of: Graph, results: Iterable[Var], ready: Iterable[Var]) -> tuple[int, ...]:
    """The operations, in order, that compute values from leaves, inputs and what is ready."""
    ready = set(ready)
    wanted = {x for x in results if not graph.is_literal(x)} - ready
    ops = []
    for i in reversed(range(len(of.ops))):
        if wanted.isdisjoint(of.ops[i].outputs):
            continue
        ops.append(i)
        wanted |= {x for x in of.ops[i].inputs if not graph.is_literal(x)} - ready
    return tuple(reversed(ops))


class _ById:
    """A graph as a key: `graph.trace` returns the same object for equal arguments."""

    def __init__(self, of: Graph) -> None:
        self.graph = of

    def __hash__(self) -> int:
        return id(self.graph)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.graph is other.graph


@functools.lru_cache(maxsize=16)
def _plan(of: _ById, modules: tuple[tuple[str, ...], ...]) -> Plan:
    return Plan(of.graph, modules)
