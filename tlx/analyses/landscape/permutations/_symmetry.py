"""The permutations of hidden units that leave a model's function as it is, and their action."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tlx.analyses.landscape.permutations import _axes, _axis_rules
from tlx.core import graph, shown

Permutations = dict[str, Any]
"""Group name to int [n]; to int [m, n], one row a unit of the outer group, for a nested group."""


@shown.short
class Group(NamedTuple):
    """Units that can be permuted.

    Attributes:
      name: the leaf and axis that produce them, as "hidden/kernel:1".
      size: their number, n.
      within: the group in whose every unit they can be permuted independently, as channels
        in a normalisation group or the dimensions of an attention head; else None.
    """

    name: str
    size: int
    within: str | None


@shown.short
class Factor(NamedTuple):
    """A factor of a leaf's axis: its size, and its group where it can be permuted."""

    size: int
    group: str | None


@shown.short
class Site(NamedTuple):
    """A value that a layer reads, whose units are those of a group.

    Attributes:
      value: in the graph.
      factors: its shape, by factors.
      rows: which factors number the examples; none if there is one example.
    """

    value: Any
    factors: tuple[Factor, ...]
    rows: tuple[int, ...]


@shown.short
class Symmetry(NamedTuple):
    """The permutations of a model.

    Attributes:
      groups: by name, in the order of their first leaf.
      leaves: leaf name to the factors of its shape, axis by axis.
      statistics: names of the leaves that hold running statistics.
    """

    groups: dict[str, Group]
    leaves: dict[str, tuple[tuple[Factor, ...], ...]]
    statistics: frozenset[str]


def derive(traced: graph.Graph, statistics: frozenset[str]) -> Symmetry:
    """The permutations of a traced model.

    Raises:
      ValueError: if there are none; names what fixes each leaf's axes.
    """
    axes = _axes.Axes(traced, _axis_rules.rule)
    leaves = {name: axes.axes(var) for name, var in traced.leaves.items()}
    names = _names(leaves)
    if not names:
        raise ValueError(_why_none(leaves))
    outer = _nested(axes, names)
    groups = {
        name: Group(name, atom.size, names[outer[atom]] if atom in outer else None)
        for atom, name in names.items()
    }
    shapes = {name: tuple(_factors((axis,), names) for axis in of) for name, of in leaves.items()}
    return Symmetry(groups, shapes, statistics)


def sites(traced: graph.Graph) -> dict[str, tuple[Site, ...]]:
    """Group to the values, dependent on the inputs, of products that are summed over it."""
    axes = _axes.Axes(traced, _axis_rules.rule)
    names = _names({name: axes.axes(var) for name, var in traced.leaves.items()})
    batches = [axes.axes(var)[0] for var in traced.inputs if graph.shape(var)]
    dependent = graph.dependent(traced)
    found: dict[str, dict[Any, Site]] = {name: {} for name in names.values()}
    for summed, _, operands in axes.contractions:
        atoms = [x for axis in summed for x in _axes.split(axis) if x in names]
        for operand in operands:
            value = axes.same.get(operand, operand)
            if not atoms or graph.is_literal(value) or value not in dependent:
                continue
            factors = [x for axis in axes.axes(value) for x in axis]
            rows = _rows(factors, batches)
            if rows is None:
                continue
            for atom in atoms:
                found[names[atom]][value] = Site(value, _factors([factors], names), rows)
    return {name: tuple(values.values()) for name, values in found.items()}


def _rows(factors: Sequence[_axes.Atom], batches: Sequence[_axes.Axis]) -> tuple[int, ...] | None:
    """Which factors number the examples; None where an operation hid it."""
    for batch in batches:
        if all(atom in factors for atom in batch):
            return tuple(factors.index(atom) for atom in batch)
    sizes = [math.prod(atom.size for atom in batch) for batch in batches]
    return (0,) if factors[0].size in sizes else None


def _factors(
    axes: Iterable[Iterable[_axes.Atom]], names: Mapping[_axes.Atom, str]
) -> tuple[Factor, ...]:
    return tuple(Factor(atom.size, names.get(atom)) for axis in axes for atom in axis)


def _names(leaves: Mapping[str, tuple[_axes.Axis, ...]]) -> dict[_axes.Atom, str]:
    """A name for each atom of a leaf that can be permuted: by the kernel that gives it out."""
    found: dict[_axes.Atom, list[tuple[bool, str]]] = {}
    for name, axes in leaves.items():
        for i, axis in enumerate(axes):
            for j, atom in enumerate(axis):
                if atom.fixed is None:
                    is_output = len(axes) > 1 and axis == axes[-1]
                    label = f"{name}:{i}" + (f".{j}" if len(axis) > 1 else "")
                    found.setdefault(atom, []).append((not is_output, label))
    return {atom: min(labels, key=lambda x: x[0])[1] for atom, labels in found.items()}


def _nested(axes: _axes.Axes, names: Mapping[_axes.Atom, str]) -> dict[_axes.Atom, _axes.Atom]:
    """Atoms that can be permuted independently in every unit of another.

    Wherever such an atom occurs, the other does, and whatever sums over it sums over the other
    too or goes through it in step.
    """
    occurs = _axes.occurrences(axes.of)
    found: dict[_axes.Atom, _axes.Atom] = {}
    for atom in names:
        common = set(occurs[atom][0]).intersection(*occurs[atom][1:]) - {atom}
        for other in sorted(common & set(names), key=list(names).index):
            alone = other not in found and atom not in found.values()
            clear = all(_is_clear(atoms, atom, other) for atoms in occurs[atom])
            if alone and clear and _summed_together(axes, atom, other):
                found[atom] = other
                break
    return found


def _is_clear(atoms: Sequence[_axes.Atom], atom: _axes.Atom, other: _axes.Atom) -> bool:
    """Whether it is plain which `other` each `atom` is in: the only one, or that before it."""
    before = [atoms[i - 1] for i, x in enumerate(atoms) if x is atom and i]
    return atoms.count(other) == 1 or (
        len(before) == atoms.count(atom) and all(x is other for x in before)
    )


def _summed_together(axes: _axes.Axes, atom: _axes.Atom, other: _axes.Atom) -> bool:
    for summed, stepped, _ in axes.contractions:
        inside = {x for axis in summed for x in _axes.split(axis)}
        along = inside | {x for axis in stepped for x in _axes.split(axis)}
        if atom in inside and other not in along:
            return False
    return True


def _why_none(leaves: Mapping[str, tuple[_axes.Axis, ...]]) -> str:
    lines = [
        f"  {name}: " + ", ".join(
            f"axis {i} by {' and '.join(dict.fromkeys(str(a.fixed) for a in axis))}"
            for i, axis in enumerate(axes) if axis
        )
        for name, axes in leaves.items()
        if any(axes)
    ]  # fmt: skip
    return (
        "expected a model with hidden units that can be permuted, got one whose axes are all "
        "fixed, by what is named here (an operation without a known rule fixes all its axes):\n"
        + "\n".join(lines or ["  (there are no leaves with axes)"])
    )
