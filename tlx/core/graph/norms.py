"""The batch normalisations in a graph."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from tlx.core import public
from tlx.core.graph.known import SHAPING, Axes, Known, known
from tlx.core.graph.sites import Site
from tlx.core.graph.tracing import Graph, Op, Var, bodies, is_literal, shape

__dir__ = public.names(__name__)


class BatchNorm(NamedTuple):
    """A normalisation by running statistics.

    Attributes:
      mean: name of the leaf that is subtracted.
      var: name of the leaf whose square root is the divisor.
      site: the value from which `mean` is subtracted; the moments have that leaf's shape.
      factors: (f, g), where the moments are f · mean and g · var: both 1 unless a framework
        corrects its running averages when it reads them.
    """

    mean: str
    var: str
    site: Site
    factors: tuple[float, float]


class _Scaled(NamedTuple):
    """A value times a root from which something may still be subtracted: x·s in x·s + t."""

    value: Var
    factor: Known


def batch_norms(graph: Graph) -> tuple[BatchNorm, ...]:
    """The batch normalisations, in the order of the forward pass.

    Raises:
      ValueError: if the root of a leaf scales activations and no leaf is subtracted as their mean,
        or inside a loop or a branch, where the statistics cannot be identified.
    """
    norms, unclear = identify(graph)
    if unclear:
        raise ValueError(
            "expected batch normalisation as (x − mean)·scale/√(var + ε) + bias or "
            "x·s + (bias − mean·s), with leaves as mean and var, outside of loops and branches, "
            f"got another use of a root of {', '.join(unclear)} to scale activations. "
            "Pass statistics='interpolate', which takes all leaves as they lie on the path."
        )
    return norms


def identify(graph: Graph) -> tuple[tuple[BatchNorm, ...], tuple[str, ...]]:
    """(the batch normalisations, the leaves that look like variances of others)."""
    finder = _Finder(graph, known(graph))
    for op in graph.ops:
        finder.identify(op)
    unclear = [name for names in finder.unclear.values() for name in names]
    return tuple(dict.fromkeys(finder.found)), tuple(dict.fromkeys(unclear))


def each_once(norms: tuple[BatchNorm, ...]) -> tuple[BatchNorm, ...]:
    """The normalisations, if no two of them share a leaf.

    Raises:
      ValueError: naming the leaves that are shared.
    """
    leaves = [leaf for norm in norms for leaf in (norm.mean, norm.var)]
    twice = sorted({leaf for leaf in leaves if leaves.count(leaf) > 1})
    if twice:
        raise ValueError(
            f"expected batch statistics of one layer each, got {', '.join(twice)} shared by "
            "several layers; pass statistics='interpolate'"
        )
    return norms


class _Finder:
    """A reader of the operations in order; `unclear` holds the roots not explained so far."""

    def __init__(self, graph: Graph, known: Mapping[Var, Known]) -> None:
        self.graph, self.known = graph, known
        self.centred: dict[Var, tuple[Site, float]] = {}
        self.scaled: dict[Var, _Scaled] = {}
        self.found: list[BatchNorm] = []
        self.unclear: dict[Var, tuple[str, ...]] = {}

    def identify(self, op: Op) -> None:
        """Reads one operation; those on parameters alone are skipped."""
        moving = [x for x in op.inputs if not is_literal(x) and x not in self.known]
        if not moving:
            return
        first, out = moving[0], op.outputs[0]
        fixed = [self._known(x) for x in op.inputs if is_literal(x) or x in self.known]
        if len(moving) == 1 and op.name in SHAPING:
            self._carry(first, out)
        elif len(moving) == len(fixed) == 1 and op.name in ("add", "sub"):
            self._shifted(op, first, fixed[0])
        elif len(moving) == len(fixed) == 1 and op.name in ("mul", "div"):
            self._multiplied(op, first, fixed[0])
        else:
            self._unclear(out, *fixed)
        self._within(op)

    def _known(self, x: Any) -> Known:
        return Known() if is_literal(x) else self.known[x]

    def _carry(self, x: Var, out: Var) -> None:
        if x in self.centred:
            self.centred[out] = self.centred[x]
        if x in self.scaled:
            self.scaled[out] = self.scaled[x]
        if x in self.unclear:
            self.unclear[out] = self.unclear.pop(x)

    def _shifted(self, op: Op, x: Var, fixed: Known) -> None:
        out, leaf = op.outputs[0], fixed.single
        if x in self.scaled and fixed.times:
            scaled = self.scaled[x]
            means = [leaf for leaf in fixed.times if leaf not in scaled.factor.names]
            (var,) = scaled.factor.rooted
            if len(means) == 1 and set(fixed.rooted) == {var}:
                axes = scaled.factor.leaves.get(var)
                site = self._site(means[0], scaled.value, axes, like=var)
                if self._add(site, abs(fixed.times[means[0]]), scaled.factor):
                    self.unclear.pop(x, None)
                    return
        self._unclear(out, fixed)
        if op.name == "sub" and op.inputs[0] is x and leaf is not None:
            site = self._site(leaf, x, fixed.leaves.get(leaf))
            if site is not None:
                self.centred[out] = (site, fixed.linear[leaf])

    def _multiplied(self, op: Op, x: Var, fixed: Known) -> None:
        out = op.outputs[0]
        if op.name == "div" and op.inputs[1] is x:
            return self._unclear(out, fixed)
        if not fixed.rooted:
            self._carry(x, out)
            if x in self.scaled:
                value, by = self.scaled[x]
                self.scaled[out] = _Scaled(value, by._replace(mixed=by.mixed | fixed.names))
            return None
        if x in self.centred:
            site, factor = self.centred[x]
            if self._add(site, factor, fixed):
                return None
        elif len(fixed.rooted) == 1:
            self.scaled[out] = _Scaled(x, fixed)
        return self._unclear(out, fixed)

    def _add(self, site: Site | None, factor: float, scale: Known) -> bool:
        """Whether a site and a factor form a normalisation."""
        (var, of_var), *others = scale.rooted.items()
        if site is None or others or of_var is None or _size(self.graph, var) != _size_of(site):
            return False
        self.found.append(BatchNorm(site.name, var, site, (factor, of_var)))
        return True

    def _site(self, leaf: str, value: Var, axes: Axes, like: str | None = None) -> Site | None:
        """The value from which a leaf is subtracted; `like`: the leaf whose axes are given."""
        if axes is None or _size(self.graph, leaf) != _size(self.graph, like or leaf):
            return None
        sizes = shape(self.graph.leaves[like or leaf])
        of_axis = {axis: i for i, axis in enumerate(axes) if axis is not None and sizes[axis] > 1}
        channels = tuple(of_axis[axis] for axis in sorted(of_axis))
        if len(channels) != sum(n > 1 for n in sizes):
            return None
        return Site(leaf, value, channels, shape(self.graph.leaves[leaf]))

    def _unclear(self, out: Var, *fixed: Known) -> None:
        names = tuple(name for x in fixed for name in x.rooted)
        if names:
            self.unclear[out] = names

    def _within(self, op: Op) -> None:
        """Looks for normalisations inside a loop or a branch."""
        for body in bodies(op):
            operands = op.inputs[len(op.inputs) - len(body.inputs) :]
            seed = {
                inside: Known(dict.fromkeys(self._known(x).names))
                for inside, x in zip(body.inputs, operands, strict=True)
                if is_literal(x) or x in self.known
            }
            inner = _Finder(body._replace(leaves=self.graph.leaves), known(body, seed))
            for each in body.ops:
                inner.identify(each)
            names = [n for norm in inner.found for n in (norm.mean, norm.var)]
            names += [n for some in inner.unclear.values() for n in some]
            if names:
                self.unclear[op.outputs[0]] = tuple(dict.fromkeys(names))


def _size(graph: Graph, leaf: str) -> tuple[int, ...]:
    return tuple(n for n in shape(graph.leaves[leaf]) if n > 1)


def _size_of(site: Site) -> tuple[int, ...]:
    return tuple(n for n in site.shape if n > 1)
