"""The outputs of the layers of a graph."""

from collections.abc import Mapping
from typing import NamedTuple

from tlx.core import public
from tlx.core.graph.known import Known, known
from tlx.core.graph.tracing import Graph, Op, Var, is_literal, shape

__dir__ = public.names(__name__)

_CONTRACTIONS = ("dot_general", "conv_general_dilated")


class Site(NamedTuple):
    """A value whose moments are taken per channel.

    Attributes:
      name: the leaf that names it.
      value: in the graph.
      channels: axes of the value that are not averaged over.
      shape: of the moments.
    """

    name: str
    value: Var
    channels: tuple[int, ...]
    shape: tuple[int, ...]


def layers(graph: Graph) -> tuple[Site, ...]:
    """The outputs of linear and convolutional layers, except the last ones.

    A layer contracts a value that depends on the inputs with a kernel that does not; it is named
    after the kernel. The last layers are those on which no other layer depends.
    """
    found = known(graph)
    later = _read_later(graph, found)
    sites = []
    for op in graph.ops:
        channels = _channels(op, found)
        if channels is None or op.outputs[0] not in later:
            continue
        kernel = next(x for x in op.inputs if x in found and found[x].names)
        value = op.outputs[0]
        sizes = tuple(shape(value)[axis] for axis in channels)
        sites.append(Site(min(found[kernel].names), value, channels, sizes))
    names = [site.name for site in sites]
    return tuple(  # a kernel that is used twice has two sites
        site._replace(name=f"{site.name}:{names[:i].count(site.name)}")
        if site.name in names[:i]
        else site
        for i, site in enumerate(sites)
    )


def _channels(op: Op, found: Mapping[Var, Known]) -> tuple[int, ...] | None:
    """The axes of a layer's result that come from its kernel; None where op is no layer."""
    if op.inner is not None:  # this platform's form of the default branch
        inside = [x for x in op.inner.ops if x.outputs[0] == op.inner.outputs[0]]
        if len(inside) != 1 or inside[0].name not in _CONTRACTIONS:
            return None
        outer = dict(zip(op.inner.inputs, op.inputs[1:], strict=True))
        reads = tuple(outer.get(x, x) for x in inside[0].inputs)
        return _channels(inside[0]._replace(inputs=reads), found)
    if op.name not in _CONTRACTIONS:
        return None
    is_kernel = [x in found for x in op.inputs]
    if sum(is_kernel) != 1 or not found[op.inputs[is_kernel.index(True)]].names:
        return None
    left, right = op.inputs
    if op.name == "conv_general_dilated":
        return (op.params["dimension_numbers"].out_spec[1],) if is_kernel[1] else None
    (contract_l, contract_r), (batch, _) = op.params["dimension_numbers"]
    free_l = len(shape(left)) - len(contract_l) - len(batch)
    free_r = len(shape(right)) - len(contract_r) - len(batch)
    start = len(batch) + (free_l if is_kernel[1] else 0)
    free = range(start, start + (free_r if is_kernel[1] else free_l))
    return (*range(len(batch)), *free)


def _read_later(graph: Graph, found: Mapping[Var, Known]) -> set[Var]:
    """The values on which a layer depends."""
    read: set[Var] = set()
    for op in reversed(graph.ops):
        if _channels(op, found) is not None or any(x in read for x in op.outputs):
            read |= {x for x in op.inputs if not is_literal(x) and x not in found}
    return read
