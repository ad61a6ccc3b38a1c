"""Axes as products of atoms, and which atoms an operation ties together or fixes.

Every axis of every value in a graph is an ordered product of atoms (one, unless it is reshaped).
Two axes whose entries an operation pairs up have the same atoms; an atom is fixed where the order
of its entries matters. What remains can be permuted without a change in what the graph computes.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from tlx.core.graph import Graph, Op, Var, is_literal, shape

Axis = tuple["Atom", ...]
"""The atoms of an axis, major first; none for an axis of size 1."""


class Atom:
    """An axis or a factor of one: a node of a union-find forest with splits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.parent: Atom | None = None
        self.parts: Axis = ()
        self.fixed: str | None = None

    def root(self) -> "Atom":
        """The atom that stands for all that are tied to this one."""
        atom = self
        while atom.parent is not None:
            atom = atom.parent
        return atom


class Contraction(NamedTuple):
    """Axes that an operation sums over, and those that all its operands go through in step.

    `operands` are those of a product: what a layer reads, and its kernel.
    """

    summed: tuple[Axis, ...]
    stepped: tuple[Axis, ...]
    operands: tuple[Var, ...]


Rule = Callable[["Axes", Op], None]
"""What an operation does to axes: it ties or fixes those it reads, and sets those it gives."""


class Axes:
    """The axes of all values of a graph."""

    def __init__(self, graph: Graph, rule: Rule) -> None:
        self.rule = rule
        self.of: dict[Var, tuple[Axis, ...]] = {}
        self.same: dict[Var, Var] = {}  # an inner graph's value to the outer graph's
        self.contractions: list[Contraction] = []
        live = _live(graph)
        for var in graph.leaves.values():
            used = var in live
            self.of[var] = tuple(fresh(n) if used else self.fixed(n, "no use") for n in shape(var))
        for var in graph.inputs:
            self.of[var] = tuple(self.fixed(n, "the inputs") for n in shape(var))
        for var in graph.constants:
            self.of[var] = tuple(self.fixed(n, "a constant") for n in shape(var))
        self.follow(graph)
        for x in graph.outputs:
            for axis in self.axes(x):
                self.fix(axis, "the outputs")

    def follow(self, graph: Graph) -> None:
        """Goes through the operations of a graph whose inputs are known."""
        for var in graph.constants:
            self.of.setdefault(var, tuple(self.fixed(n, "a constant") for n in shape(var)))
        live = _live(graph)
        for op in graph.ops:
            if live.isdisjoint(op.outputs):
                continue
            if op.inner is not None:
                inside = dict(zip(op.inner.inputs, op.inputs[1:], strict=True))
                self.of |= {v: self.axes(x) for v, x in inside.items()}
                self.same |= inside
                self.follow(op.inner)
                for var, x in zip(op.outputs, op.inner.outputs, strict=True):
                    self.of[var] = self.axes(x)
            else:
                self.rule(self, op)

    def axes(self, x: Var) -> tuple[Axis, ...]:
        """The axes of a value, split as far as they are by now."""
        if is_literal(x):
            return tuple(self.fixed(n, "a constant") for n in shape(x))
        return tuple(map(split, self.of[x]))

    def fixed(self, size: int, reason: str) -> Axis:
        """A new axis that cannot be permuted."""
        axis = fresh(size)
        self.fix(axis, reason)
        return axis

    def fix(self, axis: Axis, reason: str) -> None:
        """Holds an axis still."""
        for atom in split(axis):
            atom.fixed = atom.fixed or reason

    def hold(self, op: Op) -> None:
        """Holds all axes still that an operation reads or gives."""
        for x in op.inputs:
            for axis in self.axes(x):
                self.fix(axis, op.name)
        for var in op.outputs:
            self.of[var] = tuple(self.fixed(n, op.name) for n in shape(var))

    def tie(self, a: Axis, b: Axis, reason: str) -> None:
        """Ties two axes of one size, so that they are the same product of atoms."""
        left, right = list(split(a)), list(split(b))
        while left and right:
            x, y = left.pop(0), right.pop(0)
            if x.size == y.size:
                _union(x, y)
            elif max(x.size, y.size) % min(x.size, y.size) == 0:
                small, large, rest = (x, y, right) if x.size < y.size else (y, x, left)
                major, minor = split_off(large, small.size)
                _union(small, major)
                rest.insert(0, minor)
            else:  # no common factors in this order
                self.fix((x, y, *left, *right), reason)
                return
            left, right = list(split(left)), list(split(right))


def fresh(size: int) -> Axis:
    """A new axis."""
    return (Atom(size),) if size != 1 else ()


def split(axis: Iterable[Atom]) -> Axis:
    """The atoms of an axis, each by its root, split as far as they are by now."""
    out: list[Atom] = []
    for atom in axis:
        root = atom.root()
        out += split(root.parts) if root.parts else (root,)
    return tuple(out)


def split_off(atom: Atom, size: int) -> Axis:
    """Splits an atom into a major factor of a size and the rest."""
    parts = (Atom(size), Atom(atom.size // size))
    for part in parts:
        part.fixed = atom.fixed
    atom.parts = parts
    return parts


def _live(graph: Graph) -> set[Var]:
    """The values on which the outputs depend."""
    live = {x for x in graph.outputs if not is_literal(x)}
    for op in reversed(graph.ops):
        if not live.isdisjoint(op.outputs):
            live |= {x for x in op.inputs if not is_literal(x)}
    return live


def _union(a: Atom, b: Atom) -> None:
    if a is not b:
        b.parent = a
        a.fixed = a.fixed or b.fixed


def occurrences(of: dict[Var, tuple[Axis, ...]]) -> dict[Atom, list[Sequence[Atom]]]:
    """Atom to the atoms of each value in which it occurs."""
    found: dict[Atom, list[Sequence[Atom]]] = {}
    for axes in of.values():
        atoms = [atom for axis in axes for atom in split(axis)]
        for atom in dict.fromkeys(atoms):
            found.setdefault(atom, []).append(atoms)
    return found
