"""Ready-made partitions of a model's parameters into modules, from the names of its leaves alone.

`by_depth` cuts names; `by_level` knows how frameworks and model zoos name tensors, layers, blocks,
stages and the parts of transformers. Both return labels for `tlx.core.labels`; for a model with
other names, write rules (`labels.from_rules`).
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax

from tlx.core import checks, graph, public, tree
from tlx.core import labels as labels_lib
from tlx.core.types import ApplyFn, Labels, Params

__dir__ = public.names(__name__)

COLLECTIONS = ("params", "batch_stats", "state")
"""First parts of a name that state the kind of a leaf, not its place in the model.

They count as such where one of the first parts is "params".
"""

BLOCKS = (
    # elements of lists in lists, and of a stage's
    r"(.*?/)??layer\d+(/layers)?/\d+",
    r"(.*?/)??(stages?|layers)/\d+/(blocks?|layers?)/\d+",
    r"([^/]*[^/\d][^/]*/)+?\d+/\d+(?=/[^/]+/)",
    # blocks with names of their kind, elements of a list
    r"(.*?/)??([^/]*(blocks?|bottleneck|units?|layers?)_?\d+[a-z]?|h_\d+|[^/]*[^/\d][^/]*/\d+)",
)
"""Regular expressions for blocks: the first that matches a name up to the end of a part counts."""

STAGES = (
    r"(.*?/)??layer\d+(?=(/layers)?/\d+/)",
    r"(.*?/)??[^/_]*stages?_?\d+(?=[_/])",
    r"(.*?/)??stages?/\d+(?=/)",
    r"(.*?/)??layers/\d+(?=/(blocks?|layers?)/\d+/)",
    r"(.*?/)??[^/]*group_?\d+(?=/)",
    r"([^/]*[^/\d][^/]*/)+?\d+(?=/\d+/[^/]+/)",
)
"""Likewise for stages, groups of blocks."""

PARTS = (
    ("norm", r"(norm[^/]*|(^|/)ln(_[^/]*|\d*))$"),
    ("attention", r"att(n|ention)|(^|/)(query|key|value|[qkvo](_proj)?)(/|$)"),
    ("mlp", r"mlp|ffn?(/|_|$)|feed_?forward|intermediate|output|(^|/)fc|dense|linear"),
)
"""Within a transformer block: part to substrings of a layer's name; the first match counts."""

EMBEDDING = r"(?<!un)embed|(^|/)(wte|wpe)/|(^|/)(cls|pos|position|mask)(_token)?$"
"""Substrings of the names of embedding leaves outside of blocks."""


def by_depth(params: Params, depth: int, *, collections: Sequence[str] = COLLECTIONS) -> Labels:
    """Labels of the leaves by the first parts of their names.

    Args:
      params: pytree of arrays or `jax.ShapeDtypeStruct`; only names count.
      depth: number of parts, at least 1. The last part, the tensor's name, does not count unless it
        is the only one, so that a kernel and its bias stay together.
      collections: first parts to drop, so that the batch statistics of a block are in its
        module; those with "params" among them where a name begins with it.

    Returns:
      A pytree of str with the structure of `params`.

    Raises:
      ValueError: if depth is not positive.

    >>> from tlx.core import partition
    >>> params = {"params": {"body": {"conv": {"kernel": 0.0}}, "cls": 0.0}}
    >>> partition.by_depth(params, 1)
    {'params': {'body': {'conv': {'kernel': 'body'}}, 'cls': 'cls'}}
    """
    if depth < 1:
        raise ValueError(f"expected a depth of at least 1, got {depth}")

    dropped = _dropped(params, collections)

    def label(name: str) -> str:
        parts = _layer(_without(name, dropped)).split("/")
        return "/".join(parts[:depth])

    return labels_lib.from_names(params, label)


def by_level(params: Params, level: str, *, collections: Sequence[str] = COLLECTIONS) -> Labels:
    """Labels of the leaves by the module that holds them at a level.

    The levels, fine to coarse:

    - "tensor": each leaf, by its name.
    - "layer": a convolution, a dense layer, a normalisation: the name without the tensor's.
    - "part": in transformers, the attention, MLP and norms of each block
      ("h/3/attention", "h/3/mlp", "h/3/norm"), and "embedding" (`PARTS`, `EMBEDDING`).
    - "block": residual and transformer blocks, as "stage1_block2", "layer1/0", "h/3",
      "encoderblock_3" (`BLOCKS`): the shortest beginning of the name that ends with a numbered
      block or with an element of a list, or an element of a list in a list.
    - "stage": the groups of blocks that names show: "stage1" of "stage1_block2", "layer1" of
      "layer1/0", "stages/0" of "stages/0/blocks/1", the outer of two lists (`STAGES`).

    A leaf outside of these (the stem, the head, a last norm) is labelled by its layer.

    Args:
      params: pytree of arrays or `jax.ShapeDtypeStruct`; only names count. Parts are separated
        by "/" or, as in the names of PyTorch, by "."; labels have "/".
      level: one of these.
      collections: of `by_depth`.

    Returns:
      A pytree of str with the structure of `params`.

    Raises:
      ValueError: for an unknown level, or if no name shows a block, a stage or (level "part")
        an attention layer; the message lists some of the names.

    >>> from tlx.core import partition
    >>> params = {"h": [{"mlp": {"up": {"kernel": 0.0}}}], "head": {"bias": 0.0}}
    >>> partition.by_level(params, "block")
    {'h': [{'mlp': {'up': {'kernel': 'h/0'}}}], 'head': {'bias': 'head'}}
    >>> partition.by_level(params, "layer")
    {'h': [{'mlp': {'up': {'kernel': 'h/0/mlp/up'}}}], 'head': {'bias': 'head'}}
    """
    if level not in _LEVELS:
        raise ValueError(checks.unknown("level", level, _LEVELS))
    if level == "tensor":
        return labels_lib.from_names(params, lambda name: name)
    find = _LEVELS[level]
    dropped = _dropped(params, collections)
    names = {name: _without(name, dropped) for name in tree.names(params)}
    found = {name: find(rest) for name, rest in names.items()}
    shown = [x for x in found.values() if x and (level != "part" or x.endswith("/attention"))]
    if names and not shown:
        layers = list(dict.fromkeys(map(_layer, names.values())))
        more = f" and {len(layers) - 8} more" if len(layers) > 8 else ""
        raise ValueError(
            f"expected names that show the level {level!r}, got the layers "
            f"{', '.join(layers[:8])}{more}; write rules for this model "
            "(tlx.core.labels.from_rules), cut names at a depth (by_depth), or drop their "
            "first part (collections=)"
        )
    return labels_lib.from_names(params, lambda name: found[name] or _layer(names[name]))


def in_forward_order(
    apply_fn: ApplyFn, params: Params, inputs: Any, labels: Labels
) -> tuple[str, ...]:
    """The modules in the order in which the forward pass first uses one of their leaves.

    A leaf is used where it, or a value computed from it, is combined with a value that depends on
    the inputs; so a model that first casts all its weights is ordered correctly. Labels alone come
    in the order of the leaves, which for dicts is alphabetical ("h/10" before "h/2").

    Args:
      apply_fn: pure `(params, inputs) -> outputs`.
      params: pytree of arrays or `jax.ShapeDtypeStruct`; only shapes count.
      inputs: likewise.
      labels: pytree of str like `params`.

    Returns:
      Every label once. Those used by the same operation (a loop over layers, say), and those
      never used, which come last, keep the order of their first leaves.

    Raises:
      ValueError: if `labels` has another structure than `params`.

    Cost: one trace.
    """
    labels_lib.groups(params, labels)  # its check
    of = graph.trace(apply_fn, params, inputs)
    dependent = graph.dependent(of)
    made_of = {var: frozenset({name}) for name, var in of.leaves.items()}
    first: dict[str, int] = {}
    for i, op in enumerate(of.ops):
        reads = [x for x in op.inputs if not graph.is_literal(x)]
        leaves = frozenset[str]().union(*(made_of.get(x, frozenset()) for x in reads))
        if dependent.isdisjoint(reads):
            made_of |= dict.fromkeys(op.outputs, leaves)
        else:
            first |= dict.fromkeys(leaves - first.keys(), i)
    used: dict[str, int] = {}
    for name, label in zip(tree.names(params), jax.tree.leaves(labels), strict=True):
        at = first.get(name, len(of.ops))
        used[label] = min(at, used.get(label, at))
    return tuple(sorted(used, key=used.__getitem__))


def _dropped(params: Params, collections: Sequence[str]) -> Sequence[str]:
    """The collections, or none where they do not say the kinds of these leaves."""
    firsts = {name.replace(".", "/").partition("/")[0] for name in tree.names(params)}
    return () if "params" in collections and "params" not in firsts else collections


def _without(name: str, collections: Sequence[str]) -> str:
    """The name without its collection, with "/" for "."."""
    first, _, rest = name.replace(".", "/").partition("/")
    return rest if rest and first in collections else name.replace(".", "/")


def _layer(name: str) -> str:
    return name.rpartition("/")[0] or name


def _beginning(rules: Sequence[str], end: str = "") -> Callable[[str], str]:
    """A function from a name to the prefix given by the first rule that matches, or ""."""
    compiled = [re.compile(rule + end, re.IGNORECASE) for rule in rules]

    def find(name: str) -> str:
        return next((hit[0] for rule in compiled if (hit := rule.match(name))), "")

    return find


_block = _beginning(BLOCKS, end="(?=/)")
_stage = _beginning(STAGES)


def _part(name: str) -> str:
    block = _block(name)
    if not block:
        return "embedding" if re.search(EMBEDDING, name, re.IGNORECASE) else ""
    layer = _layer(name).removeprefix(block)
    for part, pattern in PARTS:
        if re.search(pattern, layer, re.IGNORECASE):
            return f"{block}/{part}"
    return ""


_LEVELS: dict[str, Callable[[str], str]] = {
    "tensor": str,
    "layer": _layer,
    "part": _part,
    "block": _block,
    "stage": _stage,
}
